"""A short version of benchmarks/studies/regress_calibration.py: the test keeps its level and has the claimed power."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.studies import regress_calibration as calibration
from benchmarks.studies import regress_search
from benchmarks.studies.regress_search import search
from benchmarks.studies.regress_simulations import (
    SEGMENTATIONS,
    SIMULATIONS,
    captions,
    classes,
    independent,
    rare_wins,
    unequal,
)
from cosmos_eval.metrics.detectable_drop import detection_power, measure_power_inputs
from cosmos_eval.metrics.exponential_sums import probability_at_most_zero
from cosmos_eval.metrics.paired_drop import drop_p_value
from cosmos_eval.metrics.paired_iou import bootstrap_iou_drop

TRIALS = 300
ERROR = 3 * math.sqrt(0.05 * 0.95 / TRIALS)
QUICK = [simulation for simulation in SIMULATIONS if simulation.units <= 400]


@pytest.mark.parametrize("simulation", QUICK, ids=lambda item: f"{item.name}, {item.units}, {100 * item.max_drop:g}")
def test_false_alarms_at_the_boundary_are_at_most_alpha(simulation):
    rng = np.random.default_rng(0)
    p = [
        drop_p_value(simulation.samples(rng, simulation.max_drop).differences(), simulation.max_drop)
        for _ in range(TRIALS)
    ]
    assert np.mean(np.array(p) <= 0.05) <= 0.05 + ERROR


def test_other_tests_raise_false_alarms_if_wins_are_rare_or_captions_correlated():
    by_name = {(simulation.name, simulation.units): simulation for simulation in SIMULATIONS}
    rng = np.random.default_rng(0)
    for key, test in ((("rare wins, all others lose a little", 40), 0), (("5 captions per image", 100), 2)):
        simulation = by_name[key]
        p = [
            calibration.other_tests(simulation.samples(rng, simulation.max_drop), simulation.max_drop, rng)[test]
            for _ in range(200)
        ]
        assert np.mean(np.array(p) <= 0.05) > 0.1


@pytest.mark.parametrize("draw", [independent(0.05), captions(0.1), captions(0.1, fractions=True), unequal(0.05),
                                  rare_wins(0.05), classes(0.05)])  # fmt: skip
def test_simulations_have_the_given_drop(draw):
    rng = np.random.default_rng(0)
    drops = [draw(rng, 3000, 0.03).differences().drop for _ in range(20)]
    assert np.mean(drops) == pytest.approx(0.03, abs=4 * np.std(drops) / math.sqrt(20) + 1e-4)


def test_a_drop_of_the_detectable_size_is_detected_as_often_as_claimed():
    simulation = next(item for item in SIMULATIONS if (item.name, item.units) == ("5 captions per image", 100))
    rng = np.random.default_rng(1)
    claimed = detection_power(measure_power_inputs(simulation.samples(rng, 0.11).differences()), 0.11, 0.0, 0.05)
    detected = np.mean([drop_p_value(simulation.samples(rng, 0.11).differences()) <= 0.05 for _ in range(TRIALS)])
    assert claimed > 0.7
    assert detected >= 0.8 - 3 * math.sqrt(0.8 * 0.2 / TRIALS)


@pytest.mark.parametrize("scenes", [SEGMENTATIONS[1], SEGMENTATIONS[4]], ids=lambda scenes: scenes.name)
def test_false_alarms_of_mean_ious_are_at_most_alpha(scenes):
    rng = np.random.default_rng(0)
    max_drop = scenes.true_drop(scenes.candidate)
    p = []
    for seed in range(100):
        both = [calibration.entries(areas) for areas in scenes.areas(rng, scenes.images, scenes.candidate)]
        p.append(bootstrap_iou_drop(*both, scenes.images, resamples=200, seed=seed).p_value(max_drop))
    assert np.mean(np.array(p) <= 0.05) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 100)


def test_the_script_writes_its_page_and_one_line_of_json(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(calibration, "SIMULATIONS", SIMULATIONS[:1])
    monkeypatch.setattr(
        calibration, "SEGMENTATIONS", [replace(SEGMENTATIONS[0], images=6, truth={1.0: 0.0, 0.7: 0.05})]
    )
    monkeypatch.setattr(calibration, "SUITE", 2)
    monkeypatch.setattr(calibration, "measure_suite", lambda trials, seed: calibration.CalibrationRow(
        "any", 9, 0.0, trials, 0.04, {"no correction": 0.1}, math.inf, math.nan))  # fmt: skip
    monkeypatch.setattr(SEGMENTATIONS[0].__class__, "with_drop", lambda self, drop: self)
    calibration.main(["--trials", "4", "--out", str(tmp_path)])
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {"name", "ratios", "figures", "environment"} <= record.keys()
    assert record["figures"]["simulations"] == 2
    text = (tmp_path / "regress.md").read_text()
    assert "python -m benchmarks.studies.regress_calibration --trials 4 --out results" in text
    assert text.count("independent, 0 or 1") >= 1


def test_no_small_case_raises_more_false_alarms_than_its_level():
    result = search(25, seed=3)
    assert result.distributions > 1000
    assert result.worst > 0.5
    assert result.holds


def test_the_search_finds_a_test_that_does_not_keep_its_level(monkeypatch):
    # without the unseen unit, a sample of only small losses would be a certain drop
    def observed_only(values, counts):
        return probability_at_most_zero(values[:, :-1], counts[:, :-1])

    monkeypatch.setattr(regress_search, "probability_at_most_zero", observed_only)
    with np.errstate(divide="ignore"):
        assert search(25, seed=3).worst > 2


def test_outcomes_have_multinomial_probabilities():
    outcomes = regress_search.all_outcomes(3, 2)
    assert outcomes.tolist() == [[3, 0], [2, 1], [1, 2], [0, 3]]
    assert regress_search.probabilities(outcomes, np.array([0.25, 0.75])) == pytest.approx(
        [1 / 64, 9 / 64, 27 / 64, 27 / 64]
    )
    probability = regress_search.mean_zero(np.array([-0.5, 0.2, 1.0]), np.random.default_rng(0))
    assert probability @ np.array([-0.5, 0.2, 1.0]) == pytest.approx(0)
    assert probability.sum() == pytest.approx(1)


def test_a_row_that_is_not_as_claimed_is_marked():
    row = calibration.CalibrationRow("w", 10, 0.0, 1000, 0.08, dict.fromkeys(calibration.OTHER_TESTS, 0.1), 0.1, 0.9)
    assert not row.holds
    assert "(!)" in calibration.table([row])
    assert "Not as claimed in 1 of 1" in calibration.verdict([row])
    assert replace(row, false_alarms=0.05, power=0.79).holds
    assert not replace(row, false_alarms=0.05, power=0.7).holds
