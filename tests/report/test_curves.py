"""Curves over a training: what is comparable shares a panel, what is missing is left out, numbers are the lines'."""

from pathlib import Path
from typing import Any

from cosmos_eval.report.curves import curve_figure, curve_frame, curve_table, loss_figure, pairs, training_figure


def line(step: int, value: float, network: str = "teacher", **changes: Any) -> dict[str, Any]:
    metrics = {
        "top1": {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 8},
        "top5": {"value": 1.0, "low": 1.0, "high": 1.0, "n": 8},
    }
    return {
        "step": step, "network": network, "benchmark": "toy", "task": "classification", "primary": "top1",
        "metrics": metrics, "limit": None, "precision": "fp32", "digest": "d" * 64, "fingerprint": "f" * 64,
        "dataset": "e" * 64, "seconds": 1.0, **changes,
    }  # fmt: skip


def rows(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines() if row.startswith("| ")]


def test_the_table_has_steps_as_rows_networks_as_columns_and_the_best_in_bold():
    lines = [line(20, 0.5), line(10, 0.25), line(10, 0.75, "student")]
    assert rows(curve_table(lines)) == [
        ["step", "toy top-1, teacher", "toy top-1, student"],
        ["10", "25.0 [15.0, 35.0]", "**75.0** [65.0, 85.0]"],
        ["20", "**50.0** [40.0, 60.0]", "–"],
    ]


def test_what_was_measured_otherwise_has_a_column_and_a_panel_of_its_own():
    lines = [line(10, 0.25), line(20, 0.5, precision="bf16"), line(30, 0.5, limit=4)]
    heads = rows(curve_table(lines))[0]
    assert heads == [
        "step",
        "toy (ffffffff/eeeeeeee, fp32) top-1",
        "toy (ffffffff/eeeeeeee, bf16) top-1",
        "toy (ffffffff/eeeeeeee, fp32, first 4) top-1",
    ]
    assert [axis.get_title() for axis in curve_figure(lines).axes] == [f"{head}, %" for head in heads[1:]]


def test_a_limit_is_told():
    table = curve_table([line(10, 0.25, limit=4)])
    assert "toy (first 4) top-1" in table
    assert "only a part was measured" in table


def test_the_curve_is_drawn_by_step_with_its_interval():
    (axis,) = curve_figure([line(20, 0.5), line(10, 0.25)]).axes
    (curve,) = axis.lines
    assert curve.get_xydata().tolist() == [[10.0, 25.0], [20.0, 50.0]]
    (band,) = axis.collections
    assert {tuple(point) for point in band.get_paths()[0].vertices.round(6).tolist()} >= {(10.0, 15.0), (20.0, 60.0)}


def test_ranks_are_no_percentages_and_the_lowest_is_the_best():
    ranked = [
        line(
            step,
            0.0,
            task="other",
            primary="mean_rank",
            metrics={"mean_rank": dict.fromkeys(("value", "low", "high"), v)},
        )
        for step, v in ((10, 40.0), (20, 4.0))
    ]
    assert [row[1] for row in rows(curve_table(ranked))[1:]] == ["40.0 [40.0, 40.0]", "**4.0** [4.0, 4.0]"]
    assert curve_figure(ranked).axes[0].lines[0].get_ydata().tolist() == [40.0, 4.0]


def test_the_data_holds_every_metric():
    frame = curve_frame([line(10, 0.25), line(20, 0.5)])
    assert frame["metric"].tolist() == ["top1", "top5"] * 2
    assert frame["headline"].tolist() == [True, False] * 2
    assert frame["value"].tolist() == [0.25, 1.0, 0.5, 1.0]


def test_a_training_s_log_is_drawn_as_far_as_it_goes():
    log = [{"step": 1, "loss": 3.0, "lr": 0.1}, {"step": 2, "loss": None, "lr": 0.2}, {"step": 3, "loss": 1.0}]
    assert pairs(log, "loss") == [(1, 3.0), (3, 1.0)]
    assert [axis.get_title() for axis in training_figure(log).axes] == ["loss", "learning rate"]
    assert training_figure([]).axes[0].lines[:] == []


def test_losses_of_several_trainings_share_an_image_and_absent_logs_are_left_out(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text('{"step": 1, "loss": 3.0}\n{"step": 2, "loss": 2.0}\n{"step": 3, "lo')
    (axis,) = loss_figure({"a": tmp_path / "a.jsonl", "b": tmp_path / "b.jsonl"}).axes
    assert [curve.get_label() for curve in axis.lines] == ["a"]
    assert axis.lines[0].get_xydata().tolist() == [[1.0, 3.0], [2.0, 2.0]]
