"""The gate: what it refuses to judge, and the reason that it gives."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cosmos_core.errors import RequestError
from cosmos_eval.cli import main as cli
from cosmos_eval.regress.answer import Settings
from cosmos_eval.regress.compare import compare
from cosmos_eval.regress.text import markdown
from cosmos_eval.results.store import read_model, read_result, write_result, write_samples
from tests.helpers import fabricated
from tests.metrics.test_paired_iou import dense_counts
from tests.regress.result_pairs import hits, judged, pair


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
