"""docs/own_data.md: its definitions run as they stand there, with the adapter of docs/own_models.md."""

import json
from pathlib import Path

import pytest
from PIL import Image

from cosmos_eval.cli.main import run_command
from cosmos_eval.results.store import read_results
from tests.helpers.documents import block

DOCS = Path(__file__).resolve().parents[2] / "docs"
OWN_DATA = (DOCS / "own_data.md").read_text(encoding="utf-8")
OWN_MODELS = (DOCS / "own_models.md").read_text(encoding="utf-8")


@pytest.fixture
def twenty_images(tmp_path) -> Path:
    """The folder of the example: twenty images, a line of JSON each, and the definition."""
    folder = tmp_path / "pets"
    (folder / "photos").mkdir(parents=True)
    lines = []
    for i in range(20):
        Image.new("RGB", (40, 30), ("red", "green", "blue", "gray")[i % 4]).save(folder / "photos" / f"{i}.jpg")
        lines.append(json.dumps({"image": f"photos/{i}.jpg", "captions": [f"a {i} red" if i % 4 == 0 else f"pet {i}"]}))
    (folder / "pets.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "pets.yaml").write_text(block(OWN_DATA, "yaml", "name: my-pets\n"))
    return folder


@pytest.fixture
def own_model(tmp_path, monkeypatch) -> str:
    """The adapter of docs/own_models.md, saved where it says."""
    (tmp_path / "colours.py").write_text(block(OWN_MODELS, "python", "class Colours"))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return "python:colours:build"


def test_the_own_images_and_the_own_model_of_the_documents_run(twenty_images, own_model, tmp_path, capsys):
    assert run_command(["data", "check", str(twenty_images / "pets.yaml")]) == 0
    assert "20 images" in capsys.readouterr().out
    command = ["run", "--model", own_model, "--benchmark", str(twenty_images / "pets.yaml")]
    assert run_command([*command, "--out", str(tmp_path / "results")]) == 0
    (result,) = read_results(tmp_path / "results")
    assert result.benchmark.name == "my-pets"
    # The five captions that say "red" tie over the five red images, and the fifteen others, which name no colour,
    # over the five gray ones: one red and one gray image is found in expectation, twice chance.
    assert result.metrics["text_to_image_recall@1"].value == pytest.approx(2 / 20)


def test_the_own_classes_of_the_documents_run(twenty_images, own_model, tmp_path):
    kinds = [json.dumps({"image": f"photos/{i}.jpg", "label": ("dog", "cat")[i % 2]}) for i in range(20)]
    (twenty_images / "pets.jsonl").write_text("\n".join(kinds))
    (twenty_images / "pets.yaml").write_text(block(OWN_DATA, "yaml", "task: classification"))
    command = ["run", "--model", own_model, "--benchmark", str(twenty_images / "pets.yaml")]
    assert run_command([*command, "--out", str(tmp_path / "results")]) == 0
    (result,) = read_results(tmp_path / "results")
    assert result.metrics["top1"].value == pytest.approx(0.5)  # neither name holds a colour: the two classes tie
