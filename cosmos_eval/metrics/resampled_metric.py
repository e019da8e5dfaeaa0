"""Metrics of one model under random weights of the images, several benchmarks at once.

Benchmarks share images: COCO's serve retrieval, segmentation and perception. In a resample (a Bayesian bootstrap,
Rubin, Ann. Stat. 9, 1981) an image has one weight, wherever it occurs; images of benchmarks that share none are
independent of each other. So the covariance of two metrics is that of the images that they have in common.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np

from cosmos_eval.progress import current_reporter, report_if_slow

if TYPE_CHECKING:
    from scipy.sparse import csr_array

RESAMPLES = 1000
SEED = 0
BLOCK_BYTES = 32 * 2**20
"""Memory for the weights of the resamples that are computed at a time."""
MOST_ENTRIES = 8
"""Units with more entries than this are not compared with each other: few of them are equal."""


class ResampledMetric(Protocol):
    """A metric of one model as a function of the weights of U units (images) with different names."""

    @property
    def names(self) -> np.ndarray:
        """(U,) names of the units; a name that another metric has, too, is the same image."""
        ...

    def kinds(self) -> np.ndarray:
        """(U,) int64: units of the same kind have the same influence on the metric, whatever the weights."""
        ...

    def take(self, units: np.ndarray) -> Self:
        """Return the metric of some of the units, of which each may then stand for all of its kind."""
        ...

    def values(self, weights: np.ndarray) -> np.ndarray:
        """(R,) values of the metric for (R, U) weights of the units, all positive."""
        ...


@dataclass(frozen=True)
class UnitSums:
    """A metric that depends on sums over units, such as a mean (hits and samples) or a mean IoU (pixel counts)."""

    names: np.ndarray
    """(U,) names of the units."""
    sums: "csr_array"
    """(U, S) float64, what each unit adds to the S sums."""
    combine: Callable[[np.ndarray], np.ndarray]
    """(R, S) sums -> (R,) values."""

    @classmethod
    def build(
        cls,
        names: np.ndarray,
        rows: np.ndarray,
        columns: np.ndarray,
        values: np.ndarray,
        combine: Callable[[np.ndarray], np.ndarray],
    ) -> "UnitSums":
        """Add up entries by unit.

        Args:
            names: (E,) name of the unit of each row number; equal names are one unit.
            rows: (V,) integers from 0 to E - 1, the row of each value.
            columns: (V,) integers, the sum that each value belongs to.
            values: (V,) float64.
            combine: as the field.
        """
        import pandas as pd
        from scipy.sparse import coo_array

        unit_of_row, units = pd.factorize(np.asarray(names, dtype=object))
        width = int(columns.max()) + 1 if len(columns) else 0
        entries = coo_array((values, (unit_of_row[rows], columns)), shape=(len(units), width))
        sums = entries.tocsr()  # adds up entries of one unit and sum
        sums.sort_indices()
        return cls(np.asarray(units, dtype=object), sums, combine)

    def kinds(self) -> np.ndarray:
        lengths = np.diff(self.sums.indptr)
        widest = int(lengths.max(initial=0))
        if widest > MOST_ENTRIES:
            return np.arange(len(self.names))
        table = np.zeros((len(self.names), 2 * widest))
        row = np.repeat(np.arange(len(self.names)), lengths)
        position = np.arange(len(row)) - self.sums.indptr[row]
        table[row, position] = self.sums.indices + 1
        table[row, widest + position] = self.sums.data
        return _number_rows(table)

    def take(self, units: np.ndarray) -> "UnitSums":
        return replace(self, names=self.names[units], sums=self.sums[units])

    def values(self, weights: np.ndarray) -> np.ndarray:
        return self.combine(weights @ self.sums)


def mean_of_ratios(sums: np.ndarray) -> np.ndarray:
    """(R,) mean over classes of numerator / denominator, from (R, 2 C) sums: those of C classes, numerators first.

    A class whose denominator is 0 is left out; with one class it is a plain ratio.
    """
    numerator, denominator = np.split(sums, 2, axis=1)
    present = denominator > 0
    ratios = np.divide(numerator, denominator, out=np.zeros_like(numerator), where=present)
    return np.asarray(ratios.sum(1) / np.maximum(present.sum(1), 1))


def resample_together(metrics: Sequence[ResampledMetric], resamples: int = RESAMPLES, seed: int = SEED) -> np.ndarray:
    """Compute several metrics under the same random weights of the images that they share.

    Units that weigh in all metrics in the same way get one weight together: the sum of n exponential weights is
    gamma-distributed, so a thousand resamples of an accuracy on a million images need only a few numbers each.

    Args:
        metrics: K metrics.
        resamples: number of resamples R.
        seed: of the random weights. Those of benchmarks that share no image do not depend on each other.

    Returns:
        (R, K) float64 values, rounded to 12 digits, since sums in another order differ in the last ones.
    """
    estimates = np.empty((resamples, len(metrics)))
    components = group_by_shared_units([metric.names for metric in metrics])
    with report_if_slow(current_reporter(), "resampling images", resamples * len(components), "resamples") as advance:
        for number, members in enumerate(components):
            rng = np.random.default_rng([seed, number])
            counts, joined = _join([metrics[k] for k in members])
            step = max(1, BLOCK_BYTES // (8 * max(1, len(counts))))
            for start in range(0, resamples, step):
                stop = min(start + step, resamples)
                weights = rng.standard_gamma(counts, (stop - start, len(counts)))
                for k, (metric, kind_of_group, kinds) in zip(members, joined, strict=True):
                    estimates[start:stop, k] = metric.values(_sum_by_kind(weights, kind_of_group, kinds))
                advance(stop - start)
    return np.round(estimates, 12)


def group_by_shared_units(names: Sequence[np.ndarray]) -> list[list[int]]:
    """Group metrics that share units, directly or through others.

    Args:
        names: (U_k,) names of the units of each metric.

    Returns:
        Lists of indices; each metric is in one, and lists are in the order of their first metric.
    """
    group = list(range(len(names)))
    first: dict[str, int] = {}

    def root(k: int) -> int:
        while group[k] != k:
            k = group[k]
        return k

    for k, of_metric in enumerate(names):
        for other in {first.setdefault(name, k) for name in of_metric.tolist()}:
            low, high = sorted((root(other), root(k)))
            group[high] = low
    members: dict[int, list[int]] = {}
    for k in range(len(names)):
        members.setdefault(root(k), []).append(k)
    return list(members.values())


def shared_fraction(first: np.ndarray, second: np.ndarray) -> float:
    """Return the number of names that two metrics share, divided by the geometric mean of their numbers."""
    if not len(first) or not len(second):
        return 0.0
    return len(set(first.tolist()) & set(second.tolist())) / float(np.sqrt(len(first) * len(second)))


def _join(
    metrics: Sequence[ResampledMetric],
) -> tuple[np.ndarray, list[tuple[ResampledMetric, np.ndarray, int]]]:
    """Group the units of metrics that share some: (G,) number of units of each group, which have the same kind in all.

    Returns also, for each metric: itself with one unit of each kind, the (G,) kind of each group (-1: in none of the
    metric's units), and the number of kinds.
    """
    import pandas as pd

    all_names, _ = pd.factorize(np.concatenate([metric.names for metric in metrics]))
    bounds = np.cumsum([0, *(len(metric.names) for metric in metrics)])
    table = np.full((int(all_names.max(initial=-1)) + 1, len(metrics)), -1, dtype=np.int64)
    reduced = []
    for column, metric in enumerate(metrics):
        kinds, first_units, kind = np.unique(metric.kinds(), return_index=True, return_inverse=True)
        table[all_names[bounds[column] : bounds[column + 1]], column] = kind
        reduced.append((metric.take(first_units), len(kinds)))
    groups, counts = np.unique(table, axis=0, return_counts=True)
    joined = [(metric, groups[:, column], kinds) for column, (metric, kinds) in enumerate(reduced)]
    return counts.astype(np.float64), joined


def _sum_by_kind(weights: np.ndarray, kind_of_group: np.ndarray, kinds: int) -> np.ndarray:
    """(R, T) sums of (R, G) weights over the groups of each of T kinds."""
    if len(kind_of_group) == kinds and (kind_of_group == np.arange(kinds)).all():
        return weights
    from scipy.sparse import coo_array

    used = np.flatnonzero(kind_of_group >= 0)
    chosen = coo_array((np.ones(len(used)), (used, kind_of_group[used])), shape=(len(kind_of_group), kinds))
    return np.asarray(weights @ chosen.tocsr())


def _number_rows(table: np.ndarray) -> np.ndarray:
    """(U,) int64 numbers that are equal for equal rows."""
    if not table.shape[1]:
        return np.zeros(len(table), np.int64)
    return np.unique(table, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
