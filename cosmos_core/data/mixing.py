"""How several sources are mixed: a weight for each, and other weights from some step of the run on (`data_weights`)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.printable import plural, printable
from cosmos_core.short_repr import short_repr

GOLDEN = 0x9E3779B97F4A7C15
"""2 ** 64 over the golden ratio: multiples of it, modulo 2 ** 64, are spread evenly (a low-discrepancy sequence)."""
MAX_STAGES = 1000
STEP = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True)
class Stage:
    """A part of the run in which each source is drawn from by the same weight."""

    first_step: int
    """Steps of the run before it: 0 for the first stage."""
    weights: tuple[float, ...]
    """How often each source is drawn from, in proportion."""

    def shares(self) -> list[float]:
        """Each source's share of the samples; they add up to 1."""
        total = sum(self.weights)
        return [weight / total for weight in self.weights]

    @cached_property
    def limits(self) -> list[float]:
        """The shares added up: where each source ends in [0, 1)."""
        return list(accumulate(self.shares()))

    def choose(self, start: int, number: int) -> int:
        """Index of the source of sample `number` of a lane that begins at `start`, a random whole number.

        Steps of the golden ratio from a random start give each source its share in any stretch, not only on average.
        """
        point = ((start + number * GOLDEN) % 2**64) / 2**64
        source = sum(point >= limit for limit in self.limits[:-1])
        while not self.weights[source]:  # `point` may lie on the limit of a source of weight 0
            source -= 1
        return source


def parse_stages(text: str, sources: int) -> list[Stage]:
    """`3::1,1::1@20000` as stages: weights 3 and 1, from step 20,000 on 1 and 1. Empty text gives none.

    Args:
        sources: number of sources of data; each has a weight in each stage.

    Raises:
        RequestError: a stage has no such weights, or begins no later than the one before it.
    """
    if not text:
        return []
    setting = f"data_weights={printable(text) if len(text) <= 200 else short_repr(text)}"
    parts = text.split(",")
    if len(parts) > MAX_STAGES:
        raise RequestError(f"{setting}: {len(parts):,} stages, more than {MAX_STAGES:,}")
    stages = []
    for index, part in enumerate(parts):
        weights, at, step = part.strip().partition("@")
        if index and not STEP.fullmatch(step.strip()):
            raise RequestError(
                f"{setting}: each stage after the first ends with @ and the steps before it, such as 3::1,1::1@20000"
            )
        if not index and at:
            raise RequestError(f"{setting}: the first stage begins at step 0: write it without @")
        stages.append(Stage(int(step) if index else 0, parse_weights(weights, sources, setting)))
    for before, stage in pairwise(stages):
        if stage.first_step <= before.first_step:
            raise RequestError(
                f"{setting}: stages must follow each other, and @{stage.first_step} is not after step "
                f"{before.first_step}"
            )
    return stages


def parse_weights(text: str, sources: int, setting: str) -> tuple[float, ...]:
    """`2::1` as numbers, one for each source; RequestError, which begins with `setting`, where they are not."""
    try:
        weights = tuple(float(part) for part in text.split("::"))
    except ValueError as error:
        raise RequestError(f"{setting}: numbers joined by ::, such as 2::1") from error
    if len(weights) != sources:
        raise RequestError(
            f"{setting} has {plural(len(weights), 'weight')} for {plural(sources, 'source')} of data: give one for "
            "each source, joined by ::"
        )
    if not all(0 <= weight < float("inf") for weight in weights) or not 0 < sum(weights) < float("inf"):
        raise RequestError(f"{setting}: weights are finite, at least 0, and one of them above it")
    return weights


def require_stages_begin(stages: Sequence[Stage], steps: int) -> None:
    """RequestError if a stage begins after the last step of a run of `steps` (0: unknown)."""
    if stages and steps and stages[-1].first_step >= steps:
        raise RequestError(
            f"data_weights: a stage begins after {plural(stages[-1].first_step, 'step')}, and the run ends after "
            f"{steps:,}: set a smaller number after @, or steps"
        )


def describe_weights(stages: Sequence[Stage], source: int) -> dict[str, Any]:
    """A source's share of the samples for a dry run: `weight`, and by their first step those of later stages."""
    weight, *later = [round(stage.shares()[source], 4) for stage in stages]
    steps = [stage.first_step for stage in stages[1:]]
    return {"weight": weight, **({"later_weights": dict(zip(steps, later, strict=True))} if later else {})}
