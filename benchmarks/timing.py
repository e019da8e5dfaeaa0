"""Times of alternatives that are compared. They take turns, so that a slow machine slows all of them down."""

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cosmos_core.world import World


@dataclass(frozen=True)
class Times:
    """Seconds of several alternatives ("arms"), one value for each repetition, in the order of measurement."""

    seconds: dict[str, list[float]]

    def median(self, arm: str) -> float:
        return statistics.median(self.seconds[arm])

    def ratio(self, arm: str, baseline: str) -> float:
        """Return how many times longer `arm` takes than `baseline`, as the median of the ratios of the repetitions."""
        return statistics.median(self.ratios(arm, baseline))

    def ratios(self, arm: str, baseline: str) -> list[float]:
        return [a / b for a, b in zip(self.seconds[arm], self.seconds[baseline], strict=True)]

    def quartiles(self, arm: str, baseline: str = "") -> tuple[float, float]:
        """Return the quartiles of an arm's seconds, or of its ratios to a baseline; one value is returned twice."""
        values = self.ratios(arm, baseline) if baseline else self.seconds[arm]
        if len(values) == 1:
            return values[0], values[0]
        low, _, high = statistics.quantiles(values, n=4, method="inclusive")
        return low, high


def take_turns(arms: Mapping[str, Callable[[], object]], repetitions: int, world: "World", warm_up: int = 1) -> Times:
    """Time every arm once in each repetition; the order rotates, so that no arm profits from its position.

    All ranks start a turn together, and its time is that of the slowest rank.

    Args:
        arms: what to time, by name; the same names in the same order on all ranks.
        repetitions: at least 1.
        world: the ranks that work together.
        warm_up: turns that are not counted.

    Returns:
        The same times on all ranks.
    """
    names = list(arms)
    rank_seconds: dict[str, list[float]] = {name: [] for name in names}
    gc.collect()
    gc.disable()
    try:
        for turn in range(-warm_up, repetitions):
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                world.barrier()
                start = time.perf_counter()
                arms[name]()
                seconds = time.perf_counter() - start
                if turn >= 0:
                    rank_seconds[name].append(seconds)
    finally:
        gc.enable()
    ranks = world.gather(rank_seconds)
    return Times({name: [max(turn) for turn in zip(*(rank[name] for rank in ranks), strict=True)] for name in names})
