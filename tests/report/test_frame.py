"""`cosmos_eval.to_frame`: results, or their folder, as a table of pandas."""

from dataclasses import replace

import pandas as pd
import pytest

from cosmos_core.errors import RequestError
from cosmos_eval import evaluate, to_frame
from cosmos_eval.results.record import Result
from tests.helpers import memory_data
from tests.helpers.tiny_models import Colours, Constant
from tests.run.test_in_memory import classes, pil_images

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> tuple[list[Result], object]:
    out = tmp_path_factory.mktemp("results")
    benchmarks = [classes(pil_images(), name="mine"), memory_data.build("retrieval", pil_images())]
    measured = evaluate(Colours(), benchmarks, out=out, label="colours")
    return [*measured, *evaluate(Constant(), benchmarks[:1], out=out, label="constant")], out


def test_there_is_a_row_for_each_metric(results):
    measured, _ = results
    frame = to_frame(measured)
    assert len(frame) == sum(len(result.metrics) for result in measured)
    wanted = ["model", "benchmark", "task", "metric", "value", "low", "high", "n", "limit", "limited", "precision"]
    assert set(wanted) <= set(frame.columns)
    row = frame[(frame.model == "colours") & (frame.metric == "top1")].iloc[0]
    metric = measured[0].metrics["top1"]
    assert (row.value, row.low, row.high, row.n) == (metric.value, metric.low, metric.high, metric.n)
    assert (row.benchmark, row.task, row.precision, row.limited) == ("mine", "classification", "fp32", False)


def test_one_result_a_list_and_the_folder_are_taken(results):
    measured, out = results
    assert len(to_frame(measured[0])) == len(measured[0].metrics)
    pd.testing.assert_frame_equal(
        to_frame(out).sort_values(["model", "benchmark", "metric"], ignore_index=True),
        to_frame(iter(measured)).sort_values(["model", "benchmark", "metric"], ignore_index=True),
    )
    assert to_frame([]).empty
    for wrong, message in ((5, "not 5"), ([5], "to_frame takes results"), (out / "x", "no folder")):
        with pytest.raises(RequestError, match=message):
            to_frame(wrong)


def test_the_wide_form_has_a_row_for_each_model_and_the_headline_metrics(results):
    measured, _ = results
    limited = replace(measured[0], limit=2)
    wide = to_frame([*measured, limited], wide=True)
    assert wide.index.tolist() == ["colours", "constant", "colours (limit 2)"]
    assert wide.columns.tolist() == [
        ("mine", "top1"),
        ("retrieval", "image_to_text_recall@1"),
        ("retrieval", "text_to_image_recall@1"),
    ]
    assert wide.loc["constant", ("mine", "top1")] == 0.25
    assert pd.isna(wide.loc["constant", ("retrieval", "text_to_image_recall@1")])
    assert to_frame([], wide=True).empty


def test_numbers_of_other_data_get_a_column_of_their_own(results):
    measured, _ = results
    (other,) = evaluate(Colours(), {"mine": classes(pil_images()[::-1])}, label="colours")
    wide = to_frame([measured[0], other], wide=True)
    assert wide.shape == (1, 2)
    assert all(name.startswith("mine (") and "data" in name for name, _ in wide.columns)


def test_a_result_is_shown_in_one_line(results):
    measured, _ = results
    metric = measured[2].metrics["top1"]
    bounds = f"[{100 * metric.low:.2f}, {100 * metric.high:.2f}]"
    assert repr(measured[2]) == f"Result(constant on mine: top1 25.00 % {bounds}, 8 images, fp32)"
    assert repr(replace(measured[0], limit=2)).endswith("8 images, fp32, limit 2)")
    rank = replace(measured[1], primary="image_to_text_mean_rank")
    assert "%" not in repr(rank)
