"""95 % intervals of what `cosmos_eval.metrics.embedding_geometry` and `cosmos_core.collapse` say of embeddings.

The unit is the image: it goes with all of its captions. The gap between modalities is a length, whose interval is that
of `cosmos_eval.metrics.inverted_interval`. The others are smooth, and their intervals are value ± t x standard error:
that of a mean from the sums of its units, and of other figures from the jackknife (Efron & Tibshirani, 1993, chapter
11). Resamples would not do for them: a resample repeats images, and equal embeddings are neither uniform nor of full
rank.

Uniformity and the effective rank are those of so many embeddings: the effective rank grows with their number, and its
interval is for other samples of the same size.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from cosmos_core.devices import to_float64
from cosmos_eval.metrics.bootstrap import RESAMPLES, SEED, Interval, resample_sums
from cosmos_eval.metrics.embedding_geometry import count_directions, effective_rank, modality_gap, shares_of_product
from cosmos_eval.metrics.inverted_interval import invert
from cosmos_eval.metrics.proportion import TAIL
from cosmos_eval.progress import current_reporter, report_if_slow

GROUPS = 20
"""Groups of units that the jackknife of the effective rank leaves out, one at a time: each costs an eigenproblem."""
UNKNOWN = (np.nan, np.nan)
"""The interval of a figure of a single unit."""


def mean_interval(values: np.ndarray, unit: np.ndarray, other_unit: np.ndarray | None = None) -> Interval:
    """Compute the interval of a mean over samples.

    Args:
        values: (N,) any numbers.
        unit: (N,) integers, the unit of each sample.
        other_unit: (N,) integers of the same numbering, where a sample is a pair of two units (an image and the caption
            of another): pairs with a common unit are not independent (Aronow et al., Political Analysis 23, 2015).
    """
    both = unit if other_unit is None else np.concatenate([unit, other_unit])
    units = len(np.unique(both))
    deviation = values - values.mean()
    square = float(np.square(np.bincount(unit, deviation)).sum())
    if other_unit is not None:
        square_of_dyads = np.square(_sum_by_dyad(deviation, unit, other_unit)).sum()
        square = max(square, float(np.square(np.bincount(both, np.tile(deviation, 2))).sum() - square_of_dyads))
    if units < 2:
        return UNKNOWN
    error = np.sqrt(square * units / (units - 1)) / len(values)
    return _t_interval(float(values.mean()), error, units)


def _sum_by_dyad(values: np.ndarray, unit: np.ndarray, other_unit: np.ndarray) -> np.ndarray:
    """Sums over the samples of the same two units."""
    first, second = np.minimum(unit, other_unit), np.maximum(unit, other_unit)
    _, dyad = np.unique(np.stack([first, second], axis=1), axis=0, return_inverse=True)
    return np.bincount(dyad.reshape(-1), values)


def gap_interval(
    images: Tensor, texts: Tensor, text_unit: np.ndarray | None, resamples: int = RESAMPLES, seed: int = SEED
) -> Interval:
    """Compute the interval of the gap between modalities.

    Args:
        images: (N, D) of unit length; each is a unit.
        texts: (M, D) of unit length.
        text_unit: (M,) integers, the image that each text goes with, or a number from N of its own; None: texts do not
            vary, such as those of classes.
        resamples: number of bootstrap resamples.
        seed: of the bootstrap.
    """
    image_values = to_float64(images).cpu().numpy()
    text_values = to_float64(texts).cpu().numpy()
    difference = image_values.mean(0) - text_values.mean(0)
    units = max(len(images), 0 if text_unit is None else int(text_unit.max()) + 1)
    if units < 2:
        return UNKNOWN
    influence = np.zeros((units, images.shape[1]))
    influence[: len(images)] = (image_values - image_values.mean(0)) / len(images)
    if text_unit is not None:
        np.subtract.at(influence, text_unit, (text_values - text_values.mean(0)) / len(texts))
    noise = resample_sums(influence, resamples, seed) * np.sqrt(units / (units - 1))
    squares, along = np.square(noise).sum(1), noise @ difference
    gap = modality_gap(images, texts)
    low, high = invert(gap, lambda factor: np.sqrt(np.maximum(factor**2 * gap**2 + 2 * factor * along + squares, 0.0)))
    return low, min(2.0, high)


def uniformity_interval(features: Tensor, unit: np.ndarray, t: float = 2.0) -> Interval:
    """Compute the interval of `cosmos_core.collapse.uniformity`.

    Args:
        features: (N, D) of unit length.
        unit: (N,) integers, the unit of each.
        t: as there.
    """
    _, unit = np.unique(unit, return_inverse=True)
    units, n = int(unit.max()) + 1, len(features)
    if units < 3:
        return UNKNOWN
    unit_features = features.float()
    potential = (2 - 2 * unit_features @ unit_features.T).clamp_min_(0).mul_(-t).exp_().fill_diagonal_(0)
    rows = to_float64(potential.sum(1)).cpu().numpy()
    is_same = torch.from_numpy(unit[:, None] == unit[None, :]).to(potential.device)
    same = to_float64((potential * is_same).sum(1)).cpu().numpy()
    # without a unit: the pairs of its embeddings with all others are left out in both orders, and those inside it once
    left = rows.sum() - np.bincount(unit, 2 * rows - same)
    count = n - np.bincount(unit)
    value = float(np.log(rows.sum() / (n * (n - 1))))
    return _jackknife(value, np.log(left / (count * (count - 1))))


def effective_rank_interval(features: Tensor, unit: np.ndarray, groups: int = GROUPS, seed: int = SEED) -> Interval:
    """Compute the interval of the effective rank of so many embeddings.

    Args:
        features: (N, D).
        unit: (N,) integers, the unit of each.
        groups: number of groups of units that are left out, one at a time.
        seed: decides which units form a group.
    """
    _, unit = np.unique(unit, return_inverse=True)
    units = int(unit.max()) + 1
    if units < 3:
        return UNKNOWN
    count = min(groups, units)
    group = (np.random.default_rng(seed).permutation(units) % count)[unit]
    values = to_float64(features.cpu())
    without = _few_ranks(values, group) if len(values) <= values.shape[1] else _many_ranks(values, group)
    ranks = []
    with report_if_slow(current_reporter(), "effective rank", count, "groups") as advance:
        for number in range(count):
            ranks.append(without(number))
            advance(1)
    low, high = _jackknife(effective_rank(features), np.array(ranks))
    return max(0.0, low), min(float(features.shape[1]), high)


def _few_ranks(values: Tensor, group: np.ndarray) -> Callable[[int], float]:
    """The effective rank without a group, from the embeddings themselves."""
    return lambda number: effective_rank(values[torch.from_numpy(group != number)])


def _many_ranks(values: Tensor, group: np.ndarray) -> Callable[[int], float]:
    """The same from products that are computed once, where there are more embeddings than dimensions."""
    product, total = values.T @ values, values.sum(0)

    def without(number: int) -> float:
        left_out = values[torch.from_numpy(group == number)]
        rest, n = total - left_out.sum(0), len(values) - len(left_out)
        moments = product - left_out.T @ left_out
        return count_directions(shares_of_product(moments - torch.outer(rest, rest) / n, moments.trace().sqrt()))

    return without


def _jackknife(value: float, without: np.ndarray) -> Interval:
    """The interval of a value from those without each of K groups."""
    count = len(without)
    error = np.sqrt((count - 1) / count * np.square(without - without.mean()).sum())
    return _t_interval(value, error, count)


def _t_interval(value: float, error: float, units: int) -> Interval:
    from scipy.special import stdtrit

    width = float(stdtrit(units - 1, 1 - TAIL) * error)
    return value - width, value + width
