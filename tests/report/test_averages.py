"""Averages of a suite: of a metric for each benchmark, against open_clip's printed averages, and their intervals."""

import csv
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cosmos_core.errors import RequestError
from cosmos_eval.protocol.benchmark import read_suite
from cosmos_eval.protocol.suite import Average, Suite
from cosmos_eval.published.references import read_references
from cosmos_eval.report.board import board_of, make_board
from cosmos_eval.report.cells import average_lines, metric_head, task_heading
from cosmos_eval.report.exchange_open_clip import MEAN_OF, columns_of_38
from cosmos_eval.report.names import short
from cosmos_eval.results.store import read_results
from tests.helpers.average_results import write_result

SHARED = Path(os.environ.get("COSMOS_SHARED_DIR", Path(__file__).resolve().parents[3] / "shared"))
SUITE = """\
benchmarks: [toybox-retrieval, toybox-classification, toybox-segmentation]
headline: {toybox-classification: mean_per_class, toybox-retrieval: [image_to_text_recall@1, text_to_image_recall@1]}
averages:
  - name: mapped
    benchmarks: {toybox-classification: top5, toybox-retrieval: text_to_image_recall@5, toybox-segmentation: }
  - {name: headlines, benchmarks: [toybox-classification, toybox-retrieval]}
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory) -> Suite:
    path = tmp_path_factory.mktemp("suite") / "mine.yaml"
    path.write_text(SUITE)
    return read_suite(path)


def test_an_average_takes_a_metric_for_each_benchmark_and_by_default_the_headline(suite):
    members = [
        [(benchmark.name, metrics) for benchmark, metrics in suite.members(average)] for average in suite.averages
    ]
    assert members == [
        [
            ("toybox-classification", ("top5",)),
            ("toybox-retrieval", ("text_to_image_recall@5",)),
            ("toybox-segmentation", ("miou",)),
        ],
        [
            ("toybox-classification", ("mean_per_class",)),
            ("toybox-retrieval", ("image_to_text_recall@1", "text_to_image_recall@1")),
        ],
    ]


def test_the_line_below_the_table_names_the_metric_of_each_benchmark(suite):
    """It said "the primary metrics" of every average whose benchmarks have metrics of their own."""
    lines = average_lines(make_board([], suite=suite))
    assert lines[0].startswith(
        "mapped: the plain mean of toybox-classification (top-5), toybox-retrieval (T→I R@5), toybox-segmentation (mIoU"
    )
    assert "toybox-classification (mean per class), toybox-retrieval (I→T R@1 and T→I R@1);" in lines[1]
    board = make_board([], suite=suite)
    columns = board.columns.index[board.columns["kind"] == "average"]
    assert [metric_head(board, column) for column in columns] == ["several metrics", "several metrics"]  # not "primary"
    (open_clip,) = average_lines(make_board([], suite=read_suite("datacomp-38")))
    assert "the plain mean of top-1 over imagenet1k-wds, caltech101-vtab (mean per class), cifar10-vtab, " in open_clip


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("top5", "miou", "mine.yaml:5: toybox-classification does not report 'miou'"),
        ("text_to_image_recall@5", "text_to_image_mean_rank", "is a rank"),
        ("toybox-classification: top5", "toybox-classification: 5", "must be a text or a list"),
        ("toybox-classification: top5", "toybox-other: top5", "'toybox-other' is not in the suite"),
        ("toybox-classification: mean_per_class", "toybox-classification: miou", "mine.yaml:2: .*does not report"),
        ("toybox-classification: mean_per_class", "somewhere: top1", "mine.yaml:2: 'somewhere' is not in the suite"),
        ("headline: {", "headline: [", "mine.yaml"),
        ("  - {name: headlines,", "    weights: {toybox-retrieval: 0}\n  - {name: headlines,", "above 0, not 0"),
        ("  - {name: headlines,", "    weights: {toybox-other: 2}\n  - {name: headlines,", "'toybox-other' is not in"),
        ("  - {name: headlines,", "    weights: 2\n  - {name: headlines,", "weights must be a map"),
        ("  - {name: headlines,", "    printed: [{paper: A}]\n  - {name: headlines,", "a map with paper and column"),
        (
            "  - {name: headlines,",
            "    printed: [{paper: A, column: 3}]\n  - {name: headlines,",
            "column must be a text",
        ),
        ("  - {name: headlines,", "    printed: {paper: A}\n  - {name: headlines,", "printed must be a list"),
    ],
)
def test_a_wrong_metric_of_a_benchmark_is_named_with_its_line(tmp_path, old, new, said):
    assert old in SUITE
    (tmp_path / "mine.yaml").write_text(SUITE.replace(old, new, 1))
    with pytest.raises(RequestError, match=said):
        read_suite(tmp_path / "mine.yaml")


def test_the_averages_of_open_clips_table_are_those_that_it_prints():
    """121 models and 38 columns through the same code as a leaderboard's, without anything but the table."""
    path = SHARED / "openclip_results.csv"
    if not path.is_file():
        pytest.skip(f"no table {path}")
    with path.open(encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    datacomp = read_suite("datacomp-38")
    (average,) = datacomp.averages
    columns = columns_of_38()
    benchmarks = {benchmark.name: benchmark for benchmark in datacomp.benchmarks}
    rows = []
    for line in lines:
        for column, measured in columns.items():
            # ImageNet's column belongs to two of our benchmarks, of which the suite has one
            name, metric = next(pair for pair in measured if pair[0] in benchmarks)
            benchmark = benchmarks[name]
            for part in metric.split(MEAN_OF):
                rows.append((f"{line['name']} {line['pretrained']}", benchmark, part, float(line[column])))
    frame = pd.DataFrame(
        {
            "model": [row[0] for row in rows], "spec": [row[0] for row in rows], "digest": "",
            "benchmark": [row[1].name for row in rows], "version": 1,
            "fingerprint": [row[1].fingerprint for row in rows], "dataset": "d", "task": [row[1].task for row in rows],
            "metric": [row[2] for row in rows], "value": [row[3] for row in rows], "low": np.nan, "high": np.nan,
            "n": 1, "images": 1, "items": 0, "left_out": 0, "precision": "fp32", "limit": pd.NA, "primary": True,
            "started": "", "transforms": "",
        }
    )  # fmt: skip
    board = board_of(frame.astype({"limit": "Int64"}), suite=datacomp)
    (column,) = board.columns.index[board.columns["title"] == average.name]
    ours = {board.rows.at[cell.row, "label"]: cell.value for cell in board.cells.itertuples() if cell.column == column}
    printed = {f"{line['name']} {line['pretrained']}": float(line["Average perf. on 38 datasets"]) for line in lines}
    assert len(ours) == len(printed) == 121
    assert ours.keys() == printed.keys()
    assert max(abs(ours[name] - printed[name]) for name in ours) <= 1e-4
    published = make_board([], read_references([str(path)]), datacomp)
    (column,) = published.columns.index[published.columns["title"] == average.name]
    shown = published.cells[published.cells["column"] == column]
    assert {published.rows.at[cell.row, "label"]: cell.value for cell in shown.itertuples()} == printed


def test_open_clips_suite_prints_the_metrics_that_open_clip_prints():
    head = read_suite("open-clip").headlines
    assert head == dict.fromkeys(
        ("fgvc-aircraft-wds", "pets-vtab", "caltech101-vtab", "flowers-vtab"), ("mean_per_class",)
    )
    board = make_board([], suite=read_suite("open-clip"))
    shown = board.headline()
    assert set(shown.loc[shown["benchmark"] == "pets-vtab", "metric"]) == {"mean_per_class"}
    assert set(shown.loc[shown["benchmark"] == "food101-wds", "metric"]) == {"top1"}


def test_headings_of_tasks_are_words():
    assert [task_heading(task) for task in ("retrieval", "multiple-choice", "multilingual-retrieval", "")] == [
        "Retrieval", "Multiple choice", "Multilingual retrieval", "All tasks"
    ]  # fmt: skip
    assert [short(name) for name in ("few_shot_4", "knn_20", "few_shot_4/x")] == ["4-shot", "20-NN", "few_shot_4/x"]


def test_a_published_average_stands_in_the_column_of_its_suite_and_in_no_other():
    suite = read_suite("datacomp-38")
    (row,) = [
        row
        for row in read_references(["paper"], suite=suite).to_dict("records")
        if row["metric"] == "average" and row["spec"] == "open_clip:ViT-B-16-SigLIP/webli"
    ]
    assert (row["benchmark"], row["value"]) == ("DataComp, mean of 38", pytest.approx(0.6232))
    references = pd.DataFrame([row, row | {"benchmark": "mean of others", "model": "another"}])
    board = make_board([], references, suite=suite)
    assert board.rows["label"].str.startswith(row["model"]).tolist() == [True]
    (cell,) = board.cells.to_dict("records")
    assert (board.columns.at[cell["column"], "title"], cell["value"]) == (row["benchmark"], row["value"])
    assert "average" not in set(read_references(["paper"])["metric"])


def test_every_suite_that_lacks_columns_says_so():
    assert read_suite("imagenet-shifts").lacks
    assert read_suite("datacomp-38").lacks == ()
    assert len(read_suite("datacomp-38").benchmarks) == len(read_suite("datacomp-38").averages[0].benchmarks) == 38
    assert [len(read_suite(name).averages[0].benchmarks) for name in ("vtab", "vtab-plus")] == [19, 35]


def averages_of(folder: Path, suite: Suite) -> dict[str, tuple[float, float, float]]:
    board = make_board(read_results(folder), suite=suite)
    (column,) = board.columns.index[board.columns["kind"] == "average"]
    return {
        board.rows.at[cell.row, "label"]: (cell.value, cell.low, cell.high)
        for cell in board.cells.itertuples()
        if cell.column == column
    }


CLASSES, VARIANT = "toybox-classification", "toybox-segmentation"


@pytest.mark.parametrize("shared", [True, False])
def test_the_interval_counts_images_once_that_two_benchmarks_share(tmp_path, shared):
    """The standard error of the mean of two accuracies on n images is sqrt(p (1 - p) / 2 n), and sqrt(p (1 - p) / n) if
    images and outcomes are the same."""
    rng = np.random.default_rng(0)
    n = 2000
    correct = rng.random(n) < 0.7
    other = correct if shared else rng.permutation(correct)
    names = [f"{i:016x}" for i in range(n)]
    others = names if shared else [f"{i:016x}" for i in range(n, 2 * n)]
    write_result(tmp_path / "a", "first", correct, names)
    write_result(tmp_path / "b", "second", other, others)
    suite = suite_of_two()
    ((value, low, high),) = averages_of(tmp_path, suite).values()
    p = correct.mean()
    assert value == pytest.approx(p)
    error = math.sqrt(p * (1 - p) / (n if shared else 2 * n))
    assert (high - low) / (2 * 1.96 * error) == pytest.approx(1, abs=0.08)
    assert low < value < high


def test_an_average_of_perfect_benchmarks_has_an_interval_with_width(tmp_path):
    names = [f"{i:016x}" for i in range(50)]
    for name in ("first", "second"):
        write_result(tmp_path / name, name, np.ones(50, bool), names)
    ((value, low, high),) = averages_of(tmp_path, suite_of_two()).values()
    one = read_results(tmp_path)[0].metrics["top1"]
    assert (value, high) == (1.0, 1.0)
    assert low == pytest.approx(one.low)  # all images are shared, so two benchmarks tell no more than one


def test_averages_without_samples_have_no_interval_and_a_remark(tmp_path):
    names = [f"{i:016x}" for i in range(50)]
    for name in ("first", "second"):
        write_result(tmp_path / name, name, np.arange(50) % 2 == 0, names)
    (next((tmp_path / "first").rglob("samples.parquet"))).unlink()
    board = make_board(read_results(tmp_path), suite=suite_of_two())
    (cell,) = [cell for cell in board.cells.itertuples() if board.columns.at[cell.column, "kind"] == "average"]
    assert cell.value == 0.5
    assert math.isnan(cell.low)
    assert any(
        text.startswith("Averages without an interval: ") and "samples.parquet" in text for text in board.remarks
    )


def suite_of_two() -> Suite:
    benchmarks = tuple(replace(read_suite("toybox").benchmarks[1], name=name) for name in ("first", "second"))
    return Suite("two", benchmarks, (Average("mean", ("first", "second"), "top1"),))
