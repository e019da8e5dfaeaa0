"""The one source of chance in toybox: a stream that depends on nothing but the words that seed it."""

import hashlib
import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def digest_number(*parts: object) -> int:
    """64 bits from the printed form of `parts`; the same on every machine and in every process."""
    return int.from_bytes(hashlib.blake2b("|".join(map(str, parts)).encode(), digest_size=8).digest(), "big")


class Dice:
    """Draws made from `random.Random.random()` alone, the one method whose stream Python promises not to change."""

    def __init__(self, *parts: object) -> None:
        self._random = random.Random(digest_number(*parts)).random

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self._random()

    def below(self, n: int) -> int:
        return int(self._random() * n)

    def chance(self, probability: float) -> bool:
        return self._random() < probability

    def pick(self, choices: Sequence[T]) -> T:
        return choices[self.below(len(choices))]

    def sample(self, choices: Sequence[T], n: int) -> list[T]:
        """n different members in random order."""
        left = list(choices)
        return [left.pop(self.below(len(left))) for _ in range(n)]
