"""Torchvision's datasets through clip-benchmark's builder: same labels and prompts, no commands, no downloads."""

import hashlib
import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from clip_benchmark.datasets import builder
from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_eval import datasets
from cosmos_eval.datasets import cifar
from cosmos_eval.datasets import clip_benchmark as ours
from cosmos_eval.datasets.data import ClassificationData
from cosmos_eval.datasets.image_sources import ArrayImage
from tests.core.wrong_files import WRONG_FILES
from tests.helpers.datasets_on_disk import define, write_image
from tests.helpers.torchvision_on_disk import (
    MORE,
    SMALL,
    caltech101,
    food101,
    gtsrb,
)


def load(tmp_path: Path, name: str, templates: str = "dataset", **options: Any) -> ClassificationData:
    dataset = {"reader": "clip-benchmark", "dataset": name, "path": "data", **options}
    data = datasets.load(define(tmp_path, "classification", dataset, {"templates": templates}))
    assert isinstance(data, ClassificationData)
    return data


def refusal(tmp_path: Path, name: str, **options: Any) -> str:
    with pytest.raises(RequestError) as caught:
        load(tmp_path, name, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.filterwarnings("ignore:split argument ignored")
@pytest.mark.parametrize("name", SMALL)
def test_images_labels_and_prompts_are_the_builders(tmp_path: Path, name: str):
    make, keys, labels, class_names = SMALL[name]
    make(tmp_path / "data")
    data = load(tmp_path, name)
    assert [image.key for image in data.images] == keys
    assert data.labels.tolist() == labels
    assert data.class_names == class_names
    built = builder.build_dataset(name, root=str(tmp_path / "data"), transform=None, split="test", download=False)
    assert data.class_names == built.classes
    assert data.templates == built.templates
    read = {(image.load().tobytes(), label) for image, label in zip(data.images, data.labels.tolist(), strict=True)}
    assert read == {(image.convert("RGB").tobytes(), label) for image, label in (built[i] for i in range(len(built)))}


@pytest.mark.parametrize("name", SMALL)
def test_a_missing_image_is_named(tmp_path: Path, name: str):
    make, keys, _, _ = SMALL[name]
    make(tmp_path / "data")
    (tmp_path / "data" / keys[-1]).unlink()
    message = refusal(tmp_path, name, expected={"images": len(keys)})
    assert f"needs {len(keys)} images" in message
    assert f"found {len(keys) - 1}" in message
    # SUN397 has no list of its images, so only their number shows that one is missing.
    assert name == "sun397" or f"missing: {keys[-1]}" in message


@pytest.mark.parametrize("name", ours.NEEDED)
def test_an_absent_dataset_is_refused_before_the_builder_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    monkeypatch.setattr(builder, "build_dataset", lambda *a, **k: pytest.fail("called"))
    (tmp_path / "data").mkdir()
    message = refusal(tmp_path, name)
    assert "which is not there" in message
    assert str(tmp_path / "data") in message
    assert list((tmp_path / "data").iterdir()) == []


def test_every_file_that_is_needed_is_listed_at_once(tmp_path: Path):
    problems = datasets.check(
        define(
            tmp_path,
            "classification",
            {"reader": "clip-benchmark", "dataset": "food101", "path": ["data", "."], "needs": "unpack it"},
            {"templates": ["{c}"]},
        )
    ).problems
    assert len(problems) == 1  # one archive is missing: one problem names both alternatives
    assert "data/food-101/meta/test.json or" in problems[0]
    assert "(and with it food-101/images), which is not there" in problems[0]
    assert problems[0].endswith("(unpack it)")
    (tmp_path / "data/food-101/images").mkdir(parents=True)
    from cosmos_eval.protocol.benchmark import load_benchmark

    (problem,) = datasets.check(load_benchmark(tmp_path / "mine.yaml")).problems
    assert f"needs {tmp_path / 'data/food-101/meta/test.json'}, which is not there" in problem


def test_an_unknown_dataset_is_refused(tmp_path: Path):
    assert "can be read; those are caltech101" in refusal(tmp_path, "imagenet-a")


def test_the_builder_can_run_nothing(tmp_path: Path):
    (tmp_path / "coco").mkdir()
    with pytest.raises(RequestError, match="nothing is downloaded"), ours.forbid_commands():
        builder.build_dataset("mscoco_captions", root=str(tmp_path / "coco"), task="zeroshot_retrieval")
    with pytest.raises(RequestError, match="nothing is downloaded"), ours.forbid_commands():
        builder.build_dataset("wds/x", root="https://example.invalid/x")
    with pytest.raises(RequestError, match="nothing is downloaded"), ours.forbid_commands():
        os.system("true")
    assert builder.call.__module__ == "subprocess"


@pytest.fixture
def three_caltech_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """The builder takes Caltech-101's 102 names from its own list; here there are three folders."""
    original = builder.build_dataset

    def build(*args: Any, **options: Any) -> Any:
        built = original(*args, **options)
        built.classes = ["background", "face", "accordion"]
        return built

    monkeypatch.setattr(builder, "build_dataset", build)


@pytest.mark.usefixtures("three_caltech_names")
def test_a_class_can_be_left_out_and_a_random_part_is_that_of_pytorchs_random_split(tmp_path: Path):
    caltech101(tmp_path / "data")
    whole = load(tmp_path, "caltech101")
    assert np.bincount(whole.labels).tolist() == [2, 3, 4]
    real = load(tmp_path, "caltech101", without=["background"])
    assert real.class_names == ["face", "accordion"]
    assert real.labels.tolist() == [0, 0, 0, 1, 1, 1, 1]
    part = load(tmp_path, "caltech101", without=["background"], random_split=5, skip=2)
    generator = torch.Generator().manual_seed(5)
    _, test = torch.utils.data.random_split(torch.utils.data.TensorDataset(torch.arange(7)), [2, 5], generator)
    assert [image.key for image in part.images] == [real.images[i].key for i in test.indices]
    assert part.labels.tolist() == real.labels[test.indices].tolist()
    assert "classes that the dataset does not have: clutter" in refusal(tmp_path, "caltech101", without=["clutter"])


def cifar_files(
    root: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None = None
) -> tuple[np.ndarray, list[int]]:
    """Write CIFAR-100 in torchvision's layout, five images of three classes, and replace the published checksums."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (5, 3, 32, 32), dtype=np.uint8)
    labels = [2, 0, 1, 1, 0]
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    files = {
        "train": {"data": pixels.reshape(5, -1), "fine_labels": labels},
        "test": {"data": pixels.reshape(5, -1), "fine_labels": labels, "filenames": ["a"] * 5},
        "meta": {"fine_label_names": ["apple", "aquarium_fish", "baby"]},
    }
    md5 = {}
    for name, value in files.items():
        raw = content if content is not None and name == "test" else pickle.dumps(value, protocol=2)
        (folder / name).write_bytes(raw)
        md5[name] = hashlib.md5(raw, usedforsecurity=False).hexdigest()
    published = torchvision.datasets.CIFAR100
    monkeypatch.setattr(published, "train_list", [["train", md5["train"]]])
    monkeypatch.setattr(published, "test_list", [["test", md5["test"]]])
    monkeypatch.setattr(published, "meta", {**published.meta, "md5": md5["meta"]})
    return pixels.transpose(0, 2, 3, 1), labels


def test_cifar_100_in_torchvisions_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pixels, labels = cifar_files(tmp_path / "data", monkeypatch)
    data = load(tmp_path, "cifar100", templates="clip-benchmark:cifar100", expected={"images": 5, "classes": 3})
    assert data.labels.tolist() == labels
    assert data.class_names == ["apple", "aquarium_fish", "baby"]
    assert len(data.templates) == 18
    assert [np.asarray(image.load()).tolist() for image in data.images] == pixels.tolist()
    digest = data.images[0].digest()
    assert digest == ArrayImage("x", pixels[0]).digest()
    assert digest != data.images[1].digest()


def test_cifar_with_another_checksum_is_refused_before_it_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cifar_files(tmp_path / "data", monkeypatch)
    path = tmp_path / "data/cifar-100-python/test"
    path.write_bytes(path.read_bytes() + b"\n")
    monkeypatch.setattr(cifar, "load_arrays", lambda *a, **k: pytest.fail("unpickled"))
    assert "its checksum differs" in refusal(tmp_path, "cifar100")
    path.unlink()
    assert "cifar-100-python/test, which is not there" in refusal(tmp_path, "cifar100")


def test_a_cifar_file_that_changes_after_its_checksum_was_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    cifar_files(tmp_path / "data", monkeypatch)
    path = tmp_path / "data/cifar-100-python/test"
    other = pickle.loads(path.read_bytes())
    other["fine_labels"] = other["fine_labels"][::-1]
    check = ours.require_published_files

    def check_and_change(*arguments: Any) -> Any:
        checksums = check(*arguments)
        path.write_bytes(pickle.dumps(other, protocol=2))
        monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)  # as before
        return checksums

    monkeypatch.setattr(ours, "require_published_files", check_and_change)
    assert "cifar-100-python/test was changed after its checksum was read" in refusal(tmp_path, "cifar100")


@pytest.mark.parametrize("content", WRONG_FILES)
def test_whatever_is_in_place_of_a_datasets_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
):
    cifar_files(tmp_path / "data", monkeypatch)
    (tmp_path / "data/cifar-100-python/test").write_bytes(content)
    for published in (True, False):
        message = refusal(tmp_path, "cifar100", published=published)
        assert f"cifar-100-python/test: it {WRONG_FILES[content]}" in message
    food101(tmp_path / "data")
    (tmp_path / "data/food-101/meta/test.json").write_bytes(content)
    assert f"food-101/meta/test.json: it {WRONG_FILES[content]}" in refusal(tmp_path, "food101")


class Trap:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("sprung",)


def test_files_declared_as_not_published_are_read_without_checksums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pixels, labels = cifar_files(tmp_path / "data", monkeypatch)
    monkeypatch.undo()
    data = load(tmp_path, "cifar100", templates="clip-benchmark:cifar100", published=False)
    assert data.labels.tolist() == labels
    assert [np.asarray(image.load()).tolist() for image in data.images] == pixels.tolist()


@pytest.mark.parametrize("published", [True, False])
@pytest.mark.parametrize("content", [pickle.dumps(Trap(), protocol=2), pickle.dumps(Image.Image), b"cut short", b""])
def test_a_pickle_with_more_than_arrays_is_refused_whatever_its_checksum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, published: bool
):
    monkeypatch.chdir(tmp_path)
    cifar_files(tmp_path / "data", monkeypatch, content)
    assert "unpack CIFAR's archive again" in refusal(tmp_path, "cifar100", published=published)
    assert not (tmp_path / "sprung").exists()


def test_torchvision_unpickles_as_before_after_the_block():
    with cifar.safe_unpickling():
        assert torchvision.datasets.cifar.pickle.load is cifar.load_arrays
    assert torchvision.datasets.cifar.pickle is pickle


def test_flowers_with_a_changed_label_file_is_refused(tmp_path: Path):
    root = tmp_path / "data/flowers-102"
    write_image(root / "jpg/image_00001.jpg")
    for name in ("setid.mat", "imagelabels.mat"):
        (root / name).write_bytes(b"not it")
    assert "cannot be read by clip-benchmark" in refusal(tmp_path, "flowers")


@pytest.mark.usefixtures("three_caltech_names")
def test_a_stray_folder_among_the_classes_is_named(tmp_path: Path):
    """`__MACOSX` sorts before the lower-case letters: every class after it would get the next one's name."""
    caltech101(tmp_path / "data")
    folder = tmp_path / "data/caltech101/101_ObjectCategories/__MACOSX"
    write_image(folder / "accordion/._image_0001.jpg")
    message = refusal(tmp_path, "caltech101")
    assert f"needs 3 class folders in {folder.parent}, found 4; no class: __MACOSX; remove it" in message
    write_image(folder / "image_0001.jpg")
    assert "needs 3 class folders" in refusal(tmp_path, "caltech101")


@pytest.mark.parametrize("label", [43, -1])
def test_a_label_out_of_range_is_refused(tmp_path: Path, label: int):
    gtsrb(tmp_path / "data", last=label)
    assert f"1 label outside 0 to 42 below {tmp_path / 'data'}" in refusal(tmp_path, "gtsrb")


@pytest.mark.filterwarnings("ignore:split argument ignored")
@pytest.mark.parametrize("name", MORE)
def test_the_other_sets_of_the_clip_paper_are_the_builders_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    make, labels, first_name = MORE[name]
    make(tmp_path / "data")
    monkeypatch.setattr(torchvision.datasets.stl10, "check_integrity", lambda path, md5=None: Path(path).is_file())
    data = load(tmp_path, name, expected={"images": len(labels), "classes": len(set(labels))})
    assert data.labels.tolist() == labels
    assert data.class_names[0] == first_name
    built = builder.build_dataset(name, root=str(tmp_path / "data"), transform=None, split="test", download=False)
    assert data.class_names == built.classes
    assert data.templates == built.templates
    for i in range(0, len(labels), 20):
        image, label = built[i]
        assert data.images[i].load().tobytes() == image.convert("RGB").tobytes()
        assert label == labels[i]


def test_skip_without_a_random_split_is_refused(tmp_path: Path):
    food101(tmp_path / "data")
    with pytest.raises(RequestError, match=r"mine.yaml:\d+: skip does nothing without random_split"):
        load(tmp_path, "food101", skip=1)
    with pytest.raises(RequestError, match="skip must be a whole number of at least 0"):
        load(tmp_path, "food101", random_split=1, skip=-1)
    dataset = {"reader": "clip-benchmark", "dataset": "food101", "path": "data"}
    whole = define(tmp_path, "classification", dataset, {"templates": "dataset"})
    with pytest.raises(RequestError, match="skip without random_split"):
        datasets.load(replace(whole, dataset={**dataset, "skip": 1}))
