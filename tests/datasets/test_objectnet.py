"""ObjectNet's archive in its authors' layout: classes from the mappings, order, names, border, incomplete archives."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_eval import datasets
from cosmos_eval.datasets.data import ClassificationData
from tests.helpers.datasets_on_disk import define, write_image, write_json

A = {"templates": ["a {c}"]}
FOLDERS = {"basket": "Basket", "air_freshener": "Air freshener", "mug": "Mug", "broom": "Broom"}
IMAGENET = {"Mug": "coffee mug", "Basket": "hamper; shopping basket", "Broom": "broom"}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    root = tmp_path / "objectnet-1.0"
    for seed, folder in enumerate(FOLDERS):
        for name in ("b", "a"):
            write_image(root / "images" / folder / f"{name}.png", seed=10 * seed + ord(name))
    write_json(root / "mappings/folder_to_objectnet_label.json", FOLDERS)
    write_json(root / "mappings/objectnet_to_imagenet_1k.json", IMAGENET)
    return root


def load(root: Path, **options: Any) -> ClassificationData:
    dataset = {"reader": "objectnet", "path": root.name, **options}
    data = datasets.load(define(root.parent, "classification", dataset, A))
    assert isinstance(data, ClassificationData)
    return data


def refusal(root: Path, **options: Any) -> str:
    with pytest.raises(RequestError) as caught:
        load(root, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_classes_of_imagenet_in_the_order_of_their_folders(archive: Path):
    data = load(archive)
    assert data.class_names == ["basket", "broom", "mug"]
    assert [(image.key, label) for image, label in zip(data.images, data.labels.tolist(), strict=True)] == [
        ("basket/a.png", 0),
        ("basket/b.png", 0),
        ("broom/a.png", 1),
        ("broom/b.png", 1),
        ("mug/a.png", 2),
        ("mug/b.png", 2),
    ]


def test_same_images_labels_and_names_as_clip_benchmark(archive: Path):
    from clip_benchmark.datasets.objectnet import ObjectNetDataset

    mappings = archive / "mappings"
    numbers = {"coffee mug": 504, "hamper": 588, "shopping basket": 790, "broom": 462}
    write_json(mappings / "pytorch_to_imagenet_2012_id.json", {str(i): line for line, i in enumerate(numbers.values())})
    (mappings / "imagenet_to_label_2012_v2").write_text("".join(f"{name}\n" for name in numbers))
    root = archive.parent / "root"
    root.mkdir()
    (root / "objectnet-1.0").symlink_to(archive)
    for path in mappings.iterdir():
        (root / path.name).symlink_to(path)
    theirs, ours = ObjectNetDataset(str(root), None), load(archive)
    assert ours.class_names == theirs.classes
    assert ours.labels.tolist() == [label for _, label in theirs]
    for image, (pixels, _) in zip(ours.images, theirs, strict=True):
        assert np.array_equal(np.asarray(image.load()), np.asarray(pixels))


def test_border_is_cut_off_and_changes_the_identity(archive: Path):
    whole, cut = load(archive).images[0], load(archive, border=2).images[0]
    assert np.array_equal(np.asarray(cut.load()), np.asarray(whole.load())[2:-2, 2:-2])
    assert cut.key == whole.key
    assert len({whole.digest(), cut.digest(), load(archive, border=1).images[0].digest()}) == 3


def test_border_as_wide_as_the_image_is_refused(archive: Path):
    image = load(archive, border=4).images[0]
    with pytest.raises(RequestError, match=r"a\.png has 8 x 8 pixels, nothing is left without a border of 4"):
        image.load()
    assert "border must be a whole number of at least 0, not -1" in refusal(archive, border=-1)


def test_changed_image_is_refused(archive: Path):
    image = load(archive, border=1).images[0]
    image.digest()
    Image.new("RGB", (8, 8)).save(archive / "images/basket/a.png")
    with pytest.raises(RequestError, match="was changed after it was hashed"):
        image.load()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("folder_to_objectnet_label.json", None, "the file {path}"),
        ("objectnet_to_imagenet_1k.json", [], "finds no map in {path}"),
        ("objectnet_to_imagenet_1k.json", {"Mug": 3}, 'finds 3 for "Mug" in {path}'),
        ("objectnet_to_imagenet_1k.json", {"Spoon": "wooden spoon"}, "finds no folder in mappings/"),
    ],
)
def test_damaged_mappings_are_refused(archive: Path, name: str, content: Any, words: str):
    path = archive / "mappings" / name
    path.unlink()
    if content is not None:
        write_json(path, content)
    assert words.format(path=path) in refusal(archive)


def test_missing_folders_are_named(archive: Path):
    (archive / "images/mug").rename(archive / "images/.mug")
    assert "needs 3 class folders" in refusal(archive)
    assert "lacks 1 of them: mug" in refusal(archive)
    (archive / "images").rename(archive / "pictures")
    assert f"the folder {archive / 'images'}" in refusal(archive)
