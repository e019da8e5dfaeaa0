"""95 % intervals of the figures of `show geometry`: each resamples images, which go with their captions.

Figures of classes alone (uniformity and effective rank of their texts) have none: the benchmark fixes its classes.
"""

from collections.abc import Mapping

import numpy as np
import torch

from cosmos_eval.datasets.data.base import spread_indices
from cosmos_eval.metrics.bootstrap import SEED, Interval
from cosmos_eval.metrics.calibration import BINS, TopPredictions, number_bins
from cosmos_eval.metrics.calibration_interval import calibration_error_interval
from cosmos_eval.metrics.embedding_intervals import (
    effective_rank_interval,
    gap_interval,
    mean_interval,
    uniformity_interval,
)
from cosmos_eval.metrics.proportion import mid_p_bounds
from cosmos_eval.show.geometry_embeddings import PairedEmbeddings
from cosmos_eval.tasks.common import Measured

MOST_FOR_UNIFORMITY = 4096
"""Embeddings, spread evenly over the dataset, that uniformity uses: its cost grows with their square."""
LIMITS = {"alignment": (0.0, 4.0), "matching_similarity": (-1.0, 1.0), "other_similarity": (-1.0, 1.0)}
"""Values that means can have at all; those of uniformity are at most 0."""


def for_uniformity(features: torch.Tensor) -> np.ndarray:
    """Return the indices of the embeddings that uniformity uses."""
    # with more indices than embeddings, some would recur
    return spread_indices(len(features), min(len(features), MOST_FOR_UNIFORMITY))


def embedding_intervals(embedded: PairedEmbeddings) -> dict[str, Interval]:
    """Compute the intervals of what describes the embeddings, by the names of the figures."""
    images, texts = embedded.images.float().cpu(), embedded.texts.float().cpu()
    pair_unit = embedded.pairs[:, 0]
    low, high = mean_interval(embedded.matching, pair_unit)
    intervals = {
        "modality_gap": gap_interval(images, texts, embedded.text_unit),
        "alignment": (2 - 2 * high, 2 - 2 * low),  # squared distances of unit vectors
        "matching_similarity": (low, high),
    }
    for name, features, unit in (("images", images, np.arange(len(images))), ("texts", texts, embedded.text_unit)):
        if unit is None:
            continue
        chosen = for_uniformity(features)
        low, high = uniformity_interval(features[torch.from_numpy(chosen)], unit[chosen])
        intervals[f"uniformity_{name}"] = (low, min(high, 0.0))
        intervals[f"effective_rank_{name}"] = effective_rank_interval(features, unit)
    if len(embedded.shuffled):
        image, text = embedded.shuffled_pairs.T
        text_unit = None if embedded.text_unit is None else embedded.text_unit[text]
        intervals["other_similarity"] = mean_interval(embedded.shuffled, image, text_unit)
    for name, (least, most) in LIMITS.items():
        if name in intervals:
            low, high = intervals[name]
            intervals[name] = (max(low, least), min(high, most))
    return {name: interval for name, interval in intervals.items() if np.isfinite(interval).all()}


def calibration_intervals(embedded: PairedEmbeddings, top: TopPredictions) -> tuple[dict[str, Interval], np.ndarray]:
    """Compute the intervals of calibration, by the names of the figures, and (B, 2) that of the accuracy in each bin
    of confidence, NaN for a bin without queries."""
    unit = np.unique(embedded.query_unit, return_inverse=True)[1]
    measured = Measured(int(unit.max()) + 1)
    measured.mean("mean_confidence", top.confidence.clip(0, 1), unit)
    measured.mean("accuracy", top.correct, unit)
    bin_of_query = number_bins(top.confidence)
    for number in np.unique(bin_of_query):
        in_bin = bin_of_query == number
        measured.mean(f"bin {number}", top.correct[in_bin], unit[in_bin])
    bounds = {name: (metric.low, metric.high) for name, metric in measured.metrics(SEED).items()}
    bins = np.array([bounds.pop(f"bin {number}", (np.nan, np.nan)) for number in range(BINS)])
    bounds["expected_calibration_error"] = calibration_error_interval(top.confidence, top.correct, unit)
    return bounds, bins


def confusion_interval(images: float, of: int) -> Interval:
    """Return the interval of a number of confused images out of all, as a number for as many images."""
    low, high = mid_p_bounds(min(images, of), of)
    return float(low) * of, float(high) * of


def as_text(value: float, interval: Interval | None, decimals: int, scale: float = 1.0) -> str:
    """Write a value with its interval: `0.812 [0.801, 0.823]`, without -0."""
    numbers = [f"{round(scale * number, decimals) + 0.0:.{decimals}f}" for number in (value, *(interval or ()))]
    return f"{numbers[0]} [{numbers[1]}, {numbers[2]}]" if interval else numbers[0]


def as_lists(intervals: Mapping[str, Interval]) -> dict[str, list[float]]:
    """The intervals as JSON."""
    return {name: [float(low), float(high)] for name, (low, high) in intervals.items()}
