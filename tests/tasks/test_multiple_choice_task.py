"""Multiple choice: by hand, a perfect and a constant model, clip-benchmark's caption selection, bad input."""

import numpy as np
import pytest
import torch

from cosmos_core.errors import RequestError
from cosmos_eval import tasks
from cosmos_eval.datasets import take_images
from cosmos_eval.datasets.data import ChoiceData, PerceptionData
from cosmos_eval.datasets.data.choices import Choice
from cosmos_eval.datasets.fingerprint import dataset_fingerprint
from cosmos_eval.engine import Engine
from cosmos_eval.tasks.perception.paired import paired
from tests.helpers.stand_ins import Constant, Given, RandomModel, benchmark, random_images

BENCHMARK = benchmark("multiple-choice")


def make_data(images, *items):
    return ChoiceData.from_items(random_images(images), items)


def values(outcome):
    return {name: metric.value for name, metric in outcome.metrics.items()}


MIXED = make_data(
    4,
    Choice([0], ["red", "blue"], [0], "colour"),
    Choice([1], ["red", "blue", "cat", "dog"], [1, 3], "colour"),
    Choice([0, 1, 2], ["cat"], [2], "animal"),
    Choice([3, 0], ["dog"], [0], "animal"),
)


def test_four_items_by_hand():
    axes = dict(zip(["red", "blue", "cat", "dog"], np.eye(4), strict=True))
    given = Given(
        {"image-0": [1, 0, 0, 0], "image-1": [0.1, 0.7, 0.7, 0], "image-2": [0, 0, 0.7, 0], "image-3": [0, 0, 0, 0.1]},
        axes,
    )
    outcome = tasks.run(BENCHMARK, MIXED, given)
    # red; blue (right) ties with cat (wrong); images 1 and 2 tie, one is right; image 3
    assert outcome.samples["correct"].tolist() == [1, 0.5, 0.5, 1]
    assert outcome.samples["chance"].tolist() == pytest.approx([1 / 2, 2 / 4, 1 / 3, 1 / 2])
    assert values(outcome) == {
        "colour/accuracy": 0.75,
        "animal/accuracy": 0.75,
        "macro_accuracy": 0.75,
        "accuracy": 0.75,
    }
    assert outcome.primary == "accuracy"
    assert outcome.samples["image"].tolist() == ["image-0", "image-1", "image-0", "image-3"]
    assert outcome.samples["scores"][1].tolist() == pytest.approx([0.1, 0.7, 0.7, 0])


def test_the_macro_accuracy_weighs_subsets_alike():
    data = make_data(3, *(Choice([i], ["a", "b"], [0], "many") for i in (0, 1)), Choice([2], ["a", "b"], [1], "few"))
    given = Given({f"image-{i}": [1, 0] for i in range(3)}, {"a": [1, 0], "b": [0, 1]})
    outcome = tasks.run(BENCHMARK, data, given)
    assert values(outcome) == {
        "many/accuracy": 1,
        "few/accuracy": 0,
        "macro_accuracy": 0.5,
        "accuracy": pytest.approx(2 / 3),
    }
    assert all(metric.low <= metric.value <= metric.high for metric in outcome.metrics.values())
    assert all(metric.low < metric.high for metric in outcome.metrics.values())


def test_a_perfect_model_is_always_right():
    given = Given({f"image-{i}": np.eye(3)[i] for i in range(3)}, dict(zip("abc", np.eye(3), strict=True)))
    data = make_data(3, *(Choice([i], list("abc"), [i]) for i in range(3)), Choice([0, 1, 2], ["b"], [1]))
    assert set(values(tasks.run(BENCHMARK, data, given)).values()) == {1}


def test_a_constant_model_scores_the_mean_share_of_right_candidates():
    outcome = tasks.run(BENCHMARK, MIXED, Constant())
    assert values(outcome)["accuracy"] == pytest.approx((1 / 2 + 2 / 4 + 1 / 3 + 1 / 2) / 4)
    assert values(outcome)["macro_accuracy"] == pytest.approx((1 / 2 + (1 / 3 + 1 / 2) / 2) / 2)
    assert outcome.samples["correct"].tolist() == outcome.samples["chance"].tolist()


def test_a_model_that_is_blind_to_images_scores_chance_where_images_are_chosen():
    samples = tasks.run(BENCHMARK, MIXED, Constant(texts=False)).samples
    assert samples["correct"][2:].tolist() == samples["chance"][2:].tolist()
    assert set(samples["correct"][:2]) <= {0.0, 1.0}


def test_equal_to_perception_in_expectation_where_both_can_be_used():
    rng = np.random.default_rng(0)
    images = random_images(50)
    positives, negatives = rng.permutation([f"text {i}" for i in range(100)]).reshape(2, 50).tolist()
    pairs = PerceptionData.pairs(images, np.arange(50), positives, negatives, ["all"] * 50)
    swapped = rng.random(50) < 0.5  # the position of the right caption does not matter
    items = [
        Choice([i], [b, a] if swap else [a, b], [int(swap)])
        for i, (a, b, swap) in enumerate(zip(positives, negatives, swapped.tolist(), strict=True))
    ]
    engine = Engine(RandomModel())
    ours = tasks.run(BENCHMARK, ChoiceData.from_items(images, items), engine)
    theirs = tasks.run(benchmark("perception"), pairs, engine)
    assert ours.samples["correct"].tolist() == theirs.samples["expected"].tolist()
    assert 0.2 < values(ours)["accuracy"] < 0.8


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (make_data(1, Choice([0], ["a", "b"], [])), "1 item without a right candidate: image-0 'a'"),
        (make_data(1, Choice([0], ["a", "b"], [0, 1])), "1 item without a wrong candidate"),
        (make_data(1), "has no items"),
        (MIXED.replaced(pairs=MIXED.pairs + 100), "an index of no image"),
        (MIXED.replaced(item_of_pair=MIXED.item_of_pair[::-1]), "not in the order of their items"),
    ],
)
def test_unusable_data_are_refused_before_any_compute(data, line):
    model = RandomModel()
    with pytest.raises(RequestError, match=line):
        tasks.run(BENCHMARK, data, Engine(model))
    assert model.image_batches == model.text_batches == []


@pytest.mark.parametrize("item", [Choice([0, 1], ["a", "b"], [0]), Choice([0], ["a", "b"], [2])])
def test_items_that_cannot_be_built_are_refused(item):
    with pytest.raises(ValueError, match="item 0 has"):
        make_data(2, item)


def test_embeddings_that_are_no_numbers_are_refused():
    class NotANumber(RandomModel):
        def encode_text(self, texts):
            return super().encode_text(texts) * torch.nan

    with pytest.raises(RequestError, match="red"):
        tasks.run(BENCHMARK, MIXED, Engine(NotANumber()))


def test_wrong_candidates_that_equal_a_right_one_are_a_remark():
    data = make_data(2, Choice([0], ["a b", "a  b", "c"], [0]), Choice([1], ["a", "a", "b"], [0, 1]))
    assert data.observations() == ["1 of 2 items has a wrong candidate equal to a right one: image-0 'a b'"]
    images = random_images(2)
    same = [images[0], type(images[0])("copy", images[0].pixels)]
    two = ChoiceData.from_items(same, [Choice([0, 1], ["a"], [1])])
    assert two.observations() == []
    assert two.content_observations() == ["1 of 1 item has a wrong candidate equal to a right one: image-0 'a'"]


def test_a_limit_keeps_whole_items():
    by_image = make_data(9, *(Choice([i], ["a", "b", str(i)], [2]) for i in range(9)))
    part = take_images(by_image, 3)
    assert [image.key for image in part.images] == ["image-0", "image-3", "image-6"]
    assert len(part.subsets) == 3
    assert [part.texts[j] for j in part.pairs[part.is_right, 1]] == ["0", "3", "6"]
    assert part.problems() == []
    by_text = make_data(9, *(Choice([i, (i + 1) % 9], [f"text {i}"], [0]) for i in range(9)))
    part = take_images(by_text, 5)
    assert part.problems() == []
    assert 2 <= len(part.images) <= 5
    assert len(part.subsets) >= 2
    with pytest.raises(RequestError, match="a limit of 1 image leaves no item; give at least 2"):
        take_images(by_text, 1)


def test_the_fingerprint_covers_candidates_answers_and_subsets():
    changed = [
        MIXED.replaced(is_right=~MIXED.is_right),
        MIXED.replaced(texts=[*MIXED.texts[:-1], "bird"]),
        MIXED.replaced(subsets=["all"] * 4),
        MIXED.replaced(pairs=MIXED.pairs[::-1].copy()),
    ]
    assert len({dataset_fingerprint(one) for one in (MIXED, *changed)}) == 5


@pytest.mark.parametrize("metric", ["accuracy", "macro_accuracy", "animal/accuracy"])
def test_the_paired_samples_give_the_metric_of_both_models(metric):
    outcomes = [tasks.run(BENCHMARK, MIXED, Engine(RandomModel(seed=seed))) for seed in (0, 1)]
    pair = paired(metric, outcomes, [outcome.samples for outcome in outcomes])
    assert pair.values() == pytest.approx([outcome.metrics[metric].value for outcome in outcomes])
