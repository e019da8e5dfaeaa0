"""docs/own_data.md: its definitions run as they stand there, with the adapter of docs/own_models.md."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from cosmos_eval import datasets
from cosmos_eval.cli.main import run_command
from cosmos_eval.protocol.benchmark import load_benchmark
from cosmos_eval.results.store import read_results
from tests.helpers.documents import block
from tests.helpers.own_masks_on_disk import polygons_of

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
    (folder / "pets.yaml").write_text(block(OWN_DATA, "yaml", "task: retrieval"))
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


MASK_ROWS = dict(
    re.findall(
        r"^\| (.*?) \| (.*) \|$", OWN_DATA.partition("\n## Segmentation\n")[2].partition("\n## ")[0], re.MULTILINE
    )
)
"""Of the table of masks: what masks are -> options."""


@pytest.fixture
def streets(tmp_path) -> Path:
    """The folder of the example: twenty images with masks of four classes, and the definition."""
    folder = tmp_path / "streets"
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for i in range(20):
        Image.new("RGB", (64, 48), ("gray", "blue", "red")[i % 3]).save(folder / f"images/{i:04d}.jpg")
        labels = np.repeat(np.arange(4, dtype=np.uint8), 16)[None].repeat(48, 0)
        labels[0] = 255
        Image.fromarray(labels).save(folder / f"masks/{i:04d}.png")
    (folder / "streets.yaml").write_text(block(OWN_DATA, "yaml", "task: segmentation"))
    return folder


def test_the_own_segmentation_of_the_documents_runs(streets, tmp_path, capsys):
    path = str(streets / "streets.yaml")
    assert run_command(["data", "check", path, "--deep"]) == 0
    assert "20 images, 4 classes" in capsys.readouterr().out
    assert run_command(["run", "--model", "cosmos:toybox", "--benchmark", path, "--out", str(tmp_path / "out")]) == 0
    (result,) = read_results(tmp_path / "out")
    assert {"background/iou", "road/iou", "car/iou", "person/iou"} <= result.metrics.keys()
    # every image has one colour, so that a class has all of its pixels, or about a quarter of what it is given
    assert result.metrics["miou"].value <= 0.25


def read_labels(path: Path) -> np.ndarray:
    """The labels of the first mask of a definition."""
    return datasets.read(load_benchmark(path)).masks[0].load()


@pytest.mark.parametrize("masks", [name for name in MASK_ROWS if name not in ("masks are", "---")])
def test_each_format_of_masks_in_the_documents_is_read(streets, masks):
    path = streets / "streets.yaml"
    labels = read_labels(path)
    options = [yaml.safe_load(f"{{{text}}}") for text in re.findall(r"`(\w+: .*?)`(?:,|;| |$)", MASK_ROWS[masks])]
    definition = yaml.safe_load(path.read_text())
    for option in options:
        definition["dataset"] |= option
    expected = labels.copy()
    for i in range(20):
        mask = streets / f"masks/{i:04d}.png"
        if masks.startswith("class indices"):
            wide = labels.astype(np.uint16)
            wide[labels == 255] = 65535
            Image.fromarray(wide).save(mask)
        elif masks.startswith("numbered from 1"):
            Image.fromarray(np.where(labels == 255, 0, labels + 1).astype(np.uint8)).save(mask)
        elif masks == "colours":
            # "with a colour for each class": the table has none for the background
            definition["dataset"]["colours"]["70 70 70"] = "background"
            colours = np.zeros((256, 3), dtype=np.uint8)
            colours[:4] = [(70, 70, 70), (128, 64, 128), (0, 0, 142), (220, 20, 60)]
            Image.fromarray(colours[labels]).save(mask)
        elif masks == "black and white":
            expected = np.where(labels == 1, 1, 0)
            Image.fromarray((expected * 255).astype(np.uint8)).save(mask)
        elif masks.startswith("called"):
            mask.rename(streets / f"masks/{i:04d}_mask.png")
        else:
            assert masks.startswith("one JSON")
    if masks.startswith("one JSON"):
        expected = np.where(labels == 255, 0, labels)
        coco = {
            "images": [{"id": i, "file_name": f"{i:04d}.jpg", "width": 64, "height": 48} for i in range(20)],
            "categories": [{"id": 1, "name": "road"}, {"id": 2, "name": "car"}, {"id": 3, "name": "person"}],
            "annotations": [
                {"id": i * 3 + c, "image_id": i, "category_id": c, "segmentation": polygons_of(expected == c)}
                for i in range(20)
                for c in (1, 2, 3)
            ],
        }
        (streets / "instances.json").write_text(json.dumps(coco))
    path.write_text(yaml.safe_dump(definition, sort_keys=False))
    assert np.array_equal(read_labels(path), expected)


def test_twenty_one_classes_with_several_words_each(streets, tmp_path):
    shipped = load_benchmark("voc21")
    words = {entry[0] if isinstance(entry, list) else entry: entry for entry in shipped.prompts["words"]}
    assert len(words) == 21
    definition = yaml.safe_load((streets / "streets.yaml").read_text())
    definition["prompts"]["words"] = words
    definition["dataset"]["expected"]["classes"] = 21
    (streets / "streets.yaml").write_text(yaml.safe_dump(definition, sort_keys=False))
    for i in range(20):
        labels = Image.fromarray(np.arange(64 * 48, dtype=np.uint16).reshape(48, 64).astype(np.uint8) % 21)
        labels.putpalette(list(range(63)))
        labels.save(streets / f"masks/{i:04d}.png")
    command = ["run", "--model", "cosmos:toybox", "--benchmark", str(streets / "streets.yaml"), "--limit", "2"]
    assert run_command([*command, "--out", str(tmp_path / "out")]) == 0
    (result,) = read_results(tmp_path / "out")
    assert sum(name.endswith("/iou") for name in result.metrics) == 21
