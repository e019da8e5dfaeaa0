"""docs/own_data.md: its definitions run as written, with the adapter of docs/own_models.md."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from cosmos_eval import datasets
from cosmos_eval.cli.main import run_command
from cosmos_eval.datasets.imagenet import imagenet_wnids
from cosmos_eval.protocol.benchmark import load_benchmark
from cosmos_eval.results.store import read_results
from tests.helpers.datasets_on_disk import write_image
from tests.helpers.documents import block
from tests.helpers.own_masks_on_disk import polygons_of
from tests.helpers.tables_on_disk import write_table

DOCS = Path(__file__).resolve().parents[2] / "docs"
OWN_DATA = (DOCS / "own_data.md").read_text(encoding="utf-8")
OWN_MODELS = (DOCS / "own_models.md").read_text(encoding="utf-8")


@pytest.fixture
def twenty_images(tmp_path) -> Path:
    """The folder of the example: twenty images, the JSON file with one line for each, and the definition."""
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
    """The adapter of docs/own_models.md, saved as the page says."""
    (tmp_path / "colours.py").write_text(block(OWN_MODELS, "python", "class Colours"))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return "python:colours:build"


def test_the_retrieval_example_runs_with_the_example_model(twenty_images, own_model, tmp_path, capsys):
    assert run_command(["data", "check", str(twenty_images / "pets.yaml")]) == 0
    assert "20 images" in capsys.readouterr().out
    command = ["run", "--model", own_model, "--benchmark", str(twenty_images / "pets.yaml")]
    assert run_command([*command, "--out", str(tmp_path / "results")]) == 0
    (result,) = read_results(tmp_path / "results")
    assert result.benchmark.name == "my-pets"
    # The five captions that say "red" tie over the five red images, and the fifteen others, which name no colour,
    # over the five gray ones: one red and one gray image is found in expectation, twice chance.
    assert result.metrics["text_to_image_recall@1"].value == pytest.approx(2 / 20)


def test_the_classification_example_runs(twenty_images, own_model, tmp_path):
    kinds = [json.dumps({"image": f"photos/{i}.jpg", "label": ("dog", "cat")[i % 2]}) for i in range(20)]
    (twenty_images / "pets.jsonl").write_text("\n".join(kinds))
    (twenty_images / "pets.yaml").write_text(block(OWN_DATA, "yaml", "name: my-pets-by-kind"))
    command = ["run", "--model", own_model, "--benchmark", str(twenty_images / "pets.yaml")]
    assert run_command([*command, "--out", str(tmp_path / "results")]) == 0
    (result,) = read_results(tmp_path / "results")
    assert result.metrics["top1"].value == pytest.approx(0.5)  # neither name holds a colour: the two classes tie


def tables(folder: Path, names: list[str]) -> None:
    """Twenty red and blue images in two Parquet files of a test split, and one of a training split."""
    for name, first in zip(names, (0, 10, 20), strict=True):
        rows = range(first, first + 10)
        images = [{"bytes": one_colour(("red", "blue")[i % 2]), "path": None} for i in rows]
        write_table(
            folder / name, {"image": images, "label": [i % 2 for i in rows]}, class_names=["red dog", "blue cat"]
        )


def one_colour(colour: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(stream, "JPEG")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("heading", "folder"),
    [
        ("reader: parquet", "pets/data"),
        ("reader: hf-dataset", "data/hf/somebody--pets/0123456789abcdef0123456789abcdef01234567/data"),
    ],
)
def test_the_parquet_files_of_the_documents_run(own_model, tmp_path, heading, folder, capsys):
    splits = ["test-00000-of-00002.parquet", "test-00001-of-00002.parquet", "train-00000-of-00001.parquet"]
    tables(tmp_path / folder, splits)
    (tmp_path / "pets").mkdir(exist_ok=True)
    path = tmp_path / "pets/pets.yaml"
    path.write_text(block(OWN_DATA, "yaml", heading))
    root = ["--data-root", str(tmp_path / "data")] if "hf" in heading else []
    assert run_command(["data", "check", str(path), "--deep", *root]) == 0
    assert "20 images, 2 classes" in capsys.readouterr().out
    command = ["run", "--model", own_model, "--benchmark", str(path), "--out", str(tmp_path / "results"), *root]
    assert run_command(command) == 0
    (result,) = read_results(tmp_path / "results")
    assert result.metrics["top1"].value == 1  # the names say which images are red and which are blue


def test_the_definition_that_says_where_its_data_are_is_planned(tmp_path, capsys):
    path = tmp_path / "pets-fetched.yaml"
    path.write_text(block(OWN_DATA, "yaml", "name: pets-fetched"))
    assert run_command(["data", "fetch", str(path), "--data-root", str(tmp_path / "data"), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "from url (https://example.org/pets.zip)" in printed
    assert "terms: CC BY 4.0" in printed
    path.write_text(block(OWN_DATA, "yaml", "name: pets-hub"))
    assert run_command(["data", "fetch", str(path), "--data-root", str(tmp_path / "data"), "--dry-run"]) == 0
    assert "from hub (https://huggingface.co/datasets/somebody/pets)" in capsys.readouterr().out


def test_every_variant_of_imagenet_of_the_documents_is_a_definition(tmp_path):
    text = block(OWN_DATA, "yaml", "only_class_folders")
    rows = re.findall(r"^\| (ImageNet\S+) \| `(\S+)` \| (yes|no) \| images: (\d+), classes: (\d+) \|$", OWN_DATA, re.M)
    assert len(rows) == 5
    for name, folder, only, images, classes in rows:
        own = text.replace("path: imagenet-a", f"path: {folder}").replace("images: 7500, classes: 200", "images: 2")
        own = own.replace("images: 2", f"images: {images}, classes: {classes}")
        own = own if only == "yes" else own.replace("  only_class_folders: true\n", "")
        (tmp_path / "own.yaml").write_text(own)
        benchmark = load_benchmark(tmp_path / "own.yaml")
        assert benchmark.dataset["expected"] == {"images": int(images), "classes": int(classes)}
        shipped = {"ImageNetV2": "imagenetv2-wds", "ImageNet-Sketch": "imagenet-sketch-wds"}
        assert (
            load_benchmark(shipped.get(name, f"{name.lower()}-wds")).dataset["expected"]
            == benchmark.dataset["expected"]
        )
        wnids = imagenet_wnids()
        kept = ["0", "999"] if name == "ImageNetV2" else [wnids[0], wnids[999]]
        for wnid in kept:
            write_image(tmp_path / folder / wnid / f"{wnid}.jpeg", seed=len(wnid))
        expected = {"images": 2, "classes": 2 if only == "yes" else 1000}
        data = datasets.load(replace(benchmark, dataset={**benchmark.dataset, "expected": expected}), tmp_path)
        assert [data.class_names[label] for label in data.labels] == ["tench", "toilet paper"]


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
