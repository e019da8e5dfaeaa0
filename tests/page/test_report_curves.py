"""Curves of the HTML report: checkpoints of a training, a panel for what can be compared, thinned where long."""

import json

import pytest

from cosmos_eval.page.assembly import embedded
from cosmos_eval.page.curves import POINTS, curve_data, thinned
from cosmos_eval.page.report import write_report
from tests.helpers.report_folder import data_of, fingerprint_of, one, write


@pytest.fixture(autouse=True)
def shipped(monkeypatch):
    monkeypatch.setattr("cosmos_eval.page.geometry.shipped_fingerprint", fingerprint_of)


def checkpoints(folder, *names: str) -> None:
    """Results as evaluations during a training leave them."""
    for name in names:
        write(folder, one("cosmos:in-memory", "flowers", 0.5), f"evaluations/{name}/model")


def test_checkpoints_of_a_training_are_curves_and_not_rows_where_other_results_stand(tmp_path):
    checkpoints(tmp_path, "step-00000100-teacher", "step-00000200-teacher", "step-00000200-student")
    labels = {model["label"] for model in data_of(write_report(tmp_path).path)["models"]}
    assert labels == {"teacher, step 200", "student, step 200"}
    write(tmp_path, one("other", "flowers", 0.5))
    assert [model["label"] for model in data_of(write_report(tmp_path).path)["models"]] == ["other"]


def evaluation(step: int, /, **changes) -> dict:
    line = {
        "step": step, "network": "teacher", "benchmark": "flowers", "task": "classification", "primary": "top1",
        "metrics": {"top1": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 10}}, "limit": None, "precision": "fp32",
        "digest": "d", "fingerprint": "e" * 64, "dataset": "b" * 64, "seconds": 1.5,
    }  # fmt: skip
    return {**line, **changes}


def curves(folder, *lines: dict):
    (folder / "evaluations.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return curve_data(folder)


def test_another_protocol_or_a_limit_has_a_panel_of_its_own(tmp_path):
    lines = [evaluation(1), evaluation(2), evaluation(2, network="student"), evaluation(3, limit=5)]
    panels, remarks = curves(tmp_path, *lines, evaluation(4, fingerprint="f" * 64))
    assert remarks == []
    assert len({panel["title"] for panel in panels}) == 3
    assert [series["name"] for series in panels[0]["series"]] == ["teacher", "student"]
    assert panels[0]["series"][0]["points"] == [[1, 0.5, 0.4, 0.6, 10, "d", 1.5], [2, 0.5, 0.4, 0.6, 10, "d", 1.5]]


@pytest.mark.parametrize(
    "broken",
    [
        {"digest": 3},
        {"step": "1"},
        {"network": None},
        {"limit": "all"},
        {"metrics": {"top1": {"value": float("nan"), "low": 0.1, "high": 0.2, "n": 1}}},
        {"metrics": {"top1": {"value": 0.5}}},
        {"task": []},
        {"seconds": float("inf")},
    ],
)
def test_a_line_that_lacks_what_a_curve_shows_is_left_out(tmp_path, broken):
    panels, _ = curves(tmp_path, evaluation(1), evaluation(2, **broken))
    assert [point[0] for panel in panels for series in panel["series"] for point in series["points"]] == [1]
    embedded(panels)


def test_a_long_curve_is_thinned_and_the_page_says_so(tmp_path):
    panels, remarks = curves(tmp_path, *(evaluation(step) for step in range(1000)))
    steps = [point[0] for point in panels[0]["series"][0]["points"]]
    assert len(steps) == POINTS
    assert (steps[0], steps[-1]) == (0, 999)
    assert remarks == [f"flowers top-1, teacher: {POINTS} of 1,000 points are drawn"]
    assert thinned([1, 2, 3], 2) == [1, 3]
