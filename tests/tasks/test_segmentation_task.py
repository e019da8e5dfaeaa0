"""The segmentation task on images of coloured stripes, with a model that recognises colours; refusals."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cosmos_core.errors import RequestError
from cosmos_eval import tasks
from cosmos_eval.datasets.data import SegmentationData
from cosmos_eval.datasets.image_sources import ArrayImage
from cosmos_eval.datasets.masks import ArrayMask
from cosmos_eval.engine import Engine
from cosmos_eval.metrics.bootstrap import bootstrap_intervals
from cosmos_eval.metrics.iou import segmentation_metrics
from cosmos_eval.protocol.benchmark import Benchmark
from cosmos_eval.tasks.segmentation.measure import predict_label_maps
from cosmos_eval.tasks.segmentation.settings import SETTINGS
from tests.helpers.patch_models import Scale

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "gray": (85, 85, 85)}
PATCH = 4


@dataclass
class Colours:
    """The feature of a patch is its mean colour, that of a text the colour that it names. With `gain` 0 all patches
    have the same feature."""

    gain: float = 1.0
    spec = "python:colours"
    digest = "colours"
    device = torch.device("cpu")
    preprocess = Scale((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))

    def encode_patches(self, x: Tensor, attention: str = "vanilla") -> Tensor:
        return F.avg_pool2d(x, PATCH).permute(0, 2, 3, 1) * self.gain + (1 - self.gain)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        named = [next(rgb for name, rgb in COLOURS.items() if name in text) for text in texts]
        return torch.tensor(named, dtype=torch.float32)


def benchmark(words: Sequence[Sequence[str]] = (("red",), ("green",), ("blue",)), **changes) -> Benchmark:
    return Benchmark(
        name="colours",
        version=1,
        task="segmentation",
        dataset={"reader": "toybox"},
        metrics={"primary": "miou"},
        prompts={"words": [list(own) for own in words], "templates": ["a {c} thing"]},
        settings={**SETTINGS, "crop": 16, "stride": 8, **changes},
    )


def striped(*names: str, width: int = 8, height: int = 16) -> np.ndarray:
    return np.concatenate([np.full((height, width, 3), COLOURS[name], np.uint8) for name in names], axis=1)


def labels(*numbers: int, width: int = 8, height: int = 16) -> np.ndarray:
    return np.concatenate([np.full((height, width), number, np.uint8) for number in numbers], axis=1)


def data(maps: Sequence[np.ndarray] | None = None) -> SegmentationData:
    images = [striped("red", "green", "blue"), striped("blue", "red")]
    maps = maps or [labels(0, 1, 2), labels(2, 0)]
    return SegmentationData(
        images=[ArrayImage(f"p{i}", pixels) for i, pixels in enumerate(images)],
        masks=[ArrayMask(f"p{i}", one) for i, one in enumerate(maps)],
        class_names=("red", "green", "blue"),
        palette=tuple(COLOURS[name] for name in ("red", "green", "blue")),
    )


def values(outcome):
    return {name: metric.value for name, metric in outcome.metrics.items()}


def run(definition: Benchmark, data: SegmentationData, model: Colours | None = None, **options):
    return tasks.run(definition, data, Engine(model or Colours(), **options))


def test_a_perfect_model_is_right_everywhere():
    outcome = run(benchmark(), data())
    assert values(outcome) == {
        **{"miou": 1, "pixel_accuracy": 1, "mean_accuracy": 1},
        **{"red/iou": 1, "green/iou": 1, "blue/iou": 1},
    }
    assert outcome.primary == "miou"
    assert outcome.warnings == ()


def test_areas_and_metrics_by_hand():
    # the second stripe of the first image is labelled blue, half of the second image is ignored
    outcome = run(benchmark(), data([labels(0, 2, 2), labels(255, 0)]))
    stripe = 8 * 16
    rows = outcome.samples.to_dict("records")
    assert [(row["image"], row["name"], row["intersection"], row["prediction"], row["label"]) for row in rows] == [
        ("p0", "red", stripe, stripe, stripe),
        ("p0", "green", 0, stripe, 0),
        ("p0", "blue", stripe, stripe, 2 * stripe),
        ("p1", "red", stripe, stripe, stripe),
    ]
    assert values(outcome) == pytest.approx(
        {
            "miou": (1 + 0 + 1 / 2) / 3,
            "pixel_accuracy": 3 / 4,
            "mean_accuracy": (1 + 1 / 2) / 2,
            **{"red/iou": 1, "green/iou": 0, "blue/iou": 1 / 2},
        }
    )


def test_the_best_of_several_words_of_a_class_counts():
    words = (("gray", "red"), ("green",), ("gray", "blue"))
    assert values(run(benchmark(words), data()))["miou"] == 1


def test_a_constant_model_gets_the_share_of_one_class_and_is_reported_as_collapsed():
    outcome = run(benchmark(), data(), Colours(gain=0.0))
    counted = 5 * 8 * 16
    assert values(outcome)["pixel_accuracy"] in {n * 8 * 16 / counted for n in (1, 2)}
    assert values(outcome)["miou"] <= 1 / 3
    assert any("the features of all patches" in line for line in outcome.warnings)


def test_a_class_that_occurs_nowhere_has_no_iou():
    turned = replace(data([labels(0, 2, 1), labels(1, 0)]), class_names=("red", "blue", "green"))
    metrics = values(run(benchmark((("red",), ("blue",), ("green",))), turned))
    assert metrics["miou"] == 1
    only = data([labels(0, 255, 255), labels(255, 0)])
    metrics = values(run(benchmark(), only))
    assert (metrics["miou"], metrics["red/iou"]) == (1, 1)
    assert "green/iou" not in metrics


def test_predictions_are_in_dataset_order_with_both_label_maps():
    in_order = list(predict_label_maps(benchmark(), data(), Engine(Colours(), batch_size=2)))
    assert [prediction.index for prediction in in_order] == [0, 1]
    for prediction, mask in zip(in_order, data().masks, strict=True):
        assert np.array_equal(prediction.predicted_labels, prediction.true_labels)
        assert np.array_equal(prediction.true_labels, mask.load())


def test_intervals_resample_images():
    """Eighty images, half of them with a wrong class: enough for an interval by the bootstrap alone."""
    images = [striped("red", "green", "blue")] * 80
    maps = [labels(0, 1, 2), labels(0, 2, 2)] * 40
    many = replace(
        data(),
        images=[ArrayImage(f"p{i}", pixels) for i, pixels in enumerate(images)],
        masks=[ArrayMask(f"p{i}", one) for i, one in enumerate(maps)],
    )
    areas = [one.areas for one in predict_label_maps(benchmark(), many, Engine(Colours()))]

    def slow(drawn: np.ndarray) -> float:
        return segmentation_metrics(sum(weight * one for weight, one in zip(drawn, areas, strict=True)))["miou"]

    ((low, high),) = bootstrap_intervals([slow], 80, seed=7)
    outcome = tasks.run(benchmark(), many, Engine(Colours()), seed=7)
    metric = outcome.metrics["miou"]
    assert (metric.low, metric.high) == pytest.approx((low, high))
    assert metric.low < metric.value < metric.high
    assert metric.method == "bootstrap"


def test_the_interval_of_two_perfect_images_is_not_empty():
    metrics = tasks.run(benchmark(), data(), Engine(Colours())).metrics
    for name in ("miou", "pixel_accuracy", "mean_accuracy", "red/iou", "green/iou"):
        assert (metrics[name].value, metrics[name].high, metrics[name].method) == (1, 1, "mid-p")
    # two whole images: p ** 2 / 2 = 0.025; green is in one of them only: p / 2 = 0.025. Each half of the mid-p
    assert metrics["red/iou"].low == pytest.approx(0.05**0.5, abs=1e-9)
    assert metrics["green/iou"].low == pytest.approx(0.05, abs=1e-9)
    assert 0.05 < metrics["miou"].low < 0.5


def broken(**changes) -> SegmentationData:
    return replace(data(), **changes)


@pytest.mark.parametrize(
    ("definition", "broken_data", "message"),
    [
        (benchmark((("red",), ("green",))), data(), "prompts.words has 2 entries for 3 classes"),
        (benchmark(), broken(masks=data().masks[:1]), "2 images with 1 mask"),
        (benchmark(), data([labels(0, 1, 2, width=7), labels(2, 0)]), "the mask of p0 has 16 x 21 .* image 16 x 24"),
        (benchmark(), data([labels(0, 1, 2), labels(3, 0)]), "the mask of p1 has the label 3, but classes are 0 to 2"),
        (benchmark(), data([labels(255, 255, 255), labels(255, 255)]), "no pixel of any mask has a class"),
        (replace(benchmark(), metrics={"primary": "iou"}), data(), "no metric 'iou' here"),
    ],
)
def test_broken_data_and_definitions_are_refused_in_one_line(definition: Benchmark, broken_data, message: str):
    with pytest.raises(RequestError, match=message) as caught:
        run(definition, broken_data)
    assert "\n" not in str(caught.value)


def test_patch_features_that_are_not_finite_are_refused_with_the_image():
    with pytest.raises(RequestError, match="the embedding of image p0 is not finite"):
        run(benchmark(), data(), Colours(gain=float("nan")))


def test_thresholds_assign_pixels_to_the_background():
    words = (("gray",), ("green",), ("blue",))
    plain = values(run(benchmark(words), data([labels(0, 1, 2), labels(2, 0)])))
    strict = values(run(benchmark(words, background=True, prob_thd=1.0, logit_scale=1.0), data()))
    assert plain["miou"] > strict["miou"]
    assert strict["pixel_accuracy"] == 2 / 5  # everything is class 0
