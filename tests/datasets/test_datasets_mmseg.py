"""The eight segmentation datasets, read by mmsegmentation's classes: order, labels, class names."""

import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cosmos_eval import datasets
from cosmos_eval.protocol.benchmark import load_benchmark
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
    write_segmentation,
)

CLASSES = dict(zip(NAMES, (21, 20, 60, 59, 81, 171, 150, 19), strict=True))
REDUCED = ("voc20", "context59", "ade20k")
"""Label 0 is not a class: it is ignored, and the classes are numbered from 0."""


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


def test_masks_with_the_same_labels_have_one_fingerprint_however_they_were_compressed(tmp_path: Path):
    root = write_segmentation(tmp_path, "ade20k")
    before = datasets.load(small("ade20k"), tmp_path).fingerprint
    mask = root / files_of("ade20k", 0)[1]
    with Image.open(mask) as stored:
        stored.load()
        stored.save(mask, compress_level=0)
    assert datasets.load(small("ade20k"), tmp_path).fingerprint == before


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
