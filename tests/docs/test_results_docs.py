"""docs/results.md: fields, columns, versions and commands are those of the code, and its examples run."""

import json
import re
import shlex
from importlib import resources
from pathlib import Path

import pytest

from cosmos_eval.cli.main import run_command
from cosmos_eval.results.class_file import CLASSES, write_classes
from cosmos_eval.results.store import located_results, read_samples
from cosmos_eval.results.versions import MIGRATIONS, SCHEMA
from tests.helpers.worlds import captions_world, classes_world
from tests.results.test_results import make_result, stored

DOCS = (Path(__file__).parents[2] / "docs/results.md").read_text(encoding="utf-8")
COLOURS = "python:tests.helpers.tiny_models:Colours"


def rows(heading: str) -> dict[str, str]:
    """Return the table below a heading: first cell -> the rest of the line."""
    (part,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", DOCS, re.M | re.S)
    cells = re.findall(r"^\| (.+?) \| (.*) \|$", part, re.M)
    return {key.strip("`"): rest for key, rest in cells[1:]}


def test_every_field_of_the_schema_is_described():
    schema = json.loads(resources.files("cosmos_eval.results").joinpath("schema.json").read_text(encoding="utf-8"))
    table = rows(r"RESULT\.json")
    assert list(table) == list(schema["properties"])
    assert [name for name in table if name not in schema["required"]] == ["transforms"]
    for name, part in schema["properties"].items():
        inner = part.get("properties") or part.get("additionalProperties", {}) or {}
        for field in inner.get("properties", inner) if isinstance(inner, dict) else []:
            assert f"`{field}`" in table[name], (name, field)


def test_every_version_is_described():
    table = rows("Versions")
    assert [int(version) for version in table] == [*MIGRATIONS, SCHEMA]
    assert f"now {SCHEMA} " in DOCS


def test_the_commands_exist(tmp_path, capsys):
    commands = re.findall(r"^    (cosmos-eval results .*?)(?:  .*)?$", DOCS, re.M)
    assert len(commands) == 8
    for command in commands:
        words = shlex.split(command)[1:3]
        assert run_command([*words, "--help"]) == 0
        assert f"results {words[1]}" in capsys.readouterr().out


def test_the_checksum_is_computed_as_shown(tmp_path, monkeypatch):
    block, _, _ = re.findall(r"```python\n(.*?)```", DOCS, re.S)
    monkeypatch.chdir(tmp_path)
    stored(tmp_path, warnings=("größer",))
    exec(block, {})
    Path("RESULT.json").write_text(make_result().to_json().replace("0.75", "0.85"), encoding="utf-8")
    with pytest.raises(AssertionError):
        exec(block, {})


def test_results_and_samples_are_read_as_shown_and_have_the_described_columns(tmp_path, monkeypatch, capsys):
    worlds = [captions_world(tmp_path), classes_world(tmp_path)]
    command = [word for world in worlds for word in ("--benchmark", str(world))]
    assert run_command(["run", "--model", COLOURS, *command, "--out", str(tmp_path / "runs/eval")]) == 0
    monkeypatch.chdir(tmp_path)
    _, block, _ = re.findall(r"```python\n(.*?)```", DOCS, re.S)
    capsys.readouterr()
    exec(block, {})
    assert len(capsys.readouterr().out.splitlines()) == 2
    table = rows(r"samples\.parquet")
    for path, result in located_results(tmp_path / "runs/eval"):
        told = re.findall(r"`([^`]+)`", table[result.benchmark.task])
        assert [name for name in told if name != "top5"] == [
            name for name in read_samples(path, result).columns if name not in ("top5", "content")
        ]
        assert "content" in read_samples(path, result)


def test_classes_are_read_as_shown_and_their_file_has_the_described_fields(tmp_path, capsys):
    _, _, block = re.findall(r"```python\n(.*?)```", DOCS, re.S)
    names: dict = {}
    exec(block, names)
    assert list(names["frame"].columns) == ["class", "n", "recall", "low", "high"]
    assert len(names["classes"]) == 48
    assert "{c}" in capsys.readouterr().out
    write_classes(tmp_path, names["result"].classes, "d" * 64)
    record = json.loads((tmp_path / CLASSES).read_text(encoding="utf-8"))
    assert list(record) == list(rows(r"CLASSES\.json"))
