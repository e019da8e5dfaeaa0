import json

import pytest

from benchmarks import scoring
from cosmos_core.world import World

PLAN = scoring.ScoringPlan(images=70, repetitions=2, width=16)  # more than one batch of the peer, the last one short


@pytest.fixture(scope="module")
def found():
    return scoring.measure(World(0, 1, 0), PLAN)


def test_both_sides_give_the_same_recall_and_it_is_neither_nothing_nor_everything(found):
    assert found["apart"] < 1e-6
    assert all(0 < value < 1 for value in found["recall"].values())
    assert len(found["recall"]) == 6


def test_a_side_that_counts_otherwise_is_not_timed(monkeypatch, capsys):
    monkeypatch.setattr(scoring, "run_in_processes", lambda sizes, work, *rest, threads: {1: {"apart": 0.01}})
    assert scoring.main(["--quick"]) == 1
    assert "differs by 0.01" in capsys.readouterr().err


def test_the_record_and_the_table_hold_what_was_measured(found):
    found = {**found, "seconds": {"peer": [4.0, 6.0], "ours": [1.0, 2.0]}}
    peaks = {"peer": 30 * 2**20, "ours": 2 * 2**20}
    record = json.loads(json.dumps(scoring.record(found, peaks, PLAN, load=0.5)))
    assert record["ratios"] == {"time": 3.5, "memory": 15.0}
    assert record["figures"]["peer_seconds"] == 5.0
    text = "\n".join(scoring.table(found, peaks, PLAN))
    assert "| seconds | 5.00 | 1.50 | 3.50 [3.25, 3.75] |" in text
    assert "| MiB above the embeddings | 30 | 2 | 15.0 |" in text
