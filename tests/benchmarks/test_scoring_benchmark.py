"""benchmarks/scoring.py: both sides give the same recall, and the table and the record have the figures."""

import json

import pytest

from benchmarks import scoring
from cosmos_core.world import World

PLAN = scoring.ScoringPlan(images=70, repetitions=2, width=16)  # more than one batch of the peer, the last one short


@pytest.fixture(scope="module")
def measured():
    return scoring.measure(World(0, 1, 0), PLAN)


def test_both_sides_give_the_same_recall_which_is_neither_0_nor_1(measured):
    assert measured["largest_difference"] < 1e-6
    assert all(0 < value < 1 for value in measured["recall"].values())
    assert len(measured["recall"]) == 6


def test_sides_with_different_recall_are_not_compared(monkeypatch, capsys):
    monkeypatch.setattr(
        scoring, "run_in_processes", lambda sizes, work, *rest, threads: {1: {"largest_difference": 0.01}}
    )
    assert scoring.main(["--quick"]) == 1
    assert "differs by 0.01" in capsys.readouterr().err


def test_the_record_and_the_table_have_the_measured_figures(measured):
    measured = {**measured, "seconds": {"peer": [4.0, 6.0], "ours": [1.0, 2.0]}}
    peaks = {"peer": 30 * 2**20, "ours": 2 * 2**20}
    record = json.loads(json.dumps(scoring.record(measured, peaks, PLAN, load=0.5)))
    assert record["ratios"] == {"time": 3.5, "memory": 15.0}
    assert record["figures"]["peer_seconds"] == 5.0
    text = "\n".join(scoring.table(measured, peaks, PLAN))
    assert "| seconds | 5.00 | 1.50 | 3.50 [3.25, 3.75] |" in text
    assert "| MiB above the embeddings | 30 | 2 | 15.0 |" in text
