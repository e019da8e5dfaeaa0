"""The readers of perception and compositional benchmarks: what they read, and their messages about wrong files."""

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_eval import datasets, tasks
from cosmos_eval.datasets.data import PerceptionData, RetrievalData
from cosmos_eval.datasets.perception.crops import CroppedImage
from cosmos_eval.datasets.perception.mmvp import PATTERNS
from cosmos_eval.progress import Advance, Silent
from cosmos_eval.run.evaluate import evaluate
from tests.helpers import perception_on_disk as on_disk
from tests.helpers.datasets_on_disk import COCO, define, write_image, write_json
from tests.helpers.perception_on_disk import small
from tests.helpers.stand_ins import Constant, Given


def load(name: str, root: Path, **dataset: Any) -> PerceptionData:
    data = datasets.load(small(name, **dataset), root)
    assert isinstance(data, PerceptionData)
    return data


def shown(data: PerceptionData, item: int) -> tuple[list[str], list[str]]:
    """The keys of the images and the texts of one item."""
    images = [data.images[i].key for i in data.item_images[item]]
    return images, [data.texts[j] for j in data.item_texts[item]]


def refusal(name: str, root: Path, **dataset: Any) -> str:
    with pytest.raises(RequestError) as caught:
        load(name, root, **dataset)
    assert "\n" not in str(caught.value)
    check = datasets.check(small(name, **dataset), root)
    assert check.problems, "load refuses what check accepts"
    return str(caught.value)


def test_sugarcrepe_shares_its_images_with_coco_retrieval(tmp_path: Path):
    on_disk.sugarcrepe(tmp_path)
    data = load("sugarcrepe", tmp_path)
    assert shown(data, 0) == (["000000000139.jpg"], ["right replace_obj 0", "wrong replace_obj 0"])
    assert shown(data, 13) == (["000000000285.jpg"], ["right add_att 1", "wrong add_att 1"])
    assert data.subsets[:4] == ["replace_obj", "replace_obj", "replace_att", "replace_att"]
    assert list(dict.fromkeys(data.groups["of three"])) == ["replace", "swap", "add"]
    captions = [{"id": i, "image_id": i, "caption": "x"} for i in (139, 285, 632)]
    images = [{"id": i, "file_name": f"{i:012d}.jpg"} for i in (139, 285, 632)]
    write_json(tmp_path / "coco/annotations/captions_val2017.json", {"images": images, "annotations": captions})
    retrieval = datasets.load(define(tmp_path, "retrieval", COCO), tmp_path)
    assert isinstance(retrieval, RetrievalData)
    assert {image.key: image.digest() for image in data.images} == {
        image.key: image.digest() for image in retrieval.images
    }


def sugarcrepe_row(**changes: Any) -> dict[str, Any]:
    row = {"filename": "000000000139.jpg", "caption": "a", "negative_caption": "b", **changes}
    return {key: value for key, value in row.items() if value is not None}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (json.dumps({"4": sugarcrepe_row(caption=None)}), "finds no 'caption' (a text) in row 4 of "),
        (json.dumps({"4": sugarcrepe_row(negative_caption=" ")}), "has an empty 'negative_caption' in row 4 of "),
        (json.dumps({"4": sugarcrepe_row(filename="1.jpg")}), "missing: 1.jpg"),
        (json.dumps({"4": sugarcrepe_row(filename="../1.jpg")}), "outside its folder in swap_obj 4: '../1.jpg'"),
        (json.dumps({"4": "a"}), "finds no 'caption' (a text) in row 4"),
        (json.dumps([sugarcrepe_row()]), "finds no map of rows"),
        (f'{{"4": {json.dumps(sugarcrepe_row())}, "4": {json.dumps(sugarcrepe_row())}}}', "has '4' twice"),
        ('{"4": ', "is not JSON: line 1 column 7"),
    ],
)
def test_a_sugarcrepe_file_that_does_not_fit_is_refused(tmp_path: Path, content: str, message: str):
    on_disk.sugarcrepe(tmp_path)
    (tmp_path / "sugarcrepe/swap_obj.json").write_text(content)
    assert message in refusal("sugarcrepe", tmp_path)


def test_each_missing_file_of_sugarcrepe_is_named(tmp_path: Path):
    on_disk.sugarcrepe(tmp_path)
    for name in ("add_obj", "swap_att"):
        (tmp_path / f"sugarcrepe/{name}.json").unlink()
    message = refusal("sugarcrepe", tmp_path)
    assert "swap_att.json, which is not there" in message
    assert "add_obj.json, which is not there" in message


def test_svo_has_the_items_of_the_authors_notebook(tmp_path: Path):
    on_disk.svo(tmp_path)
    data = load("svo-probes", tmp_path)
    assert [shown(data, i) for i in range(6)] == [
        ([str(10 + i), str(20 + i)], [f"A girl sits, number {i}."]) for i in range(6)
    ]
    assert data.subsets == ["subject", "verb", "object"] * 2
    assert data.left_out == ()


def test_missing_images_are_counted_or_refused_depending_on_the_definition(tmp_path: Path):
    on_disk.svo(tmp_path)
    images = tmp_path / "svo_probes/images"
    (images / "10.jpg").unlink()
    (images / "24.jpg").write_text("<html>404</html>")
    (images / "25.jpg").write_bytes(b"")
    data = load("svo-probes", tmp_path)
    assert data.left_out == (
        "line 2: 10.jpg does not exist",
        "line 6: 24.jpg is not an image",
        "line 7: 25.jpg is not an image",
    )
    assert len(data.item_images) == 3
    check = datasets.check(small("svo-probes", expected={"rows": 9}), tmp_path)
    assert check.problems == ()
    assert check.found == {"images": 6, "items": 3, "left_out": 3}
    assert check.left_out == data.left_out
    assert "missing: 10.jpg" in refusal("svo-probes", tmp_path, leave_out_missing=False)


def write_truncated(path: Path) -> None:
    """Write an interrupted download: the header is complete, so that the file opens, but the pixels are not."""
    write_image(path, size=64)
    path.write_bytes(path.read_bytes()[:-300])
    with Image.open(path) as image:
        assert image.size == (64, 64)


def test_a_truncated_image_is_left_out(tmp_path: Path):
    on_disk.svo(tmp_path)
    write_truncated(tmp_path / "svo_probes/images/22.jpg")
    write_truncated(tmp_path / "svo_probes/images/13.png")
    data = load("svo-probes", tmp_path)
    assert data.left_out == (
        "line 4: 22.jpg cannot be decoded to its end",
        "line 5: 13.png cannot be decoded to its end",
    )
    assert len(data.item_images) == 4
    check = datasets.check(small("svo-probes", expected={"rows": 9}), tmp_path, deep=True)
    assert (check.problems, check.found) == ((), {"images": 8, "items": 4, "left_out": 2})
    outcome = tasks.run(small("svo-probes"), data, Constant())
    assert "2 of 6 items left out, the first: line 4: 22.jpg cannot be decoded to its end" in outcome.warnings


def test_a_replaced_image_is_decoded_again(tmp_path: Path):
    on_disk.svo(tmp_path)
    path = tmp_path / "svo_probes/images/22.jpg"
    write_truncated(path)
    assert len(load("svo-probes", tmp_path).left_out) == 1
    write_image(path, size=64)
    assert load("svo-probes", tmp_path).left_out == ()


@pytest.mark.parametrize("name", ["sugarcrepe", "winoground", "aro-relation"])
def test_readers_that_leave_nothing_out_name_the_truncated_image(tmp_path: Path, name: str):
    on_disk.write_all(tmp_path)
    path = {
        "sugarcrepe": "coco/images/val2017/000000000285.jpg",
        "winoground": "winoground/images/ex_1_img_0.png",
        "aro-relation": "aro/images/8.jpg",
    }[name]
    write_truncated(tmp_path / path)
    (problem,) = datasets.check(small(name), tmp_path, deep=True).problems
    assert problem.startswith(f"{name}: cannot decode the image {tmp_path / path}: ")
    with pytest.raises(RequestError, match=r"cannot decode the image .*; replace the file") as caught:
        evaluate("cosmos:untrained-toybox?seed=0", [small(name)], data_root=tmp_path)
    assert "\n" not in str(caught.value)


def test_a_box_of_a_truncated_image_is_left_out(tmp_path: Path):
    on_disk.aro(tmp_path)
    write_truncated(tmp_path / "aro/images/8.jpg")
    data = load("aro-relation", tmp_path, leave_out_missing=True)
    assert data.left_out == ("row 3: 8.jpg cannot be decoded to its end",)


def test_progress_of_decoding_is_shown_if_it_takes_long(tmp_path: Path, monkeypatch):
    on_disk.svo(tmp_path)
    shown: list[tuple[str, int]] = []

    class Recording(Silent):
        @contextmanager
        def task(self, description: str, total: int, unit: str = "it") -> Iterator[Advance]:
            yield lambda n, text="": shown.append((description, n))

    def decoding() -> list[int]:
        shown.clear()
        datasets.check(small("svo-probes"), tmp_path, reporter=Recording())
        return [n for description, n in shown if description == "decoding images"]

    assert decoding() == []
    monkeypatch.setattr("cosmos_eval.progress.time.monotonic", itertools.count(0, 0.5).__next__)
    steps = decoding()
    assert (sum(steps), steps[0] > 1) == (12, True)


def test_data_with_other_missing_images_have_another_fingerprint(tmp_path: Path):
    fingerprints = set()
    for missing in ("10.jpg", "22.jpg"):
        root = tmp_path / missing
        on_disk.svo(root)
        (root / "svo_probes/images" / missing).unlink()
        fingerprints.add(load("svo-probes", root).fingerprint)
    assert len(fingerprints) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sentence": "  "}, "svo_probes.csv:3: has an empty sentence"),
        ({"pos_image_id": "x7"}, "finds 'x7' for 'pos_image_id' in "),
        ({"verb_neg": "maybe"}, "finds 'maybe' for 'verb_neg' in "),
    ],
)
def test_a_row_of_svo_that_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, str], message: str):
    on_disk.svo(tmp_path)
    rows = on_disk.svo_rows()
    rows[1] |= changes
    on_disk.write_csv(tmp_path / "svo_probes/svo_probes.csv", on_disk.SVO_HEADER, rows)
    refused = refusal("svo-probes", tmp_path)
    assert all(part in refused for part in message.split(": ")), refused


def test_a_table_without_a_column_or_with_a_truncated_row_is_refused(tmp_path: Path):
    on_disk.svo(tmp_path)
    path = tmp_path / "svo_probes/svo_probes.csv"
    on_disk.write_csv(path, [column for column in on_disk.SVO_HEADER if column != "obj_neg"], on_disk.svo_rows())
    assert "finds no column 'obj_neg' in" in refusal("svo-probes", tmp_path)
    on_disk.svo(tmp_path)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:5]) + "5,A girl", encoding="utf-8")
    assert "finds 2 cells for 11 columns in" in refusal("svo-probes", tmp_path)
    on_disk.svo(tmp_path)
    assert "needs 12 rows, found 9" in refusal("svo-probes", tmp_path, expected={"rows": 12})


def test_two_files_for_one_image_are_refused(tmp_path: Path):
    on_disk.svo(tmp_path)
    write_image(tmp_path / "svo_probes/images/10.png")
    assert "finds 1 images twice in" in refusal("svo-probes", tmp_path)


def test_mmvp_pairs_rows_and_takes_the_pattern_from_their_position(tmp_path: Path):
    on_disk.mmvp(tmp_path)
    data = load("mmvp-vlm", tmp_path)
    assert shown(data, 0) == (
        ["Orientation/1.jpg", "Orientation/2.jpg"],
        ["a photo of statement, 1", "a photo of statement, 2"],
    )
    assert shown(data, 134)[0] == ["Camera/269.jpg", "Camera/270.jpg"]
    assert data.subsets == [pattern for pattern in PATTERNS for _ in range(15)]


def test_the_odd_statement_belongs_to_the_first_image_in_either_order(tmp_path: Path):
    """As in the official script, which takes the images in the order of the rows."""
    on_disk.mmvp(tmp_path)
    rows = on_disk.mmvp_rows()
    rows[:2] = rows[1::-1]
    on_disk.write_csv(tmp_path / "MMVP_VLM/Questions.csv", rows[0], rows)
    assert shown(load("mmvp-vlm", tmp_path), 0) == (
        ["Orientation/2.jpg", "Orientation/1.jpg"],
        ["a photo of statement, 1", "a photo of statement, 2"],
    )


@pytest.mark.parametrize("folder", ["MMVP_VLM_Images", "MLLM_VLM_Images"])
def test_the_folder_of_images_may_have_the_name_in_the_readme(tmp_path: Path, folder: str):
    on_disk.mmvp(tmp_path)
    (tmp_path / "MMVP_VLM/MLLM_VLM Images").rename(tmp_path / "MMVP_VLM" / folder)
    assert len(load("mmvp-vlm", tmp_path).images) == 270
    (tmp_path / "MMVP_VLM" / folder).rename(tmp_path / "MMVP_VLM/else")
    assert "MLLM_VLM Images or " in refusal("mmvp-vlm", tmp_path)


@pytest.mark.parametrize(
    ("rows_changed", "changes", "message"),
    [
        (slice(0, 2), None, "needs 30 statements of 'Orientation and Direction' (pattern 1) in "),
        (slice(268, 270), None, "needs 30 statements of 'Viewpoint and Perspective' (pattern 9) in "),
        (30, {"Type": "Orientation"}, "(pattern 1) in"),
        (3, {"Question ID": 1}, "has the question 1 twice, in lines 2 and 5 of "),
        (3, {"Question ID": 301}, "finds the pair 3 and 301 in "),
        (3, {"Question ID": "4b"}, "finds '4b' for 'Question ID' in "),
        (3, {"Statement": ""}, "has an empty 'Statement' in "),
        (3, {"Question ID": 400}, "missing: Orientation/400.jpg"),
    ],
)
def test_a_table_of_mmvp_that_does_not_fit_is_refused(
    tmp_path: Path, rows_changed: Any, changes: dict[str, Any] | None, message: str
):
    on_disk.mmvp(tmp_path)
    rows = on_disk.mmvp_rows()
    if changes is None:
        del rows[rows_changed]
    else:
        rows[rows_changed] |= changes
    on_disk.write_csv(tmp_path / "MMVP_VLM/Questions.csv", rows[0], rows)
    assert message in refusal("mmvp-vlm", tmp_path)


def test_rows_of_mmvp_in_another_order_are_refused(tmp_path: Path):
    """A check for odd and even alone would accept 3 and 2 as a pair."""
    on_disk.mmvp(tmp_path)
    rows = on_disk.mmvp_rows()
    rows[1], rows[3] = rows[3], rows[1]
    on_disk.write_csv(tmp_path / "MMVP_VLM/Questions.csv", rows[0], rows)
    message = refusal("mmvp-vlm", tmp_path)
    assert "finds the pair 1 and 4 in " in message
    assert "but 2, which belongs to 1, in line 5" in message


@pytest.mark.parametrize("name", ["svo-probes", "mmvp-vlm"])
@pytest.mark.parametrize("form", [{"encoding": "utf-8-sig"}, {"newline": "\r\n"}, {"newline": "\r"}])
def test_a_table_with_a_byte_order_mark_or_other_line_endings_is_the_same(
    tmp_path: Path, name: str, form: dict[str, str]
):
    on_disk.WRITE[name](tmp_path)
    path = next(tmp_path.rglob("*.csv"))
    before = load(name, tmp_path)
    text = path.read_text(encoding="utf-8")
    with path.open("w", encoding=form.get("encoding", "utf-8"), newline=form.get("newline")) as file:
        file.write(text)
    assert load(name, tmp_path).fingerprint == before.fingerprint


def test_a_quote_that_joins_rows_is_refused_and_a_cell_of_two_lines_is_read(tmp_path: Path):
    """Else two rows would be lost: the cell ends at the quote of a later row, whose other cells complete the row."""
    on_disk.svo(tmp_path)
    path = tmp_path / "svo_probes/svo_probes.csv"
    rows = [f"{i},A girl sits {i}.,t,t,u,u,1{i},2{i},True,False,False" for i in range(6)]
    rows[0], rows[2] = rows[0].replace("A girl", '"A girl'), rows[2].replace("A girl", '"A girl')
    path.write_text("\n".join([",".join(on_disk.SVO_HEADER), *rows]) + "\n")
    message = refusal("svo-probes", tmp_path)
    assert f"finds a quote in {path}:2 that is not closed in its cell, so that everything up to line 4" in message
    quoted = on_disk.svo_rows()
    quoted[0]["sentence"] = 'A girl\nsays "sit".'
    on_disk.write_csv(path, on_disk.SVO_HEADER, quoted)
    assert 'A girl\nsays "sit".' in load("svo-probes", tmp_path).texts


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path):
    on_disk.svo(tmp_path)
    path = tmp_path / "svo_probes/svo_probes.csv"
    path.write_text(path.read_text().replace("index,", "sentence,", 1))
    assert "finds the column 'sentence' twice in" in refusal("svo-probes", tmp_path)


@pytest.mark.parametrize("name", ["winoground", "svo-probes", "mmvp-vlm"])
def test_items_with_two_equal_images_are_remarked_on(tmp_path: Path, name: str):
    """A server may return the same placeholder for all images that it has removed."""
    on_disk.WRITE[name](tmp_path)
    data = load(name, tmp_path)
    assert data.remarks == ()
    positive, negative = (data.images[i] for i in data.item_images[1])
    negative.path.write_bytes(positive.path.read_bytes())
    expected = f"1 of {len(data.item_images)} items has a wrong image equal to the right one: {positive.key}"
    assert load(name, tmp_path).remarks == (expected,)
    assert datasets.check(small(name), tmp_path, deep=True).remarks == (expected,)


def test_winoground_by_tags(tmp_path: Path):
    on_disk.winoground(tmp_path)
    data = load("winoground", tmp_path)
    assert shown(data, 1) == (["ex_1_img_0", "ex_1_img_1"], ["old kisses young 1", "young kisses old 1"])
    assert data.subsets == ["Object", "Object", "Relation"]
    assert data.groups["tag"] == ["Noun", "Noun", "Scope, Preposition"]
    assert data.groups["secondary_tag"] == ["Series", "", ""]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": 0}, "has the id 0 twice, in lines 1 and 2 of "),
        ({"id": None}, "finds no 'id' (a whole number) in "),
        ({"caption_1": ""}, "has an empty 'caption_1' in "),
        ({"image_0": None}, "finds no 'image_0' (a text) in "),
        ({"image_0": "ex_9_img_0"}, "missing: ex_9_img_0.jpg"),
        ({"collapsed_tag": ["Object"]}, "finds ['Object'] as 'collapsed_tag' in "),
        ({"tag": 7}, "finds 7 as 'tag' in "),
        ({"secondary_tag": "\ud800"}, "has 1 parts with half a character: '\\ud800'"),
    ],
)
def test_a_line_of_winoground_that_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, Any], message: str):
    on_disk.winoground(tmp_path)
    rows = on_disk.winoground_rows()
    rows[1] = {key: value for key, value in (rows[1] | changes).items() if value is not None}
    on_disk.write_lines(tmp_path / "winoground/examples.jsonl", rows)
    assert message in refusal("winoground", tmp_path)


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


@pytest.mark.parametrize("name", on_disk.NAMES)
def test_a_message_about_an_empty_data_root_says_what_it_needs(tmp_path: Path, name: str):
    message = refusal(name, tmp_path)
    assert "which is not there" in message
    assert small(name).dataset["needs"] in message


def test_parts_of_one_image_are_resampled_together(tmp_path: Path):
    """Forty items, each with another part of two images: the interval is that of two samples, not of forty."""
    (tmp_path / "aro").mkdir()
    rows = [
        {
            **on_disk.aro_rows("relation")[0], "bbox_x": i // 2, "bbox_w": 1 + i // 2, "image_path": f"{7 + i % 2}.jpg",
            "true_caption": ("cat", "dog")[i % 2], "false_caption": "mat", "relation_name": "on",
        }
        for i in range(40)
    ]  # fmt: skip
    write_json(tmp_path / "aro/visual_genome_relation.json", rows)
    for i in (7, 8):
        write_image(tmp_path / f"aro/images/{i}.jpg", seed=i, size=40)
    data = load("aro-relation", tmp_path)
    assert len(data.images) == 40
    assert {image.parent_key for image in data.images} == {"7.jpg", "8.jpg"}
    given = Given({image.key: [1, 0] for image in data.images}, {"cat": [1, 0], "dog": [-1, 0], "mat": [0, 1]})
    accuracy = tasks.run(small("aro-relation"), data, given).metrics["accuracy"]
    # two whole images, one of them right: p ** 2 + p (1 - p) = 0.025 for the lower bound
    assert (accuracy.low, accuracy.value, accuracy.high) == pytest.approx((0.025, 0.5, 0.975), abs=1e-6)
