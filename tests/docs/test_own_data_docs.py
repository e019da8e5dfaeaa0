"""docs/own_data.md: its definitions run as written, with the adapter of docs/own_models.md."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from cosmos_eval import datasets
from cosmos_eval.cli.main import run_command
from cosmos_eval.datasets.imagenet import imagenet_wnids
from cosmos_eval.protocol.benchmark import load_benchmark
from cosmos_eval.results.store import read_results
from tests.helpers.datasets_on_disk import write_image
from tests.helpers.documents import block
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
    (folder / "pets.yaml").write_text(block(OWN_DATA, "yaml", "task: retrieval"))
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
