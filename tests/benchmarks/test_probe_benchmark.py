"""benchmarks/probe.py: all sides search the same splits, and the last line is the record."""

import argparse

import pytest

from benchmarks import probe
from benchmarks.probe_cases import CLIP_BENCHMARK, FULL, MODERATE, ProbePlan, compare_last_fits, make_parts, measure
from cosmos_core.world import World

TINY = ProbePlan(train=60, val=60, test=2000, dimensions=16, classes=3, noise=1.0, signal=1)


@pytest.fixture(scope="module")
def measured():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CLIP_BENCHMARK, "epochs", 3)
        return measure(World(), TINY)


def test_all_sides_are_equally_accurate_on_what_is_easy(measured):
    accuracy = measured["accuracy"]
    assert set(accuracy) == {"peer", "ours", "scikit-learn"}
    assert accuracy["ours"] > 0.9  # chance is a third
    assert accuracy["ours"] == pytest.approx(accuracy["scikit-learn"], abs=0.01)
    assert accuracy["peer"] > 0.7  # after three epochs of one batch


def test_all_sides_make_the_same_trials(measured):
    chosen = measured["chosen"]
    assert chosen["peer"]["trials"] == 19
    assert chosen["peer"]["repeated"] >= 4  # the best of each round
    assert chosen["ours"]["trials"] <= 15
    assert chosen["scikit-learn"]["trials"] <= 15


def test_the_last_line_has_the_ratio(measured):
    record = probe.record(measured, TINY, load=0.0)
    seconds = {side: values[0] for side, values in measured["seconds"].items()}
    assert record["name"] == "probe"
    whole = record["ratios"]["probe_whole_command"]
    assert whole == pytest.approx(seconds["peer"] / seconds["ours"], rel=1e-2)
    made = 20 - measured["chosen"]["peer"]["repeated"]  # of 19 fits and the last one
    assert record["ratios"]["probe"] == pytest.approx(whole * made / 20, rel=1e-2)
    assert record["figures"]["classes"] == 3
    assert any("scikit-learn" in line for line in probe.table(measured, TINY))


def test_at_the_full_size_scikit_learn_makes_the_last_fit_only(measured):
    assert (FULL.sklearn_searches, MODERATE.sklearn_searches) == (False, True)
    last_fit = compare_last_fits(make_parts(TINY), strength=0.5)
    ours, peer = last_fit["ours"], last_fit["scikit-learn"]
    # scikit-learn stops at a gradient of 1e-4, above the minimum
    assert 0 <= last_fit["excess"] < 1e-4
    assert last_fit["excess"] == peer["objective"] - ours["objective"]
    assert last_fit["difference"] < 0.02 * last_fit["largest"]
    assert ours["accuracy"] == pytest.approx(peer["accuracy"], abs=0.002)
    full = {**measured, "last_fit": last_fit}
    assert any(line.startswith("| last fit only |") for line in probe.table(full, TINY))
    record = probe.record(full, TINY, load=0.0)
    assert record["ratios"]["probe_scikit_learn_last_fit"] == pytest.approx(peer["seconds"] / ours["seconds"], abs=1e-3)
    assert record["figures"]["last_fit_only"]["ours"]["iterations"] == ours["iterations"]


def test_a_lower_accuracy_is_told():
    assert probe.sides_ahead({"ours": 0.5, "peer": 0.504, "scikit-learn": 0.6}, 10_000) == ["scikit-learn"]
    assert probe.sides_ahead({"ours": 0.5, "peer": 0.51}, 10_000) == ["clip-benchmark"]


def test_sizes_of_the_plans():
    options = argparse.Namespace(
        quick=False, moderate=False, device="cpu", without_sklearn=True, signal=None, noise=None
    )
    plan = probe.plan_of(options)
    assert (plan.train, plan.dimensions, plan.classes, plan.with_sklearn) == (50_000, 512, 1_000, False)
    options.signal, options.noise = 1, 3.0
    assert (probe.plan_of(options).signal, probe.plan_of(options).noise) == (1, 3.0)
    parts = make_parts(TINY)
    assert parts["train"].features.shape == (60, 16)
    assert set(parts["test"].labels.tolist()) == {0, 1, 2}
