"""Pairs and sets of items, tags, single comparisons and two right texts in the task perception."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cosmos_core.errors import RequestError
from cosmos_eval import tasks
from cosmos_eval.datasets import dataset_fingerprint
from cosmos_eval.datasets.data import PerceptionData
from cosmos_eval.metrics.paraphrase_accuracy import TEXT_ONLY
from cosmos_eval.tasks.perception.paired import paired
from tests.helpers.stand_ins import Given, benchmark, random_images

AXES = {"right": [1, 0], "wrong": [0, 1]}


def data(**changed) -> PerceptionData:
    """Four items of an image each. Items 0 and 1 are a pair, and so are 2 and 3; all four are a set."""
    items = PerceptionData.pairs(random_images(4), range(4), ["right"] * 4, ["wrong"] * 4, ["s"] * 4)
    return replace(items, sets={"pair": ["a", "a", "b", "b"], "set": ["all"] * 4}, **changed)


def model(*right: int) -> Given:
    return Given({f"image-{i}": AXES["right" if i in right else "wrong"] for i in range(4)}, AXES)


def value(outcome, name: str) -> float:
    return outcome.metrics[name].value


def test_a_set_is_right_if_all_of_its_items_are():
    outcome = tasks.run(benchmark("perception"), data(), model(0, 1, 3))
    assert (value(outcome, "accuracy"), value(outcome, "pair_accuracy"), value(outcome, "set_accuracy")) == (
        3 / 4,
        1 / 2,
        0,
    )
    assert outcome.metrics["pair_accuracy"].n == 2
    assert value(tasks.run(benchmark("perception"), data(), model(0, 1, 2, 3)), "set_accuracy") == 1
    assert outcome.samples["set pair"].tolist() == ["a", "a", "b", "b"]


def test_ties_of_a_set_multiply():
    tied = Given({f"image-{i}": [1, 0] for i in range(4)}, {"right": [1, 0], "wrong": [1, 0]})
    outcome = tasks.run(benchmark("perception"), data(), tied)
    assert value(outcome, "pair_accuracy_expected") == pytest.approx(1 / 4)
    assert value(outcome, "set_accuracy_expected") == pytest.approx(1 / 16)
    assert value(outcome, "pair_accuracy") == 0


def test_a_limit_keeps_whole_sets_only():
    limited = data().subset(3)
    assert len(limited.item_images) == 3
    assert sorted(limited.sets["pair"]) in (["", "a", "a"], ["", "b", "b"])
    assert limited.sets["set"] == ["", "", ""]
    outcome = tasks.run(benchmark("perception"), limited, model(0, 1, 2, 3))
    assert outcome.metrics["pair_accuracy"].n == 1
    assert "set_accuracy" not in outcome.metrics


def test_sets_and_right_texts_are_part_of_the_fingerprint():
    triples = replace(data(), item_texts=np.array([[0, 1, 4]] * 4), sets={})
    changed = [data(), replace(data(), sets={}), triples, replace(triples, right_texts=2)]
    assert len({dataset_fingerprint(one) for one in changed}) == 4


def test_a_paired_comparison_counts_sets():
    baseline, candidate = (tasks.run(benchmark("perception"), data(), model(*right)) for right in ((0, 1), (0, 2, 3)))
    hits = paired("pair_accuracy", (SimpleNamespace(metrics={}),) * 2, (baseline.samples, candidate.samples))
    assert (hits.baseline.tolist(), hits.candidate.tolist()) == ([1, 0], [0, 1])


def test_an_unknown_kind_of_set_is_a_problem():
    broken = replace(data(), sets={"trio": ["a"] * 4})
    assert any("kind 'trio'; known: pair, set" in problem for problem in broken.problems())


def test_a_tag_has_metrics_of_its_own_and_no_mean_over_parts():
    tagged = replace(data(), sets={}, groups={"hard": ["hard", "", "hard", ""], "kind": ["x", "y", "x", "y"]})
    metrics = tasks.run(benchmark("perception"), tagged, model(0, 1, 3)).metrics
    assert metrics["hard/accuracy"].value == 1 / 2
    assert "hard/macro_accuracy" not in metrics
    assert "kind/macro_accuracy" in metrics
    with pytest.raises(RequestError, match="no metric 'hard/macro_accuracy'"):
        tasks.validate(benchmark("perception", primary="hard/macro_accuracy"), tagged)


def squares() -> PerceptionData:
    return PerceptionData(
        random_images(2), ["x", "y"], np.array([[0, 1]]), np.array([[0, 1]]), ["s"], sets={"pair": ["a"]}
    )


def test_sides_are_reported_on_request_only():
    given = Given({"image-0": [1, 0], "image-1": [0.8, 0.6]}, {"x": [1, 0], "y": [0, 1]})
    plain = tasks.run(benchmark("perception"), replace(squares(), sets={}), given).metrics
    assert not any("first" in name or "second" in name for name in plain)
    sides = tasks.run(benchmark("perception", each_side=True), replace(squares(), sets={}), given).metrics
    # image 1 prefers x (0.8 > 0.6); both texts prefer their own image
    of_sides = {name: sides[name].value for name in ("first_text_score", "second_text_score")}
    assert of_sides == {"first_text_score": 1, "second_text_score": 0}
    assert (sides["first_image_score"].value, sides["second_image_score"].value, sides["image_score"].value) == (
        1,
        1,
        1,
    )


def test_sets_of_items_with_several_rules_are_refused():
    with pytest.raises(RequestError, match="sets of items of one rule"):
        tasks.validate(benchmark("perception"), squares())


def triples() -> PerceptionData:
    texts = ["a dog", "one dog", "a cat"]
    return PerceptionData(random_images(1), texts, np.array([[0]]), np.array([[0, 1, 2]]), ["s"], right_texts=2)


def test_texts_are_compared_with_each_other():
    given = Given({"image-0": [0, 0, 1]}, {"a dog": [1, 0, 0], "one dog": [0.8, 0.6, 0], "a cat": [0.6, 0.8, 0]})
    outcome = tasks.run(benchmark("perception"), triples(), given)
    # 0.8 of the dogs, 0.6 and 0.96 with the cat
    assert value(outcome, TEXT_ONLY) == 0
    given.texts["a cat"] = [0, 0, 1]
    assert value(tasks.run(benchmark("perception"), triples(), given), TEXT_ONLY) == 1


class PairsOnly:
    """Scores of pairs that no features stand behind."""

    image_features = text_features = None
    averages_prompts = False

    def score(self, images, texts, rerank=None):
        return self

    def of_pairs(self, pairs):
        return -pairs[:, 1].float()


def test_a_model_without_text_embeddings_has_no_comparison_of_texts():
    metrics = tasks.run(benchmark("perception"), triples(), PairsOnly()).metrics
    assert metrics["accuracy"].value == 1
    assert TEXT_ONLY not in metrics


def test_scores_that_are_not_finite_are_refused():
    broken = Given({"image-0": [torch.nan] * 3}, {text: [1, 0, 0] for text in triples().texts})
    with pytest.raises(ValueError, match="finite"):
        tasks.run(benchmark("perception"), triples(), broken)


def test_two_right_texts_of_other_items_have_no_rule():
    four = replace(triples(), texts=["a", "b", "c", "d"], item_texts=np.array([[0, 1, 2, 3]]))
    with pytest.raises(RequestError, match="1 image and 4 texts, 2 of them right"):
        tasks.validate(benchmark("perception"), four)
