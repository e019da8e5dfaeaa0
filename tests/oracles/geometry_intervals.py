"""Slow oracles of the intervals of `show geometry`: every resample and every sample that is left out written out."""

from collections.abc import Callable

import numpy as np
import torch

from cosmos_eval.metrics.calibration import reliability
from cosmos_eval.metrics.out_of_distribution import auroc, fpr_at_recall


def resampled_detection(inside: np.ndarray, outside: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """(R, 2) AUROC and false positive rate of resamples, whose scores are repeated as often as they were drawn."""
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(resamples):
        drawn = inside[rng.integers(0, len(inside), size=len(inside))]
        others = outside[rng.integers(0, len(outside), size=len(outside))]
        values.append((auroc(drawn, others), fpr_at_recall(drawn, others)))
    return np.array(values)


def calibration_error_at(
    factor: float, confidence: np.ndarray, correct: np.ndarray, unit: np.ndarray, bins: int, resamples: int, seed: int
) -> np.ndarray:
    """(R,) calibration errors of samples whose true differences are those observed, times a factor."""
    rng = np.random.default_rng(seed)
    units, queries = len(np.unique(unit)), len(unit)
    observed = _differences(confidence, correct, bins, queries)
    deviations = [
        _differences(confidence[unit == one], correct[unit == one], bins, queries)
        - (unit == one).sum() / queries * observed
        for one in range(units)
    ]
    errors = []
    for _ in range(resamples):
        deviation = sum(deviations[drawn] for drawn in rng.integers(0, units, size=units))
        errors.append(np.abs(factor * observed + deviation * np.sqrt(units / (units - 1))).sum())
    return np.array(errors)


def _differences(confidence: np.ndarray, correct: np.ndarray, bins: int, queries: int) -> np.ndarray:
    """(B,) mean confidence minus accuracy of each bin, times its share of all queries."""
    table = reliability(confidence, correct, bins)
    return np.nan_to_num(table.confidence - table.accuracy) * table.count / queries


def jackknife_error(
    statistic: Callable[[torch.Tensor], float], features: torch.Tensor, group: np.ndarray
) -> tuple[float, int]:
    """Standard error of a statistic from its values without each group, and the number of groups."""
    groups = np.unique(group)
    without = np.array([statistic(features[torch.from_numpy(group != one)]) for one in groups])
    count = len(groups)
    return float(np.sqrt((count - 1) / count * ((without - without.mean()) ** 2).sum())), count


def dyadic_error(values: np.ndarray, unit: np.ndarray, other_unit: np.ndarray) -> float:
    """Standard error of a mean over pairs of units, in which pairs with a common unit depend on each other."""
    deviation = values - values.mean()
    total = 0.0
    for i in range(len(values)):
        for j in range(len(values)):
            if {unit[i], other_unit[i]} & {unit[j], other_unit[j]}:
                total += deviation[i] * deviation[j]
    units = len({*unit, *other_unit})
    return float(np.sqrt(total * units / (units - 1)) / len(values))
