"""Captions and foils judged each by itself, against scikit-learn's ROC and a loop over pairs."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from cosmos_eval import tasks
from cosmos_eval.datasets.data import PerceptionData
from cosmos_eval.metrics.text_classification import auroc_estimator, mean_of_estimators, placements, score_each_text
from cosmos_eval.protocol.benchmark import load_benchmark
from cosmos_eval.tasks.outcome import Outcome
from cosmos_eval.tasks.perception import unpaired
from cosmos_eval.tasks.perception.paired import paired
from tests.helpers.stand_ins import Given, random_images


def test_auroc_is_that_of_scikit_learn_in_each_resample():
    rng = np.random.default_rng(0)
    right, wrong = rng.integers(0, 6, 40) / 4, rng.integers(0, 5, 40) / 4  # many ties
    unit = rng.integers(0, 12, 40)
    estimate = auroc_estimator(right, wrong, unit)
    labels, scores = np.repeat([1, 0], 40), np.r_[right, wrong]
    for drawn in (np.ones(12), rng.integers(0, 4, 12).astype(float)):
        expected = roc_auc_score(labels, scores, sample_weight=np.tile(drawn[unit], 2))
        assert estimate(drawn) == pytest.approx(expected)
    assert np.isnan(estimate(np.zeros(12)))


def test_a_mean_leaves_out_parts_without_samples():
    first = auroc_estimator(np.array([2.0]), np.array([1.0]), np.array([0]))
    second = auroc_estimator(np.array([0.0]), np.array([1.0]), np.array([1]))
    mean = mean_of_estimators([first, second])
    assert [mean(np.array(drawn)) for drawn in ([1.0, 1.0], [1.0, 0.0], [0.0, 2.0])] == [1 / 2, 1, 0]
    assert np.isnan(mean(np.zeros(2)))


def test_placements_are_the_pairs_that_each_text_wins():
    right, wrong = np.array([0.9, 0.6, 0.4]), np.array([0.2, 0.5, 0.4])
    # 0.4 is above 0.2, equal to 0.4 and below 0.5
    assert placements(right, wrong) == pytest.approx(np.array([[1, 1, 1.5 / 3], [1, 2 / 3, 2.5 / 3]]))


def test_a_text_fits_above_0_and_a_foil_is_detected_at_0():
    rules = score_each_text(torch.tensor([[0.5, -0.5], [0.5, 0.1], [0.0, 0.0]]))
    assert rules["caption_precision"].strict.tolist() == [1, 1, 0]
    assert rules["foil_precision"].strict.tolist() == [1, 0, 1]
    assert rules["threshold_accuracy"].strict.tolist() == [1, 1 / 2, 1 / 2]


class WithFacts(Given):
    """An engine whose model says the scale and the bias of its loss."""

    def __init__(self, *features, **facts) -> None:
        super().__init__(*features)
        self.model = self
        self.spec = "python:x"
        self.facts = lambda: facts


SCORES = ((0.9, 0.2), (0.6, 0.55), (0.3, 0.4))
"""Cosines of each image with its caption and its foil."""


def outcome_of(**facts) -> Outcome:
    images = random_images(3)
    features = {image.key: [1, 0] for image in images}
    texts = {f"{i}{k}": [score, (1 - score**2) ** 0.5] for i, pair in enumerate(SCORES) for k, score in enumerate(pair)}
    data = PerceptionData.pairs(images, [0, 1, 2], ["00", "10", "20"], ["01", "11", "21"], ["a", "a", "b"])
    return tasks.run(load_benchmark("valse-texts"), data, WithFacts(features, texts, **facts))


def measured(**facts) -> dict[str, float]:
    return {name: metric.value for name, metric in outcome_of(**facts).metrics.items()}


def test_a_model_of_a_sigmoid_loss_has_precisions_at_its_own_threshold():
    found = measured(logit_scale=10.0, logit_bias=-5.0)  # a text fits above a cosine of 0.5
    assert found["caption_precision"] == pytest.approx(2 / 3)
    assert found["foil_precision"] == pytest.approx(2 / 3)
    assert found["threshold_accuracy"] == pytest.approx(2 / 3)
    assert found["a/foil_precision"] == 1 / 2
    # captions 0.9, 0.6, 0.3 against foils 0.2, 0.55, 0.4: 3 + 3 + 1 of 9 pairs
    assert found["auroc"] == pytest.approx(7 / 9)
    assert found["macro_auroc"] == pytest.approx((1 + 0) / 2)


def test_a_model_with_a_threshold_is_paired_with_one_without():
    frames = (outcome_of(logit_scale=10.0, logit_bias=-5.0).samples, outcome_of().samples)
    hits = paired("macro_accuracy", (SimpleNamespace(metrics={"a/accuracy": 0, "b/accuracy": 0}),) * 2, frames)
    assert hits.baseline.tolist() == hits.candidate.tolist() == [1, 1, 0]
    assert unpaired("macro_auroc")
    assert not unpaired("macro_accuracy")


def test_few_pairs_give_an_auroc_an_interval_with_a_width():
    metrics = outcome_of().metrics
    perfect = metrics["a/auroc"]  # 0.9 and 0.6 against 0.2 and 0.55: mid-p of 2 of 2 images is from 0.025 * 2 = p**2
    assert (perfect.value, perfect.high, perfect.method) == (1, 1, "mid-p")
    assert perfect.low == pytest.approx(0.05**0.5, abs=1e-6)
    for name in ("b/auroc", "macro_auroc", "auroc"):
        assert (metrics[name].method, metrics[name].low < metrics[name].high) == ("mid-p", True)


@pytest.mark.parametrize("facts", [{}, {"logit_scale": 100.0, "logit_bias": None}])
def test_any_other_model_has_auroc_alone(facts):
    found = measured(**facts)
    assert found["auroc"] == pytest.approx(7 / 9)
    assert not any("precision" in name or "threshold" in name for name in found)
