"""benchmarks/interval_coverage.py: simulations have the given rate, and the page shows the results."""

import json
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import interval_coverage as script
from benchmarks.interval_simulations import SIMULATIONS
from tests.oracles.bootstrap import resampled


@pytest.mark.parametrize("simulation", SIMULATIONS, ids=lambda simulation: simulation.name)
def test_samples_have_the_given_rate(simulation):
    resamples = np.ones((1, 200))  # one resample, which equals the sample
    for rate in (0.05, 0.6):
        evidence, resampled_rates = simulation.measure(np.random.default_rng(0), 200, rate, 60, resamples)
        values = np.array([item.value for item in evidence])
        assert values.mean() == pytest.approx(rate, abs=4 * values.std() / 60**0.5)
        assert resampled_rates[0] == pytest.approx(values), "the evidence is of the rate that is resampled"


def test_a_row_that_misses_the_requirement_is_marked():
    row = script.CoverageRow("w", 100, (0.1, 0.5), (0.5, 0.9), (0.95, 0.85), (0.9, 0.95), 1.0)
    assert not row.holds
    assert "85.0** (50 %) (!)" in script.table([row])
    failed = replace(row, rates=script.SHOWN, old=(0.5,) * 5, new=(0.85,) * 5)
    assert "Requirements are not met in 1 of 1 rows" in " ".join(script.text_of([failed], []).split())
    assert replace(row, n=50).holds, "83 % below a hundred"
    assert not replace(row, n=50, means=(0.9, 0.985)).holds
    assert replace(row, is_checked=False).holds
    assert replace(row, trials=50).holds, "within three standard errors of fifty samples"


def test_the_script_writes_its_page_and_one_line_of_json(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(script, "SIZES", (10, 20))
    monkeypatch.setattr(script, "SIMULATED_SIZES", (0, 0, 12))
    monkeypatch.setattr(script, "RATES", (0.25, 0.5))
    monkeypatch.setattr(script, "EDGES", ())
    monkeypatch.setattr(script, "SIMULATIONS", (SIMULATIONS[0], SIMULATIONS[-1]))
    monkeypatch.setattr(script, "RESAMPLES", 50)
    script.main(["--quick", "--out", str(tmp_path)])
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {"name", "ratios", "figures", "environment"} <= record.keys()
    assert len(record["figures"]["rows"]) == 4
    text = (tmp_path / "intervals.md").read_text()
    assert "Made by `python -m benchmarks.interval_coverage --quick --out results`" in text
    assert all(f"## {simulation.name}" in text for simulation in (SIMULATIONS[0], SIMULATIONS[-1]))
    assert max(map(len, text.splitlines())) <= 200
    lines = (tmp_path / "intervals.csv").read_text().splitlines()
    assert lines[0] == "simulation,n,rate,bootstrap,new,samples"
    assert len(lines) > 10


def test_the_limit_of_many_resamples_is_what_resampling_gives():
    n, hits = 40, 12
    values = (np.arange(n) < hits).astype(float)
    rates = resampled(lambda drawn: float(values[drawn].mean()), np.arange(n), n, 1500, 0)
    low, high = (bound[hits] for bound in script.bootstrap_bounds(n))
    assert np.quantile(rates, [0.025, 0.975]) == pytest.approx([low, high], abs=1 / n)
