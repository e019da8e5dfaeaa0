"""Rules of perception, slow and obvious: exact fractions over every order of equal scores."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import permutations

Scores = Sequence[Sequence[float]]
"""Images as rows, texts as columns."""


def first_is_best(scores: Sequence[float]) -> bool:
    return all(scores[0] > other for other in scores[1:])


def text_rule(scores: Scores) -> bool:
    return scores[0][0] > scores[0][1] and scores[1][1] > scores[1][0]


def image_rule(scores: Scores) -> bool:
    return scores[0][0] > scores[1][0] and scores[1][1] > scores[0][1]


def group_rule(scores: Scores) -> bool:
    return text_rule(scores) and image_rule(scores)


def over_orders(rule: Callable[[list], bool], scores: Sequence[float]) -> Fraction:
    """The share of all orders in which a rule holds, where an order decides between equal scores only."""
    orders = list(permutations(range(len(scores))))
    return Fraction(
        sum(rule([(s, place) for s, place in zip(scores, order, strict=True)]) for order in orders), len(orders)
    )
