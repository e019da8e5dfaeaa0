"""`regress --suite`: paired tests of the averages that a suite declares."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cosmos_core.errors import RequestError
from cosmos_eval.cli import main as cli
from cosmos_eval.metrics.paired_drop import drop_p_value, sum_differences
from cosmos_eval.regress.answer import PASSED, REGRESSION, Settings
from cosmos_eval.regress.compare import compare
from cosmos_eval.results.store import read_model
from tests.helpers.average_results import write_result
from tests.report.test_averages import suite_of_two

N = 400
NAMES = [f"{i:016x}" for i in range(N)]
OTHERS = [f"{i:016x}" for i in range(N, 2 * N)]


def lose(values: np.ndarray, count: int) -> np.ndarray:
    changed = values.copy()
    changed[np.flatnonzero(values)[:count]] = False
    return changed


def write_pair(folder: Path, lost: tuple[int, int], shared: bool = True) -> None:
    rng = np.random.default_rng(0)
    for name, images, count in zip(("first", "second"), (NAMES, NAMES if shared else OTHERS), lost, strict=True):
        correct = rng.random(N) < 0.8
        write_result(folder / "old", name, correct, images)
        write_result(folder / "new", name, lose(correct, count), images)


def judged(folder: Path, **settings):
    models = (read_model(folder / side) for side in ("old", "new"))
    return compare(*models, Settings(**settings), suite_of_two())


def test_a_drop_that_no_benchmark_shows_alone_is_found_in_the_average(tmp_path):
    write_pair(tmp_path, (6, 6), shared=False)
    answer = judged(tmp_path, only_averages=True)
    (test,) = answer.tests
    assert (test.benchmark, test.metric, test.verdict) == ("mean", "average", REGRESSION)
    assert test.difference == pytest.approx(-12 / (2 * N))
    assert (test.units, test.n) == (2 * N, 2 * N)
    assert test.p == pytest.approx(2.0**-12)
    alone = judged(tmp_path, benchmarks=("first",), alpha=0.01)
    assert [one.verdict for one in alone.tests] == [PASSED]
    assert "mean: not tested: no comparable results of second" in alone.remarks


def test_a_benchmark_with_three_times_the_weight_counts_three_times(tmp_path):
    write_pair(tmp_path, (6, 2), shared=False)
    suite = suite_of_two()
    weighted = replace(suite, averages=(replace(suite.averages[0], weights={"first": 3.0}),))
    models = (read_model(tmp_path / side) for side in ("old", "new"))
    (test,) = compare(*models, Settings(only_averages=True), weighted).tests
    assert test.difference == pytest.approx(-(3 * 6 + 2) / (4 * N))
    # random weights of the images: an unseen gain as large as the largest loss (3) exceeds six of 3 and two of 1
    assert test.p == pytest.approx((3 / (3 + 3)) ** 6 * (3 / (3 + 1)) ** 2)


def test_images_that_two_benchmarks_share_are_one_unit(tmp_path):
    write_pair(tmp_path, (10, 10), shared=True)
    test = judged(tmp_path, only_averages=True).tests[0]
    assert test.units == N
    rng = np.random.default_rng(0)
    outcomes = [rng.random(N) < 0.8, rng.random(N) < 0.8]
    drops = np.concatenate([one.astype(float) for one in outcomes])
    after = np.concatenate([lose(one, 10).astype(float) for one in outcomes])
    expected = drop_p_value(sum_differences(drops, after, np.tile(np.arange(N), 2)))
    assert test.p == pytest.approx(expected)


def test_averages_are_tested_beside_the_benchmarks_and_corrected_together(tmp_path):
    write_pair(tmp_path, (60, 0))
    answer = judged(tmp_path)
    assert [(test.benchmark, test.verdict) for test in answer.tests] == [
        ("first", REGRESSION), ("second", PASSED), ("mean", REGRESSION),
    ]  # fmt: skip
    assert answer.exit_code == 1


def test_the_command_tests_averages_and_writes_them(tmp_path, capsys):
    for side in ("old", "new"):
        rng = np.random.default_rng(1)
        correct = rng.random(N) < 0.8
        write_result(tmp_path / side, "toybox-classification", lose(correct, 50 if side == "new" else 0), NAMES)
    text = "benchmarks: [toybox-classification, toybox-retrieval]\naverages:\n  - name: both\n    benchmarks: "
    (tmp_path / "mine.yaml").write_text(text + "{toybox-classification: top1, toybox-retrieval: }\n")
    sides = [str(tmp_path / side) for side in ("old", "new")]
    options = ["--suite", str(tmp_path / "mine.yaml"), "--json", str(tmp_path / "x.json")]
    assert cli.run_command(["regress", *sides, *options]) == 1
    assert "both: not tested: no comparable results of toybox-retrieval" in capsys.readouterr().out
    assert [test["metric"] for test in json.loads((tmp_path / "x.json").read_text())["tests"]] == ["top1"]
    assert cli.run_command(["regress", *sides, *options, "--only-averages"]) == 2
    assert "there is no average to test: both: no comparable results of" in capsys.readouterr().err
    assert cli.run_command(["regress", *sides, "--only-averages"]) == 2
    assert "--only-averages needs --suite" in capsys.readouterr().err
    assert cli.run_command(["regress", *sides, "--suite", "sclip"]) == 2
    assert "no benchmark of the suite sclip in the baseline" in capsys.readouterr().err


def test_other_samples_are_a_problem_of_the_average(tmp_path):
    write_pair(tmp_path, (1, 1))
    path = next((tmp_path / "new").rglob("second/samples.parquet"))
    path.write_bytes(path.read_bytes()[:-10])
    answer = judged(tmp_path, only_averages=True)
    assert answer.problems[0][0] == "mean"
    assert "truncated or altered" in answer.problems[0][1]
    assert answer.exit_code == 2


def test_nothing_of_a_suite_is_refused(tmp_path):
    write_result(tmp_path / "old", "third", np.ones(10, bool), NAMES[:10])
    model = read_model(tmp_path / "old")
    with pytest.raises(RequestError, match="no benchmark of the suite two"):
        compare(model, model, Settings(), suite_of_two())
