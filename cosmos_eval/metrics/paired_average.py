"""Drop of an average of metrics between two models, whose benchmarks may share images.

If every member is a weighted mean over samples, so is the average: the samples of all benchmarks together, weighted by
the share of their benchmark, with the image as the unit wherever it occurs. The exact test of
`cosmos_eval.metrics.paired_drop` applies (`join_hits`). Otherwise the average is bootstrapped like its members, with
one weight for each image (`PairedAverage`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cosmos_eval.metrics.bootstrap_drop import BootstrapDrop
from cosmos_eval.metrics.paired_samples import Hits, PairedBootstrap, number_labels
from cosmos_eval.metrics.resampled_metric import ResampledMetric, group_by_shared_units, resample_together

FEW_RESAMPLES = 2
"""Of a member alone, whose resamples are not used."""


def join_hits(members: Sequence[tuple[float, Hits]], names: Sequence[np.ndarray]) -> Hits:
    """Join the hits of several metrics to those of their weighted mean.

    Args:
        members: weight in the average (adding up to 1), and hits, of each.
        names: (N_k,) name of the unit of each sample of each member; equal names are one unit.
    """
    weights = []
    for weight, hits in members:
        own = np.ones(len(hits.baseline)) if hits.weights is None else np.asarray(hits.weights, np.float64)
        weights.append(weight * own / own.sum())
    return Hits(
        np.concatenate([hits.baseline for _, hits in members]),
        np.concatenate([hits.candidate for _, hits in members]),
        number_labels(np.concatenate(names)),
        np.concatenate(weights),
    )


@dataclass(frozen=True)
class PairedAverage:
    """The samples of both models behind a weighted mean of metrics, not all of which are means over samples."""

    members: tuple[tuple[float, Hits | PairedBootstrap], ...]
    """Weight in the average, adding up to 1, and samples."""
    metrics: tuple[tuple[ResampledMetric, ResampledMetric], ...]
    """Of each member, the metric of the baseline and of the candidate; units have the names of the whole suite."""

    @cached_property
    def images(self) -> int:
        """Number of different images."""
        return len(set().union(*(pair[0].names.tolist() for pair in self.metrics)))

    def swapped(self) -> "PairedAverage":
        """Return the same with baseline and candidate swapped, for a test of a gain."""
        members = []
        for weight, samples in self.members:
            if isinstance(samples, Hits):
                swapped: Hits | PairedBootstrap = Hits(
                    samples.candidate, samples.baseline, samples.unit, samples.weights, samples.unit_names,
                    samples.classes,
                )  # fmt: skip
            else:
                swapped = samples.swapped()
            members.append((weight, swapped))
        return PairedAverage(tuple(members), tuple((second, first) for first, second in self.metrics))

    def bootstrap_drop(self, resamples: int, seed: int) -> BootstrapDrop:
        """Bootstrap the drop of the average.

        Benchmarks that share images have one unseen image together, which speaks most against a drop in all of them.

        Args:
            resamples: number of resamples R, at least 2.
            seed: of the random weights.
        """
        weights = np.array([weight for weight, _ in self.members])
        flat = [metric for pair in self.metrics for metric in pair]
        resampled = resample_together(flat, resamples, seed)
        ones = [float(metric.values(np.ones((1, len(metric.names))))[0]) for metric in flat]
        values = (float(weights @ ones[::2]), float(weights @ ones[1::2]))
        worst, influences = [], []
        for (_, samples), pair in zip(self.members, self.metrics, strict=True):
            gain, influence = _worst_and_influence(samples, seed)
            worst.append(gain)
            influences.append(dict(zip(pair[0].names.tolist(), influence, strict=False)))
        names = {name: i for i, name in enumerate(dict.fromkeys(name for by_name in influences for name in by_name))}
        total = np.zeros(len(names))
        for weight, of_member in zip(weights, influences, strict=True):
            total[[names[name] for name in of_member]] += weight * np.fromiter(of_member.values(), np.float64)
        groups = group_by_shared_units([pair[0].names for pair in self.metrics])
        rng = np.random.default_rng([seed, 2])
        unseen = np.zeros(resamples)
        gains = weights * np.array(worst)
        for members in groups:
            unseen += gains[members].sum() * rng.standard_exponential(resamples)
        baseline, candidate = resampled[:, ::2] @ weights, resampled[:, 1::2] @ weights
        return BootstrapDrop(values, baseline - candidate, unseen, total, float(gains.sum()), baseline - unseen)


def _worst_and_influence(samples: Hits | PairedBootstrap, seed: int) -> tuple[float, np.ndarray]:
    """What an unseen image takes off the drop of one member, and (U,) the influence of each of its images."""
    if not isinstance(samples, Hits):
        alone = samples.bootstrap_drop(FEW_RESAMPLES, seed)
        return alone.worst, alone.influence
    weights = np.ones(len(samples.baseline)) if samples.weights is None else np.asarray(samples.weights, np.float64)
    names = samples.unit_names if samples.unit_names is not None else samples.unit
    unit = number_labels(names)
    drops = samples.baseline.astype(np.float64) - samples.candidate
    share = np.bincount(unit, weights=weights / weights.sum())
    by_unit = np.bincount(unit, weights=weights / weights.sum() * drops)
    drop = float(by_unit.sum())
    return float(share.max()) * (1 + drop), by_unit - drop * share
