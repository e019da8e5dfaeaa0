"""Class folders, ImageNet in both layouts, and incomplete ones of both."""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from cosmos_core.errors import RequestError
from cosmos_eval import datasets
from cosmos_eval.datasets import imagenet
from cosmos_eval.datasets.data import ClassificationData
from cosmos_eval.datasets.dataset_checks import DataReport
from tests.helpers.datasets_on_disk import define, write_image

FOLDER = {"reader": "image-folder", "path": "pets"}
A = {"templates": ["a {c}"]}


def pets(root: Path) -> None:
    for i, name in enumerate(["dog/b.png", "dog/a.JPG", "cat/2.webp", "cat/inner/1.bmp", "Bird/x.gif"]):
        write_image(root / "pets" / name, seed=i)
    (root / "pets/cat/Thumbs.db").write_bytes(b"no image")
    write_image(root / "pets/dog/.hidden.png")
    write_image(root / "pets/.cache/a.png")


def load(tmp_path: Path, dataset: dict[str, Any], prompts: dict[str, Any] = A) -> ClassificationData:
    data = datasets.load(define(tmp_path, "classification", dataset, prompts))
    assert isinstance(data, ClassificationData)
    return data


def refusal(tmp_path: Path, dataset: dict[str, Any], prompts: dict[str, Any] = A) -> str:
    with pytest.raises(RequestError) as caught:
        load(tmp_path, dataset, prompts)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def check(tmp_path: Path, dataset: dict[str, Any], prompts: dict[str, Any] = A) -> DataReport:
    return datasets.check(define(tmp_path, "classification", dataset, prompts))


def test_images_in_unread_formats_are_remarked_and_side_folders_are_no_classes(tmp_path: Path):
    for i, name in enumerate(("cat/a.png", "dog/b.png", "cat/@eaDir/a.png/SYNOPHOTO_THUMB_M.jpg")):
        write_image(tmp_path / "im" / name, seed=i)
    write_image(tmp_path / "im/@eaDir/c.png")
    (tmp_path / "im/lost+found").mkdir()
    definition = define(tmp_path, "classification", {"reader": "image-folder", "path": "im"}, {"templates": ["{c}"]})
    data = datasets.load(definition)
    assert [image.key for image in data.images] == ["cat/a.png", "dog/b.png"]
    assert data.remarks == ()
    for name in ("cat/c.HEIC", "dog/more/d.jxl", "dog/notes.txt"):
        (tmp_path / "im" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "im" / name).write_bytes(b"x")
    assert datasets.load(definition).remarks == (
        "2 images are ignored, since their format is not read: cat/c.HEIC, dog/more/d.jxl; save them as JPEG or PNG",
    )


def test_classes_are_sorted_folders_and_images_of_any_format_are_read(tmp_path: Path):
    pets(tmp_path)
    data = load(tmp_path, {**FOLDER, "expected": {"images": 5, "classes": 3}})
    assert data.class_names == ["Bird", "cat", "dog"]
    keys = ["Bird/x.gif", "cat/2.webp", "cat/inner/1.bmp", "dog/a.JPG", "dog/b.png"]
    assert [image.key for image in data.images] == keys
    assert data.labels.tolist() == [0, 1, 1, 2, 2]
    assert data.templates == ["a {c}"]
    assert data.images[1].load().mode == "RGB"


def test_a_link_to_a_folder_above_is_followed_once(tmp_path: Path):
    pets(tmp_path)
    (tmp_path / "pets/cat/round").symlink_to(tmp_path / "pets/cat")
    (tmp_path / "pets/dog/more").symlink_to(tmp_path / "pets/cat/inner")
    keys = [image.key for image in load(tmp_path, FOLDER).images]
    assert keys == ["Bird/x.gif", "cat/2.webp", "cat/inner/1.bmp", "dog/a.JPG", "dog/b.png", "dog/more/1.bmp"]


def test_names_are_given_as_a_list_or_a_map(tmp_path: Path):
    pets(tmp_path)
    listed = load(tmp_path, FOLDER, {**A, "class_names": ["a bird", "a cat", "a dog"]})
    mapped = load(tmp_path, FOLDER, {**A, "class_names": {"dog": "a dog", "Bird": "a bird", "cat": "a cat"}})
    assert listed.class_names == mapped.class_names == ["a bird", "a cat", "a dog"]
    assert listed.fingerprint == mapped.fingerprint
    assert "2 class names for 3 class folders" in refusal(tmp_path, FOLDER, {**A, "class_names": ["a", "b"]})
    assert "no class name for 1 folder: Bird" in refusal(
        tmp_path, FOLDER, {**A, "class_names": {"dog": "a", "cat": "b"}}
    )
    names = {"dog": "a", "cat": "b", "Bird": "c", "fish": "d"}
    assert "for 1 folder that is not there: fish" in refusal(tmp_path, FOLDER, {**A, "class_names": names})


def test_a_class_may_have_prompts_of_its_own(tmp_path: Path):
    pets(tmp_path)
    prompts = {"dog": ["a {c} barks", "a {c}"], "cat": ["it purrs"], "Bird": ["a {c}"]}
    assert load(tmp_path, FOLDER, {"templates": prompts}).templates == [
        ["a {c}"],
        ["it purrs"],
        ["a {c} barks", "a {c}"],
    ]
    del prompts["cat"]
    assert "no prompts for 1 class: cat" in refusal(tmp_path, FOLDER, {"templates": prompts})


def test_an_empty_class_is_named(tmp_path: Path):
    pets(tmp_path)
    (tmp_path / "pets/fish").mkdir()
    assert "1 class without an image: fish" in refusal(tmp_path, FOLDER)


def test_half_a_dataset_is_refused_with_its_count(tmp_path: Path):
    pets(tmp_path)
    report = check(tmp_path, {**FOLDER, "expected": {"images": 10, "classes": 4}})
    assert report.found == {"images": 5, "classes": 3}
    assert report.problems == (
        f"mine needs 10 images in {tmp_path / 'pets'}, found 5",
        "mine needs 4 classes, found 3",
    )


def test_a_folder_that_is_missing_or_flat_is_refused(tmp_path: Path):
    assert "pets, which is not there" in refusal(tmp_path, FOLDER)
    write_image(tmp_path / "pets/a.png")
    assert "no class folders" in refusal(tmp_path, FOLDER)


WNIDS = ["n00000001", "n00000002", "n00000003"]
NAMES = {"templates": ["a {c}"], "class_names": ["tench", "goldfish", "shark"]}
NET = {"reader": "imagenet", "path": "val", "expected": {"images": 4, "classes": 3}}
FLAT = {**NET, "labels": "labels.txt"}


@pytest.fixture
def three_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagenet, "imagenet_wnids", lambda: list(WNIDS))


def flat(root: Path, text: str) -> None:
    (root / "labels.txt").write_text(text, encoding="utf-8")
    for i in range(1, 5):
        write_image(root / f"val/ILSVRC2012_val_{i:08d}.JPEG", seed=i)


def test_the_wnids_are_a_thousand_in_sorted_order():
    wnids = imagenet.imagenet_wnids()
    assert len(set(wnids)) == 1000
    assert wnids == sorted(wnids)
    assert wnids[0] == "n01440764"


@pytest.mark.usefixtures("three_classes")
def test_imagenet_in_class_folders_and_flat_hold_the_same_labels(tmp_path: Path):
    labels = [2, 0, 1, 0]
    flat(tmp_path, "".join(f"ILSVRC2012_val_{i:08d}.JPEG {label}\n" for i, label in enumerate(labels, start=1)))
    by_index = load(tmp_path, FLAT, NAMES)
    flat(tmp_path, "".join(f"ILSVRC2012_val_{i:08d}.JPEG {WNIDS[label]}\n" for i, label in enumerate(labels, start=1)))
    by_wnid = load(tmp_path, FLAT, NAMES)
    lines = [f"ILSVRC2012_val_{i:08d},{WNIDS[label]} 1 2 3 4\n" for i, label in enumerate(labels, start=1)]
    flat(tmp_path, "ImageId,PredictionString\n" + "".join(lines))
    by_kaggle = load(tmp_path, FLAT, NAMES)
    assert by_index.labels.tolist() == by_wnid.labels.tolist() == by_kaggle.labels.tolist() == labels
    assert by_index.class_names == ["tench", "goldfish", "shark"]
    for i, label in enumerate(labels, start=1):
        write_image(tmp_path / f"folders/{WNIDS[label]}/ILSVRC2012_val_{i:08d}.JPEG", seed=i)
    folders = load(tmp_path, {**NET, "path": "folders"}, NAMES)
    assert folders.labels.tolist() == [0, 0, 1, 2]
    pairs = {(image.digest(), label) for image, label in zip(by_index.images, by_index.labels, strict=True)}
    assert pairs == {(image.digest(), label) for image, label in zip(folders.images, folders.labels, strict=True)}


@pytest.mark.usefixtures("three_classes")
def test_the_devkits_ids_are_mapped_to_wnids(tmp_path: Path):
    flat(tmp_path, "30\n10\n20\n10\n")
    assert "lacks" in refusal(tmp_path, FLAT, NAMES)
    fields = [(name, object) for name in ("ILSVRC2012_ID", "WNID", "words", "num_children")]
    # ids in another order than the wnids, and a synset above the classes
    rows = [
        (10, WNIDS[2], "shark", 0),
        (20, WNIDS[0], "tench", 0),
        (30, WNIDS[1], "goldfish", 0),
        (31, "n9", "fish", 3),
    ]
    scipy.io.savemat(tmp_path / "meta.mat", {"synsets": np.array(rows, dtype=fields)})
    assert load(tmp_path, FLAT, NAMES).labels.tolist() == [1, 2, 0, 2]
    flat(tmp_path, "30\n31\n")
    assert "'31' in line 2 of" in refusal(tmp_path, FLAT, NAMES)
    (tmp_path / "meta.mat").write_bytes(b"MATLAB 5.0 MAT-file" * 20)
    assert "cannot read synsets" in refusal(tmp_path, FLAT, NAMES)
    (tmp_path / "meta.mat").write_bytes(b"<!DOCTYPE html>")
    assert "meta.mat is " in refusal(tmp_path, FLAT, NAMES)


@pytest.mark.usefixtures("three_classes")
def test_missing_and_unknown_class_folders_are_named(tmp_path: Path):
    for wnid in (WNIDS[0], "n00000009"):
        write_image(tmp_path / f"val/{wnid}/a.JPEG")
    unknown, missing, count = check(tmp_path, {**NET, "expected": {"images": 3}}, NAMES).problems
    assert "needs 3 class folders" in missing
    assert "missing: n00000002, n00000003" in missing
    assert "n00000009" in unknown
    assert "needs 3 images" in count


@pytest.mark.usefixtures("three_classes")
def test_folders_numbered_by_class_index_are_those_of_imagenetv2(tmp_path: Path):
    for i, folder in enumerate(["2", "0", "0"]):
        write_image(tmp_path / f"val/{folder}/{i}.jpeg", seed=i)
    data = load(tmp_path, {**NET, "expected": {"images": 3}}, NAMES)
    assert [image.key for image in data.images] == ["0/1.jpeg", "0/2.jpeg", "2/0.jpeg"]
    assert data.labels.tolist() == [0, 0, 2]
    assert data.class_names == ["tench", "goldfish", "shark"]


def test_validation_images_in_numbered_folders_of_another_order_are_refused(tmp_path: Path):
    write_image(tmp_path / "val/489/ILSVRC2012_val_00000001.JPEG")  # the devkit's id 490
    names = {"templates": ["a {c}"], "class_names": "imagenet1k"}
    assert "labelled 489 by the folders of" in refusal(tmp_path, {"reader": "imagenet", "path": "val"}, names)


@pytest.mark.usefixtures("three_classes")
def test_only_class_folders_of_imagenet_a_are_candidates(tmp_path: Path):
    for i, wnid in enumerate([WNIDS[2], WNIDS[0]]):
        write_image(tmp_path / f"val/{wnid}/{i}.jpg", seed=i)
    (tmp_path / "val/README.txt").write_text("n00000001 tench", encoding="utf-8")
    options = {"reader": "imagenet", "path": "val", "only_class_folders": True}
    data = load(tmp_path, {**options, "expected": {"images": 2, "classes": 2}}, NAMES)
    assert (data.class_names, data.labels.tolist()) == (["tench", "shark"], [0, 1])
    assert "needs 3 classes, found 2" in refusal(tmp_path, {**options, "expected": {"classes": 3}}, NAMES)
    assert "a lost folder would only make the task easier" in refusal(tmp_path, options, NAMES)


@pytest.mark.usefixtures("three_classes")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("490\n361\n", "no label in line 1"),
        ("490\n361 x\n", "all are ids, as in the devkit's ground truth"),
        ("ILSVRC2012_val_00000001.JPEG 3\n", "label '3' in line 1"),
        ("ILSVRC2012_val_00000001.JPEG n00000009\n", "label 'n00000009' in line 1"),
        ("ILSVRC2012_val_00000001.JPEG 0\nILSVRC2012_val_00000001.JPEG 1\n", "twice in"),
        ("ILSVRC2012_val_00000009.JPEG 0\n", "missing: ILSVRC2012_val_00000009.JPEG"),
        ("../b.JPEG 0\n", "outside its folder"),
        ("", "has no images"),
    ],
)
def test_an_invalid_label_file_is_refused_with_the_line(tmp_path: Path, text: str, message: str):
    flat(tmp_path, text)
    assert message in refusal(tmp_path, FLAT, NAMES)


@pytest.mark.usefixtures("three_classes")
def test_a_flat_folder_needs_labels_and_images(tmp_path: Path):
    flat(tmp_path, "")
    assert "give dataset.labels" in refusal(tmp_path, NET, NAMES)
    (tmp_path / "labels.txt").unlink()
    assert "labels.txt, which is not there" in refusal(tmp_path, FLAT, NAMES)
    (tmp_path / "empty").mkdir()
    assert "neither class folders" in refusal(tmp_path, {**FLAT, "path": "empty"}, NAMES)


@pytest.mark.skipif(sys.platform != "linux", reason="file names of any bytes are Linux's")
@pytest.mark.parametrize("name", [b"cat/caf\xe9.png", b"c\xe9t/a.png"])
def test_a_file_name_that_is_not_utf_8_is_one_printable_problem(tmp_path: Path, name: bytes):
    path = os.path.join(os.fsencode(tmp_path), b"images", name)  # noqa: PTH118 - bytes
    os.makedirs(os.path.dirname(path))  # noqa: PTH103, PTH120 - bytes
    content = write_image(tmp_path / "a.png").read_bytes()
    with open(path, "wb") as file:  # noqa: PTH123 - bytes
        file.write(content)
    benchmark = define(
        tmp_path, "classification", {"reader": "image-folder", "path": "images"}, {"templates": ["a {c}"]}
    )
    problems = datasets.check(benchmark).problems
    assert "1 image name with half a character" in problems[0]
    assert ("1 class name with half a character" in " ".join(problems)) == name.startswith(b"c\xe9t")
    assert all("\\udce9" in problem.encode().decode() for problem in problems)
    with pytest.raises(RequestError) as caught:
        datasets.load(benchmark)
    assert str(caught.value).encode()
