"""The eight segmentation datasets, read by mmsegmentation's classes: order, labels, class names, refusals."""

import multiprocessing
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_eval import datasets
from cosmos_eval.datasets.data import SegmentationData
from cosmos_eval.protocol.benchmark import load_benchmark
from tests.helpers.segmentation_on_disk import (
    FOLDERS,
    NAMES,
    SIZES,
    files_of,
    raw_labels,
    small,
    write_labels,
    write_pixels,
    write_segmentation,
)

CLASSES = dict(zip(NAMES, (21, 20, 60, 59, 81, 171, 150, 19), strict=True))
REDUCED = ("voc20", "context59", "ade20k")
"""Label 0 is not a class: it is ignored, and the classes are numbered from 0."""


def read(name: str, root: Path, **dataset) -> SegmentationData:
    data = datasets.read(small(name, **dataset), root)
    assert isinstance(data, SegmentationData)
    return data


def problems(name: str, root: Path, deep: bool = False, **dataset) -> tuple[str, ...]:
    messages = datasets.check(small(name, **dataset), root, deep=deep).problems
    assert all("\n" not in message for message in messages)
    return messages


@pytest.mark.parametrize("name", NAMES)
def test_each_dataset_is_read_with_its_labels(tmp_path: Path, name: str):
    write_segmentation(tmp_path, name)
    data = read(name, tmp_path)
    assert data.counts() == {"images": 3, "classes": CLASSES[name]}
    assert len(data.palette) == CLASSES[name]
    numbers = [2, 1, 0] if name.startswith(("voc", "context")) else [0, 1, 2]
    folder = tmp_path / FOLDERS[name]
    for image, mask, number in zip(data.images, data.masks, numbers, strict=True):
        file = folder / files_of(name, number)[0]
        assert file.as_posix().endswith(image.key)
        assert mask.key == image.key
        raw = raw_labels(name, number).astype(int)
        if name in REDUCED:
            raw = np.where((raw == 0) | (raw == 255), 255, raw - 1)
        labels = mask.load()
        assert labels.dtype == np.uint8
        assert np.array_equal(labels, raw)
        loaded = image.load()
        assert loaded.mode == "RGB"
        with Image.open(file) as opened:
            # OpenCV and Pillow may decode a JPEG to slightly different values
            difference = np.asarray(loaded).astype(int) - np.asarray(opened.convert("RGB")).astype(int)
        assert np.abs(difference).max() <= 3
        assert loaded.size == SIZES[number][::-1]


def test_red_is_red(tmp_path: Path):
    write_segmentation(tmp_path, "voc21", count=1)
    red = np.zeros((*SIZES[0], 3), dtype=np.uint8)
    red[..., 0] = 255
    Image.fromarray(red).save(tmp_path / FOLDERS["voc21"] / files_of("voc21", 0)[0], quality=95)
    pixels = np.asarray(read("voc21", tmp_path, images=1).images[0].load())
    assert pixels[..., 0].min() > 250
    assert pixels[..., 1:].max() < 5


@pytest.mark.parametrize("name", NAMES)
def test_class_names_are_the_first_query_words_of_the_definition(tmp_path: Path, name: str):
    write_segmentation(tmp_path, name, count=1)
    data = read(name, tmp_path, images=1)
    words = small(name).resolve_prompts().query_words
    assert len(words) == len(data.class_names)

    def plain(text: str) -> str:
        return "".join(c for c in text.lower() if c.isalpha())

    renamed = {"boat": "ship", "diningtable": "table", "tvmonitor": "television monitor"}
    for class_name, query in zip(data.class_names, words, strict=True):
        accepted = {plain(class_name), plain(renamed.get(class_name, class_name))}
        assert class_name == "background" or plain(query[0]) in accepted, (class_name, query)
        assert class_name == class_name.strip()


def test_the_two_added_datasets_have_the_colours_of_mmsegmentations_own(tmp_path: Path):
    for name in ("voc21", "voc20", "coco-stuff164k", "coco-object"):
        write_segmentation(tmp_path, name, count=1)
    voc21, voc20 = read("voc21", tmp_path, images=1), read("voc20", tmp_path, images=1)
    assert voc20.class_names == voc21.class_names[1:]
    assert list(voc20.palette) == list(voc21.palette)[1:]
    assert voc20.palette[0] == (128, 0, 0)
    stuff, objects = read("coco-stuff164k", tmp_path, images=1), read("coco-object", tmp_path, images=1)
    assert objects.class_names == ("background", *stuff.class_names[:80])
    assert objects.palette[80] == stuff.palette[79]


def test_the_same_files_with_and_without_background_are_two_datasets(tmp_path: Path):
    write_segmentation(tmp_path, "voc21")
    with_background, without_background = (datasets.load(small(name), tmp_path) for name in ("voc21", "voc20"))
    assert with_background.fingerprint != without_background.fingerprint
    assert datasets.load(small("voc21"), tmp_path).fingerprint == with_background.fingerprint
    labels = raw_labels("voc21", 0)
    labels[0, 0] = 7
    write_labels(tmp_path / FOLDERS["voc21"] / files_of("voc21", 0)[1], labels, palette=True)
    assert datasets.load(small("voc21"), tmp_path).fingerprint != with_background.fingerprint


def test_images_and_masks_can_be_pickled_for_workers(tmp_path: Path):
    write_segmentation(tmp_path, "voc20")
    data = read("voc20", tmp_path)
    image, mask = pickle.loads(pickle.dumps((data.images[0], data.masks[0])))
    assert np.array_equal(np.asarray(image.load()), np.asarray(data.images[0].load()))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        (labels,) = pool.map(_load, [mask])
    assert np.array_equal(labels, data.masks[0].load())


def _load(mask):
    return mask.load()


def test_images_of_coco_may_be_in_the_folder_of_other_benchmarks(tmp_path: Path):
    root = write_segmentation(tmp_path, "coco-object")
    (tmp_path / "coco/images").mkdir(parents=True)
    (root / "images/val2017").rename(tmp_path / "coco/images/val2017")
    assert [image.key for image in read("coco-object", tmp_path).images] == [
        "000000000139.jpg", "000000000140.jpg", "000000000141.jpg",
    ]  # fmt: skip


def test_both_lists_of_context_are_accepted(tmp_path: Path, monkeypatch):
    from cosmos_eval.datasets.mmseg import layouts

    assert layouts.LAYOUTS["context60"].other_counts == (5105,)
    write_segmentation(tmp_path, "context60")
    assert "needs 5,104 images" in problems("context60", tmp_path, images=5104)[0]
    other = layouts.Layout(**{**vars(layouts.LAYOUTS["context60"]), "other_counts": (3,)})
    monkeypatch.setitem(layouts.LAYOUTS, "context60", other)
    assert problems("context60", tmp_path, images=5104) == ()


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


def test_masks_with_the_same_labels_have_one_fingerprint_however_they_were_compressed(tmp_path: Path):
    root = write_segmentation(tmp_path, "ade20k")
    before = datasets.load(small("ade20k"), tmp_path).fingerprint
    mask = root / files_of("ade20k", 0)[1]
    with Image.open(mask) as stored:
        stored.load()
        stored.save(mask, compress_level=0)
    assert datasets.load(small("ade20k"), tmp_path).fingerprint == before


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


def test_a_grey_image_is_decoded_to_rgb(tmp_path: Path):
    root = write_segmentation(tmp_path, "coco-stuff164k", count=1)
    path = root / files_of("coco-stuff164k", 0)[0]
    Image.open(path).convert("L").save(path)
    pixels = np.asarray(read("coco-stuff164k", tmp_path, images=1).images[0].load())
    assert pixels.shape == (*SIZES[0], 3)
    assert (pixels == pixels[..., :1]).all()


def test_a_definition_with_a_base_may_read_a_part_of_the_dataset(tmp_path: Path):
    write_segmentation(tmp_path, "voc21")
    text = "base: voc21\nname: first-three\nversion: 1\ndataset: {expected: {images: 3, classes: 21}}\n"
    (tmp_path / "first-three.yaml").write_text(text, encoding="utf-8")
    benchmark = load_benchmark(tmp_path / "first-three.yaml")
    assert datasets.check(benchmark).problems == ()
    assert benchmark.resolve_prompts() == load_benchmark("voc21").resolve_prompts()


def test_toybox_written_as_voc_is_read_as_it_was_rendered(tmp_path: Path):
    from cosmos_eval.datasets.toybox import distinct_scenes, mask, prepare, render

    prepare(tmp_path / "data", seed=0, train=1, val=1, test=12, per_class=1)
    data = read("voc21", tmp_path / "data", images=12)
    for i, scene in enumerate(distinct_scenes(0, "test", 12)):
        assert np.array_equal(data.masks[i].load(), mask(scene, 64))
        assert np.array_equal(np.asarray(data.images[i].load()), render(scene, 64))


def test_an_unknown_layout_is_named(tmp_path: Path):
    with pytest.raises(RequestError, match="unknown layout 'voc12'; did you mean voc21"):
        datasets.load(small("voc21", layout="voc12"), tmp_path)


def test_real_images_of_voc_are_read_in_place(real_dir: Path, tmp_path: Path):
    examples = real_dir / "voc_examples"
    if not (examples / "JPEGImages").is_dir():
        pytest.skip("no VOC examples")
    root = tmp_path / "VOC2012"
    root.mkdir()
    for part in ("JPEGImages", "SegmentationClass"):
        (root / part).symlink_to(examples / part)
    list_path = root / "ImageSets/Segmentation/val.txt"
    list_path.parent.mkdir(parents=True)
    stems = sorted(path.stem for path in (examples / "JPEGImages").iterdir())
    list_path.write_text("".join(f"{stem}\n" for stem in stems), encoding="utf-8")
    for name in ("voc21", "voc20"):
        data = read(name, tmp_path, images=len(stems))
        labels_read: set[int] = set()
        for image, mask in zip(data.images, data.masks, strict=True):
            labels = mask.load()
            assert image.load().size == labels.shape[::-1]
            labels_read |= set(np.unique(labels).tolist())
        # bottle, bus, car, chair, person and sofa; the borders between objects are void
        objects = {5, 6, 7, 9, 15, 18}
        assert labels_read == ({0, 255} | objects if name == "voc21" else {255} | {label - 1 for label in objects})


def test_the_import_prints_nothing_and_leaves_the_process_as_before():
    code = (
        "import os, random, sys, warnings\n"
        "import torch\n"
        "environment, random_state = dict(os.environ), random.getstate()\n"
        "from cosmos_eval.datasets.mmseg.dataset_classes import find_dataset_class\n"
        "from cosmos_eval.datasets.mmseg.placeholder import Placeholder\n"
        "from cosmos_core.errors import RequestError\n"
        "assert dict(os.environ) == environment and random.getstate() == random_state\n"
        "assert find_dataset_class('PascalVOC20Dataset') and find_dataset_class('ADE20KDataset')\n"
        "import mmcv.ops\n"
        "from mmcv.utils.ext_loader import check_ops_exist\n"
        "assert isinstance(sys.modules['mmcv._ext'], Placeholder) and not check_ops_exist()\n"
        "try: mmcv.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)\n"
        "except RequestError as error: assert 'install mmcv==2.1.0' in str(error)\n"
        "else: raise AssertionError('no refusal')\n"
        "assert 'mmseg.models' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout + done.stderr == ""


def test_a_real_compiled_module_is_not_replaced():
    code = (
        "import sys, types\n"
        "from cosmos_eval.datasets.mmseg.placeholder import Placeholder, import_mmseg\n"
        "class Real(Placeholder): pass\n"
        "real = sys.modules['mmcv._ext'] = Real()\n"
        "import_mmseg()\n"
        "assert sys.modules['mmcv._ext'] is real\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_versions_that_do_not_fit_together_are_refused_in_one_line():
    code = (
        "import mmcv\n"
        "mmcv.__version__ = '2.2.0'\n"
        "from cosmos_core.errors import RequestError\n"
        "from cosmos_eval.datasets.mmseg.placeholder import import_mmseg\n"
        "try: import_mmseg()\n"
        "except RequestError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    (message,) = done.stdout.splitlines()
    assert "MMCV==2.2.0 is used but incompatible" in message
    assert "mmcv must be older than 2.2" in message


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
