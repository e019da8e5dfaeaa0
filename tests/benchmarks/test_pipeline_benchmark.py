"""benchmarks/pipeline.py: the engine encodes everything on the simulated card, and the record has all figures."""

import json
import sys

from benchmarks import pipeline


def test_all_cards_are_measured_and_the_host_waits_for_each_of_them(monkeypatch, capsys):
    waited = []
    monkeypatch.setattr(pipeline, "BATCH", 2)
    monkeypatch.setattr(pipeline.time, "sleep", waited.append)
    monkeypatch.setattr(
        pipeline, "measure", lambda count, repetitions, workers, real=pipeline.measure: real(6, 1, workers)
    )
    monkeypatch.setattr(sys, "argv", ["pipeline.py", "--quick", "--workers", "0"])
    pipeline.main()
    assert len(waited) == 3 * 6  # three batches for each card, before and now
    assert all(seconds > 0 for seconds in waited)
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert record["name"] == "pipeline"
    assert set(record["ratios"]) == {f"workers_0_{card}" for card in pipeline.CARDS}
    shares = record["figures"]["workers_0"]["share"]
    assert all(shares[f"{card}_{arm}"] > 0 for card in pipeline.CARDS for arm in ("before", "now"))
