"""The record on disk: valid, whole, and never mistaken for another measurement."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from cosmos_core.errors import RequestError
from cosmos_eval.results.environment import environment
from cosmos_eval.results.record import Result, first_fault, identity
from cosmos_eval.results.sections import (
    BenchmarkSection,
    DatasetSection,
    EnvironmentSection,
    ModelSection,
    SamplesSection,
    TimingSection,
)
from cosmos_eval.results.store import (
    file_digest,
    find_finished,
    read_model,
    read_not_run,
    read_result,
    read_results,
    read_samples,
    result_paths,
    write_not_run,
    write_result,
    write_samples,
)
from cosmos_eval.tasks.outcome import Metric
from tests.core.wrong_files import WRONG_FILES


def make_result(**changes) -> Result:
    result = Result(
        benchmark=BenchmarkSection(name="toy", version=1, task="classification", fingerprint="a" * 64),
        dataset=DatasetSection(fingerprint="b" * 64, n={"images": 4, "classes": 2}, n_expected={"images": 4}),
        model=ModelSection.from_record(  # a run writes `label` also where it is null
            {"spec": "python:m:f", "label": None, "digest": "c" * 64, "arch": "tiny", "activation": "gelu"}
        ),
        metrics={"top1": Metric(0.75, 0.25, 1.0, 4)},
        primary="top1",
        precision="fp32",
        limit=None,
        environment=EnvironmentSection(python="3.11"),
        timing=TimingSection(seconds=0.5, started="2026-01-01T00:00:00+00:00"),
        samples=SamplesSection(file="samples.parquet", rows=4, sha256="d" * 64),
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
    assert find_finished(tmp_path, result.identity) == result
    for other in ({"precision": "bf16"}, {"limit": 2}, {"model": replace(result.model, digest="e" * 64)}):
        assert find_finished(tmp_path, make_result(**other).identity) is None
    assert find_finished(tmp_path / "elsewhere", result.identity) is None


def test_changed_samples_are_measured_again(tmp_path):
    result = stored(tmp_path)
    (tmp_path / "samples.parquet").write_bytes(b"half")
    assert find_finished(tmp_path, result.identity) is None


def test_the_spec_is_no_part_of_the_identity_and_every_other_part_is():
    base = ("m" * 8, "p" * 8, "d" * 8, "fp32", None)
    assert make_result().identity == make_result(model=replace(make_result().model, spec="other")).identity
    for i, value in enumerate(("x" * 8, "x" * 8, "x" * 8, "bf16", 7)):
        changed = list(base)
        changed[i] = value
        assert identity(*changed) != identity(*base)


def test_a_model_without_a_digest_is_never_taken_as_done(tmp_path):
    result = stored(tmp_path, model=replace(make_result().model, digest=""))
    assert result.identity == ""
    assert find_finished(tmp_path, result.identity) is None


def test_a_result_that_could_not_be_read_back_is_not_written(tmp_path):
    with pytest.raises(RequestError, match=r"would not be valid: model\.arch"):
        stored(tmp_path, model=replace(make_result().model, arch=3))
    assert not (tmp_path / "RESULT.json").exists()


def test_what_was_not_run_is_told_and_a_result_outweighs_it(tmp_path):
    write_not_run(tmp_path / "m" / "coco", "m", "coco", "no images")
    assert read_not_run(tmp_path) == ["m, coco: not run: no images"]
    stored(tmp_path / "m" / "coco")
    write_not_run(tmp_path / "m" / "coco", "m", "coco", "no images")
    assert read_not_run(tmp_path) == []


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(RequestError, match="no folder"):
        read_results(tmp_path / "absent")
    with pytest.raises(RequestError, match=r"no RESULT\.json"):
        read_results(tmp_path)


def test_the_environment_names_versions_and_hardware_and_nobody(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "somebody"))  # it is / for users without a home
    record = environment()
    assert {"torch", "numpy", "cosmos-eval"} <= set(record["packages"])
    assert record["hardware"]["cores"] >= 1
    assert str(Path.home()) not in json.dumps(record)


def test_samples_are_read_where_they_are_those_of_the_result(tmp_path):
    result = stored(tmp_path)
    frame = read_samples(tmp_path / "RESULT.json", result)
    assert frame["key"].tolist() == ["a", "b"]
    assert frame["correct"].tolist() == [1.0, 0.5]


def test_samples_that_are_absent_truncated_or_altered_are_refused_by_name(tmp_path):
    result = stored(tmp_path)
    samples = tmp_path / "samples.parquet"
    whole = samples.read_bytes()
    for content in (whole[:-1], b"", whole + b"x", whole[:50] + bytes([whole[50] ^ 1]) + whole[51:]):
        samples.write_bytes(content)
        with pytest.raises(
            RequestError, match=r"samples\.parquet is not the file that RESULT\.json was written with: .*copy it"
        ):
            read_samples(tmp_path / "RESULT.json", result)
    for content, said in WRONG_FILES.items():
        samples.write_bytes(content)
        with pytest.raises(RequestError, match=rf"samples\.parquet {said}"):
            read_samples(tmp_path / "RESULT.json", result)
    samples.unlink()
    with pytest.raises(RequestError, match=r"samples\.parquet is missing; copy it"):
        read_samples(tmp_path / "RESULT.json", result)
    samples.mkdir()
    with pytest.raises(RequestError, match=r"cannot read .*samples\.parquet: Is a directory"):
        read_samples(tmp_path / "RESULT.json", result)


def test_samples_of_the_recorded_digest_that_are_no_table_are_refused(tmp_path):
    samples = tmp_path / "samples.parquet"
    samples.write_bytes(b"PAR1 and nothing more\n")
    recorded = SamplesSection(file="samples.parquet", rows=2, sha256=file_digest(samples))
    with pytest.raises(RequestError, match=r"^.*samples\.parquet is not a Parquet table: .*copy it again") as refused:
        read_samples(tmp_path / "RESULT.json", make_result(samples=recorded))
    assert "\n" not in str(refused.value)
    written = write_samples(tmp_path, pd.DataFrame({"key": ["a", "b"]}))
    with pytest.raises(RequestError, match=r"has 2 rows, but RESULT\.json records 7"):
        read_samples(tmp_path / "RESULT.json", make_result(samples=replace(written, rows=7)))


def test_the_results_of_one_model_by_benchmark(tmp_path):
    base = make_result()
    stored(tmp_path / "m" / "toy")
    stored(tmp_path / "m" / "other", benchmark=replace(base.benchmark, name="other"))
    found = read_model(tmp_path)
    assert {name: path for name, (path, _) in found.items()} == {
        "toy": tmp_path / "m/toy/RESULT.json",
        "other": tmp_path / "m/other/RESULT.json",
    }
    assert found["other"][1].benchmark.name == "other"
    assert list(read_model(tmp_path / "m/toy/RESULT.json")) == ["toy"]

    with pytest.raises(RequestError, match=r"there is no .*absent; give a RESULT\.json, or a folder"):
        read_model(tmp_path / "absent")
    stored(tmp_path / "n" / "toy", limit=2)
    with pytest.raises(RequestError, match=r"two results of toy: .*m/toy/RESULT\.json and .*n/toy/RESULT\.json"):
        read_model(tmp_path)
    stored(tmp_path / "n" / "toy", model=replace(base.model, digest="e" * 64))
    with pytest.raises(RequestError, match=r"holds results of 2 models; give the folder of one: .*/m, .*/n$"):
        read_model(tmp_path)


def test_every_broken_result_of_a_folder_is_counted(tmp_path):
    for name in ("a", "b", "c"):
        stored(tmp_path / name)
    (tmp_path / "a/RESULT.json").write_text("{")
    (tmp_path / "c/RESULT.json").write_text("")
    with pytest.raises(RequestError, match=r"a/RESULT\.json is not a result: .* \(and 1 more below"):
        read_results(tmp_path)


def test_hidden_folders_are_not_read(tmp_path):
    stored(tmp_path / ".all.x.tmp" / "m" / "toy")
    write_not_run(tmp_path / ".all.x.tmp" / "m" / "coco", "m", "coco", "no images")
    assert list(result_paths(tmp_path)) == []
    assert read_not_run(tmp_path) == []
    assert len(read_results(tmp_path / ".all.x.tmp")) == 1  # asked for by name
