"""95 % intervals of AUROC and of the false positive rate at 95 % recall; both samples of images vary.

Where enough images are on the wrong side, they are quantiles of the bootstrap, which resamples the images from inside
and those from outside. Where few are, resamples show too little of the errors (none at all if the two are apart), so
the bounds move to others in proportion, as those of proportions do (`cosmos_eval.metrics.proportion`):

- AUROC: mid-p bounds with the effective n of the variance of DeLong et al. (Biometrics 44, 1988), with an unseen image
  in the smaller sample;
- the rate: the mid-p bounds for the images from outside, and the rates at the thresholds that the order statistics of
  the images from inside allow, joined as independent errors (MOVER: Zou & Donner, Stat. Med. 27, 2008).

benchmarks/geometry_coverage.py measures how often they contain the true value.
"""

import numpy as np

from cosmos_eval.metrics.bootstrap import RESAMPLES, SEED, Interval, draw_counts
from cosmos_eval.metrics.out_of_distribution import RECALL, auroc, count_kept, count_wins, fpr_at_recall
from cosmos_eval.metrics.proportion import FEW, MANY, TAIL, ProportionEstimate, mid_p_bounds, proportion_intervals
from cosmos_eval.progress import current_reporter, report_if_slow


def detection_intervals(
    inside: np.ndarray, outside: np.ndarray, resamples: int = RESAMPLES, seed: int = SEED
) -> tuple[Interval, Interval]:
    """Compute the intervals of `auroc` and of `fpr_at_recall` at 95 %.

    Args:
        inside: (N,) scores of inputs of the distribution, one for each image.
        outside: (M,) scores of others.
        resamples: number of bootstrap resamples.
        seed: of the bootstrap.

    Returns:
        (low, high) of both, with the values between them.

    Raises:
        ValueError: no scores, or one that is not finite.
    """
    value, rate = auroc(inside, outside), fpr_at_recall(inside, outside)
    low, high = np.quantile(resample(inside, outside, resamples, seed), [TAIL, 1 - TAIL], axis=0)
    (of_auroc,) = proportion_intervals([_estimate_auroc(inside, outside, value)], [(low[0], high[0])])
    few_low, few_high = _bounds_of_few(inside, outside, rate)
    kept = count_kept(len(inside))
    rarer_count = min(len(inside) - kept, rate * len(outside), (1 - rate) * len(outside))
    weight = float(np.clip((rarer_count - FEW) / (MANY - FEW), 0.0, 1.0))
    of_rate = (1 - weight) * few_low + weight * low[1], (1 - weight) * few_high + weight * high[1]
    return of_auroc, (max(0.0, min(of_rate[0], rate)), min(1.0, max(of_rate[1], rate)))


def resample(inside: np.ndarray, outside: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """(R, 2) AUROC and false positive rate in resamples of both samples.

    Scores are sorted once. A resample repeats each as often as its image was drawn, and cumulative sums of these
    numbers tell how many are below a score.
    """
    rng = np.random.default_rng(seed)
    n, m = len(inside), len(outside)
    outside_order, inside_order = np.argsort(outside, kind="stable"), np.argsort(-inside, kind="stable")
    ordered = outside[outside_order]
    # of each score from inside, in falling order: the position of the first score from outside that is not below it,
    # and of the first one above it
    not_below, above = (np.searchsorted(ordered, inside[inside_order], side=side) for side in ("left", "right"))
    kept = count_kept(n)
    values = np.empty((resamples, 2))
    with report_if_slow(current_reporter(), "resampling images", resamples, "resamples") as advance:
        for r in range(resamples):
            of_inside = draw_counts(rng, n)[inside_order]
            below = np.concatenate([[0.0], np.cumsum(draw_counts(rng, m)[outside_order])])
            wins = (of_inside * (below[not_below] + below[above])).sum()
            threshold = int(np.searchsorted(np.cumsum(of_inside), kept))  # its position in falling order
            values[r] = wins / (2 * n * m), 1 - below[not_below[threshold]] / m
            advance(1)
    return values


def _estimate_auroc(inside: np.ndarray, outside: np.ndarray, value: float) -> ProportionEstimate:
    """AUROC as a proportion, with the effective n that gives the variance of DeLong."""
    n, m = len(inside), len(outside)
    of_inside = count_wins(inside, outside) / (2 * m)  # share of the others that each beats
    of_outside = 1 - count_wins(outside, inside) / (2 * n)
    variance = sum(float(part.var(ddof=1)) / len(part) for part in (of_inside, of_outside) if len(part) > 1)
    smallest = min(n, m)

    def effective_n(unseen: float) -> float:
        """With an image in the smaller sample that takes `unseen` off, or adds it."""
        numerator = value * (1 - value) + unseen**2 / smallest
        denominator = variance + unseen**2 / smallest**2
        return numerator / denominator if denominator > 0 else float(smallest)

    n_low, n_high = effective_n(value), effective_n(1 - value)
    parts = (of_inside, of_outside)
    imperfect = min(min((part < 1).sum(), (part > 0).sum()) for part in parts)
    rarer_count = min(value * n_high, (1 - value) * n_low, smallest / 2, imperfect)
    return ProportionEstimate(value, n_low, n_high, float(rarer_count))


def _bounds_of_few(inside: np.ndarray, outside: np.ndarray, rate: float) -> Interval:
    """Bounds of the false positive rate that do not need resamples with errors."""
    from scipy.special import bdtr

    n, m = len(inside), len(outside)
    low, high = (float(bound) for bound in mid_p_bounds(rate * m, m))
    # the number of scores from inside at the true threshold or above is binomial
    number = np.arange(n + 1)
    mid_p = (bdtr(number, n, RECALL) + np.where(number > 0, bdtr(np.maximum(number - 1, 0), n, RECALL), 0.0)) / 2
    fewest, most = int(np.searchsorted(mid_p, TAIL)), int(np.searchsorted(mid_p, 1 - TAIL))
    falling = np.sort(inside)[::-1]
    highest = float((outside >= falling[most]).mean()) if most < n else 1.0  # the threshold may be below all scores
    lowest = float((outside >= falling[fewest - 1]).mean()) if fewest else 0.0
    below = np.hypot(rate - low, rate - min(lowest, rate))
    above = np.hypot(high - rate, max(highest, rate) - rate)
    return rate - float(below), rate + float(above)
