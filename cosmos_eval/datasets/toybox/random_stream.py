"""The only source of randomness in toybox: a stream of draws that depends on nothing but the strings that seed it."""

import hashlib
import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def digest_number(*parts: object) -> int:
    """Return 64 bits of the hash of the printed `parts`; the same number on every machine and in every process."""
    return int.from_bytes(hashlib.blake2b("|".join(map(str, parts)).encode(), digest_size=8).digest(), "big")


class RandomStream:
    """Random draws seeded by `parts` (their printed form is hashed).

    Every draw is computed from `random.Random.random()`, the only method of `random` whose stream Python promises not
    to change. `random.Random.choice` and similar methods may return other values in another version.
    """

    def __init__(self, *parts: object) -> None:
        self._random = random.Random(digest_number(*parts)).random

    def uniform(self, low: float, high: float) -> float:
        """Return a number from `low` to `high`."""
        return low + (high - low) * self._random()

    def below(self, n: int) -> int:
        """Return an integer from 0 to n - 1."""
        return int(self._random() * n)

    def chance(self, probability: float) -> bool:
        """Return True with this probability."""
        return self._random() < probability

    def choice(self, values: Sequence[T]) -> T:
        """Return one of the values."""
        return values[self.below(len(values))]

    def sample(self, values: Sequence[T], n: int) -> list[T]:
        """Return n different values in random order."""
        remaining = list(values)
        return [remaining.pop(self.below(len(remaining))) for _ in range(n)]
