"""Class names are assigned to folders and indices by name or by number, or refused; never by an unchecked order."""

import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_eval import datasets, tasks
from cosmos_eval.datasets import imagenet, imagenet_order
from cosmos_eval.datasets.class_order import normalize_class_name
from tests.helpers.datasets_on_disk import define, write_image
from tests.helpers.segmentation_on_disk import small, write_segmentation

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"]
READER = {"reader": "image-folder", "path": "im"}


def read(root: Path, folders: list[str], class_names: Any, **dataset: Any):
    """The data of folders with one image each."""
    for i, folder in enumerate(folders):
        write_image(root / "im" / folder / "a.png", seed=i)
    prompts = {"templates": ["{c}"], "class_names": class_names}
    return datasets.load(define(root, "classification", {**READER, **dataset}, prompts))


def names_by_folder(data) -> dict[str, str]:
    return {
        image.key.split("/")[0]: data.class_names[label] for image, label in zip(data.images, data.labels, strict=True)
    }


@pytest.mark.parametrize("width", [1, 2, 4])
def test_folders_that_are_whole_numbers_are_taken_in_numeric_order(tmp_path: Path, width: int):
    data = read(tmp_path, [f"{i:0{width}d}" for i in range(12)], WORDS)
    assert {int(folder): name for folder, name in names_by_folder(data).items()} == dict(enumerate(WORDS))


@pytest.mark.parametrize("ending", ["txt", "json"])
def test_numbers_from_1_and_names_from_a_file(tmp_path: Path, ending: str):
    text = "\n".join(WORDS) + "\n\n" if ending == "txt" else json.dumps(WORDS)
    (tmp_path / f"names.{ending}").write_text(text)
    data = read(tmp_path, [str(i) for i in range(1, 13)], f"names.{ending}")
    assert {int(folder) - 1: name for folder, name in names_by_folder(data).items()} == dict(enumerate(WORDS))


def test_a_map_has_the_same_classes_as_numeric_order(tmp_path: Path):
    data = read(tmp_path, [str(i) for i in range(12)], {str(i): word for i, word in enumerate(WORDS)})
    assert {int(folder): name for folder, name in names_by_folder(data).items()} == dict(enumerate(WORDS))


@pytest.mark.parametrize(
    "folders",
    [
        ["airplane", "automobile", "bird", "sea_lion"],
        ["Airplane", "AUTOMOBILE", "Bird", "Sea-Lion"],
        ["2_airplane", "10_automobile", "1_bird", "3_sea_lion"],
        ["001.Airplanes", "002.Automobiles", "003.Birds", "004.SeaLion"],
    ],
)
def test_names_like_those_of_the_folders_are_assigned_by_name_in_any_order(tmp_path: Path, folders: list[str]):
    names = ["bird", "sea lion", "automobile", "airplane"]
    data = read(tmp_path, folders, names)
    for folder, name in names_by_folder(data).items():
        assert normalize_class_name(folder) == normalize_class_name(name)
    assert data.remarks == ()


def test_names_that_differ_only_by_a_number_are_assigned_by_name_too(tmp_path: Path):
    folders, names = [f"class_{i}" for i in range(12)], [f"Class {i}" for i in range(12)]
    assert names_by_folder(read(tmp_path, folders, names)) == dict(zip(folders, names, strict=True))


def test_a_name_at_the_position_of_another_folder_is_refused_with_both(tmp_path: Path):
    with pytest.raises(
        RequestError, match="the folder airplane would get the name 'bird', which is that of the folder"
    ):
        read(tmp_path, ["airplane", "bird", "cat"], ["bird", "cat", "plane"])


@pytest.mark.parametrize("prefix", ["class", "class_", "c-"])
def test_folders_that_can_be_sorted_in_two_ways_are_refused_and_a_map_is_accepted(tmp_path: Path, prefix: str):
    folders = [f"{prefix}{i}" for i in range(12)]
    with pytest.raises(RequestError, match=f"the folder {prefix}10 would get the name 'two' .* as a map") as caught:
        read(tmp_path, folders, WORDS)
    assert "\n" not in str(caught.value)
    data = read(tmp_path, folders, dict(zip(folders, WORDS, strict=True)))
    assert names_by_folder(data) == dict(zip(folders, WORDS, strict=True))


def test_names_without_a_conflict_are_assigned_in_sorted_order_with_a_remark(tmp_path: Path):
    data = read(tmp_path, ["n01440764", "n01443537", "n01484850", "n01491361"], ["tench", "goldfish", "shark", "tiger"])
    assert list(data.class_names) == ["tench", "goldfish", "shark", "tiger"]
    assert data.remarks == (
        "class names are assigned to the sorted folders by position: n01440764 = tench, n01443537 = goldfish, "
        "n01484850 = shark and 1 more",
    )


ALLOW = {"candidates_without_images": "allow"}


@pytest.mark.parametrize(
    ("folders", "names", "expected"),
    [
        (["cat", "dog"], ["ant", "dog", "cat"], {"cat": "cat", "dog": "dog"}),
        (["0", "11"], WORDS, {"0": "zero", "11": "eleven"}),
        (["x", "y"], {"x": "ex", "y": "why", "z": "zed"}, {"x": "ex", "y": "why"}),
    ],
)
def test_candidates_without_images_are_a_problem_unless_allowed_and_then_counted(tmp_path, folders, names, expected):
    with pytest.raises(RequestError, match="class names for"):
        read(tmp_path, folders, names)
    data = read(tmp_path, folders, names, **ALLOW)
    assert names_by_folder(data) == expected
    assert set(data.class_names) == set(names.values() if isinstance(names, dict) else names)
    assert data.remarks[0].startswith(f"{len(names) - 2} of {len(names)} classes ha")


def test_a_class_folder_that_is_empty_is_a_problem_unless_allowed(tmp_path: Path):
    (tmp_path / "im" / "empty").mkdir(parents=True)
    with pytest.raises(RequestError, match=r"1 class without an image: empty; .* candidates_without_images: allow"):
        read(tmp_path, ["cat"], "dataset")
    assert read(tmp_path, ["cat"], "dataset", **ALLOW).remarks == ("1 of 2 classes has no image: empty",)


def test_allowing_candidates_is_part_of_the_protocol_and_takes_one_word(tmp_path: Path):
    prints = {
        define(tmp_path, "classification", {**READER, **more}, {"templates": ["{c}"]}).fingerprint
        for more in ({}, ALLOW)
    }
    assert len(prints) == 2
    with pytest.raises(RequestError, match="must be allow"):
        define(tmp_path, "classification", {**READER, "candidates_without_images": True}, {"templates": ["{c}"]})
    with pytest.raises(RequestError, match="retrieval has no candidate classes"):
        define(tmp_path, "retrieval", {"reader": "jsonl", "path": "a.jsonl", **ALLOW})


def test_a_name_of_two_classes_is_remarked_and_cannot_be_a_label(tmp_path: Path):
    data = read(tmp_path, ["x", "y"], {"x": "crane", "y": "crane"})
    assert data.remarks == ("several classes have the same name and tie: crane",)
    write_image(tmp_path / "a.png")
    (tmp_path / "d.jsonl").write_text('{"image": "a.png", "label": "crane"}\n')
    prompts = {"templates": ["{c}"], "class_names": ["crane", "crane"]}
    with pytest.raises(RequestError, match=r"d\.jsonl:1: the label 'crane' is the name of several classes"):
        datasets.load(define(tmp_path, "classification", {"reader": "jsonl", "path": "d.jsonl"}, prompts))


def test_a_path_one_level_too_high_and_a_single_class_are_remarked(tmp_path: Path):
    for i in range(4):
        write_image(tmp_path / f"im/{('train', 'test')[i % 2]}/{i}/a.png", seed=i)
    definition = define(tmp_path, "classification", READER, {"templates": ["{c}"]})
    (remark,) = datasets.load(definition).remarks
    assert remark.startswith(
        "classes are the folders test, train in im, which contain folders in place of images, such as "
    )
    assert (
        "such as test/1, test/3, train/0 and 1 more; if these are the classes, let path name the folder above" in remark
    )
    write_image(tmp_path / "im/test/a.png", seed=9)
    assert datasets.load(definition).remarks == ()
    part = datasets.load(define(tmp_path, "classification", {**READER, "path": "im/train"}, {"templates": ["{c}"]}))
    assert part.remarks == ()
    data = read(tmp_path / "other", ["cat"], "dataset")
    assert data.remarks == ("the only class is cat, so every image counts as right",)


NET = {"reader": "imagenet", "path": "val", "labels": "labels.txt"}
NAMES = {"class_names": "imagenet1k", "templates": ["a {c}"]}


def flat_imagenet(root: Path, labels: dict[int, str], ending: str = "JPEG"):
    for number in labels:
        write_image(root / f"val/ILSVRC2012_val_{number:08d}.{ending}", seed=number)
    lines = [f"ILSVRC2012_val_{number:08d}.{ending} {label}\n" for number, label in labels.items()]
    (root / "labels.txt").write_text("".join(lines))
    return datasets.load(define(root, "classification", NET, NAMES))


def test_a_part_of_imagenet_keeps_all_classes_as_candidates_with_a_remark(tmp_path: Path):
    data = flat_imagenet(tmp_path, {1: "65", 2: "n09193705", 3: "230"})
    assert [data.class_names[label] for label in data.labels] == ["sea snake", "mountain", "Shetland Sheepdog"]
    assert data.remarks[0].startswith("997 of 1,000 classes have no image: tench, goldfish")
    for i, label in enumerate(data.labels):
        write_image(tmp_path / f"folders/{imagenet.imagenet_wnids()[label]}/{i}.JPEG", seed=i)
    definition = define(tmp_path, "classification", {**NET, "path": "folders"}, NAMES)
    folders = datasets.load(definition)
    assert folders.labels.tolist() == sorted(data.labels.tolist())
    assert folders.remarks == data.remarks
    tasks.validate(definition, folders)


def test_labels_in_the_devkits_order_are_recognised_by_images_of_known_class(tmp_path: Path):
    with pytest.raises(RequestError, match=r"_00000001\.JPEG labelled 490 in .*its class is 65 \(n01751748\).*devkit"):
        flat_imagenet(tmp_path, {1: "490", 2: "361", 3: "171"})


@pytest.mark.parametrize("ending", ["jpg", "png", "jpeg"])
def test_wrong_labels_of_copies_in_another_format_are_recognised_too(tmp_path: Path, ending: str):
    with pytest.raises(RequestError, match=rf"_00000002\.{ending} labelled 361 in .*its class is 970"):
        flat_imagenet(tmp_path, {2: "361", 3: "171"}, ending)


def labels_of_later_images(shift: int) -> dict[int, str]:
    """Image number -> its first ReaL label plus `shift`; 0 plus `shift` for images without ReaL labels."""
    real = imagenet_order.load_real_labels()
    return {number: str(((real[number - 1] or [0])[0] + shift) % 1000) for number in range(1021, 1051)}


def test_another_order_is_recognised_by_real_labels(tmp_path: Path):
    assert len(flat_imagenet(tmp_path, labels_of_later_images(0)).labels) == 30
    with pytest.raises(
        RequestError, match=r"has \d+ of \d+ images with labels that differ .* in .*labels\.txt.*devkit"
    ):
        flat_imagenet(tmp_path, labels_of_later_images(1))
    # if a tenth agrees, the order is right; a few images prove nothing
    mixed = labels_of_later_images(1) | dict(list(labels_of_later_images(0).items())[:8])
    assert len(flat_imagenet(tmp_path, mixed).labels) == 30
    assert len(flat_imagenet(tmp_path, dict(list(labels_of_later_images(1).items())[:9])).labels) == 9


@pytest.mark.parametrize("numbers", [{1: "490", 2: "361"}, None])
def test_indices_in_another_order_are_recognised_in_a_jsonl_file_too(tmp_path: Path, numbers: dict[int, str] | None):
    labels = labels_of_later_images(1) if numbers is None else numbers
    flat_imagenet(tmp_path, labels_of_later_images(0) if numbers is None else {1: "65", 2: "970"})
    rows = [{"image": f"val/ILSVRC2012_val_{number:08d}.JPEG", "label": int(label)} for number, label in labels.items()]
    (tmp_path / "d.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    options = {"reader": "jsonl", "path": "d.jsonl", **ALLOW}
    with pytest.raises(RequestError, match=r"in .*d\.jsonl.*but its class is .*another order"):
        datasets.load(define(tmp_path, "classification", options, NAMES))


@pytest.mark.parametrize("shift", [0, 1, 7])  # from 0, from 1, and another order
def test_numbered_folders_of_imagenet_in_another_order_are_recognised_by_their_images(tmp_path: Path, shift: int):
    for number, label in labels_of_later_images(shift).items():
        write_image(tmp_path / f"im/{label}/ILSVRC2012_val_{number:08d}.JPEG", seed=number)
    definition = define(tmp_path, "classification", {**READER, **ALLOW}, NAMES)
    if shift > 1:
        with pytest.raises(
            RequestError, match=r"labels that differ .* by the folders of .*im, such as .*another order"
        ):
            datasets.load(definition)
    else:
        assert len(datasets.load(definition).images) == 30


def test_imagenet_names_in_another_order_are_refused_and_a_map_is_read_by_wnid(tmp_path: Path):
    write_image(tmp_path / "val/n01440764/a.JPEG")
    names = imagenet.imagenet_names()
    with pytest.raises(RequestError, match=r"prompts\.class_names in another order than the dataset"):
        datasets.load(define(tmp_path, "classification", NET, {**NAMES, "class_names": sorted(names)}))
    name_of_wnid = dict(zip(imagenet.imagenet_wnids(), names, strict=True))
    data = datasets.load(define(tmp_path, "classification", NET, {**NAMES, "class_names": name_of_wnid}))
    assert list(data.class_names) == names


def test_words_of_segmentation_in_another_order_than_the_classes_are_refused(tmp_path: Path):
    from dataclasses import replace

    write_segmentation(tmp_path, "cityscapes")
    benchmark = small("cityscapes")
    data = datasets.read(benchmark, tmp_path)
    tasks.validate(benchmark, data)
    words = list(benchmark.prompts["words"])
    words[0], words[1] = words[1], words[0]
    with pytest.raises(RequestError, match="in the order of the classes"):
        tasks.validate(replace(benchmark, prompts={**benchmark.prompts, "words": words}), data)


def test_a_perfect_model_is_right_on_numeric_folders(tmp_path: Path, monkeypatch):
    """End to end: each folder has its own shade of grey, for which the model knows the right name."""
    from cosmos_eval.run.evaluate import evaluate

    for i in range(12):
        (tmp_path / f"im/{i}").mkdir(parents=True)
        Image.fromarray(np.full((8, 8, 3), i * 20, np.uint8)).save(tmp_path / f"im/{i}/a.png")
    (tmp_path / "right_on_numbers.py").write_text(
        "import torch\n"
        f"WORDS = {WORDS}\n"
        "def hot(n): return torch.nn.functional.one_hot(n, 12).float() + 0.001\n"
        "class Model:\n"
        "    digest = 'perfect'\n"
        "    def preprocess(self, image): return torch.tensor(image.getpixel((0, 0))).float().view(3, 1, 1)\n"
        "    def encode_image(self, x): return hot((x[:, 0, 0, 0] / 20).round().long())\n"
        "    def encode_text(self, texts): return torch.stack([hot(torch.tensor(WORDS.index(t))) for t in texts])\n"
        "def build(): return Model()\n"
    )
    benchmark = define(tmp_path, "classification", READER, {"templates": ["{c}"], "class_names": WORDS})
    monkeypatch.syspath_prepend(tmp_path)
    (result,) = evaluate("python:right_on_numbers:build", benchmark, tmp_path)
    assert result.metrics["top1"].value == 1.0


@pytest.mark.parametrize(
    ("folders", "names"),
    [
        (["C", "C#", "C++"], ["C#", "C++", "C"]),  # equal but for their signs
        (["Cat", "cat"], ["cat", "Cat"]),
        (["bar", "cafe\u0301", "zoo"], ["zoo", "caf\u00e9", "bar"]),  # é in two characters, as macOS writes it
        (["\U0001f431", "\U0001f436"], ["\U0001f436", "\U0001f431"]),
    ],
)
def test_names_spelled_like_their_folders_are_assigned_by_name_for_any_characters(tmp_path: Path, folders, names):
    data = read(tmp_path, folders, names)
    assert not data.remarks
    composed = {unicodedata.normalize("NFC", folder): name for folder, name in names_by_folder(data).items()}
    assert composed == {name: name for name in names}


def test_a_map_matches_folders_whose_accents_are_encoded_in_another_way(tmp_path: Path):
    data = read(tmp_path, ["cafe\u0301", "bar"], {"caf\u00e9": "coffee house", "bar": "pub"})
    assert names_by_folder(data) == {"cafe\u0301": "coffee house", "bar": "pub"}


def test_names_that_yaml_reads_as_other_types_are_shown(tmp_path: Path):
    with pytest.raises(RequestError, match=r"the name False is not a text; write it in quotes"):
        read(tmp_path, ["no", "yes"], [False, True])
