"""Published averages: of all benchmarks or none, with the interval of a leaderboard's, and each verdict."""

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest

from cosmos_eval.protocol.benchmark import Benchmark, read_suite
from cosmos_eval.published.figures import published
from cosmos_eval.published.plan import commands
from cosmos_eval.published.reproduce import reproduce
from cosmos_eval.published.tables import as_json, markdown
from cosmos_eval.published.targets import (
    MISSED,
    NOT_RUN,
    REPRODUCED,
    WITHIN,
    AverageTarget,
    Cell,
    Reproduction,
)
from cosmos_eval.report.board import make_board
from cosmos_eval.report.board_columns import AVERAGE
from cosmos_eval.report.cells import average_lines
from cosmos_eval.report.exchange_open_clip import MEAN_OF
from cosmos_eval.results import store
from cosmos_eval.results.record import Result
from cosmos_eval.results.sections import BenchmarkSection
from cosmos_eval.results.store import read_results
from cosmos_eval.tasks.outcome import Metric
from tests.helpers.average_results import write_result
from tests.results.test_results import make_result

OF_TABLE = "open_clip:ViT-B-16-SigLIP/webli"
MODEL = "open_clip:ViT-B-16/openai"
"""Whose average NACLIP prints."""


def result(benchmark: Benchmark, spec: str, metrics: dict[str, float], **changes) -> Result:
    """A result in float32, without samples."""
    base = make_result()
    about = {"model": replace(base.model, spec=spec, digest="c" * 64), **changes}
    return make_result(
        benchmark=BenchmarkSection(benchmark.name, benchmark.version, benchmark.task, benchmark.fingerprint),
        metrics={name: Metric(value, value - 0.01, value + 0.01, 5000) for name, value in metrics.items()},
        primary=next(iter(metrics)),
        **about,
    )


def average_cell(reproduction: Reproduction) -> Cell:
    (cell,) = [cell for cell in reproduction.cells if isinstance(cell.target, AverageTarget)]
    return cell


def test_the_printed_columns_of_open_clips_table_have_its_printed_average():
    suite = read_suite("datacomp-38")
    benchmarks = {benchmark.name: benchmark for benchmark in suite.benchmarks}
    frame = published()
    frame = frame[(frame["spec"] == OF_TABLE) & frame["paper"].str.startswith("open_clip 38")]
    results = [
        result(benchmarks[row["benchmark"]], OF_TABLE, dict.fromkeys(row["metric"].split(MEAN_OF), row["value"]))
        for row in frame.to_dict("records")
        if row["benchmark"] in benchmarks
    ]
    cell = average_cell(reproduce("datacomp-38", results, models=[OF_TABLE]))
    assert (cell.target.metric, cell.target.printed, len(cell.target.benchmarks)) == (AVERAGE, "62.32", 38)
    (measured,) = cell.measured
    assert abs(measured.difference) <= Decimal("0.01")
    assert cell.verdict in (REPRODUCED, WITHIN)
    # without samples the bounds are as if all benchmarks erred together
    assert (measured.value - measured.low, measured.high - measured.value) == pytest.approx((0.01, 0.01))
    assert any("erred together" in note for note in measured.notes)
    assert cell.target.decides
    assert Decimal("0.1") < cell.target.tolerance < Decimal("0.3")  # most of the 38 grant 0.1 points


@pytest.fixture
def own_suite(tmp_path):
    """NACLIP's printed average, said to be of three benchmarks, the first with twice the weight."""
    for name in ("first", "second", "third"):
        known = "published: [{points: 0.4, why: because}]\n" if name == "first" else ""
        (tmp_path / f"{name}.yaml").write_text(f"name: {name}\nbase: toybox-classification\n{known}")
    text = (
        "benchmarks: [first, second, third]\npublished: [NACLIP]\naverages:\n  - name: all\n"
        "    benchmarks: [first, second, third]\n    weights: {first: 2}\n"
        "    printed: [{paper: NACLIP, column: Segmentation mean of 8 benchmarks}]\n"
    )
    (tmp_path / "mine.yaml").write_text(text)
    return str(tmp_path / "mine.yaml")


def results_of(own_suite: str, values=(0.43, 0.42, 0.4184), **changes) -> list[Result]:
    """Of values whose weighted mean is 42.46 %, which NACLIP prints."""
    benchmarks = read_suite(own_suite).benchmarks
    return [result(one, MODEL, {"top1": value}, **changes) for one, value in zip(benchmarks, values, strict=True)]


@pytest.mark.parametrize(("off", "verdict"), [(0, REPRODUCED), (0.2, WITHIN), (0.21, MISSED), (-0.21, MISSED)])
def test_the_tolerance_is_the_rounding_and_the_mean_of_the_known_differences(own_suite, off, verdict):
    """0.005 points of rounding, and 0.4 points of the first benchmark, which is half of the average."""
    shifted = [value + off / 100 for value in (0.43, 0.42, 0.4184)]
    cell = average_cell(reproduce(own_suite, results_of(own_suite, shifted)))
    assert cell.target.tolerance == Decimal("0.205")
    assert cell.measured[0].value == pytest.approx(0.4246 + off / 100)
    assert cell.verdict == verdict


def test_there_is_no_average_of_a_part_and_the_row_names_what_is_missing(own_suite):
    first, second, third = results_of(own_suite)
    other = replace(second, model=replace(second.model, digest="d" * 64))  # of other weights with the same name
    limited = replace(third, limit=10)
    reproduction = reproduce(own_suite, [first, other, limited])
    cell = average_cell(reproduction)
    assert (cell.verdict, cell.measured) == (NOT_RUN, ())
    assert [line.partition(": ")[2] for line in cell.incomplete] == [
        "no average, since 2 of 3 benchmarks were not measured: second, third",
        "no average, since 2 of 3 benchmarks were not measured: first, third",
    ]
    assert any("--limit 10" in line for line in cell.refused)
    (row,) = [line for line in markdown(reproduction, "runs").splitlines() if line.startswith(f"| {MODEL} | all")]
    assert "not run" in row
    assert "2 of 3 benchmarks" in row
    assert '"incomplete": [' in as_json(reproduction, "runs")
    (run,) = [line for line in commands(reproduction, "runs") if " run " in line]
    assert "--benchmark second --benchmark third" in run
    of_other = replace(third, model=other.model)  # all were measured, but none of the weights on all
    assert average_cell(reproduce(own_suite, [first, other, of_other])).missing == ("first",)


def test_float32_decides_and_half_precision_stands_alone_only(own_suite):
    full, half = results_of(own_suite), results_of(own_suite, precision="bf16")
    both = average_cell(reproduce(own_suite, [*half, *full]))
    assert [(one.precision, one.decides) for one in both.measured] == [("fp32", True), ("bf16", False)]
    assert [one.decides for one in average_cell(reproduce(own_suite, half)).measured] == [True]
    mixed = average_cell(reproduce(own_suite, [*half[:1], *full[1:]]))
    assert (mixed.verdict, len(mixed.incomplete), mixed.missing) == (NOT_RUN, 2, ("first",))


def test_the_interval_is_that_of_the_leaderboard_with_its_weights(own_suite, tmp_path):
    rng = np.random.default_rng(0)
    correct = rng.random(300) < 0.7
    names = [f"{i:064d}" for i in range(300)]
    fingerprints = {benchmark.name: benchmark.fingerprint for benchmark in read_suite(own_suite).benchmarks}
    for name, n in (("first", 300), ("second", 200), ("third", 200)):
        write_result(tmp_path / "runs", name, correct[:n], names[:n])
    for one in read_results(tmp_path / "runs"):  # as those of MODEL, with their samples
        benchmark = replace(one.benchmark, fingerprint=fingerprints[one.benchmark.name])
        assert one.folder is not None
        store.write_result(one.folder, replace(one, model=replace(one.model, spec=MODEL), benchmark=benchmark))
    results = read_results(tmp_path / "runs")
    cell = average_cell(reproduce(own_suite, results))
    (measured,) = cell.measured
    assert measured.value == pytest.approx((2 * correct.mean() + 2 * correct[:200].mean()) / 4)
    board = make_board(results, suite=read_suite(own_suite))
    (column,) = board.columns.index[board.columns["kind"] == "average"]
    (shown,) = board.cells[board.cells["column"] == column].to_dict("records")
    assert (measured.value, measured.low, measured.high) == pytest.approx((shown["value"], shown["low"], shown["high"]))
    assert 0.05 < measured.high - measured.low < 0.15
    assert not any("erred" in note for note in measured.notes)
    (line,) = average_lines(board)
    assert line.startswith("all: the weighted mean of ")
    assert "with the weights 2 (first), 1 (second, third);" in line
