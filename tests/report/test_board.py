"""The board behind every table: what stands in a column, who is first, what an average is of."""

from dataclasses import replace

import pandas as pd
import pytest

from cosmos_core.errors import RequestError
from cosmos_eval.protocol.benchmark import list_suites, read_suite
from cosmos_eval.protocol.fingerprint import protocol_fingerprint
from cosmos_eval.protocol.suite import Average, Suite
from cosmos_eval.report.board import MEASURED, PUBLISHED, make_board
from cosmos_eval.report.cells import sections
from cosmos_eval.report.markdown import board_markdown
from cosmos_eval.report.tables import EXCHANGE, FORMATS
from cosmos_eval.results.sections import DatasetSection, TimingSection
from cosmos_eval.tasks.outcome import Metric
from tests.helpers.boards import references_of_toybox, result_of

CLASSES, RETRIEVAL, PLAIN, CSA = (
    "toybox-classification", "toybox-retrieval", "toybox-segmentation", "toybox-segmentation-csa",
)  # fmt: skip


def valued(label: str, benchmark: str, value: float, **changes):
    """A result whose metrics all are one number."""
    result = result_of(label, benchmark)
    return replace(result, metrics={name: Metric(value, value, value, 10) for name in result.metrics}, **changes)


def suite_of(*averages: Average) -> Suite:
    return replace(read_suite("toybox"), averages=averages)


def values_of(board, title: str) -> dict[str, float]:
    """Label -> value in the column of that title."""
    (column,) = board.columns.index[board.columns["title"] == title]
    cells = board.cells[board.cells["column"] == column]
    return {board.rows.at[cell.row, "label"]: cell.value for cell in cells.itertuples()}


def places_of(board, title: str) -> dict[str, int]:
    (column,) = board.columns.index[board.columns["title"] == title]
    cells = board.cells[(board.cells["column"] == column) & board.cells["place"].notna()]
    return {board.rows.at[cell.row, "label"]: cell.place for cell in cells.itertuples()}


def test_first_and_second_and_nobody_else_have_a_place():
    board = make_board([valued(name, CLASSES, value) for name, value in (("a", 0.5), ("b", 0.7), ("c", 0.6))])
    assert places_of(board, f"{CLASSES} top-1") == {"b": 1, "c": 2}
    assert board.rows["label"].tolist() == ["b", "c", "a"]


def test_two_that_tie_are_both_the_best_and_leave_no_second():
    board = make_board([valued(name, CLASSES, value) for name, value in (("a", 0.7), ("b", 0.7), ("c", 0.6))])
    assert places_of(board, f"{CLASSES} top-1") == {"a": 1, "b": 1}


def test_of_ranks_the_smallest_is_the_best():
    board = make_board([valued("near", RETRIEVAL, 0.3), valued("far", RETRIEVAL, 0.6)])
    assert places_of(board, f"{RETRIEVAL} I→T mean rank") == {"near": 1, "far": 2}
    assert places_of(board, f"{RETRIEVAL} I→T R@1") == {"far": 1, "near": 2}


def test_columns_come_by_task_and_in_a_suites_order_within():
    results = [valued("a", name, 0.5) for name in (CSA, "toybox-perception", CLASSES, PLAIN, RETRIEVAL)]
    order = make_board(results).columns["benchmark"].drop_duplicates().tolist()
    assert order == [RETRIEVAL, CLASSES, CSA, PLAIN, "toybox-perception"]
    order = make_board(results, suite=suite_of()).columns["benchmark"].drop_duplicates().tolist()
    assert order == [one.name for one in read_suite("toybox").benchmarks]


def test_the_headline_of_perception_is_its_primary_metric():
    columns = make_board([valued("a", "toybox-perception", 0.5)]).headline()
    assert columns["metric"].tolist() == ["macro_accuracy"]


def test_a_benchmark_of_the_suite_that_nobody_measured_is_a_column_of_holes():
    board = make_board([valued("a", CLASSES, 0.5)], suite=suite_of())
    assert set(board.headline()["benchmark"]) == {one.name for one in read_suite("toybox").benchmarks}
    row = next(line for line in board_markdown(board).splitlines() if line.startswith("| a "))
    assert row.count("–") == 5


def test_what_is_not_in_the_suite_is_named_and_left_out():
    other = valued("a", CLASSES, 0.5)
    board = make_board([other, replace(other, benchmark=replace(other.benchmark, name="mine"))], suite=suite_of())
    assert "mine" not in set(board.columns["benchmark"])
    assert "left out: mine" in board.remarks[0]


def test_an_average_is_the_plain_mean_and_missing_where_a_cell_is():
    mean = Average("mean", (PLAIN, CSA), "miou")
    results = [valued("whole", PLAIN, 0.2), valued("whole", CSA, 0.6), valued("half", PLAIN, 0.9)]
    board = make_board(results, suite=suite_of(mean))
    assert values_of(board, "mean") == {"whole": pytest.approx(0.4)}
    assert places_of(board, "mean") == {"whole": 1}
    (column,) = board.columns.index[board.columns["title"] == "mean"]
    cell = board.cell(0 if board.rows.at[0, "label"] == "whole" else 1, column)
    assert cell.n == 2
    assert cell.low != cell.low  # no interval: the two share their images
    assert board.columns.at[column, "task"] == "segmentation"
    assert board.columns.at[column - 1, "benchmark"] == CSA  # behind its task


def test_an_average_of_primary_metrics_may_go_over_tasks():
    every = read_suite("toybox")
    (mean,) = every.averages
    assert len(mean.benchmarks) == 4
    results = [valued("m", name, 0.2 * (i + 1)) for i, name in enumerate(mean.benchmarks)]
    board = make_board(results, suite=every)
    assert values_of(board, mean.name) == {"m": pytest.approx(0.5)}
    (column,) = board.columns.index[board.columns["title"] == mean.name]
    assert board.columns.at[column, "task"] == ""
    assert column == board.columns.index[-1]


def test_another_protocol_or_other_data_are_in_no_average():
    mean = Average("mean", (PLAIN, CSA), "miou")
    results = [valued("new", PLAIN, 0.2), valued("new", CSA, 0.4)]
    for label in ("old", "older"):  # more rows than the suite's protocol has
        old = valued(label, PLAIN, 0.9)
        old = replace(old, benchmark=replace(old.benchmark, fingerprint="0" * 64))
        results += [old, valued(label, CSA, 0.9)]
    board = make_board(results, suite=suite_of(mean))
    assert values_of(board, "mean") == {"new": pytest.approx(0.3)}
    assert any("00000000" in remark for remark in board.remarks)
    # of two sets of data the average takes the one that more rows were measured on
    other = DatasetSection("9" * 64, n={"images": 3}, n_expected={})
    results = [valued("odd", PLAIN, 0.9, dataset=other), valued("odd", CSA, 0.9)]
    results += [valued(name, one, 0.4) for name in ("a", "b") for one in (PLAIN, CSA)]
    assert values_of(make_board(results, suite=suite_of(mean)), "mean") == {"a": 0.4, "b": 0.4}


def test_the_fingerprint_of_an_average_tells_what_it_is_of():
    def fingerprint(*results) -> str:
        board = make_board(results, suite=suite_of(Average("mean", (PLAIN, CSA), "miou")))
        return board.columns.loc[board.columns["title"] == "mean", "fingerprint"].item()

    one = [valued("a", PLAIN, 0.2), valued("a", CSA, 0.4)]
    other = DatasetSection("9" * 64, n={"images": 3}, n_expected={})
    assert fingerprint(*one) == fingerprint(*one[::-1])
    assert fingerprint(*one) != fingerprint(one[0], replace(one[1], dataset=other))


def test_limited_results_have_no_cell():
    board = make_board([valued("a", CLASSES, 0.5), valued("b", CLASSES, 0.9, limit=3)])
    assert board.rows["label"].tolist() == ["a"]
    assert set(board.limited["model"]) == {"b"}
    alone = make_board([valued("b", CLASSES, 0.9, limit=3)])
    assert alone.rows.empty
    assert alone.cells.empty
    assert "not ranked: b" in board_markdown(alone)


def test_a_model_measured_twice_shows_the_later_and_says_so():
    early, late = (TimingSection(1.0, f"2026-11-2{day}T00:00:00+00:00") for day in (1, 2))
    first, second = valued("m", CLASSES, 0.5, timing=early), valued("m", CLASSES, 0.6, timing=late)
    for results in ([first, second], [second, first]):
        board = make_board(results)
        assert values_of(board, f"{CLASSES} top-1") == {"m": 0.6}
        assert "measured twice" in board.remarks[0]
        assert set(board.cells["started"]) == {late.started}
    assert make_board([first, first]).remarks == ()


def test_rows_of_several_precisions_are_told_apart_in_a_remark():
    board = make_board([valued("a", CLASSES, 0.5), valued("b", CLASSES, 0.6, precision="bf16")])
    assert board.remarks == ("Measured in bf16: b.", "Measured in fp32: a.")
    assert make_board([valued("a", CLASSES, 0.5), valued("b", CLASSES, 0.6)]).remarks == ()


@pytest.mark.parametrize("references", [None, references_of_toybox()], ids=["alone", "published"])
@pytest.mark.parametrize("suite", [None, read_suite("toybox")], ids=["free", "suite"])
def test_every_format_prints_nothing_limited_results_and_broken_names(references, suite):
    broken = [result_of("half a character \udcff", RETRIEVAL), valued("", CLASSES, 0.5)]
    for results in ([], [valued("b", CLASSES, 0.9, limit=3)], broken):
        board = make_board(results, references, suite)
        for print_ in FORMATS.values():
            text = print_(board, ["a remark"])
            text.encode("utf-8")
            assert ("half a character" in text) == (results is broken)
        for files in EXCHANGE.values():
            assert bool(files(board)) == (results is broken)


def test_models_that_nobody_can_identify_are_told_apart_by_their_specs():
    one, two = valued("m", CLASSES, 0.5), valued("m", CLASSES, 0.6)
    nameless = [
        replace(one, model=replace(one.model, digest="", spec="python:a:f")),
        replace(two, model=replace(two.model, digest="", spec="python:b:f")),
    ]
    assert set(make_board(nameless).rows["label"]) == {"m (python:a:f)", "m (python:b:f)"}


def test_many_headline_columns_make_a_table_a_task():
    assert [title for title, _ in sections(make_board([valued("a", CLASSES, 0.5)], suite=suite_of()))] == [""]
    board = make_board([result_of("a", CLASSES)], suite=read_suite("paper"))
    assert [title for title, _ in sections(board)] == ["Retrieval", "Classification", "Segmentation", "Perception"]
    assert sum(len(columns) for _, columns in sections(board)) == len(board.headline())


def test_published_rows_stand_in_the_columns_of_their_protocol_only():
    board = make_board([result_of("m", RETRIEVAL), result_of("m", CLASSES)], references_of_toybox())
    assert board.of_kind(MEASURED) == [0]
    assert board.of_kind(PUBLISHED) == [1, 2]
    assert board.rows["label"].tolist()[1:] == ["P_1, ViT-B/16", "P_2, ViT-B/16"]
    assert values_of(board, f"{RETRIEVAL} I→T R@1")["P_1, ViT-B/16"] == 0.9998
    assert places_of(board, f"{RETRIEVAL} I→T R@1") == {"m": 1}
    changed = result_of("m", RETRIEVAL)
    changed = replace(changed, benchmark=replace(changed.benchmark, fingerprint="0" * 64))
    board = make_board([changed], references_of_toybox())
    assert board.of_kind(PUBLISHED) == []
    assert "another protocol" in board.remarks[0]


def test_published_values_make_no_average():
    references = pd.concat(
        [references_of_toybox().iloc[:1].assign(benchmark=name, metric="miou") for name in (PLAIN, CSA)]
    )
    mean = Average("mean", (PLAIN, CSA), "miou")
    board = make_board([valued("m", PLAIN, 0.1), valued("m", CSA, 0.1)], references, suite_of(mean))
    assert set(values_of(board, "mean")) == {"m"}
    assert len(values_of(board, f"{CSA} mIoU")) == 2


def test_two_published_values_for_one_cell_are_two_rows():
    twice = references_of_toybox().iloc[[0, 0]].copy()
    twice["value"] = [0.5, 0.6]
    board = make_board([result_of("m", RETRIEVAL)], twice)
    assert len(board.of_kind(PUBLISHED)) == 2
    same = references_of_toybox().iloc[[0, 0]]
    assert len(make_board([result_of("m", RETRIEVAL)], same).of_kind(PUBLISHED)) == 1


def test_a_published_value_of_nothing_here_is_said_to_be_so():
    board = make_board([result_of("m", CLASSES)], references_of_toybox())
    assert "No published value" in board.remarks[-1]


GOOD = """\
benchmarks: [toybox-retrieval, toybox-segmentation, toybox-segmentation-csa]
averages:
  - name: both
    metric: miou
    benchmarks: [toybox-segmentation, toybox-segmentation-csa]
"""


@pytest.fixture
def suites(tmp_path, monkeypatch):
    """A folder of definitions with one suite, `mine`."""
    from cosmos_eval.protocol import folders

    folder = tmp_path / "protocols"
    (folder / "suites").mkdir(parents=True)
    for path in folders.DEFINITIONS.glob("toybox-*.yaml"):
        (folder / path.name).write_text(path.read_text())
    monkeypatch.setattr(folders, "DEFINITIONS", folder)
    return folder / "suites" / "mine.yaml"


def test_averages_are_read(suites):
    suites.write_text(GOOD)
    assert read_suite("mine").averages == (Average("both", (PLAIN, CSA), "miou"),)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("metric: miou", "metrik: miou", "mine.yaml:4: unknown key 'metrik' in an average; did you mean metric?"),
        ("metric: miou", "metric: top1", "mine.yaml:4: toybox-segmentation does not report 'top1'"),
        ("metric: miou", "metric: [miou]", "mine.yaml:4: metric must be a text"),
        ("name: both", "name: ''", "mine.yaml:3: name must be a text"),
        ("[toybox-segmentation, toybox-segmentation-csa]", "[toybox-segmentation]", "mine.yaml:5: .* at least two"),
        ("[toybox-segmentation, toybox-segmentation-csa]\n", "toybox\n", "mine.yaml:5: .* a list"),
        ("    benchmarks: [toybox-segmentation, ", "    benchmarks: [toybox-segmentation, 7, ", "7 is not in"),
        ("[toybox-segmentation, toybox", "[toybox-segmentation, toybox-segmentation, toybox", "listed twice"),
        ("    benchmarks: [toybox-seg", "    benchmarks: [toybox-classification, toybox-seg", "not in the suite's"),
        ("  - name: both", "  - just words\n  - name: both", "mine.yaml:3: an average is a map"),
        ("averages:\n", "averages: none\nbogus:\n", "unknown key 'bogus'"),
        (GOOD[GOOD.index("averages:") :], "averages: many\n", "averages must be a list"),
    ],
)
def test_a_mistake_in_an_average_is_named_with_its_line(suites, old, new, said):
    assert old in GOOD
    suites.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(RequestError, match=said):
        read_suite("mine")


def test_two_averages_of_one_name_and_averages_of_ranks_are_refused(suites):
    suites.write_text(GOOD + GOOD[GOOD.index("  - name") :])
    with pytest.raises(RequestError, match="two averages are called 'both'"):
        read_suite("mine")
    ranks = GOOD.replace("miou", "text_to_image_mean_rank").replace("[toybox-segmentation, ", "[toybox-retrieval, ")
    suites.write_text(ranks)
    with pytest.raises(RequestError, match=r"mine.yaml:4: text_to_image_mean_rank is a rank"):
        read_suite("mine")


def test_every_shipped_average_is_of_its_suite_and_changes_no_fingerprint():
    averages = {name: read_suite(name).averages for name in list_suites()}
    assert {"paper", "paper-retrieval", "paper-classification", "paper-segmentation", "toybox"} <= {
        name for name, some in averages.items() if some
    }
    eight = [one for one in averages["paper-segmentation"] if len(one.benchmarks) == 8]
    assert [all(name.endswith("-csa") for name in one.benchmarks) for one in eight] == [False, True]
    for name in ("toybox", "paper-segmentation"):
        for benchmark in read_suite(name).benchmarks:
            assert protocol_fingerprint(benchmark) == benchmark.fingerprint
