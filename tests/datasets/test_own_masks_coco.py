"""Masks in COCO's JSON: run lengths and polygons against pycocotools, overlaps by hand, damaged files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cosmos_eval import datasets, tasks
from cosmos_eval.datasets.coco_regions import ShapeError, draw_runs, read_runs
from cosmos_eval.datasets.data import SegmentationData
from cosmos_eval.protocol.benchmark import load_benchmark
from tests.helpers.own_masks_on_disk import compressed_runs_of, plain_runs_of, polygons_of, write_definition

WORDS = ["floor", "table", "cup"]
TABLE = [[0, 0, 4, 0, 4, 3, 0, 3]]
CUP = [[1, 1, 3, 1, 3, 2, 1, 2]]
"""Corners of a table of 4 x 3 pixels, and of a cup of 2 x 1 on it."""


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_every_region_survives_each_way_of_writing_it(height, width, seed):
    region = np.random.default_rng(seed).random((height, width)) < 0.5
    shapes: list[Any] = [compressed_runs_of(region), plain_runs_of(region)]
    if region.any():
        shapes.append(polygons_of(region))
    for shape in shapes:
        assert np.array_equal(draw_runs(read_runs(shape, height, width), height, width), region)


@given(st.text(alphabet=[chr(code) for code in range(40, 120)], max_size=40))
@settings(max_examples=200, deadline=None)
def test_any_text_of_counts_is_drawn_or_refused(text):
    try:
        runs = read_runs({"size": [3, 4], "counts": text}, 3, 4)
    except ShapeError:
        return
    assert draw_runs(runs, 3, 4).shape == (3, 4)


def test_polygons_are_drawn_as_by_pycocotools():
    from pycocotools import mask as coco_mask

    polygons = [[1.5, 2.25, 17, 3, 11.1, 18.9], [2, 10, 8, 12, 3, 19]]
    drawn = draw_runs(read_runs(polygons, 20, 24), 20, 24)
    expected = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, 20, 24)))
    assert np.array_equal(drawn, expected.astype(bool))
    assert drawn.any()


def content(*annotations: dict[str, Any], width: int = 5, height: int = 3) -> dict[str, Any]:
    return {
        "images": [{"id": 7, "file_name": "a.png", "width": width, "height": height}],
        "categories": [{"id": 5, "name": "cup"}, {"id": 2, "name": "table"}],
        "annotations": [{"id": i, "image_id": 7, **annotation} for i, annotation in enumerate(annotations)],
    }


def write(folder: Path, value: Any, words: Any = WORDS, **dataset: Any) -> Path:
    (folder / "images").mkdir(exist_ok=True)
    Image.new("RGB", (5, 3)).save(folder / "images/a.png")
    (folder / "own.json").write_text(value if isinstance(value, str) else json.dumps(value))
    return write_definition(folder, "own", words, {"masks": "own.json", **(dataset or {"background": "floor"})})


def read(path: Path) -> SegmentationData:
    data = datasets.read(load_benchmark(path))
    assert isinstance(data, SegmentationData)
    return data


def problem_of(path: Path) -> str:
    report = datasets.check(load_benchmark(path), path.parent, deep=True, validate=tasks.validate)
    assert report.problems
    assert all("\n" not in problem for problem in report.problems)
    return "; ".join(report.problems)


def annotation(category: int, segmentation: Any, **others: Any) -> dict[str, Any]:
    return {"category_id": category, "segmentation": segmentation, **others}


def test_the_smaller_object_is_on_top_in_any_order(tmp_path):
    cup_on_table = [[1, 1, 1, 1, 0], [1, 2, 2, 1, 0], [1, 1, 1, 1, 0]]
    # an area in the file that says otherwise has no influence
    for annotations in (
        [annotation(2, TABLE), annotation(5, CUP)],
        [annotation(5, CUP, area=100.0), annotation(2, TABLE, area=1.0)],
    ):
        data = read(write(tmp_path, content(*annotations)))
        assert data.masks[0].load().tolist() == cup_on_table
        assert data.class_names == ["floor", "table", "cup"]  # by id, after the background
    # a crowd is below everything, however small
    crowd = annotation(2, plain_runs_of(np.array(cup_on_table) == 2), iscrowd=1)
    everything = annotation(5, TABLE)
    assert read(write(tmp_path, content(everything, crowd))).masks[0].load()[1].tolist() == [2, 2, 2, 2, 0]
    # of equal areas, the later one
    assert read(write(tmp_path, content(annotation(2, CUP), annotation(5, CUP)))).masks[0].load()[1, 1] == 2
    assert read(write(tmp_path, content(annotation(5, CUP), annotation(2, CUP)))).masks[0].load()[1, 1] == 1


def test_without_a_background_other_pixels_are_ignored(tmp_path):
    value = content(annotation(5, CUP))
    path = write(tmp_path, value, ["table", "cup"], class_names=["table", "cup"])
    data = read(path)
    assert data.class_names == ["table", "cup"]
    assert data.masks[0].load()[1].tolist() == [255, 1, 1, 255, 255]
    (tmp_path / "own.json").write_text(json.dumps(content()))
    assert any("all of their pixels are ignored" in remark for remark in read(path).remarks)


def test_images_that_the_json_does_not_list_are_told(tmp_path):
    path = write(tmp_path, content(annotation(5, CUP)))
    Image.new("RGB", (5, 3)).save(tmp_path / "images/b.png")
    assert any("1 of 2 images in images is not in own.json" in remark for remark in read(path).remarks)
    assert len(read(path).images) == 1


def changed(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    value = content(annotation(5, CUP), annotation(2, TABLE))
    change(value)
    return value


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([[0, 0, 4, 4]], "a polygon has 4 numbers"),
        ([[0, 0, 1, 1, 2]], "a polygon has 5 numbers"),
        ([0, 0, 1, 1, 2, 2], "neither a list of polygons"),
        ([[0, 0, 1, 1, 2, 1e9]], "has the coordinate 1e+09 in an image of 5 x 3"),
        ([[0, 0, 1, 1, 2, "2"]], "'2' in place of a number"),
        ({"size": [5, 3], "counts": [15]}, "its size is [5, 3], the image's is [3, 5]"),
        ({"size": [3, 5], "counts": [10]}, "for 10 pixels, the image has 15"),
        ({"size": [3, 5], "counts": [-1, 16]}, "not whole numbers from 0 to 15"),
        ({"size": [3, 5], "counts": [1.0, 14]}, "not whole numbers"),
        ({"size": [3, 5]}, "neither a list of run lengths nor a compressed text"),
        ({"size": [3, 5], "counts": "é"}, "not compressed run lengths"),
        ({"size": [3, 5], "counts": "o"}, "break off"),
    ],
)
def test_a_region_that_cannot_be_drawn_is_refused_with_its_annotation(tmp_path, segmentation, message):
    problem = problem_of(write(tmp_path, content(annotation(5, segmentation))))
    assert message in problem
    assert "cannot draw annotation 0 of a.png in" in problem


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("[", "not JSON"),
        ([], "has no list 'images'"),
        (changed(lambda value: value.pop("categories")), "has no list 'categories'"),
        (changed(lambda value: value["images"][0].update(width="5")), "finds no 'width' (a whole number) in images[0]"),
        (changed(lambda value: value["images"][0].update(width=4)), "a.png (4 x 3 pixels, the image 5 x 3)"),
        (changed(lambda value: value["images"][0].update(file_name="b.png")), "missing: b.png"),
        (changed(lambda value: value["images"][0].update(file_name="../a.png")), "outside its folder"),
        (changed(lambda value: value["images"].append(value["images"][0])), "the image 'a.png' (id 7) twice"),
        (changed(lambda value: value["categories"][0].update(name="table")), "the category 'table' (id 2) twice"),
        (changed(lambda value: value["annotations"][0].update(category_id=9)), "the category 9, which is not listed"),
        (changed(lambda value: value["annotations"][0].update(image_id=9)), "the image 9, which is not listed"),
        (changed(lambda value: value["annotations"][0].update(image_id=None)), "finds no 'image_id'"),
        (changed(lambda value: value["annotations"][0].update(segmentation=[])), "boxes only"),
    ],
)
def test_damaged_files_are_refused_in_one_line(tmp_path, value, message):
    assert message in problem_of(write(tmp_path, value))


def test_options_and_classes_that_do_not_fit_are_refused(tmp_path):
    value = content(annotation(5, CUP))
    assert "annotations of cup in" in problem_of(
        write(tmp_path, value, background="floor", class_names=["floor", "table", "mug"])
    )
    assert "the background 'sky'" in problem_of(
        write(tmp_path, value, background="sky", class_names=["floor", "table", "cup"])
    )
    assert "ignore_index, which means nothing with masks in a JSON" in problem_of(
        write(tmp_path, value, ignore_index=0)
    )
