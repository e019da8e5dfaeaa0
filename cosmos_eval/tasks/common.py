"""What several tasks share: metrics with their intervals, the primary metric, warnings about collapsed features, and
checks of data and features."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_eval.datasets.data import Data
from cosmos_eval.metrics.bootstrap import (
    Estimator,
    bootstrap_intervals,
    mean_estimator,
    mean_per_class_estimator,
    median_estimator,
)
from cosmos_eval.metrics.proportion import ProportionEstimate, estimate_proportion, proportion_intervals
from cosmos_eval.metrics.rank_interval import mean_rank_interval, median_rank_interval
from cosmos_eval.metrics.similarity import COLLAPSED, is_collapsed
from cosmos_eval.profiling import phase
from cosmos_eval.protocol.benchmark import Benchmark
from cosmos_eval.tasks.outcome import Metric

IntervalFunction = Callable[[tuple[float, float]], tuple[float, float, str]]
"""(percentile interval of the bootstrap) -> low, high, and the name of the method."""


@dataclass
class Measured:
    """Collects the metrics of a task, then computes all of their intervals.

    Each method but `metrics` adds one metric. The intervals are computed last and together, because all metrics use the
    same bootstrap resamples of the images. Images are the independent unit: captions of one image succeed and fail
    together, so resampling captions would make the intervals too narrow.

    Args:
        images: number of images (or other independent units).
    """

    images: int
    values: dict[str, tuple[float, int]] = field(default_factory=dict)
    """Value and number of samples of each metric."""
    estimators: dict[str, Estimator] = field(default_factory=dict)
    """Computes each metric of one resample."""
    proportions: dict[str, ProportionEstimate] = field(default_factory=dict)
    """For metrics that are proportions: what their interval needs besides the bootstrap."""
    interval_functions: dict[str, IntervalFunction] = field(default_factory=dict)
    """For all other metrics: computes the interval from that of the bootstrap."""

    def share(self, name: str, value: float, n: int, estimator: Estimator, proportion: ProportionEstimate) -> None:
        """Add a proportion: a weighted mean of outcomes in [0, 1]."""
        self.values[name] = (value, n)
        self.estimators[name] = estimator
        self.proportions[name] = proportion

    def mean(self, name: str, values: np.ndarray, image: np.ndarray) -> None:
        """Add the mean of (N,) outcomes in [0, 1]; sample i belongs to image `image[i]`."""
        estimator = mean_estimator(values, image, self.images)
        self.share(name, float(values.mean()), len(values), estimator, estimate_proportion(values, image))

    def mean_per_class(self, name: str, values: np.ndarray, labels: np.ndarray, image: np.ndarray) -> None:
        """Add the mean of (N,) outcomes over each class, averaged with equal weight over the classes that occur in
        (N,) `labels`."""
        estimator = mean_per_class_estimator(values, labels, image)
        proportion = estimate_proportion(values, image, classes=labels)
        self.share(name, estimator(np.ones(self.images)), len(values), estimator, proportion)

    def mean_rank(self, name: str, ranks: np.ndarray, image: np.ndarray, chance: float) -> None:
        """Add the mean of (N,) ranks; `chance` is the mean rank of a model that guesses."""
        self.values[name] = (float(ranks.mean()), len(ranks))
        self.estimators[name] = mean_estimator(ranks, image, self.images)
        self.interval_functions[name] = partial(mean_rank_interval, ranks, image, chance)

    def median_rank(self, name: str, ranks: np.ndarray, image: np.ndarray, worst: int) -> None:
        """Add the median of (N,) ranks between 1 and `worst`."""
        self.values[name] = (float(np.median(ranks)), len(ranks))
        self.estimators[name] = median_estimator(ranks, image)
        self.interval_functions[name] = partial(median_rank_interval, ranks, image, worst)

    def metrics(self, seed: int) -> dict[str, Metric]:
        """All metrics with their 95 % intervals, in the order in which they were added.

        Args:
            seed: seed of the bootstrap.
        """
        with phase("intervals"):
            bootstrap_bounds = bootstrap_intervals(list(self.estimators.values()), self.images, seed=seed)
            bounds_by_name = dict(zip(self.estimators, bootstrap_bounds, strict=True))
            proportion_bounds = proportion_intervals(
                list(self.proportions.values()), [bounds_by_name[name] for name in self.proportions]
            )
            low_high_method = {
                name: (low, high, self.proportions[name].method)
                for name, (low, high) in zip(self.proportions, proportion_bounds, strict=True)
            }
            for name, interval_function in self.interval_functions.items():
                low_high_method[name] = interval_function(bounds_by_name[name])
        metrics = {}
        for name, (value, n) in self.values.items():
            low, high, method = low_high_method[name]
            # The bootstrap's quantiles may miss the value by rounding, or where resamples lack some of the classes.
            metrics[name] = Metric(value, min(low, value), max(high, value), n, method)
        return metrics


def primary_metric(benchmark: Benchmark, names: Iterable[str], default: str) -> str:
    """The primary metric of a protocol, `default` if it names none.

    Args:
        names: the metrics that the task reports on this data.

    Raises:
        RequestError: the primary metric is not among `names`; lists them.
    """
    names = list(names)
    primary = str(benchmark.metrics.get("primary", default))
    if primary not in names:
        raise RequestError(f"{benchmark.name}: no metric {primary!r} here; metrics.primary may be {', '.join(names)}")
    return primary


def collapse_warnings(features: Mapping[str, Tensor | None], exclude: Collection[str] = ()) -> tuple[str, ...]:
    """One warning for each set of features that are all equal up to rounding.

    Args:
        features: name -> (N, ...) features of distinct inputs, such as "images"; None for a model without features,
            which scores pairs only.
        exclude: names of sets that are left out, because another warning explains why their features are equal
            (`cosmos_eval.engine.truncation`).
    """
    return tuple(
        f"collapsed: the features of all {len(embeddings):,} {name} lie within {COLLAPSED:g} of each other"
        for name, embeddings in features.items()
        if embeddings is not None and name not in exclude and is_collapsed(embeddings)
    )


def require_no_problems(benchmark: Benchmark, data: Data) -> None:
    """RequestError with the first of the data's own problems, if there are any."""
    problems = data.problems()
    if problems:
        raise RequestError(f"{benchmark.name} {problems[0]}; correct the annotations")


def require_valid_index(benchmark: Benchmark, index: np.ndarray, size: int, source: str, target: str) -> None:
    """Check that all entries of (N,) `index` are in [0, size).

    Args:
        source, target: what an entry belongs to and what it refers to, for the message, such as "text" and "image".

    Raises:
        RequestError: names the first bad entry.
    """
    bad_entries = np.flatnonzero((index < 0) | (index >= size))
    if len(bad_entries):
        first = bad_entries[0]
        raise RequestError(
            f"{benchmark.name}: {source} {first} refers to {target} {index[first]}, but there are {size:,}, numbered "
            "from 0; correct the annotations"
        )


def require_all_used(benchmark: Benchmark, index: np.ndarray, names: list[str], kind: str, missing: str) -> None:
    """Check that each of `names` occurs in (N,) `index`.

    Args:
        kind, missing: what the names are and what some of them lack, for the message: "images" and "caption".

    Raises:
        RequestError: says how many do not occur, and names the first three.
    """
    unused = np.flatnonzero(np.bincount(index, minlength=len(names)) == 0)
    if len(unused):
        examples = ", ".join(names[i] for i in unused[:3]) + (", ..." if len(unused) > 3 else "")
        raise RequestError(
            f"{benchmark.name}: {len(unused):,} of {len(names):,} {kind} have no {missing}: {examples}; correct the "
            "annotations"
        )


def require_equal_lengths(benchmark: Benchmark, **lengths: int) -> None:
    """Check that lists have one length and are not empty.

    Args:
        lengths: name of each list, with underscores for spaces -> its length.

    Raises:
        RequestError: gives all lengths.
    """
    if len(set(lengths.values())) > 1 or not all(lengths.values()):
        counts = ", ".join(f"{length:,} {name.replace('_', ' ')}" for name, length in lengths.items())
        raise RequestError(f"{benchmark.name}: needs the same number of each and at least one, but there are {counts}")
