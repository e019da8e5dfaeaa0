"""Accuracy of multiple choice: by hand, and against every order of the tied candidates."""

from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmos_eval.metrics.choice_accuracy import choice_accuracy


def accuracy(*items):
    """Items as lists of (score, whether it is right)."""
    scores = np.array([score for item in items for score, _ in item], np.float32)
    is_right = np.array([right for item in items for _, right in item])
    starts = np.cumsum([0, *map(len, items[:-1])])
    return choice_accuracy(scores, starts, is_right)


def test_three_items_by_hand():
    result = accuracy(
        [(0.9, True), (0.1, False)],
        [(0.2, True), (0.7, False), (0.7, True), (0.1, False)],  # two share the first place, one of them is right
        [(0.1, True), (0.5, False), (0.4, True)],
    )
    assert result.expected.tolist() == [1, 0.5, 0]
    assert result.chance.tolist() == pytest.approx([1 / 2, 2 / 4, 2 / 3])
    assert result.margin.tolist() == pytest.approx([0.8, 0, -0.1])
    assert result.chosen.tolist() == [0, 1, 1]


def test_a_constant_model_scores_the_share_of_right_candidates():
    result = accuracy([(1, True), (1, False)], [(1, False), (1, True), (1, True), (1, False), (1, False)])
    assert result.expected.tolist() == result.chance.tolist() == [1 / 2, 2 / 5]


def by_every_order(item) -> Fraction:
    orders = list(permutations(range(len(item))))
    right = 0
    for order in orders:  # an order decides between equal scores only
        first = max(range(len(item)), key=lambda i: (item[i][0], order[i]))
        right += item[first][1]
    return Fraction(right, len(orders))


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=2, max_size=5).filter(
            lambda item: len({right for _, right in item}) == 2
        ),
        min_size=1,
        max_size=4,
    )
)
@settings(max_examples=100, deadline=None)
def test_equal_to_the_mean_over_every_order_of_tied_candidates(items):
    assert accuracy(*items).expected.tolist() == pytest.approx([float(by_every_order(item)) for item in items])


@pytest.mark.parametrize(
    ("items", "line"),
    [
        ([[(np.nan, True), (0, False)]], "candidate 0 is nan"),
        ([[(0, True), (np.inf, False)]], "candidate 1 is inf"),
        ([[(0, True), (1, False)], [(0, True), (1, True)]], "item 1 needs a right and a wrong"),
        ([[(0, False), (1, False)]], "item 0 needs a right and a wrong"),
    ],
)
def test_unusable_input_is_refused(items, line):
    with pytest.raises(ValueError, match=line):
        accuracy(*items)


def test_other_lengths_are_refused():
    with pytest.raises(ValueError, match="one length"):
        choice_accuracy(np.zeros(3, np.float32), np.array([0]), np.array([True, False]))
