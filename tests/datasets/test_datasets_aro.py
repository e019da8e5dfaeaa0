"""ARO: boxes cut out of images, its relations and attributes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_eval import datasets, tasks
from cosmos_eval.datasets.perception.crops import CroppedImage
from tests.helpers import perception_on_disk as on_disk
from tests.helpers.datasets_on_disk import write_image, write_json
from tests.helpers.perception_on_disk import small
from tests.helpers.perception_reading import load, refusal, shown
from tests.helpers.stand_ins import Constant, Given


def test_aro_cuts_the_box_out_of_the_image(tmp_path: Path):
    on_disk.aro(tmp_path)
    data = load("aro-relation", tmp_path)
    assert shown(data, 0) == (["7.jpg[0,0,8,8]"], ["the cat is 0 the mat", "the mat is 0 the cat"])
    assert data.item_images.tolist() == [[0], [0], [1], [2]]  # equal boxes are one image
    assert data.subsets == ["on", "on", "under", "on"]
    with Image.open(tmp_path / "aro/images/7.jpg") as image:
        expected = np.asarray(image.convert("RGB"))[4:10, 2:12]
    assert (np.asarray(data.images[1].load()) == expected).all()
    assert len({image.digest() for image in data.images}) == 3
    assert load("aro-attribution", tmp_path).subsets == ["white_tall", "white_tall", "old_red", "white_tall"]


def test_relations_listed_as_symmetric_are_left_out_of_the_authors_mean(tmp_path: Path):
    on_disk.aro(tmp_path)
    rows = on_disk.aro_rows("relation")
    rows[1]["relation_name"] = "next to"
    write_json(tmp_path / "aro/visual_genome_relation.json", rows)
    benchmark = small("aro-relation")
    data = load("aro-relation", tmp_path)
    assert data.subsets == ["on", "next to", "under", "on"]
    assert data.groups == {"asymmetric": ["on", "", "under", "on"]}
    right = {f"the cat is {i} the mat": [1, 0] if i != 2 else [0, 1] for i in range(4)}
    wrong = {f"the mat is {i} the cat": [0, 1] if i != 2 else [1, 0] for i in range(4)}
    given = Given({image.key: [1, 0] for image in data.images}, {**right, **wrong})
    outcome = tasks.run(benchmark, data, given)
    assert outcome.primary == "asymmetric/macro_accuracy"
    assert outcome.metrics["asymmetric/macro_accuracy"].value == 1 / 2  # on 2 of 2, under 0 of 1
    assert outcome.metrics["macro_accuracy"].value == pytest.approx(2 / 3)
    assert outcome.metrics["accuracy"].value == 3 / 4
    assert load("aro-attribution", tmp_path).groups == {}


def test_without_asymmetric_relations_there_is_no_such_mean(tmp_path: Path):
    on_disk.aro(tmp_path)
    benchmark = small("aro-relation", symmetric=["on", "under"])
    data = load("aro-relation", tmp_path, symmetric=["on", "under"])
    with pytest.raises(RequestError, match="no metric 'asymmetric/macro_accuracy' here"):
        tasks.validate(benchmark, data)
    metrics = tasks.run(replace(benchmark, metrics={"primary": "macro_accuracy"}), data, Constant()).metrics
    assert not any(name.startswith("asymmetric/") for name in metrics)


def test_the_list_of_symmetric_relations_is_the_authors():
    symmetric = small("aro-relation").dataset["symmetric"]
    assert len(symmetric) == len(set(symmetric)) == 157
    assert {"next to", "near", "bigger than", "around"} <= set(symmetric)
    assert not {"on", "in", "under", "above", "behind", "to the left of", "holding", "wearing"} & set(symmetric)


def test_the_part_of_a_box_outside_the_image_is_black_as_in_the_authors_code(tmp_path: Path):
    write_image(tmp_path / "7.png", size=12)
    cropped = np.asarray(CroppedImage("7", tmp_path / "7.png", (-2, 8, 6, 6)).load())
    with Image.open(tmp_path / "7.png") as image:
        inside = np.asarray(image)[8:12, 0:4]
    assert cropped.shape == (6, 6, 3)
    assert (cropped[:4, 2:] == inside).all()
    assert not cropped[4:].any()
    assert not cropped[:, :2].any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bbox_w": None}, "finds no 'bbox_w' (a number) in row 2 of "),
        ({"bbox_w": 0}, "has a box without pixels, (2, 4, 0, 6) (x, y, width, height), in row 2 of "),
        ({"bbox_w": 10**299}, "has a box larger than any image that is read, (2, 4, 1"),
        ({"bbox_x": 1e308, "bbox_w": 1e308}, "has a box larger than any image that is read, (1e+308, 4, 1e+308"),
        ({"bbox_w": 900_000, "bbox_h": 900_000}, "has a box larger than any image that is read, (2, 4, 900000"),
        ({"bbox_x": 12}, "the box (12, 4, 10, 6) (x, y, width, height) is outside "),
        ({"false_caption": ""}, "has an empty 'false_caption' in row 2 of "),
        ({"relation_name": None}, "finds no 'relation_name' (a text) in row 2 of "),
        ({"image_path": "9.jpg"}, "missing: 9.jpg"),
    ],
)
def test_a_row_of_aro_that_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, Any], message: str):
    on_disk.aro(tmp_path)
    rows = on_disk.aro_rows("relation")
    rows[2] = {key: value for key, value in (rows[2] | changes).items() if value is not None}
    write_json(tmp_path / "aro/visual_genome_relation.json", rows)
    with pytest.raises(RequestError) as caught:
        load("aro-relation", tmp_path)
    assert message in str(caught.value)
    problems = datasets.check(small("aro-relation"), tmp_path, deep=True).problems
    assert any(message in problem for problem in problems)


@pytest.mark.parametrize("changes", [{"bbox_w": 0}, {"bbox_x": 12}, {"image_path": "9.jpg"}])
def test_aro_items_without_an_image_are_left_out_if_the_definition_says_so(tmp_path: Path, changes: dict[str, Any]):
    on_disk.aro(tmp_path)
    rows = on_disk.aro_rows("relation")
    rows[2] |= changes
    write_json(tmp_path / "aro/visual_genome_relation.json", rows)
    data = load("aro-relation", tmp_path, leave_out_missing=True, expected={"items": 4})
    assert len(data.item_images) == 3
    assert len(data.left_out) == 1
    assert data.left_out[0].startswith("row 2: ")


def test_pairs_of_attributes_must_be_pairs(tmp_path: Path):
    on_disk.aro(tmp_path)
    rows = on_disk.aro_rows("attributes")
    rows[0]["attributes"] = ["white"]
    write_json(tmp_path / "aro/visual_genome_attribution.json", rows)
    assert "finds no list of two texts as 'attributes' in row 0 of " in refusal("aro-attribution", tmp_path)
    assert "has subsets 'colour'" in refusal("aro-attribution", tmp_path, subsets="colour")
