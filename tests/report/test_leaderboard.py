"""Tables say what the results say, and never put different protocols in one column."""

import io
import json
from dataclasses import replace

import pandas as pd
import pytest

from cosmos_core.errors import RequestError
from cosmos_eval.report.board import order_of
from cosmos_eval.report.frame import distinct_labels, to_frame
from cosmos_eval.report.tables import markdown, render, write_leaderboard
from cosmos_eval.tasks.outcome import Metric
from tests.results.test_results import make_result


def result(label: str, value: float, *, fingerprint: str = "a" * 64, digest: str = "", **changes):
    base = make_result()
    return make_result(
        model=replace(base.model, label=label, digest=digest or label * 8),
        benchmark=replace(base.benchmark, fingerprint=fingerprint),
        metrics={"top1": Metric(value, value - 0.1, value + 0.1, 4)},
        **changes,
    )


def table_rows(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


def test_the_best_model_comes_first_and_is_bold():
    rows = table_rows(markdown(to_frame([result("weak", 0.25), result("strong", 0.75)])))
    assert rows[0] == ["model", "toy top-1"]
    assert rows[2] == ["strong", "**75.0** [65.0, 85.0]"]
    assert rows[3] == ["weak", "25.0 [15.0, 35.0]"]


def test_for_ranks_the_smallest_is_the_best():
    base = make_result()
    ranks = {"top1": Metric(0.5, 0.4, 0.6, 4), "image_to_text_mean_rank": Metric(3.0, 2.0, 4.0, 4)}
    worse = {"top1": Metric(0.5, 0.4, 0.6, 4), "image_to_text_mean_rank": Metric(9.0, 8.0, 10.0, 4)}
    near, far = (
        replace(base, metrics=ranks, model=replace(base.model, label="near", digest="1" * 8)),
        replace(base, metrics=worse, model=replace(base.model, label="far", digest="2" * 8)),
    )
    text = markdown(to_frame([near, far]))
    assert "**3.0** [2.0, 4.0]" in text
    assert "**9.0**" not in text


def test_different_fingerprints_never_share_a_column():
    text = markdown(to_frame([result("one", 0.5), result("two", 0.6, fingerprint="f" * 64)]))
    header = table_rows(text)[0]
    assert len(header) == 3
    assert table_rows(text)[2].count("–") == 1


def test_different_data_never_share_a_column():
    other = result("two", 0.6)
    other = replace(other, dataset=replace(other.dataset, fingerprint="9" * 64))
    assert len(table_rows(markdown(to_frame([result("one", 0.5), other])))[0]) == 3


def test_a_limited_result_is_named_and_not_ranked():
    text = markdown(to_frame([result("full", 0.5), result("quick", 0.9, limit=2), result("one", 0.9, limit=1)]))
    assert [row[0] for row in table_rows(text)[:3]][2] == "full"
    assert "not ranked: quick on toy (2 images); one on toy (1 image)." in text
    assert "90.0" not in text


def test_models_that_share_a_name_but_not_their_weights_are_two_rows():
    frame = distinct_labels(to_frame([result("m", 0.5, digest="1" * 64), result("m", 0.6, digest="2" * 64)]))
    assert set(frame["model"]) == {"m (11111111)", "m (22222222)"}


def test_a_name_cannot_break_the_table():
    text = markdown(to_frame([result("a|b\n<script>", 0.5)]))
    assert "a\\|b\\\\n&lt;script>" in text
    assert (
        len({line.count("|") for line in text.splitlines() if line.startswith("| toy") or line.startswith("| mod")})
        == 1
    )


@pytest.mark.parametrize(("languages", "are_shown"), [(11, True), (36, True), (201, False)])
def test_a_table_has_a_column_for_each_language_unless_there_are_very_many(languages, are_shown):
    """With 11 languages and six metrics, tables showed the means only."""
    names = [f"{way}_recall@{k}" for way in ("image_to_text", "text_to_image") for k in (1, 5, 10)]
    names += [f"l{i}/{name}" for i in range(languages) for name in names]
    base = make_result()
    section = replace(base.benchmark, task="multilingual-retrieval")
    metrics = {name: Metric(0.5, 0.4, 0.6, 4) for name in names}
    text = markdown(to_frame([make_result(benchmark=section, metrics=metrics, primary=names[0])]))
    assert [head in text for head in ("| l3/I→T R@1", "| l3/T→I R@1")] == [are_shown, are_shown]
    assert "| l3/I→T R@5" not in text
    assert "| I→T R@5" in text


def test_one_image_is_no_plural():
    one = result("a", 0.5, dataset=replace(make_result().dataset, n={"images": 1}))
    assert ", 1 image, fp32" in markdown(to_frame([one]))
    assert ", 1 image, fp32" in repr(one)


def test_csv_and_markdown_hold_the_same_numbers(tmp_path):
    results = [result("weak", 0.25), result("strong", 0.75)]
    paths = write_leaderboard(results, tmp_path, not_run=["m, coco: not run: no images"])
    assert "no images" in paths[0].read_text()
    assert [path.name for path in paths] == ["leaderboard.md", "leaderboard.csv"]
    frame = pd.read_csv(io.StringIO(paths[1].read_text()))
    for row in frame.itertuples():
        assert f"{row.value * 100:.1f}" in paths[0].read_text()


def test_an_unknown_format_is_refused():
    with pytest.raises(RequestError, match="no table format 'xls'"):
        render([result("a", 0.5)], "xls")


def test_an_unknown_format_writes_nothing(tmp_path):
    with pytest.raises(RequestError):
        write_leaderboard([result("a", 0.5)], tmp_path, ["csv", "xls"])
    assert list(tmp_path.iterdir()) == []


def test_two_precisions_of_one_model_are_two_rows():
    text = render([result("m", 0.5), result("m", 0.6, precision="bf16")], "md")
    assert {row[0] for row in table_rows(text)[2:4]} == {"m (fp32)", "m (bf16)"}
    assert "bf16, fp32" in text


def test_warnings_reach_the_table():
    assert "m, toy: collapsed" in render([result("m", 0.5)], "md")


def test_a_model_with_more_columns_does_not_lead_one_that_is_better_where_both_were_measured():
    best, half, poor = result("best", 0.9), result("half", 0.6), result("poor", 0.2)
    whole = result("whole", 0.5)
    second = replace(whole, benchmark=replace(whole.benchmark, name="second"))
    rows = table_rows(markdown(to_frame([poor, half, whole, second, best])))[2:6]
    assert [row[0] for row in rows] == ["best", "half", "whole", "poor"]


def test_rows_that_have_every_column_go_by_their_mean_rank():
    values = pd.DataFrame({"a": [0.1, 0.3, 0.2], "b": [0.5, 0.6, 0.9], "c": [0.1, 0.9, 0.2]}, index=["x", "y", "z"])
    assert order_of(values) == ["y", "z", "x"]  # ranks (1, 2, 1), (2, 1, 2), (3, 3, 3)


def test_what_a_row_lacks_counts_neither_for_it_nor_against_it():
    nan = float("nan")
    values = pd.DataFrame(
        {"a": [0.8, 0.6, nan, 0.7], "b": [0.8, 0.6, 0.7, nan], "c": [0.8, 0.6, nan, 0.9]},
        index=["first", "second", "between", "wins one of two"],
    )
    # 0.7 in b lies between the two; (0.7, 0.9) has one column of each against the first, and both against the second
    assert order_of(values) == ["first", "wins one of two", "between", "second"]
    assert order_of(pd.DataFrame({"a": [nan, 0.1], "b": [0.9, nan], "c": [nan, 0.1]}, index=["apart", "x"])) == [
        "x",
        "apart",
    ]


def test_an_older_interval_without_width_is_marked_with_a_line_that_says_so():
    base = make_result()
    metrics = {
        "top1": Metric(1.0, 1.0, 1.0, 6),
        "top5": Metric(1.0, 0.61, 1.0, 6, "mid-p"),
        "image_to_text_median_rank": Metric(1.0, 1.0, 1.0, 6, "order statistics"),
    }
    six = replace(base, metrics=metrics)
    for name, marked in (("md", "**100.0** [100.0, 100.0]† |"), ("html", "[100.0, 100.0]†</small>"),
                         ("tex", r"[100.0, 100.0]\textsuperscript{\dag}")):  # fmt: skip
        text = render([six], name)
        assert marked in text
        assert text.count("an older result") == 1
        assert "[61.0, 100.0]†" not in text
    assert "[1.0, 1.0]†" not in render([six], "md")
    assert any("an older result" in line for line in json.loads(render([six], "json"))["remarks"])
    honest = replace(base, metrics={"top1": Metric(1.0, 0.61, 1.0, 6, "mid-p")})
    assert not any(mark in render([honest], name) for mark in ("†", "older") for name in ("md", "html", "json"))
