"""CUB-200-2011: four lists of ids to images with classes, a perfect and a constant model, bad input, a run."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cosmos_core.errors import RequestError
from cosmos_eval import datasets, tasks
from cosmos_eval.datasets.cub import bird_name
from cosmos_eval.protocol.benchmark import load_benchmark
from cosmos_eval.run.evaluate import evaluate
from tests.helpers.associations_on_disk import cub
from tests.helpers.perception_on_disk import small
from tests.helpers.stand_ins import Constant, Given


@pytest.fixture
def data(tmp_path: Path):
    cub(tmp_path)
    return datasets.load(small("cub200"), tmp_path)


def test_test_images_have_the_classes_of_their_ids(data):
    assert data.class_names == ["Black-footed Albatross", "Laysan Albatross", "Bobolink"]
    assert data.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert data.images[1].key == "001.Black_footed_Albatross/Black_footed_Albatross_0002.jpg"
    assert data.templates == ["a photo of a {c}, a type of bird."]


def test_ids_decide_in_place_of_lines(data, tmp_path: Path):
    folder = tmp_path / "cub200/CUB_200_2011"
    for name in ("classes", "image_class_labels", "train_test_split"):
        lines = (folder / f"{name}.txt").read_text().splitlines()
        (folder / f"{name}.txt").write_text("".join(f"{line}\n" for line in reversed(lines)))
    again = datasets.load(small("cub200"), tmp_path)
    of_image = {image.key: data.class_names[label] for image, label in zip(data.images, data.labels, strict=True)}
    reversed_ids = zip(again.images, again.labels, strict=True)
    assert {image.key: again.class_names[label] for image, label in reversed_ids} == of_image


def test_train_is_a_split_of_its_own(data, tmp_path: Path):
    train = datasets.load(small("cub200", split="train"), tmp_path)
    assert train.labels.tolist() == [0, 1, 2]
    assert not {image.key for image in train.images} & {image.key for image in data.images}
    assert load_benchmark("cub200-probe").dataset["splits"] == {"train": {"split": "train"}}


def test_names_may_be_given(data, tmp_path: Path):
    prompts = {**small("cub200").prompts, "class_names": ["Bobolink", "Laysan Albatross", "Black footed Albatross"]}
    again = datasets.load(replace(small("cub200"), prompts=prompts), tmp_path)
    assert again.class_names == ["Black footed Albatross", "Laysan Albatross", "Bobolink"]
    assert again.labels.tolist() == data.labels.tolist()


def test_birds_are_called_as_in_perceptionclip():
    assert [bird_name(name) for name in ("017.Cardinal", "034.Gray_crowned_Rosy_Finch", "160.Black_throated_Blue")] == [
        "Cardinal", "Gray-crowned-Rosy Finch", "Black-throated Blue",
    ]  # fmt: skip


def test_a_perfect_and_a_constant_model(data):
    axes = torch.eye(3)
    texts = {f"a photo of a {name}, a type of bird.": axes[i].tolist() for i, name in enumerate(data.class_names)}
    images = {image.key: axes[label].tolist() for image, label in zip(data.images, data.labels, strict=True)}
    perfect = tasks.run(small("cub200"), data, Given(images, texts))
    assert {metric.value for metric in perfect.metrics.values()} == {1}
    constant = tasks.run(small("cub200"), data, Constant())
    assert constant.metrics["top1"].value == pytest.approx(1 / 3)
    images[data.images[0].key] = images[data.images[5].key]  # one of six is called by another name
    assert tasks.run(small("cub200"), data, Given(images, texts)).metrics["top1"].value == pytest.approx(5 / 6)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("images", "1 001", "one 001", "a line is an id and a value"),
        ("images", "2 001", "1 001", "finds the id 1 twice in"),
        ("classes", "1 001", "9 001", "finds class '1' of image 1"),
        ("image_class_labels", "9 3", "10 3", "finds image 9 in only one of images.txt and image_class_labels.txt"),
        ("train_test_split", "1 0", "1 2", "must be 1 (train) or 0 (test)"),
        ("images", "0000.jpg", "0009.jpg", "missing: "),
        ("images", "1 001.Black_footed_Albatross/", "1 ../../", "names an image outside its folder"),
    ],
)
def test_lists_that_do_not_fit_are_refused(tmp_path: Path, name: str, old: str, new: str, message: str):
    path = cub(tmp_path) / f"{name}.txt"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(RequestError) as caught:
        datasets.load(small("cub200"), tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_lists_and_another_split_are_named(tmp_path: Path):
    folder = cub(tmp_path)
    with pytest.raises(RequestError, match="CUB-200-2011 has test and train"):
        datasets.load(small("cub200", split="val"), tmp_path)
    (folder / "classes.txt").unlink()
    with pytest.raises(RequestError, match=r"classes\.txt"):
        datasets.load(small("cub200"), tmp_path)


def test_it_runs_from_its_files_to_its_result(tmp_path: Path):
    cub(tmp_path)
    model = "cosmos:untrained-toybox?seed=3"
    (result,) = evaluate(model, [small("cub200")], data_root=tmp_path, out=tmp_path / "out", batch_size=64)
    assert (result.primary, result.dataset.n["images"]) == ("top1", 6)
