"""The reader `masks`: four formats of masks with the same numbers, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

import cosmos_eval
from cosmos_core.errors import RequestError
from cosmos_eval import datasets, tasks
from cosmos_eval.datasets.colours import default_palette, parse_colour
from cosmos_eval.datasets.data import SegmentationData
from cosmos_eval.protocol.benchmark import load_benchmark
from tests.helpers.own_masks_on_disk import FORMATS, write_definition, write_mask, write_masks

SCENES = 3
WORDS = ["sky", "road", "car"]
PALETTE = [(10, 20, 30), (40, 50, 60), (70, 80, 90)]
LABELS = np.array([[0, 0, 1, 1], [0, 2, 2, 1], [255, 2, 2, 1]], dtype=np.uint8)


@pytest.fixture(scope="module")
def toybox(tmp_path_factory) -> tuple[Path, dict[str, Any], SegmentationData]:
    """The folder, built-in definition and data of a few toybox scenes, with an equal built-in benchmark's YAML."""
    folder = tmp_path_factory.mktemp("toybox")
    changes = {"base": "toybox-segmentation", "name": "built-in", "version": 1}
    changes["dataset"] = {"scenes": SCENES, "expected": {"images": SCENES, "classes": 9}}
    (folder / "built-in.yaml").write_text(yaml.safe_dump(changes))
    benchmark = load_benchmark(folder / "built-in.yaml")
    data = datasets.read(benchmark)
    assert isinstance(data, SegmentationData)
    definition = {"words": benchmark.prompts["words"], "segmentation": benchmark.settings}
    return folder, definition, data


@pytest.fixture(scope="module")
def built_in_metrics(toybox) -> dict[str, float]:
    return measure(toybox[0] / "built-in.yaml")


def measure(path: Path) -> dict[str, float]:
    (result,) = cosmos_eval.evaluate("cosmos:toybox", path)
    return {name: metric.value for name, metric in result.metrics.items()}


@pytest.mark.parametrize("form", FORMATS)
def test_toybox_masks_in_every_format_give_the_numbers_of_the_built_in_benchmark(toybox, built_in_metrics, form):
    folder, definition, data = toybox
    options = write_masks(folder, data, form)
    path = write_definition(
        folder, f"own-{form}", definition["words"], options, segmentation=definition["segmentation"]
    )
    own = datasets.read(load_benchmark(path))
    assert isinstance(own, SegmentationData)
    for own_mask, mask in zip(own.masks, data.masks, strict=True):
        assert np.array_equal(own_mask.load(), mask.load())
        assert own_mask.digest() == mask.digest()
    assert measure(path) == built_in_metrics
    assert 0.1 < built_in_metrics["miou"] < 1


def write_own(
    folder: Path, labels: np.ndarray = LABELS, form: str = "index", words: Any = WORDS, **options: Any
) -> Path:
    """Write one image with one mask and its definition."""
    for name in ("images", "masks"):
        (folder / name).mkdir(exist_ok=True)
    size = labels.shape[1], labels.shape[0]
    Image.new("RGB", size, "blue").save(folder / "images" / "a.jpg")
    write_mask(folder / "masks" / "a.png", labels, form, PALETTE)
    return write_definition(folder, "own", words, {"masks": "masks", **options})


def read(path: Path) -> SegmentationData:
    data = datasets.read(load_benchmark(path))
    assert isinstance(data, SegmentationData)
    return data


def problem_of(path: Path, deep: bool = False) -> str:
    report = datasets.check(load_benchmark(path), path.parent, deep=deep, validate=tasks.validate)
    assert report.problems
    assert all("\n" not in problem for problem in report.problems)
    return "; ".join(report.problems)


def test_labels_and_colours_by_hand(tmp_path):
    data = read(write_own(tmp_path))
    assert data.masks[0].load().tolist() == LABELS.tolist()
    assert [image.key for image in data.images] == ["a.jpg"]
    assert data.class_names == WORDS
    # VOC's colour map: black, dark red, dark green
    assert data.palette == [(0, 0, 0), (128, 0, 0), (0, 128, 0)]


def test_the_default_palette_is_that_of_voc():
    from cosmos_eval.datasets.mmseg.dataset_classes import find_dataset_class

    palette = find_dataset_class("PascalVOCDataset").METAINFO["palette"]
    assert default_palette(21) == [tuple(colour) for colour in palette]
    assert len(set(default_palette(255))) == 255


def test_reduce_zero_label_and_ignore_index_are_as_in_mmsegmentation(tmp_path):
    from cosmos_eval.datasets.mmseg.images_and_masks import MmsegMask

    labels = np.array([[0, 1, 2, 3, 255]], dtype=np.uint8)
    data = read(write_own(tmp_path, labels, reduce_zero_label=True))
    expected = MmsegMask("a", tmp_path / "masks/a.png", classes=3, reduce_zero_label=True).load()
    assert data.masks[0].load().tolist() == expected.tolist() == [[255, 0, 1, 2, 255]]
    data = read(write_own(tmp_path, np.array([[0, 1, 2, 7]], dtype=np.uint8), ignore_index=7))
    assert data.masks[0].load().tolist() == [[0, 1, 2, 255]]
    wide = np.array([[0, 1, 65535]], dtype=np.uint16)
    path = write_own(tmp_path, wide[:, :3].astype(np.uint8), ignore_index=65535)
    Image.fromarray(wide).save(tmp_path / "masks/a.png")
    assert read(path).masks[0].load().tolist() == [[0, 1, 255]]


def test_colours_may_be_ignored_and_several_may_stand_for_a_class(tmp_path):
    colours = {"10 20 30": "sky", "40,50,60": "sky", "#46505a": "ignored"}
    path = write_own(tmp_path, np.array([[0, 1, 2]], dtype=np.uint8), "rgb", colours=colours)
    data = read(path)
    assert data.masks[0].load().tolist() == [[0, 0, 255]]
    assert data.palette[0] == (10, 20, 30)
    assert any("no colour stands for the classes road, car" in remark for remark in data.remarks)
    # the same colours as a palette, whose indices mean nothing then
    image = Image.fromarray(np.array([[2, 0, 1]], dtype=np.uint8))
    image.putpalette([channel for colour in [PALETTE[2], PALETTE[1], PALETTE[0]] for channel in colour])
    image.save(tmp_path / "masks/a.png")
    assert read(path).masks[0].load().tolist() == [[0, 255, 0]]


def test_without_a_map_colours_are_those_of_the_palette(tmp_path):
    path = write_own(tmp_path, np.array([[0, 1, 2]], dtype=np.uint8), "rgb", palette=[list(c) for c in PALETTE])
    assert read(path).masks[0].load().tolist() == [[0, 1, 2]]
    assert read(path).palette == PALETTE


def test_black_and_white_masks_are_not_read_as_ignored_pixels(tmp_path):
    labels = np.array([[0, 255, 255]], dtype=np.uint8)
    path = write_own(tmp_path, labels, words=["ground", "car"])
    assert "is ignored; for two classes write dataset.colours" in problem_of(path)
    # the advice
    advised = {"0 0 0": "ground", "255 255 255": "car"}
    path = write_own(tmp_path, labels, words=["ground", "car"], colours=advised)
    assert read(path).masks[0].load().tolist() == [[0, 1, 1]]
    path = write_own(tmp_path, labels, words=["ground", "car"], ignore_index=255)
    assert read(path).masks[0].load().tolist() == [[0, 255, 255]]


def test_words_may_be_a_map_or_a_file_and_hash_as_the_list_does(tmp_path):
    several = [["sky", "cloud"], ["road"], ["car", "bus"]]
    names = dict(zip(["Sky", "Road", "Car"], several, strict=True))
    listed = load_benchmark(write_own(tmp_path, words=several))
    mapped = load_benchmark(write_own(tmp_path, words=names))
    assert mapped.resolve_prompts().query_words == listed.resolve_prompts().query_words
    assert mapped.fingerprint == listed.fingerprint
    assert read(write_own(tmp_path, words=names)).class_names == ["Sky", "Road", "Car"]
    (tmp_path / "words.txt").write_text("sky, cloud\nroad\ncar, bus\n")
    assert load_benchmark(write_own(tmp_path, words="words.txt")).fingerprint == listed.fingerprint
    (tmp_path / "words.json").write_text(json.dumps(names))
    assert load_benchmark(write_own(tmp_path, words="words.json")).fingerprint == listed.fingerprint


def test_class_names_in_a_file_hash_as_the_list_does(tmp_path):
    (tmp_path / "names.txt").write_text("Sky\nRoad\nCar\n")
    from_file = load_benchmark(write_own(tmp_path, class_names="names.txt"))
    listed = load_benchmark(write_own(tmp_path, class_names=["Sky", "Road", "Car"]))
    assert from_file.fingerprint == listed.fingerprint
    (tmp_path / "names.txt").write_text("Sky\nRoad\nBus\n")
    assert load_benchmark(write_own(tmp_path, class_names="names.txt")).fingerprint != listed.fingerprint


def test_a_list_suffixes_and_nested_folders(tmp_path):
    path = write_own(tmp_path)
    for name in ("b", "deep/c"):
        (tmp_path / "images" / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 3)).save(tmp_path / "images" / f"{name}.png")
        write_mask(tmp_path / "images" / f"{name}_mask.png", LABELS, "index", PALETTE)
    write_mask(tmp_path / "images/a_mask.png", LABELS, "index", PALETTE)
    path = write_definition(tmp_path, "own", WORDS, {"masks": "images", "mask_suffix": "_mask.png"})
    assert [image.key for image in read(path).images] == ["a.jpg", "b.png", "deep/c.png"]
    (tmp_path / "val.txt").write_text("deep/c\na.jpg\n")
    path = write_definition(tmp_path, "own", WORDS, {"masks": "images", "mask_suffix": "_mask.png", "list": "val.txt"})
    assert [image.key for image in read(path).images] == ["a.jpg", "deep/c.png"]
    (tmp_path / "val.txt").write_text("deep/d\n")
    assert "missing: deep/d" in problem_of(path)
    (tmp_path / "val.txt").write_text("../a\n")
    assert "outside its folder" in problem_of(path)


@pytest.mark.parametrize(
    ("labels", "form", "options", "message"),
    [
        (np.array([[0, 3]]), "index", {}, "has the label 3; classes are 0 to 2 and 255 is ignored; if classes are num"),
        (np.array([[0, 9, 8]]), "index", {}, "has the labels 8, 9; classes are 0 to 2"),
        (np.array([[0, 4]]), "index", {"reduce_zero_label": True}, "has the label 4; classes are 1 to 3"),
        (np.array([[0, 1]]), "rgb", {"colours": {"10 20 30": "sky"}}, "has the colour #28323c (1 pixel), not in data"),
        (np.array([[0, 1]]), "rgb", {}, "with colours instead of one label per pixel: a.png (RGB); give dataset.colo"),
        (np.array([[0, 1]]), "index", {"background": "sky"}, "dataset.background, which means nothing with a folder"),
        (np.array([[0, 1]]), "rgb", {"colours": {"1 2 3": "tree"}}, "'tree' in dataset.colours, which is neither"),
        (np.array([[0]]), "rgb", {"colours": {"1 2 3": "sky", "#010203": "car"}}, "has the colour #010203 twice"),
        (np.array([[0]]), "rgb", {"colours": {"1 2 3": "sky"}, "ignore_index": 0}, "ignore_index, which means nothing"),
        (np.array([[0]]), "index", {"palette": ["#000000"]}, "1 colour in dataset.palette for 3 classes"),
        (np.array([[0]]), "index", {"class_names": ["a", "a", "b"]}, "two classes called a"),
        (np.array([[0]]), "index", {"class_names": ["a", "b"]}, "3 entries for 2 classes"),
        (np.array([[0]]), "index", {"class_names": ["road", "sky", "car"]}, "write them in the order of the classes"),
    ],
)
def test_masks_that_do_not_fit_are_refused_in_one_line(tmp_path, labels, form, options, message):
    assert message in problem_of(write_own(tmp_path, labels.astype(np.uint8), form, **options), deep=True)


def test_files_that_do_not_fit_are_refused_in_one_line(tmp_path):
    path = write_own(tmp_path)
    Image.new("RGB", (4, 3)).save(tmp_path / "images/b.png")
    assert "1 image without a mask in" in problem_of(path)
    assert "the first needs b.png" in problem_of(path)
    Image.new("L", (3, 4)).save(tmp_path / "masks/b.png")
    assert "b.png (3 x 4 pixels, the image 4 x 3)" in problem_of(path)
    Image.new("L", (4, 3)).save(tmp_path / "masks/b.jpg")
    assert "several masks" in problem_of(path)
    (tmp_path / "masks/b.png").unlink()
    assert "lossy" in problem_of(path)
    (tmp_path / "masks/b.jpg").unlink()
    (tmp_path / "masks/b.png").write_text("<html>not found</html>")
    assert "unreadable" in problem_of(path)
    Image.new("RGB", (4, 3)).save(tmp_path / "images/a.png")
    assert "share, up to their ending: a" in problem_of(path)
    assert "in one folder" in problem_of(write_definition(tmp_path, "own", WORDS, {"masks": "images"}))
    assert "which is not there" in problem_of(write_definition(tmp_path, "own", WORDS, {"masks": "absent"}))


def test_an_image_that_exif_turns_needs_a_mask_drawn_on_the_turned_image(tmp_path):
    path = write_own(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.new("RGB", (4, 3)).save(tmp_path / "images/a.jpg", exif=exif)
    assert "another size" in problem_of(path)
    write_mask(tmp_path / "masks/a.png", np.ascontiguousarray(LABELS.T), "index", PALETTE)
    data = read(path)
    assert data.images[0].load().size == (3, 4)
    assert data.masks[0].load().shape == (4, 3)
    exif[0x0112] = 3  # upside down: sizes prove nothing
    Image.new("RGB", (4, 3)).save(tmp_path / "images/a.jpg", exif=exif)
    write_mask(tmp_path / "masks/a.png", LABELS, "index", PALETTE)
    assert "EXIF turns differently" in problem_of(path)
    with Image.open(tmp_path / "masks/a.png") as mask:
        mask.save(tmp_path / "masks/a.png", exif=exif)
    turned = write_definition(tmp_path, "own", WORDS, {"masks": "masks", "exif": "apply"})
    assert read(turned).masks[0].load().tolist() == LABELS[::-1, ::-1].tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"colours": {"red": "sky"}}, "'red' is not a colour"),
        ({"colours": {"1 2 300": "sky"}}, "'1 2 300' is not a colour"),
        ({"colours": {"1 2 3": 4}}, "write the name of a class"),
        ({"colours": {}}, "colours is empty"),
        ({"palette": [[1, 2]]}, "[1, 2] is not a colour"),
        ({"palette": [None]}, "a # without quotes begins a comment"),
        ({"class_names": "names.csv"}, "a list of texts, or a .txt or .json file"),
        ({"class_names": "names.txt"}, "names.txt"),
        ({"class_names": ["a", 3]}, "must be a text"),
        ({"ignore_index": -1}, "at least 0"),
        ({"masks": []}, "masks must be a path"),
    ],
)
def test_wrong_options_are_refused_with_their_line(tmp_path, options, message):
    with pytest.raises(RequestError) as refused:
        load_benchmark(write_own(tmp_path, **options))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_colours_are_written_in_three_ways():
    assert parse_colour("#0A141e") == parse_colour("10 20 30") == parse_colour("10, 20,30") == (10, 20, 30)
    assert parse_colour([10, 20, 30]) == (10, 20, 30)
    for wrong in ("#fff", "1 2", [1, 2, 3.0], [True, 1, 2], 7, {}):
        with pytest.raises(ValueError, match="is not a colour"):
            parse_colour(wrong)
