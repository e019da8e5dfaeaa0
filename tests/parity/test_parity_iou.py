"""Intersection over union of the golden pack: areas, values of each class, and the rounded metrics."""

from typing import Any

import numpy as np
import pytest

from cosmos_eval.metrics.iou import class_accuracy, class_iou, count_class_pixels, segmentation_metrics
from tests.parity.golden import Pack

FILE, MAPS = "segmentation/iou.json", "segmentation/iou.safetensors"


@pytest.fixture(scope="module")
def pack(parity_dir):
    return Pack.at(parity_dir)


def total(pack: Pack) -> np.ndarray:
    maps = {name: one.numpy() for name, one in pack.tensors(MAPS).items()}
    numbers = [name.removeprefix("label.") for name in maps if name.startswith("label.")]
    classes = pack.json(FILE)["num_classes"]
    return sum(
        (count_class_pixels(maps[f"pred.{n}"], maps[f"label.{n}"], classes) for n in numbers),
        np.zeros((3, classes), np.int64),
    )


def numbers(pack: Pack) -> dict[str, Any]:
    areas = total(pack)
    intersection, predicted, labelled = areas
    # mmsegmentation's harmonic mean of two ratios that are both nought, or one absent, is not a number
    dice = ratio(2 * intersection, predicted + labelled)
    precision, recall = ratio(intersection, predicted), class_accuracy(areas)
    with np.errstate(invalid="ignore", divide="ignore"):
        fscore = 2 * precision * recall / (precision + recall)
    values = segmentation_metrics(areas)
    rounded = {"aAcc": values["pixel_accuracy"], "mIoU": values["miou"], "mAcc": values["mean_accuracy"]}
    more = {
        name: float(np.nanmean(value))
        for name, value in {"mDice": dice, "mFscore": fscore, "mPrecision": precision, "mRecall": recall}.items()
    }
    classes = {"IoU": class_iou(areas), "Acc": recall, "Dice": dice, "Fscore": fscore, "Precision": precision}
    return {
        **{f"miou_only/{name}": 100 * value for name, value in rounded.items()},
        **{f"all_metrics/{name}": 100 * value for name, value in (rounded | more).items()},
        **{f"per_class/{name}": nulls(value) for name, value in (classes | {"Recall": recall}).items()},
        "per_class/aAcc": [values["pixel_accuracy"]],
        "areas/intersect": intersection.tolist(),
        "areas/union": (predicted + labelled - intersection).tolist(),
        "areas/pred_label": predicted.tolist(),
        "areas/label": labelled.tolist(),
    }


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return above / below


def nulls(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]


def test_areas_and_metrics_are_those_of_the_reference(pack):
    stored = pack.json(FILE)
    ours = numbers(pack)
    for name, value in ours.items():
        group, key = name.split("/")
        theirs = stored[group][key]
        if group == "areas":
            assert value == theirs, name
        elif group == "per_class":
            assert [v is None for v in value] == [v is None for v in theirs], name
            known = [(a, b) for a, b in zip(value, theirs, strict=True) if b is not None]
            assert all(a == pytest.approx(b, abs=1e-5) for a, b in known), name
        else:
            assert value == pytest.approx(theirs, abs=0.006), name
    compared = {tuple(name.split("/")) for name in ours}
    groups = ("miou_only", "all_metrics", "per_class", "areas")
    assert compared == {(group, key) for group in groups for key in stored[group]}


def test_a_metric_that_is_ten_tolerances_off_would_be_seen(pack):
    stored = pack.json(FILE)["miou_only"]
    ours = numbers(pack)
    for name, value in stored.items():
        assert ours[f"miou_only/{name}"] != pytest.approx(value + 0.06, abs=0.006)
