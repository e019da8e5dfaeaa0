"""Accuracy of items of images and texts: by hand, in every order of ties, on constant, perfect and invalid input."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmos_eval.metrics.item_accuracy import compute_correctness, item_metric_names, match_threshold, number_pairs
from tests.helpers.feature_metrics import pair_scores
from tests.oracles import item_accuracy as oracle

SQUARES = {"text_score": oracle.text_rule, "image_score": oracle.image_rule, "group_score": oracle.group_rule}


def square(*scores: float) -> torch.Tensor:
    return torch.tensor(scores).view(1, 2, 2)


def strict(scores: torch.Tensor) -> dict[str, list[float]]:
    return {name: metric.strict.tolist() for name, metric in compute_correctness(scores).items()}


@pytest.mark.parametrize(
    ("scores", "text", "image", "group"),
    [
        ((0.9, 0.1, 0.2, 0.8), 1, 1, 1),
        ((0.9, 0.8, 0.7, 0.75), 1, 0, 0),  # the second text prefers the first image
        ((0.5, 0.6, 0.4, 0.7), 0, 1, 0),
        ((0.1, 0.9, 0.8, 0.2), 0, 0, 0),
        ((0.5, 0.5, 0.4, 0.6), 0, 1, 0),  # a tie is wrong
    ],
)
def test_two_images_and_two_texts_by_hand(scores, text, image, group):
    assert strict(square(*scores)) == {"text_score": [text], "image_score": [image], "group_score": [group]}


def test_a_constant_model_scores_0_strictly_and_chance_in_expectation():
    metrics = compute_correctness(torch.ones(3, 2, 2))
    chance = {"text_score": 1 / 4, "image_score": 1 / 4, "group_score": 1 / 6}
    for name, metric in metrics.items():
        assert metric.strict.tolist() == [0, 0, 0]
        assert metric.expected.tolist() == pytest.approx([chance[name]] * 3)
    for shape in ((4, 1, 5), (4, 5, 1)):
        accuracy = compute_correctness(torch.ones(shape))["accuracy"]
        assert (accuracy.strict.sum(), accuracy.expected.tolist()) == (0, pytest.approx([1 / 5] * 4))
    match = compute_correctness(torch.ones(4, 2, 1))["match_accuracy"]
    assert (match.strict.sum(), match.expected.tolist()) == (0, [0.5] * 4)


tying_scores = st.sampled_from([0.0, 0.25, 0.5, 1.0])


@settings(deadline=None)
@given(st.lists(st.tuples(*[tying_scores] * 4), min_size=1, max_size=6))
def test_two_images_and_two_texts_agree_with_the_mean_over_every_order_of_ties(items):
    metrics = compute_correctness(torch.tensor(items).view(-1, 2, 2))
    for name, rule in SQUARES.items():
        for i, scores in enumerate(items):
            pairs = [scores[:2], scores[2:]]
            assert metrics[name].strict[i] == rule(pairs)
            mean = oracle.over_orders(lambda flat, rule=rule: rule([flat[:2], flat[2:]]), scores)
            assert metrics[name].expected[i] == pytest.approx(float(mean))
            assert (metrics[name].margin[i] > 0) == rule(pairs)


@settings(deadline=None)
@given(st.lists(st.tuples(*[tying_scores] * 3), min_size=1, max_size=6), st.booleans())
def test_one_among_three_agrees_with_the_mean_over_every_order_of_ties(items, of_texts):
    scores = torch.tensor(items)
    accuracy = compute_correctness(scores[:, None, :] if of_texts else scores[:, :, None])["accuracy"]
    for i, item in enumerate(items):
        assert accuracy.strict[i] == oracle.first_is_best(item)
        assert accuracy.expected[i] == pytest.approx(float(oracle.over_orders(oracle.first_is_best, item)))


def test_without_recurring_pairs_the_threshold_is_the_median():
    scores = torch.tensor([[0.9, 0.1], [0.8, 0.7], [0.2, 0.3]])[:, :, None]  # the median is 0.5
    match = compute_correctness(scores)["match_accuracy"]
    assert match.strict.tolist() == [1, 0.5, 0.5]
    assert compute_correctness(scores)["accuracy"].strict.tolist() == [1, 1, 0]


def test_a_pair_that_recurs_counts_once_in_the_threshold():
    scores = torch.tensor([[0.3, 0.8], [0.3, 0.7], [0.3, 0.2], [0.9, 0.1]])
    numbers = number_pairs(torch.tensor([[0, 2], [0, 3], [0, 4], [1, 5]]), torch.zeros(4, 1, dtype=torch.int64))
    # two distinct matches, so .9 .8 | .7 .3 .2 .1; counted with repetition it would be .9 .8 .7 .3 | .3 .3 .2 .1
    assert match_threshold(scores, numbers) == pytest.approx(0.75)
    match = compute_correctness(scores[:, :, None], numbers)["match_accuracy"]
    assert match.strict.tolist() == [0, 0.5, 0.5, 1]
    assert match.per_pair is not None
    assert match.per_pair[0].tolist() == [[0, 0], [0, 1], [0, 1], [1, 1]]


def test_matches_that_all_score_highest_are_separated_from_any_number_of_non_matches():
    """As in SVO-Probes, where a match recurs; the median would call one of the non-matches a match."""
    scores = torch.tensor([[0.9, 0.8], [0.9, 0.2], [0.9, 0.1]])
    numbers = number_pairs(torch.tensor([[0, 1], [0, 2], [0, 3]]), torch.zeros(3, 1, dtype=torch.int64))
    assert match_threshold(scores, numbers) == pytest.approx(0.85)
    assert compute_correctness(scores[:, :, None], numbers)["match_accuracy"].strict.tolist() == [1, 1, 1]


def test_pairs_have_one_number_if_image_and_text_are_equal():
    numbers = number_pairs(torch.tensor([[0, 1], [1, 0], [0, 1]]), torch.tensor([[0], [0], [1]]))
    assert numbers[0, 0] == numbers[1, 1]
    assert numbers[0, 1] == numbers[1, 0]
    assert len(numbers.unique()) == 4


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(4, 9), st.integers(0, 2)), min_size=1, max_size=12))
def test_as_many_distinct_pairs_are_called_a_match_as_there_are_matches(items):
    scores = torch.rand(10, 3, generator=torch.Generator().manual_seed(len(items)))
    images = torch.tensor([item[:2] for item in items])
    texts = torch.tensor([item[2:] for item in items])
    threshold = match_threshold(scores[images, texts], number_pairs(images, texts))
    pairs = {(right, text) for right, _, text in items} | {(wrong, text) for _, wrong, text in items}
    above = [pair for pair in pairs if scores[pair] > threshold]
    assert len(above) == len({(right, text) for right, _, text in items})


@pytest.mark.parametrize("shape", [(2, 1, 1), (2, 2, 3), (2, 3, 2)])
def test_shapes_without_a_metric_are_refused(shape):
    assert item_metric_names(*shape[1:]) == ()
    with pytest.raises(ValueError, match="no metric is defined for items of"):
        compute_correctness(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(3, 1, 2), (3, 1, 5), (3, 2, 1), (3, 4, 1), (3, 2, 2)])
def test_metric_names_are_those_of_the_metrics(shape):
    assert tuple(compute_correctness(torch.rand(shape))) == item_metric_names(*shape[1:])


def test_scores_are_cosines_and_equal_inputs_tie_exactly():
    rng = torch.Generator().manual_seed(0)
    images = torch.nn.functional.normalize(torch.randn(5, 7, generator=rng), dim=1)
    texts = torch.nn.functional.normalize(torch.randn(6, 7, generator=rng), dim=1)
    texts[4] = texts[1]
    item_images = torch.tensor([[0, 1], [3, 2]])
    item_texts = torch.tensor([[1, 4], [5, 1]])
    scores = pair_scores(images, texts, item_images, item_texts)
    assert scores.shape == (2, 2, 2)
    for i in range(2):
        expected = images[item_images[i]] @ texts[item_texts[i]].T
        assert torch.allclose(scores[i], expected, atol=1e-6)
    assert torch.equal(scores[0, :, 0], scores[0, :, 1])


def test_features_that_are_not_finite_are_refused():
    bad = torch.eye(3)
    bad[1, 1] = float("nan")
    index = torch.zeros(1, 1, dtype=torch.int64)
    with pytest.raises(ValueError, match="image 1 are not finite"):
        pair_scores(bad, torch.eye(3), index, index)
