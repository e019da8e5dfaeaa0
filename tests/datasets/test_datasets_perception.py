"""The readers of perception and compositional benchmarks: what they read, and their messages about wrong files."""

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_eval import datasets, tasks
from cosmos_eval.datasets.data import RetrievalData
from cosmos_eval.progress import Advance, Silent
from cosmos_eval.run.evaluate import evaluate
from tests.helpers import perception_on_disk as on_disk
from tests.helpers.datasets_on_disk import COCO, define, write_image, write_json
from tests.helpers.perception_on_disk import small
from tests.helpers.perception_reading import load, refusal, shown
from tests.helpers.stand_ins import Constant, Given


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
    monkeypatch.setattr("cosmos_eval.progress.PATIENCE", 2.0)
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
        ({"secondary_tag": "\ud800"}, "has 1 part with half a character: '\\ud800'"),
    ],
)
def test_a_line_of_winoground_that_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, Any], message: str):
    on_disk.winoground(tmp_path)
    rows = on_disk.winoground_rows()
    rows[1] = {key: value for key, value in (rows[1] | changes).items() if value is not None}
    on_disk.write_lines(tmp_path / "winoground/examples.jsonl", rows)
    assert message in refusal("winoground", tmp_path)


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
