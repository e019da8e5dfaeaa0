"""docs/languages.md: its tables are those of the definitions, and its own data and commands run as written."""

import json
import re
import shlex
from pathlib import Path

import pytest

from cosmos_eval.cli.main import run_command
from cosmos_eval.protocol.benchmark import load_benchmark, load_suite
from cosmos_eval.results.store import read_results
from tests.helpers.documents import check_command, commands
from tests.helpers.text_sets_on_disk import write_images

DOCS = (Path(__file__).parents[2] / "docs/languages.md").read_text(encoding="utf-8")
MULTILINGUAL, LONG = DOCS.split("## Long captions")


def rows(text: str) -> dict[str, str]:
    """Name of each benchmark in a table -> its row."""
    found = {}
    for cell, row in re.findall(r"^\| (`.*?) \|(.*)$", text, re.MULTILINE):
        found |= dict.fromkeys(re.findall(r"`([a-z0-9-]+)`", cell), row)
    return found


def test_the_tables_have_every_benchmark_of_the_suites_with_its_counts():
    for text, suite, further in (
        (MULTILINGUAL, "multilingual", {"xtd10", "xm3600-all-captions"}),
        (LONG, "long-captions", {"sharegpt4v-1k-longclip", "toybox-long"}),
    ):
        table = rows(text)
        assert set(table) == {benchmark.name for benchmark in load_suite(suite)} | further
        for name, row in table.items():
            expected = load_benchmark(name).dataset.get("expected", {})
            if name in ("xtd200", "xm3600-all-captions"):  # "the images of", "the same"
                expected = {"texts": expected["texts"]} if name == "xm3600-all-captions" else {}
            wanted = [kind for kind in ("images", "languages") if kind in expected] or list(expected)
            assert all(f"{expected[kind]:,}" in row for kind in wanted), name


def test_the_commands_are_valid():
    for command in commands(DOCS):
        check_command(command)


def definition(name: str) -> str:
    (text,) = [text for text in re.findall(r"```yaml\n(.*?)```", DOCS, re.DOTALL) if f"name: {name}\n" in text]
    return text


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """What the page says is there: two images, their captions, and a file of 48 class names."""
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path, ["a.png", "b.png"])
    (lines,) = re.findall(r"```json\n(.*?)```", DOCS, re.DOTALL)
    (tmp_path / "captions.jsonl").write_text(lines, encoding="utf-8")
    (tmp_path / "swahili.json").write_text(json.dumps([f"umbo la {i}" for i in range(48)]), encoding="utf-8")
    for name in ("my-swahili", "my-captions"):
        (tmp_path / f"{name}.yaml").write_text(definition(name), encoding="utf-8")
    return tmp_path


def test_own_languages_run_as_written(folder, capsys):
    run, listing = [one for one in commands(DOCS) if "runs/mine" in one]
    assert run_command(shlex.split(run)[1:]) == 0
    results = {result.benchmark_name: result for result in read_results(folder / "runs/mine")}
    words, captions = results["my-swahili"], results["my-captions"]
    assert set(words.metrics) == {"top1", "sw/top1", "de/top1"}
    assert words.metrics["de/top1"].n == 2  # two of the 48 classes, an image of each
    assert captions.dataset.n == {"images": 2, "texts": 5, "languages": 2}
    assert {"image_to_text_recall@1", "de/image_to_text_recall@1", "fr/text_to_image_recall@1"} < set(captions.metrics)
    capsys.readouterr()
    assert run_command(shlex.split(listing)[1:]) == 0
    assert "my-captions" in capsys.readouterr().out


def test_the_warning_of_long_captions_is_as_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (run,) = [one for one in commands(LONG) if "toybox-long" in one]
    (shown,) = re.findall(r"```\n(cosmos:toybox, toybox-long: .*)\n```", LONG)
    assert run_command(shlex.split(run)[1:]) == 0
    captured = capsys.readouterr()
    assert shown in captured.out + captured.err
