"""Slow oracles of the accuracy of items: the strict rules, and exact fractions over every order of equal scores."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import permutations

Scores = Sequence[Sequence[float]]
"""Rows are images, columns are texts."""


def first_is_best(scores: Sequence[float]) -> bool:
    return all(scores[0] > other for other in scores[1:])


def text_rule(scores: Scores) -> bool:
    return scores[0][0] > scores[0][1] and scores[1][1] > scores[1][0]


def image_rule(scores: Scores) -> bool:
    return scores[0][0] > scores[1][0] and scores[1][1] > scores[0][1]


def group_rule(scores: Scores) -> bool:
    return text_rule(scores) and image_rule(scores)


def over_orders(rule: Callable[[list], bool], scores: Sequence[float]) -> Fraction:
    """The fraction of all orders in which a rule holds; an order decides between equal scores only."""
    orders = list(permutations(range(len(scores))))
    return Fraction(
        sum(rule([(score, i) for score, i in zip(scores, order, strict=True)]) for order in orders), len(orders)
    )
