"""Settings and answer of `regress`: a record for each test, verdicts after Holm's correction, the exit code."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from cosmos_core.errors import RequestError
from cosmos_eval.metrics.paired_drop import holm
from cosmos_eval.metrics.paired_iou import RESAMPLES

REGRESSION, PASSED, NO_TEST, NOT_COMPARABLE = "regression", "no regression", "no test possible", "not comparable"
IMPROVED = "improved"


@dataclass(frozen=True)
class Settings:
    """What counts as a regression.

    Raises:
        RequestError: a number out of its range.
    """

    max_drop: float = 0.0
    """A fraction: a true drop of at most this is not a regression."""
    alpha: float = 0.05
    """Probability of any false alarm, over all tests together."""
    metrics: tuple[str, ...] = ()
    """Instead of the headline metrics."""
    benchmarks: tuple[str, ...] = ()
    """Only these."""
    seed: int = 0
    resamples: int = RESAMPLES
    allow_precision: bool = False
    allow_transforms: bool = False
    """Whether embeddings may have been transformed after the fact in one of the two, or otherwise."""
    only_averages: bool = False
    """Whether only averages of the suite are tested, not its benchmarks."""

    def __post_init__(self) -> None:
        for name, holds, wanted in (
            ("max-drop", 0 <= self.max_drop < 1, "a number of points from 0 to below 100"),
            ("alpha", 0 < self.alpha <= 0.5, "a number above 0 and at most 0.5"),
            ("seed", self.seed >= 0, "a whole number from 0"),
            ("resamples", 100 <= self.resamples <= 10**7, "a whole number from 100 to 10,000,000"),
        ):
            if not holds:
                raise RequestError(f"--{name} must be {wanted}")


@dataclass(frozen=True)
class Tested:
    """One metric of one benchmark. Fractions; a difference is candidate minus baseline, a drop its opposite."""

    benchmark: str
    metric: str
    method: str
    """Name of the test, as tables show it."""
    n: int
    units: int
    baseline: float
    candidate: float
    low: float
    """Of the difference's 95 % interval."""
    high: float
    p: float
    least_p: float
    """The p of the worst possible candidate; where it is above alpha, no test is possible."""
    p_gain: float = 1.0
    """The p of the test with baseline and candidate exchanged; 1 where the candidate is not better."""
    adjusted: float = 1.0
    """p after Holm's correction over all tests."""
    adjusted_gain: float = 1.0
    """Likewise of `p_gain`, over all tests of gains."""
    detectable: float = float("inf")
    """The smallest true drop that would be found with 80 % power; infinite where none would."""
    verdict: str = PASSED

    @property
    def difference(self) -> float:
        return self.candidate - self.baseline


@dataclass(frozen=True)
class Regression:
    """The answer: every test, and every benchmark that could not be compared."""

    baseline: str
    candidate: str
    settings: Settings
    tests: tuple[Tested, ...]
    problems: tuple[tuple[str, str], ...]
    """Benchmark, and why its results cannot be compared."""
    remarks: tuple[str, ...] = field(default=())

    @cached_property
    def regressions(self) -> tuple[Tested, ...]:
        return tuple(test for test in self.tests if test.verdict == REGRESSION)

    @cached_property
    def improvements(self) -> tuple[Tested, ...]:
        return tuple(test for test in self.tests if test.verdict == IMPROVED)

    @cached_property
    def untestable(self) -> tuple[Tested, ...]:
        return tuple(test for test in self.tests if test.verdict == NO_TEST)

    @property
    def exit_code(self) -> int:
        """2 where anything could not be compared or tested, else 1 for a regression, else 0."""
        if self.problems or self.untestable:
            return 2
        return 1 if self.regressions else 0


def decide(tests: Sequence[Tested], count: int, alpha: float, max_drop: float) -> list[Tested]:
    """Add verdicts after Holm's correction over `count` tests; tests that could not be made count as not rejecting.

    Drops and gains are corrected separately: the probability of any false regression is at most
    alpha, and so is that of any false "improved", which is a false regression with the two models exchanged.
    """
    not_made = [1.0] * (count - len(tests))
    adjusted = holm([*(test.p for test in tests), *not_made])
    gains = holm([*(test.p_gain for test in tests), *not_made])
    corrected = [
        replace(test, adjusted=p, adjusted_gain=gain) for test, p, gain in zip(tests, adjusted, gains, strict=False)
    ]
    return [replace(test, verdict=verdict(test, alpha, count, max_drop)) for test in corrected]


def verdict(test: Tested, alpha: float, count: int, max_drop: float) -> str:
    """The verdict of one test; NO_TEST where no candidate could fail it and the interval allows a regression."""
    if test.adjusted <= alpha:
        return REGRESSION
    if test.least_p > alpha / count and test.low < -max_drop:
        return NO_TEST
    return IMPROVED if test.adjusted_gain <= alpha else PASSED
