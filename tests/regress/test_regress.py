"""The gate: what it lets pass, what it stops, what it refuses to judge, and how it says so."""

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from cosmos_core.errors import RequestError
from cosmos_eval.cli import main as cli
from cosmos_eval.metrics.paired_drop import drop_p_value, sum_differences
from cosmos_eval.metrics.paired_samples import Hits, PairedPixelCounts
from cosmos_eval.regress.answer import IMPROVED, NO_TEST, PASSED, REGRESSION, Settings
from cosmos_eval.regress.compare import compare
from cosmos_eval.regress.paired_samples import pair_samples
from cosmos_eval.regress.text import markdown, points, signed, to_json, to_junit
from cosmos_eval.results.store import read_model, read_result, write_result, write_samples
from tests.helpers import fabricated
from tests.metrics.test_paired_iou import dense_counts


def hits(n: int, wrong: int, first: int = 0) -> np.ndarray:
    found = np.ones(n)
    found[first : first + wrong] = 0
    return found


def judged(tmp_path: Path, **settings):
    return compare(read_model(tmp_path / "old"), read_model(tmp_path / "new"), Settings(**settings))


def pair(tmp_path: Path, wrong_before: int = 10, wrong_after: int = 10, n: int = 200, **changes) -> None:
    fabricated.classification(tmp_path / "old", hits(n, wrong_before))
    fabricated.classification(tmp_path / "new", hits(n, wrong_after), **changes)


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


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"benchmark": {"fingerprint": "9" * 64}}, "protocol fingerprint"),
        ({"benchmark": {"version": 2}}, "protocol version"),
        ({"dataset": {"fingerprint": "9" * 64}}, "data fingerprint"),
        ({"dataset": {"n": {"images": 199}}}, "size of the data differs: 200 images in the baseline, 199 images"),
        ({"precision": "bf16"}, "precision differs: fp32"),
        ({"limit": 200}, "--limit 200"),
    ],
)
def test_what_was_not_measured_alike_is_not_compared(tmp_path, changes, said):
    pair(tmp_path, 10, 40, **changes)
    answer = judged(tmp_path)
    assert answer.exit_code == 2
    assert not answer.tests
    assert said in answer.problems[0][1]
    assert "not comparable" in markdown(answer)


def test_precisions_are_compared_when_that_is_asked_for(tmp_path):
    pair(tmp_path, 10, 40, precision="bf16")
    assert judged(tmp_path, allow_precision=True).exit_code == 1


def test_other_samples_under_the_same_fingerprint_are_refused(tmp_path):
    fabricated.classification(tmp_path / "old", hits(50, 5))
    fabricated.classification(tmp_path / "new", hits(50, 5), labels=np.arange(50) % 2)
    assert "sample 1 has label 0 in the baseline and 1" in judged(tmp_path).problems[0][1]


def test_samples_that_do_not_give_the_metric_are_refused(tmp_path):
    pair(tmp_path)
    path = tmp_path / "new" / "made-classification" / "RESULT.json"
    result = read_result(path)
    wrong = {**result.metrics, "top1": replace(result.metrics["top1"], value=0.5, low=0.4)}
    write_result(path.parent, replace(result, metrics=wrong))
    assert "is 50.0000 in RESULT.json, and its samples give 95.0000" in judged(tmp_path).problems[0][1]


def test_altered_samples_are_refused(tmp_path):
    pair(tmp_path)
    path = tmp_path / "new" / "made-classification" / "samples.parquet"
    frame = pd.read_parquet(path)
    frame["correct"] = 1.0
    frame.to_parquet(path)
    assert "truncated or altered" in judged(tmp_path).problems[0][1]


def test_a_benchmark_that_the_candidate_lacks_stops_the_gate(tmp_path):
    pair(tmp_path)
    fabricated.classification(tmp_path / "old", hits(200, 3), name="another")
    fabricated.classification(tmp_path / "new", hits(200, 3), name="third")
    answer = judged(tmp_path)
    assert answer.exit_code == 2
    assert answer.problems == (("another", "the candidate has no result; measure it too"),)
    assert [one.benchmark for one in answer.tests] == ["made-classification"]
    assert "third" in answer.remarks[0]
    assert judged(tmp_path, benchmarks=("made-classification",)).exit_code == 0


def test_ranks_have_no_test(tmp_path):
    for name in ("old", "new"):
        fabricated.retrieval(tmp_path / name, np.ones(40), np.ones((40, 2)))
    with pytest.raises(RequestError, match="no paired test of image_to_text_mean_rank"):
        judged(tmp_path, metrics=("image_to_text_mean_rank",))
    own = fabricated.retrieval(tmp_path / "old", np.ones(40), np.ones((40, 2)))
    for name in ("old", "new"):
        place = tmp_path / name / "made-retrieval"
        (place / "samples.parquet").unlink()
        kept = {"image_to_text_mean_rank": own.metrics["image_to_text_mean_rank"]}
        frame = pd.DataFrame({"direction": ["image_to_text"], "query": ["p0"], "image": ["p0"], "rank": [1.0]})
        samples = write_samples(place, frame)
        write_result(place, replace(own, metrics=kept, primary="image_to_text_mean_rank", samples=samples))
    answer = judged(tmp_path)
    assert answer.exit_code == 2
    assert "its primary metric" in answer.problems[0][1]


def test_samples_that_hold_no_hits_are_refused(tmp_path):
    pair(tmp_path)
    for name in ("old", "new"):
        path = tmp_path / name / "made-classification" / "RESULT.json"
        frame = pd.read_parquet(path.parent / "samples.parquet")
        frame["correct"] += np.where(np.arange(200) % 2, 5.0, -5.0)  # the mean stays
        write_result(path.parent, replace(read_result(path), samples=write_samples(path.parent, frame)))
    answer = judged(tmp_path)
    assert answer.exit_code == 2
    assert "[0, 1]" in answer.problems[0][1]
    for name in ("old", "new"):
        path = tmp_path / name / "made-classification" / "RESULT.json"
        frame = pd.read_parquet(path.parent / "samples.parquet").drop(columns="correct")
        write_result(path.parent, replace(read_result(path), samples=write_samples(path.parent, frame)))
    assert "no column 'correct'" in judged(tmp_path).problems[0][1]


def test_remarks_say_what_was_not_tested_and_what_is_the_same(tmp_path):
    pair(tmp_path)
    for name in ("old", "new"):
        fabricated.retrieval(tmp_path / name, np.ones(40), np.ones((40, 2)), model={"digest": "7" * 64})
        fabricated.classification(tmp_path / name, hits(99, 1), name="other", model={"digest": "7" * 64})
        for path in (tmp_path / name).rglob("RESULT.json"):
            result = read_result(path)
            write_result(path.parent, replace(result, model=replace(result.model, digest="7" * 64)))
    answer = judged(tmp_path, metrics=("top1",))
    assert answer.remarks == (
        "without the requested metrics, so not tested: made-retrieval",
        "baseline and candidate have the same weights: made-classification, made-retrieval, other",
    )


def test_wrong_requests_are_refused(tmp_path):
    pair(tmp_path)
    with pytest.raises(RequestError, match="no benchmark here reports 'top9'"):
        judged(tmp_path, metrics=("top9",))
    with pytest.raises(RequestError, match="the baseline has no result of 'nope'"):
        judged(tmp_path, benchmarks=("nope",))
    with pytest.raises(RequestError, match="max-drop"):
        Settings(max_drop=-0.1)
    with pytest.raises(RequestError, match="alpha"):
        Settings(alpha=0.0)
    with pytest.raises(RequestError, match="resamples"):
        Settings(resamples=5)
    with pytest.raises(RequestError, match="max-drop"):
        Settings(max_drop=float("nan"))
    fabricated.classification(tmp_path / "lone", hits(9, 1), name="other")
    with pytest.raises(RequestError, match="no benchmark in common"):
        compare(read_model(tmp_path / "old"), read_model(tmp_path / "lone"), Settings())


def test_too_few_resamples_for_so_many_tests_are_refused(tmp_path):
    for name in ("old", "new"):
        for i in range(9):
            fabricated.segmentation(tmp_path / name, dense_counts(i, 30, 3, 0.5), name=f"set-{i}")
    with pytest.raises(RequestError, match="give at least 180"):
        judged(tmp_path, resamples=100)


def test_markdown_json_and_junit_say_the_same(tmp_path):
    fabricated.classification(tmp_path / "old", hits(200, 10), name="set|<b>&")
    fabricated.classification(tmp_path / "new", hits(200, 40), name="set|<b>&")
    fabricated.classification(tmp_path / "old", hits(200, 10), name="gone")
    fabricated.classification(tmp_path / "old", hits(3, 0), name="tiny")
    fabricated.classification(tmp_path / "new", hits(3, 0), name="tiny")
    fabricated.classification(tmp_path / "old", hits(200, 10), name="fine")
    fabricated.classification(tmp_path / "new", hits(200, 10), name="fine")
    answer = judged(tmp_path)
    record = json.loads(to_json(answer))
    assert record["exit_code"] == 2
    verdicts = {one["benchmark"]: one["verdict"] for one in record["tests"]}
    assert verdicts == {"set|<b>&": REGRESSION, "fine": PASSED, "tiny": NO_TEST}
    assert [one["detectable"] is None for one in record["tests"] if one["benchmark"] == "tiny"] == [True]
    suite = ElementTree.fromstring(to_junit(answer)).find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("4", "1", "2")
    failed = [case.get("classname") for case in suite if case.find("failure") is not None]
    assert failed == ["set|<b>&"]
    rows = [line for line in markdown(answer).splitlines() if line.startswith("|")]
    assert len({len(row) for row in rows}) == 1, "the columns are aligned"
    assert "<b>" not in markdown(answer)
    assert "5 % over all 3 tests together (Holm). Percent" in markdown(answer)
    assert "alarm rate of 5 %. Percent" in markdown(replace(answer, tests=answer.tests[:1]))
    assert "-15.00" in rows[-2] or any("-15.00" in row for row in rows)


def test_junit_holds_no_character_that_xml_cannot(tmp_path):
    pair(tmp_path, 10, 40)
    answer = judged(tmp_path)
    bad = replace(answer, problems=(("a\x00b\ud800", "c\x1b\uffff"),))
    suite = ElementTree.fromstring(to_junit(bad)).find("testsuite")
    assert suite is not None
    assert suite[-1].get("classname") == "a\ufffdb\ufffd"


def test_a_promise_is_rounded_up_and_nothing_has_a_sign():
    assert points(0.012301) == "1.24"
    assert points(0.005) == "0.5"
    assert points(0.0) == "0"
    assert signed(-0.00001) == "0.00"
    assert signed(-0.0123) == "-1.23"


def test_the_command_writes_what_it_prints_and_leaves_with_the_answer(tmp_path, capsys):
    pair(tmp_path, 10, 40)
    old, new = str(tmp_path / "old"), str(tmp_path / "new" / "made-classification" / "RESULT.json")
    written = {name: tmp_path / f"answer.{name}" for name in ("markdown", "json", "junit")}
    options = [part for name, path in written.items() for part in (f"--{name}", str(path))]
    assert cli.run_command(["regress", old, new, *options]) == 1
    printed = capsys.readouterr().out
    assert written["markdown"].read_text() == printed
    assert printed.startswith("# Regression: made-classification top-1 -15.00")
    assert json.loads(written["json"].read_text())["settings"]["alpha"] == 0.05
    assert ElementTree.parse(written["junit"]).getroot().tag == "testsuites"
    assert cli.run_command(["regress", old, new, "--max-drop", "20"]) == 0
    assert cli.run_command(["regress", old, old]) == 0


def test_the_command_refuses_in_one_line(tmp_path, capsys):
    pair(tmp_path)
    assert cli.run_command(["regress", str(tmp_path), str(tmp_path / "new")]) == 2
    assert "holds results of 2 models" in capsys.readouterr().err
    assert cli.run_command(["regress", str(tmp_path / "nowhere"), str(tmp_path / "new")]) == 2
    assert cli.run_command(["regress", str(tmp_path / "old"), str(tmp_path / "new"), "--alpha", "2"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2
    assert cli.run_command(["regress", str(tmp_path / "old"), str(tmp_path / "new"), "--junit", str(tmp_path)]) == 2
    refused = capsys.readouterr()
    assert refused.out == ""
    assert refused.err == f"cosmos-eval: --junit {tmp_path} is a folder; give a file\n"


def test_areas_are_told_from_hits(tmp_path):
    result = fabricated.segmentation(tmp_path / "old", dense_counts(0, 10, 3, 0.5))
    frame = pd.read_parquet(tmp_path / "old" / "made-segmentation" / "samples.parquet")
    assert isinstance(pair_samples("miou", (result, result), (frame, frame)), PairedPixelCounts)
    assert isinstance(pair_samples("pixel_accuracy", (result, result), (frame, frame)), Hits)
