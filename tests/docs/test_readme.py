"""The README's definitions and its adapter are run as they stand there."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from cosmos_eval.cli.main import run_command
from cosmos_eval.protocol.benchmark import list_benchmarks, list_suites
from cosmos_eval.results.store import read_results

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")


def block(language: str, containing: str) -> str:
    """The one fenced block of a language that holds some text."""
    (found,) = [text for text in re.findall(rf"```{language}\n(.*?)```", README, re.S) if containing in text]
    return found


@pytest.fixture
def twenty_pictures(tmp_path) -> Path:
    """The folder of the README's example: twenty pictures, a line of JSON each, and the definition."""
    folder = tmp_path / "pets"
    (folder / "photos").mkdir(parents=True)
    lines = []
    for i in range(20):
        Image.new("RGB", (40, 30), ("red", "green", "blue", "gray")[i % 4]).save(folder / "photos" / f"{i}.jpg")
        lines.append(json.dumps({"image": f"photos/{i}.jpg", "captions": [f"a {i} red" if i % 4 == 0 else f"pet {i}"]}))
    (folder / "pets.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "pets.yaml").write_text(block("yaml", "task: retrieval"))
    return folder


@pytest.fixture
def own_model(tmp_path, monkeypatch) -> str:
    """The README's adapter, saved where it says."""
    (tmp_path / "colours.py").write_text(block("python", "class Colours"))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return "python:colours:build"


def test_the_own_pictures_and_the_own_model_of_the_readme_run(twenty_pictures, own_model, tmp_path, capsys):
    assert run_command(["data", "check", str(twenty_pictures / "pets.yaml")]) == 0
    assert "20 images" in capsys.readouterr().out
    command = ["run", "--model", own_model, "--benchmark", str(twenty_pictures / "pets.yaml")]
    assert run_command([*command, "--out", str(tmp_path / "results")]) == 0
    (result,) = read_results(tmp_path / "results")
    assert result.benchmark["name"] == "my-pets"
    # The five captions that say "red" tie over the five red pictures, and the fifteen others, which name no colour,
    # over the five gray ones: one red and one gray picture is found in expectation, twice chance.
    assert result.metrics["text_to_image_recall@1"].value == pytest.approx(2 / 20)


def test_the_own_classes_of_the_readme_run(twenty_pictures, own_model, tmp_path):
    kinds = [json.dumps({"image": f"photos/{i}.jpg", "label": ("dog", "cat")[i % 2]}) for i in range(20)]
    (twenty_pictures / "pets.jsonl").write_text("\n".join(kinds))
    (twenty_pictures / "pets.yaml").write_text(block("yaml", "task: classification"))
    command = ["run", "--model", own_model, "--benchmark", str(twenty_pictures / "pets.yaml")]
    assert run_command([*command, "--out", str(tmp_path / "results")]) == 0
    (result,) = read_results(tmp_path / "results")
    assert result.metrics["top1"].value == pytest.approx(0.5)  # neither name holds a colour: the two classes tie


def test_every_name_in_the_readme_exists():
    for name in re.findall(r"--benchmark ([a-z0-9-]+)(?=[\s`])", README):
        assert name in list_benchmarks()
    for name in re.findall(r"--suite ([a-z0-9-]+)(?=[\s`])", README):
        assert name in list_suites()


def test_the_readme_has_its_two_commands():
    for which in ("main", "test"):
        assert README.count(f"<!-- newcomer: {which} -->") == 1
    assert "cosmos-eval quickstart" in README
