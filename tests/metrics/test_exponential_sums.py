"""Probabilities of weighted sums of exponential variables: in closed form, against partial fractions, and by draws."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmos_eval.metrics.exponential_sums import probability_at_most_zero
from tests.oracles import paired_drop as oracle


def chance(*pairs: tuple[float, float]) -> float:
    """P(S <= 0) for pairs of a value and its count."""
    values, counts = zip(*pairs, strict=True)
    return float(probability_at_most_zero(np.array(values), np.array(counts)))


def binomial_tail(n: int, p: float, least: int) -> float:
    return sum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(least, n + 1))


def test_two_exponential_variables_in_closed_form():
    # P(3 A <= B) = 1 / (1 + 3)
    assert chance((3, 1), (-1, 1)) == pytest.approx(0.25, abs=1e-14)


@given(st.lists(st.integers(-12, 12).filter(bool), min_size=2, max_size=9, unique=True))
@settings(max_examples=60, deadline=None)
def test_it_agrees_with_partial_fractions(values):
    exact = oracle.probability_at_most_zero([Fraction(v) for v in values])
    assert chance(*[(v, 1) for v in values]) == pytest.approx(float(exact), abs=1e-12)


@pytest.mark.parametrize(("n", "hits", "p"), [(20, 3, 0.05), (1000, 20, 0.01), (50, 1, 0.001), (1000, 100, 0.01)])
def test_two_values_give_a_binomial_tail(n, hits, p):
    # P(Beta(hits, n - hits + 1) <= p) = P(Binomial(n, p) >= hits), and a Beta variable is a ratio of Gamma variables
    tail = chance((1 - p, hits), (-p, n - hits + 1))
    assert tail == pytest.approx(binomial_tail(n, p, hits), rel=1e-9)


def test_sums_of_one_sign_are_certain():
    assert chance((1, 2), (2, 1)) == 0
    assert chance((-1, 2), (-2, 1)) == 1
    assert chance((0, 5)) == 1
    assert chance((1, 0), (-1, 1)) == 1


def test_many_different_values_agree_with_monte_carlo_draws():
    rng = np.random.default_rng(0)
    values = np.append(rng.normal(0.15, 1, 60), -2.0)
    drawn = rng.exponential(size=(200_000, 61)) @ values
    # three standard errors of a proportion of 200,000
    assert probability_at_most_zero(values, np.ones(61)) == pytest.approx((drawn <= 0).mean(), abs=0.0034)


def test_both_tails_add_up_to_one():
    rng = np.random.default_rng(1)
    values, counts = rng.normal(0, 1, (30, 7)), rng.integers(1, 50, (30, 7)).astype(float)
    total = probability_at_most_zero(values, counts) + probability_at_most_zero(-values, counts)
    assert total == pytest.approx(1, abs=1e-12)


def test_sums_do_not_depend_on_each_other_nor_on_their_scale():
    rng = np.random.default_rng(2)
    values, counts = rng.normal(0, 1, (12, 5)), rng.integers(1, 9, (12, 5)).astype(float)
    together = probability_at_most_zero(values, counts)
    alone = [float(probability_at_most_zero(1e-9 * v, c)) for v, c in zip(values, counts, strict=True)]
    assert together.tolist() == pytest.approx(alone, rel=1e-12)


def test_invalid_numbers_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        probability_at_most_zero(np.ones(3), np.ones(2))
    with pytest.raises(ValueError, match="finite"):
        probability_at_most_zero(np.array([np.nan]), np.ones(1))
    with pytest.raises(ValueError, match="not negative"):
        probability_at_most_zero(np.ones(1), -np.ones(1))
