"""The gate: what it lets pass, and what it stops."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cosmos_eval.metrics.paired_drop import drop_p_value, sum_differences
from cosmos_eval.metrics.paired_samples import Hits, PairedPixelCounts
from cosmos_eval.regress.answer import IMPROVED, NO_TEST, PASSED, REGRESSION, Settings
from cosmos_eval.regress.compare import compare
from cosmos_eval.regress.paired_samples import pair_samples
from cosmos_eval.regress.text import markdown, to_json, to_junit
from cosmos_eval.results.store import read_model
from tests.helpers import fabricated
from tests.metrics.test_paired_iou import dense_counts
from tests.regress.result_pairs import hits, judged, pair


def test_a_drop_is_found_and_a_like_candidate_passes(tmp_path):
    pair(tmp_path, 10, 40)
    answer = judged(tmp_path)
    assert (answer.tests[0].verdict, answer.exit_code) == (REGRESSION, 1)
    # thirty lost, none won
    assert answer.tests[0].p == pytest.approx(2.0**-30)
    assert answer.tests[0].difference == pytest.approx(-0.15)
    pair(tmp_path, 10, 13)
    answer = judged(tmp_path)
    assert (answer.tests[0].verdict, answer.exit_code) == (PASSED, 0)
    assert answer.tests[0].p == pytest.approx(1 / 8)


def test_a_drop_within_max_drop_passes(tmp_path):
    pair(tmp_path, 10, 40)
    assert judged(tmp_path, max_drop=0.05).exit_code == 1
    assert judged(tmp_path, max_drop=0.15).exit_code == 0


def test_three_units_do_not_pass_silently(tmp_path):
    pair(tmp_path, 0, 0, n=3)
    answer = judged(tmp_path)
    assert (answer.tests[0].verdict, answer.exit_code) == (NO_TEST, 2)
    assert "3 independent units" in markdown(answer)
    assert answer.tests[0].detectable == float("inf")
    pair(tmp_path, 0, 3, n=3)
    assert judged(tmp_path).exit_code == 2


def test_a_low_baseline_has_nothing_to_lose_unless_the_candidate_is_better_for_sure(tmp_path):
    pair(tmp_path, 198, 198)
    assert judged(tmp_path).exit_code == 2
    pair(tmp_path, 198, 20)
    assert judged(tmp_path).exit_code == 0


def exchanged(tmp_path: Path, **settings):
    return compare(read_model(tmp_path / "new"), read_model(tmp_path / "old"), Settings(**settings))


@pytest.mark.parametrize(("wrong", "max_drop"), [(40, 0.0), (40, 0.05), (40, 0.15), (13, 0.0), (15, 0.0), (10, 0.0)])
def test_improved_is_a_regression_with_the_models_exchanged(tmp_path, wrong, max_drop):
    pair(tmp_path, wrong, 10)
    (one,), (other,) = judged(tmp_path, max_drop=max_drop).tests, exchanged(tmp_path, max_drop=max_drop).tests
    assert (
        (one.verdict == IMPROVED) == (other.verdict == REGRESSION) == ((wrong == 40 and max_drop < 0.15) or wrong == 15)
    )
    assert (one.p_gain == other.p) or (one.p_gain == 1 and one.difference <= 0)
    assert judged(tmp_path, max_drop=max_drop).exit_code == 0


def test_gains_are_corrected_for_all_tests_and_told_in_every_format(tmp_path):
    for name, wrong in (("better", 40), ("luck", 15), ("same", 10)):
        fabricated.classification(tmp_path / "old", hits(200, wrong), name=name)
        fabricated.classification(tmp_path / "new", hits(200, 10), name=name)
    answer = judged(tmp_path)
    found = {one.benchmark: one for one in answer.tests}
    # five won and none lost: 1 / 32, which two tests as good or worse make 1 / 16
    assert found["luck"].p_gain == pytest.approx(1 / 32)
    assert found["luck"].adjusted_gain == pytest.approx(1 / 16)
    assert [found[name].verdict for name in ("better", "luck", "same")] == [IMPROVED, PASSED, PASSED]
    assert answer.exit_code == 0
    assert markdown(answer).startswith("# No regression found; Improved: better top-1 +15.00")
    (row,) = [line for line in markdown(answer).splitlines() if line.startswith("| better")]
    assert "**improved**" in row
    assert " 3e-09 |" in row  # three times 2 ** -30: the p of the gain
    record = json.loads(to_json(answer))
    assert {one["benchmark"]: one["verdict"] for one in record["tests"]}["better"] == "improved"
    assert "<failure" not in to_junit(answer)
    assert ": improved" in to_junit(answer)


def test_a_gain_and_a_drop_are_both_told_and_the_drop_decides(tmp_path):
    for name, before, after in (("up", 40, 10), ("down", 10, 40)):
        fabricated.classification(tmp_path / "old", hits(200, before), name=name)
        fabricated.classification(tmp_path / "new", hits(200, after), name=name)
    answer = judged(tmp_path)
    assert {one.benchmark: one.verdict for one in answer.tests} == {"up": IMPROVED, "down": REGRESSION}
    assert answer.exit_code == 1
    assert "Regression: down top-1 -15.00; Improved: up top-1 +15.00" in markdown(answer)


def test_a_mean_iou_improves_as_it_drops(tmp_path):
    fabricated.segmentation(tmp_path / "old", dense_counts(0, 80, 4, 0.2))
    fabricated.segmentation(tmp_path / "new", dense_counts(0, 80, 4, 0.7))
    (one,), (other,) = judged(tmp_path, resamples=500).tests, exchanged(tmp_path, resamples=500).tests
    assert (one.verdict, other.verdict) == (IMPROVED, REGRESSION)
    assert one.p_gain == other.p


def test_captions_of_a_image_are_one_unit(tmp_path):
    to_image = np.ones((40, 5))
    fabricated.retrieval(tmp_path / "old", np.ones(40), to_image)
    lost = to_image.copy()
    lost[:5] = 0
    fabricated.retrieval(tmp_path / "new", np.ones(40), lost)
    both = {one.metric: one for one in judged(tmp_path).tests}
    assert both["text_to_image_recall@1"].units == 40
    assert both["text_to_image_recall@1"].n == 200
    assert both["text_to_image_recall@1"].p == pytest.approx(1 / 32)
    assert both["image_to_text_recall@1"].p == 1
    # Holm: two tests, twice the smaller p
    assert both["text_to_image_recall@1"].adjusted == pytest.approx(1 / 16)
    assert judged(tmp_path).exit_code == 0
    assert judged(tmp_path, metrics=("text_to_image_recall@1",)).exit_code == 1


def perception_pair(tmp_path: Path, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    wholes = rng.integers(0, 60, 300)
    subsets = rng.choice(["a", "b", "c", ""], 300, p=[0.6, 0.25, 0.1, 0.05]).tolist()
    groups = ["" if not one else "x" if one == "a" else "y" for one in subsets]
    for name, rate in (("old", 0.9), ("new", 0.6)):
        fabricated.perception(tmp_path / name, (rng.random(300) < rate) * 1.0, wholes, subsets, groups)


@pytest.mark.parametrize(
    "metric",
    ["accuracy", "macro_accuracy", "b/accuracy", "x/accuracy", "kind/macro_accuracy", "macro_accuracy_expected"],
)
def test_every_mean_of_perception_is_made_from_its_items(tmp_path, metric):
    perception_pair(tmp_path)
    (one,) = judged(tmp_path, metrics=(metric,)).tests  # refuses unless the samples give the recorded value
    assert one.verdict == REGRESSION
    assert one.units <= 60 < one.n or metric == "b/accuracy"


def test_cut_outs_of_one_image_are_one_unit(tmp_path):
    perception_pair(tmp_path)
    results = [read_model(tmp_path / name)["made-perception"] for name in ("old", "new")]
    frames = [pd.read_parquet(path.parent / "samples.parquet") for path, _ in results]
    found = pair_samples("accuracy", (results[0][1], results[1][1]), (frames[0], frames[1]))
    assert isinstance(found, Hits)
    assert len(np.unique(found.unit)) == frames[0]["whole"].nunique()
    without = [frame.drop(columns="whole") for frame in frames]  # tables of before this column was written
    older = pair_samples("accuracy", (results[0][1], results[1][1]), (without[0], without[1]))
    assert len(np.unique(older.unit)) == 300


def test_a_mean_per_class_is_no_mean_of_samples(tmp_path):
    labels = np.repeat([0, 1, 2], [150, 30, 20])
    fabricated.classification(tmp_path / "old", hits(200, 0), labels)
    fabricated.classification(tmp_path / "new", hits(200, 12, first=185), labels)
    (one,) = judged(tmp_path, metrics=("mean_per_class",)).tests
    assert one.difference == pytest.approx(-12 / 20 / 3)
    weights = 1 / 3 / np.bincount(labels)[labels]
    by_hand = sum_differences(hits(200, 0), hits(200, 12, first=185), np.arange(200), weights)
    assert one.p == pytest.approx(drop_p_value(by_hand))


def test_segmentation_is_tested_from_the_areas_of_images(tmp_path):
    good, bad = dense_counts(0, 80, 4, 0.7), dense_counts(0, 80, 4, 0.2)
    fabricated.segmentation(tmp_path / "old", good)
    fabricated.segmentation(tmp_path / "new", bad)
    answer = judged(tmp_path, resamples=2000)
    (one,) = answer.tests
    assert (one.metric, one.verdict, one.units) == ("miou", REGRESSION, 80)
    for metric in ("pixel_accuracy", "mean_accuracy", "c1/iou"):
        (one,) = judged(tmp_path, metrics=(metric,), resamples=2000).tests
        assert one.verdict == REGRESSION


def test_five_seeds_of_the_bootstrap_let_an_equal_run_pass_and_none_a_worse_one(tmp_path):
    for name, quality in (("old", 0.6), ("same", 0.6), ("new", 0.45)):
        fabricated.segmentation(tmp_path / name, dense_counts(1, 80, 4, quality))
    for seed in range(5):
        settings = Settings(seed=seed, resamples=1000)
        old = read_model(tmp_path / "old")
        assert compare(old, read_model(tmp_path / "same"), settings).exit_code == 0
        assert compare(old, read_model(tmp_path / "new"), settings).exit_code == 1


def test_a_class_that_one_model_never_predicts_is_no_other_data(tmp_path):
    areas = dense_counts(3, 40, 3, 0.6)
    silent = areas.copy()
    silent[:, 1, :2] = 0
    extra = np.zeros((40, 1, 3), dtype=int)
    fabricated.segmentation(tmp_path / "old", np.concatenate([areas, extra], axis=1))
    extra[5, 0, 1] = 7  # a class that is nowhere labelled
    fabricated.segmentation(tmp_path / "new", np.concatenate([silent, extra], axis=1))
    answer = judged(tmp_path, resamples=500)
    assert not answer.problems
    assert isinstance(answer.tests[0].difference, float)


def test_areas_are_told_from_hits(tmp_path):
    result = fabricated.segmentation(tmp_path / "old", dense_counts(0, 10, 3, 0.5))
    frame = pd.read_parquet(tmp_path / "old" / "made-segmentation" / "samples.parquet")
    assert isinstance(pair_samples("miou", (result, result), (frame, frame)), PairedPixelCounts)
    assert isinstance(pair_samples("pixel_accuracy", (result, result), (frame, frame)), Hits)
