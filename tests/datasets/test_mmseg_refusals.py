"""The eight segmentation datasets: what does not fit is refused, all at once and by name."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_eval import datasets
from tests.helpers.segmentation_on_disk import (
    FOLDERS,
    NAMES,
    SIZES,
    files_of,
    problems,
    raw_labels,
    read,
    small,
    write_labels,
    write_pixels,
    write_segmentation,
)


def test_everything_missing_is_named_at_once_with_how_to_make_it(tmp_path: Path):
    for name in NAMES:
        (message,) = problems(name, tmp_path)
        assert "which is not there" in message
        assert str(tmp_path / FOLDERS[name]) in message
    (tmp_path / "cityscapes").mkdir()
    images, masks = problems("cityscapes", tmp_path)
    assert "leftImg8bit/val, which is not there (unzip leftImg8bit_trainvaltest.zip" in images
    assert masks.endswith("gtFine/val, which is not there; make it with `cosmos-eval data prepare cityscapes`")
    (tmp_path / "VOC2012").mkdir()
    assert [message.split()[3] for message in problems("voc21", tmp_path)] == ["folder", "folder", "file"]


def test_everything_that_does_not_fit_is_named_at_once(tmp_path: Path):
    root = write_segmentation(tmp_path, "ade20k", count=7)

    def files(number: int) -> tuple[Path, Path]:
        image, mask = files_of("ade20k", number)
        return root / image, root / mask

    files(0)[1].unlink()
    write_labels(files(1)[1], raw_labels("ade20k", 1).T)
    Image.open(files(2)[1]).convert("RGB").save(files(2)[1])
    files(3)[1].write_bytes(b"no image")
    files(4)[0].write_bytes(b"")
    Image.fromarray(np.zeros(SIZES[2], dtype=np.uint16)).save(files(5)[1])
    messages = problems("ade20k", tmp_path, images=8)
    assert len(messages) == 6
    unreadable, colour, wide, size, no_mask, count = messages
    assert "2 unreadable files:" in unreadable
    assert "ADE_val_00000004.png (not an image)" in unreadable
    assert "1 mask in" in colour
    assert "with colours instead of one label per pixel: ADE_val_00000003.png (RGB);" in colour
    assert "1 mask in" in wide
    assert "with more than 8 bits per pixel: ADE_val_00000006.png (I;16)" in wide
    assert "1 mask in" in size
    assert "ADE_val_00000002.png (56 x 40 pixels, the image 40 x 56)" in size
    assert f"1 image without a mask in {root}/annotations/validation: ADE_val_00000001.jpg" in no_mask
    assert "needs 8 images" in count
    assert "found 7" in count


def test_missing_images_of_the_list_are_named(tmp_path: Path):
    root = write_segmentation(tmp_path, "voc21")
    (root / files_of("voc21", 1)[0]).unlink()
    (message,) = problems("voc21", tmp_path)
    assert "needs 3 images in" in message
    assert "found 2; missing: 2007_000001.jpg" in message


@pytest.mark.parametrize("line", ["../JPEGImages/2007_000000", "/etc/passwd", "C:x"])
def test_a_list_with_paths_outside_the_dataset_is_refused(tmp_path: Path, line: str):
    root = write_segmentation(tmp_path, "voc21")
    with (root / "ImageSets/Segmentation/val.txt").open("a", encoding="utf-8") as list_file:
        list_file.write(f"{line}\n")
    (message,) = problems("voc21", tmp_path)
    assert "names an image outside its folder" in message


def test_masks_in_a_lossy_format_are_refused_and_a_reason_is_never_shortened(tmp_path: Path):
    root = write_segmentation(tmp_path / ("deep" * 30), "ade20k")
    mask = root / files_of("ade20k", 1)[1]
    with Image.open(mask) as opened:
        opened.convert("L").save(mask, "JPEG")
    (message,) = problems("ade20k", tmp_path / ("deep" * 30))
    assert "has 1 mask in" in message
    assert f"in a lossy format, which changes labels: {mask.name} (JPEG); unpack the original files again" in message
    mask.write_bytes(b"<?xml version='1.0'?><Error/>")
    (message,) = problems("ade20k", tmp_path / ("deep" * 30))
    assert message.endswith(
        "(it is an XML page, not the file that was meant; download it again (a server answers so to a bad address))"
    )


def test_lists_that_are_not_lists_of_names_are_refused(tmp_path: Path):
    root = write_segmentation(tmp_path, "context59")
    list_path = root / "ImageSets/SegmentationContext/val.txt"
    list_path.write_text("2008_000000\n\n2008_000001\n", encoding="utf-8")
    assert "empty lines" in problems("context59", tmp_path)[0]
    list_path.write_text("2008_000000\n2008_000000\n2008_000001\n", encoding="utf-8")
    assert "1 image twice" in problems("context59", tmp_path)[0]
    list_path.write_text("", encoding="utf-8")
    assert "finds no names in" in problems("context59", tmp_path)[0]
    list_path.write_bytes(b"\xff\xfe2\x000\x00")
    assert "not a text file in UTF-8" in problems("context59", tmp_path)[0]
    for byte_order_mark in ("", "\ufeff"):
        for end in ("", "\r\n", "\n \n"):
            list_path.write_text(
                f"{byte_order_mark}2008_000000\r\n2008_000001\r\n2008_000002{end}", encoding="utf-8", newline=""
            )
            assert problems("context59", tmp_path) == ()
            images = datasets.load(small("context59"), tmp_path).images
            assert [image.key for image in images] == [f"2008_{i:06d}.jpg" for i in range(3)]


def test_an_empty_folder_of_images_is_refused(tmp_path: Path):
    root = tmp_path / "coco_stuff164k"
    for part in ("images", "annotations"):
        (root / part / "val2017").mkdir(parents=True)
    (message,) = problems("coco-stuff164k", tmp_path)
    assert "finds no images (*.jpg) in" in message


@pytest.mark.parametrize(
    ("name", "label", "message"),
    [
        ("voc21", 21, "has the label 21; classes are 0 to 20"),
        ("voc20", 21, "has the label 21; classes are 1 to 20"),
        ("ade20k", 151, "has the label 151; classes are 1 to 150"),
        ("cityscapes", 26, "has the label 26; classes are 0 to 18"),
        ("coco-stuff164k", 181, "has the label 181; classes are 0 to 170"),
        ("coco-object", 81, "has the label 81; classes are 0 to 80"),
    ],
)
def test_a_label_that_is_not_a_class_is_named_as_it_is_in_the_file(tmp_path: Path, name: str, label: int, message: str):
    root = write_segmentation(tmp_path, name)
    labels = raw_labels(name, 1)
    labels[3, 4] = label
    path = write_labels(root / files_of(name, 1)[1], labels)
    data = read(name, tmp_path)
    with pytest.raises(RequestError) as caught:
        data.masks[1].load()
    assert str(path) in str(caught.value)
    assert message in str(caught.value)
    assert data.masks[0].load() is not None
    assert problems(name, tmp_path) == ()
    (deep,) = problems(name, tmp_path, deep=True)
    assert deep == f"{name}: {caught.value}"
    with pytest.raises(RequestError) as before_any_compute:
        datasets.load(small(name), tmp_path)
    assert str(before_any_compute.value) == str(caught.value)


def test_a_broken_image_or_mask_is_named_when_it_is_opened(tmp_path: Path):
    root = write_segmentation(tmp_path, "ade20k")
    image, mask = (root / name for name in files_of("ade20k", 0))
    big = np.random.default_rng(0).integers(0, 256, (*SIZES[0], 3), dtype=np.uint8)
    Image.fromarray(big).save(image, quality=95)
    image.write_bytes(image.read_bytes()[:-600])
    noise = np.random.default_rng(0).integers(0, 150, SIZES[0], dtype=np.uint8)
    write_labels(mask, noise)
    mask.write_bytes(mask.read_bytes()[:-600])
    data = read("ade20k", tmp_path)
    with pytest.raises(RequestError, match=f"cannot decode the image {image}: it is truncated"):
        data.images[0].load()
    with pytest.raises(RequestError, match=f"cannot decode the mask {mask}"):
        data.masks[0].load()


def test_a_truncated_png_is_named(tmp_path: Path):
    root = write_segmentation(tmp_path, "cityscapes")
    image = root / files_of("cityscapes", 0)[0]
    noise = np.random.default_rng(0).integers(0, 256, (*SIZES[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(image)
    image.write_bytes(image.read_bytes()[: image.stat().st_size // 2])
    with pytest.raises(RequestError, match=f"cannot decode the image {image}"):
        read("cityscapes", tmp_path).images[0].load()


def test_the_mask_of_an_image_that_exif_turns_must_fit_the_turned_image(tmp_path: Path):
    root = write_segmentation(tmp_path, "ade20k", count=1)
    image, mask = (root / name for name in files_of("ade20k", 0))
    exif = Image.Exif()
    exif[0x0112] = 6
    write_pixels(image, SIZES[0])
    Image.open(image).save(image, exif=exif)
    assert "of another size" in problems("ade20k", tmp_path, images=1)[0]
    write_labels(mask, raw_labels("ade20k", 0).T)
    data = read("ade20k", tmp_path, images=1)
    assert data.images[0].load().size == SIZES[0]


def test_an_unknown_layout_is_named(tmp_path: Path):
    with pytest.raises(RequestError, match="unknown layout 'voc12'; did you mean voc21"):
        datasets.load(small("voc21", layout="voc12"), tmp_path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (os.mkfifo, r"\(a named pipe, not a regular file"),  # on which Pillow would block
        (Path.mkdir, r"\(Is a directory\)"),
        (lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"), "is a Git LFS pointer"),
    ],
)
def test_what_is_in_place_of_a_mask_is_named(tmp_path: Path, make: Callable[[Path], Any], message: str):
    root = write_segmentation(tmp_path, "ade20k")
    mask = root / files_of("ade20k", 0)[1]
    mask.unlink()
    make(mask)
    with pytest.raises(RequestError, match=f"1 unreadable file: .*{message}"):
        datasets.load(small("ade20k"), tmp_path)
