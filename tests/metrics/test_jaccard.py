"""Jaccard index: by hand, scikit-learn, every order of tied candidates, a perfect and a constant model."""

from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import jaccard_score

from cosmos_eval.metrics.jaccard import expected_jaccard


def index_of(scores: list[float], right: list[int]) -> float:
    is_right = np.isin(np.arange(len(scores)), right)
    return float(expected_jaccard(np.array(scores, dtype=np.float32), np.array([0]), is_right)[0])


def index_of_order(order: tuple[int, ...], is_right: np.ndarray) -> float:
    """DataComp's way: as many candidates as there are right ones, from the end of the order."""
    chosen = np.isin(np.arange(len(is_right)), order[-is_right.sum() :])
    return jaccard_score(is_right, chosen)


def test_items_of_different_lengths_by_hand():
    scores = np.array([0.9, 0.1, 0.8, 0.7, 0.2, 0.5, 0.4, 0.3], dtype=np.float32)
    is_right = np.array([True, False, True, False, False, False, True, True])
    # 0.9 and 0.8 are right: 2 / 2. Then 0.5 and 0.4 are chosen, 0.4 and 0.3 are right: 1 / 3
    assert expected_jaccard(scores, np.array([0, 5]), is_right).tolist() == pytest.approx([1, 1 / 3])


def test_ties_by_hand():
    assert index_of([1, 1, 0, 0], [0]) == 0.5
    assert index_of([2, 1, 1, 0], [0, 1]) == pytest.approx((1 + 1 / 3) / 2)
    assert index_of([2, 1, 1, 0], [1, 2]) == pytest.approx(1 / 3)  # one of two equal right ones: either
    assert index_of([2, 2, 1, 1], [0, 1]) == 1
    assert index_of([1, 1, 1], [0, 1]) == pytest.approx((1 + 1 / 3 + 1 / 3) / 3)


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=2, max_size=5))
def test_it_is_the_mean_over_all_orders_of_ties(candidates):
    scores, is_right = (np.array(column) for column in zip(*candidates, strict=True))
    if not is_right.any():
        return
    orders = [
        order for order in permutations(range(len(scores))) if all(scores[a] <= scores[b] for a, b in pairwise(order))
    ]
    k = int(is_right.sum())
    hits = np.array([is_right[list(order[-k:])].sum() for order in orders])
    expected = np.mean(hits / (2 * k - hits))
    assert expected_jaccard(scores, np.array([0]), is_right)[0] == pytest.approx(expected)


def test_twelve_different_scores_are_as_datacomp_counts_them():
    generator = np.random.default_rng(0)
    for _ in range(50):
        scores, is_right = generator.normal(size=12), np.zeros(12, dtype=bool)
        is_right[generator.choice(12, generator.integers(1, 6), replace=False)] = True
        order = tuple(np.argsort(scores).tolist())
        value = expected_jaccard(scores, np.array([0]), is_right)[0]
        assert value == pytest.approx(index_of_order(order, is_right))


def test_a_constant_model_gets_the_index_of_a_random_choice():
    # 2 of 10: hits 0, 1, 2 with 28, 16, 1 of 45 choices
    assert index_of([0.5] * 10, [3, 7]) == pytest.approx((16 * 1 / 3 + 1) / 45)
