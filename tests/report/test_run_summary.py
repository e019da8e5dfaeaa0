"""What a run prints at its end: headline metrics with intervals, a line for each benchmark, limited ones marked."""

from dataclasses import replace

from cosmos_eval.protocol.benchmark import read_suite
from cosmos_eval.report.board import make_board
from cosmos_eval.report.run_summary import headline, summary_lines
from cosmos_eval.tasks.outcome import Metric
from tests.helpers.boards import HOSTILE, result_of
from tests.results.test_results import make_result

RETRIEVAL = {
    "image_to_text_recall@1": Metric(0.5, 0.45, 0.55, 100),
    "text_to_image_recall@1": Metric(0.25, 0.2, 0.3, 100),
    "image_to_text_mean_rank": Metric(7.04, 5.0, 9.0, 100),
}


def test_a_line_has_the_headline_metrics_of_the_task_with_their_intervals():
    result = result_of("m", "toybox-retrieval", metrics=RETRIEVAL)
    assert headline(result) == "I→T R@1 50.0 [45.0, 55.0], T→I R@1 25.0 [20.0, 30.0]"


def test_another_primary_metric_is_shown_where_the_task_has_no_headline():
    result = result_of("m", "toybox-perception", metrics={"accuracy": Metric(0.5, 0.4, 0.6, 9)}, primary="accuracy")
    assert headline(result) == "accuracy 50.0 [40.0, 60.0]"


def test_a_primary_metric_that_is_no_headline_of_the_task_is_shown_in_its_place():
    """fmow-wds, whose primary metric is that of the worst region, showed its top-1."""
    metrics = {"top1": Metric(0.5, 0.4, 0.6, 9), "worst region/top1": Metric(0.25, 0.1, 0.4, 9)}
    result = result_of("m", "toybox-classification", metrics=metrics, primary="worst region/top1")
    assert headline(result) == "worst region/top-1 25.0 [10.0, 40.0]"
    shown = make_board([result]).headline()
    assert shown["metric"].tolist() == ["worst region/top1"]
    assert headline(replace(result, primary="top1")) == "top-1 50.0 [40.0, 60.0]"
    suite = read_suite("datacomp-38")  # its own headline decides
    names = make_board([], suite=suite).headline().set_index("benchmark")["metric"]
    assert (names["fmow-wds"], names["iwildcam-wds"]) == ("worst region/top1", "macro_f1")


def test_ranks_are_no_percentages_and_a_missing_interval_is_left_out():
    metrics = {"median_rank": Metric(3.0, None, None, 9)}
    assert headline(result_of("m", "toybox-perception", metrics=metrics, primary="median_rank")) == "median rank 3.0"


def test_limited_results_say_how_many_images_were_measured():
    result = result_of("m", "toybox-retrieval", metrics=RETRIEVAL, limit=1200)
    assert headline(result).endswith("T→I R@1 25.0 [20.0, 30.0]; on 1,200 images only (--limit)")
    assert headline(replace(result, limit=1)).endswith("; on 1 image only (--limit)")


def test_results_are_grouped_by_model_and_warnings_follow():
    results = [result_of(label, name) for label in ("a", "b") for name in ("toybox-retrieval", "toybox-perception")]
    results[-1] = replace(results[-1], warnings=("three texts are cut",))
    lines = summary_lines(results)
    assert [line for line in lines if not line.startswith(" ")] == [
        "a: percent, with 95 % intervals",
        "b: percent, with 95 % intervals",
        "b, toybox-perception: three texts are cut",
    ]
    assert lines[1].index("I→T") == lines[2].index("macro_accuracy")  # aligned
    assert summary_lines([]) == []
    assert summary_lines([make_result(limit=3)])


def test_every_task_and_name_has_a_line():
    for name in ("toybox-classification", "toybox-segmentation", "toybox-perception", "toybox-retrieval"):
        for label in HOSTILE:
            assert len(summary_lines([result_of(label, name)])) == 2
