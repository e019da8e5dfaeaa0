"""The record on disk: valid, whole, and never mistaken for another measurement."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from cosmos_core.errors import RequestError
from cosmos_eval.results.environment import environment
from cosmos_eval.results.record import Result, first_fault, identity
from cosmos_eval.results.store import (
    finished,
    read_not_run,
    read_result,
    read_results,
    write_not_run,
    write_result,
    write_samples,
)
from cosmos_eval.tasks.outcome import Metric


def make_result(**changes) -> Result:
    result = Result(
        benchmark={"name": "toy", "version": 1, "task": "classification", "fingerprint": "a" * 64},
        dataset={"fingerprint": "b" * 64, "n": {"images": 4, "classes": 2}, "n_expected": {"images": 4}},
        model={"spec": "python:m:f", "label": None, "digest": "c" * 64, "arch": "tiny", "activation": "gelu"},
        metrics={"top1": Metric(0.75, 0.25, 1.0, 4)},
        primary="top1",
        precision="fp32",
        limit=None,
        environment={"python": "3.11"},
        timing={"seconds": 0.5, "started": "2026-01-01T00:00:00+00:00"},
        samples={"file": "samples.parquet", "rows": 4, "sha256": "d" * 64},
        warnings=("collapsed",),
    )
    return replace(result, **changes)


def stored(folder: Path, **changes) -> Result:
    samples = write_samples(folder, pd.DataFrame({"key": ["a", "b"], "correct": [1.0, 0.5]}))
    result = make_result(samples=samples, **changes)
    write_result(folder, result)
    return result


def test_a_result_reads_back_as_it_was_written(tmp_path):
    result = stored(tmp_path)
    assert read_result(tmp_path / "RESULT.json") == result
    assert pd.read_parquet(tmp_path / "samples.parquet")["correct"].tolist() == [1.0, 0.5]


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("primary", "top5", "primary"),
        ("precision", "float64", "precision"),
        ("metrics", {}, "metrics"),
        ("limit", 0, "limit"),
        ("surprise", 1, "surprise"),
    ],
)
def test_an_edited_result_is_refused_by_file_and_field(tmp_path, field, value, said):
    record = json.loads(make_result().to_json())
    record[field] = value
    path = tmp_path / "RESULT.json"
    path.write_text(json.dumps(record))
    with pytest.raises(RequestError, match=f"RESULT.json is not a valid result: .*{said}"):
        read_result(path)


@pytest.mark.parametrize("keep", [0, 1, 40, 400])
def test_a_truncated_result_is_refused(tmp_path, keep):
    path = tmp_path / "RESULT.json"
    path.write_text(make_result().to_json()[:keep])
    with pytest.raises(RequestError, match="is not a result"):
        read_result(path)


def test_not_a_number_is_no_metric():
    text = make_result().to_json().replace("0.75", "NaN")
    with pytest.raises(RequestError, match="NaN"):
        Result.from_json(text, "x")
    assert not first_fault(json.loads(make_result().to_json()))


def test_a_finished_measurement_is_recognised_and_any_other_is_not(tmp_path):
    result = stored(tmp_path)
    assert finished(tmp_path, result.identity) == result
    for other in ({"precision": "bf16"}, {"limit": 2}, {"model": {**result.model, "digest": "e" * 64}}):
        assert finished(tmp_path, make_result(**other).identity) is None
    assert finished(tmp_path / "elsewhere", result.identity) is None


def test_changed_samples_are_measured_again(tmp_path):
    result = stored(tmp_path)
    (tmp_path / "samples.parquet").write_bytes(b"half")
    assert finished(tmp_path, result.identity) is None


def test_the_spec_is_no_part_of_the_identity_and_every_other_part_is():
    base = ("m" * 8, "p" * 8, "d" * 8, "fp32", None)
    assert make_result().identity == make_result(model={**make_result().model, "spec": "other"}).identity
    for i, value in enumerate(("x" * 8, "x" * 8, "x" * 8, "bf16", 7)):
        changed = list(base)
        changed[i] = value
        assert identity(*changed) != identity(*base)


def test_a_model_without_a_digest_is_never_taken_as_done(tmp_path):
    result = stored(tmp_path, model={**make_result().model, "digest": ""})
    assert result.identity == ""
    assert finished(tmp_path, result.identity) is None


def test_a_result_that_could_not_be_read_back_is_not_written(tmp_path):
    with pytest.raises(RequestError, match=r"would not be valid: model\.arch"):
        stored(tmp_path, model={**make_result().model, "arch": 3})
    assert not (tmp_path / "RESULT.json").exists()


def test_what_was_not_run_is_told_and_a_result_outweighs_it(tmp_path):
    write_not_run(tmp_path / "m" / "coco", "m", "coco", "no pictures")
    assert read_not_run(tmp_path) == ["m, coco: not run: no pictures"]
    stored(tmp_path / "m" / "coco")
    write_not_run(tmp_path / "m" / "coco", "m", "coco", "no pictures")
    assert read_not_run(tmp_path) == []


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(RequestError, match="no folder"):
        read_results(tmp_path / "absent")
    with pytest.raises(RequestError, match=r"no RESULT\.json"):
        read_results(tmp_path)


def test_the_environment_names_versions_and_hardware_and_nobody():
    record = environment()
    assert {"torch", "numpy", "cosmos-eval"} <= set(record["packages"])
    assert record["hardware"]["cores"] >= 1
    assert str(Path.home()) not in json.dumps(record)
