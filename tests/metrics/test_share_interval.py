"""Intervals of shares: exact where hits stand alone, honest where nothing varies, else the bootstrap."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.interval_coverage import coverage, least_allowed, new_bounds, old_bounds, plain
from cosmos_eval.metrics.areas import PresentAreas, area_evidence
from cosmos_eval.metrics.intervals import intervals, mean_of
from cosmos_eval.metrics.rank_interval import mean_rank_interval, median_rank_interval
from cosmos_eval.metrics.share_interval import UNSEEN, Evidence, evidence_of, mid_p, share_intervals
from cosmos_eval.tasks.common import Measured
from tests.oracles import share_interval as oracle


def found(values, unit=None, **more) -> tuple[float, float]:
    """The interval of a mean, as the tasks make it."""
    values = np.asarray(values, np.float64)
    unit = np.arange(len(values)) if unit is None else np.asarray(unit)
    units = int(unit.max()) + 1
    bootstrap = intervals([mean_of(values, unit, units)], units)
    return share_intervals([evidence_of(values, unit, **more)], bootstrap)[0]


def hits(of: int, n: int) -> np.ndarray:
    return (np.arange(n) < of).astype(np.float64)


@pytest.mark.parametrize("n", [1, 2, 6, 10, 23])
def test_mid_p_is_that_of_binomial_sums(n):
    low, high = mid_p(np.arange(n + 1), n)
    assert low == pytest.approx([oracle.lower(k, n) for k in range(n + 1)], abs=1e-9)
    assert high == pytest.approx([1 - oracle.lower(n - k, n) for k in range(n + 1)], abs=1e-9)


def test_six_of_six_leave_room_for_one_in_three_to_be_wrong():
    # p ** 6 / 2 = 0.025
    assert found(np.ones(6)) == (pytest.approx(0.05 ** (1 / 6)), 1.0)
    assert found(np.zeros(6)) == (0.0, pytest.approx(1 - 0.05 ** (1 / 6)))


@given(st.floats(0, 1), st.floats(0, 1), st.floats(1, 1e6), st.floats(1, 4))
@settings(max_examples=80, deadline=None)
def test_mid_p_rises_with_hits_narrows_with_n_and_is_the_same_for_misses(share, other, n, more):
    first, second = sorted((share, other))
    low, high = mid_p(np.array([first, second]) * n, n)
    assert (low >= 0).all()
    assert (high <= 1).all()
    assert (low < high).all(), "no interval without width"
    assert low[0] <= low[1] + 1e-9
    assert high[0] <= high[1] + 1e-9
    misses = mid_p(n - first * n, n)
    assert (1 - misses[1], 1 - misses[0]) == (pytest.approx(low[0], abs=1e-9), pytest.approx(high[0], abs=1e-9))
    narrower = mid_p(first * n * more, n * more)
    assert narrower[1] - narrower[0] <= high[0] - low[0] + 1e-9


@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 40))
@settings(max_examples=30, deadline=None)
def test_whatever_the_outcomes_the_interval_holds_the_share_and_mirrors_that_of_misses(seed, units, samples):
    rng = np.random.default_rng(seed)
    values, unit = rng.choice([0.0, 0.0, 0.25, 1 / 3, 0.5, 1.0], samples), rng.integers(0, units, samples)
    classes = rng.integers(0, 3, samples)
    for more in ({}, {"classes": classes}, {"weights": rng.random(samples) + 0.01}):
        evidence, other = evidence_of(values, unit, **more), evidence_of(1 - values, unit, **more)
        assert other.value == pytest.approx(1 - evidence.value)
        assert (other.n_low, other.n_high) == (pytest.approx(evidence.n_high), pytest.approx(evidence.n_low))
        assert other.seen == pytest.approx(evidence.seen)
        ((low, high),) = share_intervals([evidence], [(evidence.value, evidence.value)])
        assert 0 <= low <= evidence.value <= high <= 1
        assert low < high
        ((mirrored, _),) = share_intervals([other], [(other.value, other.value)])
        assert mirrored == pytest.approx(1 - high, abs=1e-9)


@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_the_effective_n_is_the_one_written_out(seed, units, samples):
    rng = np.random.default_rng(seed)
    values, unit = rng.choice([0.0, 0.5, 1.0], samples), rng.integers(0, units, samples)
    evidence = evidence_of(values, unit)
    assert evidence.n_high == pytest.approx(oracle.effective_n(values.tolist(), unit.tolist(), UNSEEN, 1.0), rel=1e-6)
    assert evidence.n_low == pytest.approx(oracle.effective_n(values.tolist(), unit.tolist(), UNSEEN, 0.0), rel=1e-6)


@pytest.mark.parametrize(("of", "n"), [(0, 7), (3, 10), (15, 100), (25, 50), (980, 1000)])
def test_hits_that_stand_alone_have_their_own_n(of, n):
    evidence = evidence_of(hits(of, n), np.arange(n))
    assert (evidence.n_low, evidence.n_high) == (pytest.approx(n), pytest.approx(n))
    assert evidence.seen == min(of, n - of)


def test_twenty_hits_and_twenty_misses_keep_the_bootstrap_to_the_digit():
    for of in (20, 50, 80):
        ((low, high),) = intervals([mean_of(hits(of, 100), np.arange(100), 100)], 100)
        assert found(hits(of, 100)) == (low, high)
    captions = np.random.default_rng(0).random((200, 5)) < 0.1
    ((low, high),) = intervals([mean_of(captions.ravel(), np.arange(1000) // 5, 200)], 200)
    assert found(captions.ravel(), np.arange(1000) // 5) == (low, high)


def test_between_the_two_the_bounds_make_no_step():
    bounds = [new_bounds(1000)[1][k] for k in range(8, 24)]
    steps = np.diff(bounds) * 1000
    assert steps.min() > 0.5
    assert steps.max() < 2.1  # one more hit, two hits more: the bootstrap counts whole ones


def test_the_method_says_which():
    by_hits = [evidence_of(hits(of, 100), np.arange(100)).method for of in (0, 10, 11, 19, 20, 81, 95)]
    mixed = "mid-p and bootstrap"
    assert by_hits == ["mid-p", "mid-p", mixed, mixed, "bootstrap", mixed, "mid-p"]


def test_captions_that_go_together_are_one_and_captions_that_do_not_are_many():
    together = np.repeat(hits(5, 50), 5)
    assert found(together, np.arange(250) // 5) == pytest.approx(found(hits(5, 50)))
    apart = evidence_of(np.random.default_rng(0).random(5000) < 0.3, np.arange(5000) // 5)
    assert apart.n_low == pytest.approx(5000, rel=0.1)
    assert apart.n_high == pytest.approx(5000, rel=0.1)


def test_outcomes_that_are_all_alike_have_width_and_more_of_them_less():
    widths = [np.diff(found(np.full(n, 0.5)))[0] for n in (5, 20, 1000)]
    assert 0.4 > widths[0] > widths[1] > 0.05 > widths[2] > 0
    # a thousand ties of a thousand candidates: as good as certain downwards, but three in a thousand may be hits
    low, high = found(np.full(1000, 0.001))
    assert low == pytest.approx(0.001, rel=0.01)
    assert 0.002 < high < 0.005


def test_classes_that_never_and_always_fail_still_may_not():
    labels = np.repeat([0, 1], 10)
    low, high = found(labels.astype(float), classes=labels)
    assert low < 0.42
    assert high > 0.58
    # one image a class: the classes are taken together
    alone = evidence_of(hits(6, 6), np.arange(6), classes=np.arange(6))
    assert (alone.n_low, alone.value) == (pytest.approx(6), 1)
    # a hundred more images of one class tell nothing of the other, of which one image was right
    one_right = evidence_of(np.ones(101), np.arange(101), classes=np.r_[np.zeros(100, int), 1])
    assert one_right.n_low == pytest.approx(1 / (0.25 + 0.25 / 100))


def test_a_bad_request_is_refused():
    for values, more in (([], {}), ([1.5], {}), ([np.nan], {}), ([1.0], {"weights": np.zeros(1)}),
                         ([1.0], {"classes": np.zeros(2, int)})):  # fmt: skip
        with pytest.raises(ValueError):
            evidence_of(np.array(values), np.arange(len(values)), **more)
    for k, n in ((1, 0), (-1, 3), (4, 3)):
        with pytest.raises(ValueError, match="n must be above 0"):
            mid_p(k, n)


@pytest.mark.parametrize("n", [10, 20, 50, 100, 1000, 5000])
def test_coverage_is_as_claimed_at_every_share(n):
    """Summed binomial probabilities: no noise. The least is looked for beside every bound, where it must be."""
    one = plain(n)
    assert 0.93 <= one.means[1] <= 0.98
    assert one.worst[0] >= least_allowed(n)
    assert one.worst[0] > 0.91
    assert one.worst_old[0] < 0.01, "the bootstrap alone falls to nothing at the edges"
    assert one.holds


def test_coverage_is_the_sum_over_hits():
    low, high = old_bounds(3)
    assert low.tolist() == [0, 0, 0, 1]
    assert high.tolist() == [0, 1, 1, 1]
    assert coverage(3, (low, high), np.array([0.25])) == pytest.approx([1 - 0.75**3 - 0.25**3])


def areas(inside, union, classes=1) -> PresentAreas:
    """One class an image in turn."""
    inside, union = np.asarray(inside), np.asarray(union)
    image = np.arange(len(inside))
    return PresentAreas(image, image % classes, np.stack([inside, inside, union], axis=1), classes)


def test_iou_counts_images_by_their_area():
    right = area_evidence(areas([100] * 6, [100] * 6), "miou")
    assert (right.value, right.n_low) == (1, pytest.approx(6))
    one_large = area_evidence(areas([1000, 10, 10], [1000, 10, 10]), "miou")
    assert one_large.n_low == pytest.approx(1020**2 / (1000**2 + 2 * 10**2))
    evidence = area_evidence(areas([50, 10], [100, 100], classes=2), "miou")
    assert evidence.value == pytest.approx((0.5 + 0.1) / 2)
    assert area_evidence(areas([50, 10], [100, 100], classes=2), "miou", 1).value == pytest.approx(0.1)


@pytest.mark.parametrize("metric", ["miou", "pixel_accuracy", "mean_accuracy"])
def test_areas_give_the_metric_itself(metric):
    from cosmos_eval.metrics.areas import summary
    from tests.metrics.test_paired_areas import entries as entries_of
    from tests.metrics.test_paired_areas import made

    entries = entries_of(made(0, 30, 4, 0.5))
    assert area_evidence(entries, metric).value == pytest.approx(summary(entries.total())[metric])


def test_ranks_of_few_images_are_not_known_exactly():
    ones, own = np.ones(4), np.arange(4)
    low, high, method = mean_rank_interval(ones, own, 50.5, (1.0, 1.0))
    # the share of images unlike four: 1 - 0.025 ** (1 / 4) = 0.602, placed by chance
    assert (low, method) == (1, "bootstrap, units unseen")
    assert high == pytest.approx(1 + (1 - 0.025**0.25) * 49.5)
    assert median_rank_interval(ones, own, 100, (1.0, 1.0)) == (1, 100, "every rank")
    assert median_rank_interval(np.ones(6), np.arange(6), 100, (1.0, 1.0)) == (1, 1, "order statistics")
    many = np.arange(1, 101.0)
    assert mean_rank_interval(many, np.arange(100), 50.5, (45.0, 56.0)) == (45, 56, "bootstrap")
    assert median_rank_interval(many, np.arange(100), 100, (41.0, 60.0)) == (41, 60, "bootstrap")


def test_the_median_of_ten_lies_between_the_second_and_the_ninth():
    ranks = np.arange(1, 11.0)
    low, high, _ = median_rank_interval(ranks, np.arange(10), 100, (4.0, 7.0))
    assert (low, high) == (2, 9)  # the sign test: 1 and 9 of 10 have 0.1 % + 1 % to each side; 2 and 8 have 5.5 %


def test_all_metrics_of_a_run_have_a_method_and_hold_their_value():
    measured = Measured(8)
    values, labels = hits(7, 8), np.arange(8) % 3
    measured.mean("top1", values, np.arange(8))
    measured.mean_per_class("mean_per_class", values, labels, np.arange(8))
    measured.mean_rank("a_mean_rank", 1 + np.arange(8.0), np.arange(8), 50.5)
    measured.median_rank("a_median_rank", 1 + np.arange(8.0), np.arange(8), 100)
    for metric in measured.metrics(seed=0).values():
        assert metric.low < metric.value < metric.high
        assert metric.method
    assert Evidence(0.5, 10.0, 10.0, 15.0).weight == 0.5
