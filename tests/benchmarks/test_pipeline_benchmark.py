"""benchmarks/pipeline.py: engine and loader feed the simulated card, and the record has all figures."""

import json
import sys

from benchmarks import pipeline, training_share


def test_all_cards_are_measured_and_the_host_waits_for_each_of_them(monkeypatch, capsys):
    waited = []
    monkeypatch.setattr(pipeline, "BATCH", 2)
    monkeypatch.setattr(training_share, "BATCH", 2)
    monkeypatch.setattr(pipeline.time, "sleep", waited.append)
    monkeypatch.setattr(pipeline, "write_images", lambda count, folder, real=pipeline.write_images: real(6, folder))
    monkeypatch.setattr(sys, "argv", ["pipeline.py", "--quick", "--workers", "0"])
    pipeline.main()
    assert len(waited) == 2 * 3 * 6  # three batches for each card, before and now, in evaluation and training
    assert all(seconds > 0 for seconds in waited)
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert record["name"] == "pipeline"
    halves = {"workers_0": "share", "training_workers_0": "training_share"}
    assert set(record["ratios"]) == {f"{name}_{card}" for name in halves for card in pipeline.CARDS}
    for key in halves.values():
        shares = record["figures"]["workers_0"][key]
        assert all(shares[f"{card}_{arm}"] > 0 for card in pipeline.CARDS for arm in ("before", "now"))
