"""Accuracy with two right captions and a wrong one: by hand, in every order of ties, on constant input."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmos_eval.metrics.item_accuracy import compute_correctness, item_metric_names
from cosmos_eval.metrics.paraphrase_accuracy import PARAPHRASE_RULES, score_paraphrases, score_text_only
from tests.oracles import item_accuracy as oracle

RULES = {
    "accuracy": lambda s: s[0] > s[2] and s[1] > s[2],
    "first_accuracy": lambda s: s[0] > s[2],
    "second_accuracy": lambda s: s[1] > s[2],
}


@pytest.mark.parametrize(
    ("scores", "both", "first", "second", "expected"),
    [
        ((0.9, 0.8, 0.7), 1, 1, 1, 1),
        ((0.9, 0.6, 0.7), 0, 1, 0, 0),
        ((0.6, 0.9, 0.7), 0, 0, 1, 0),
        ((0.9, 0.7, 0.7), 0, 1, 0, 1 / 2),
        ((0.7, 0.7, 0.7), 0, 0, 0, 1 / 3),
    ],
)
def test_by_hand(scores, both, first, second, expected):
    correctness = score_paraphrases(torch.tensor([scores]))
    assert [correctness[name].strict.item() for name in PARAPHRASE_RULES] == [both, first, second]
    assert correctness["accuracy"].expected.item() == pytest.approx(expected)


@settings(deadline=None)
@given(st.lists(st.tuples(*[st.sampled_from([0.0, 0.25, 0.5])] * 3), min_size=1, max_size=6))
def test_agrees_with_the_mean_over_every_order_of_ties(items):
    correctness = compute_correctness(torch.tensor(items)[:, None, :], right_texts=2)
    assert tuple(correctness) == item_metric_names(1, 3, 2)
    for name, rule in RULES.items():
        for i, scores in enumerate(items):
            assert correctness[name].strict[i] == rule(scores)
            assert correctness[name].expected[i] == pytest.approx(float(oracle.over_orders(rule, scores)))
            assert (correctness[name].margin[i] > 0) == rule(scores)


def test_by_texts_alone_the_right_captions_must_be_the_most_alike():
    # right with right, first with wrong, second with wrong
    correctness = score_text_only(torch.tensor([[0.9, 0.8, 0.1], [0.8, 0.9, 0.1], [0.8, 0.8, 0.1], [0.5, 0.5, 0.5]]))
    assert correctness.strict.tolist() == [1, 0, 0, 0]
    assert correctness.expected.tolist() == pytest.approx([1, 0, 1 / 2, 1 / 3])


@pytest.mark.parametrize("shape", [(1, 1, 4), (1, 2, 2), (1, 2, 1)])
def test_other_shapes_have_no_rule_for_two_right_texts(shape):
    assert item_metric_names(*shape[1:], 2) == ()
    with pytest.raises(ValueError, match="of which 2 are right"):
        compute_correctness(torch.zeros(shape), right_texts=2)
