"""`cosmos-eval results`: lists, fields, differences, merges and the schema as a person or a program meets them."""

import json
from dataclasses import replace
from importlib import resources
from pathlib import Path

import jsonschema
import pytest

from cosmos_eval.cli.main import run_command
from cosmos_eval.results.sections import EnvironmentSection
from cosmos_eval.results.store import write_not_run
from cosmos_eval.tasks.outcome import Metric
from tests.results.test_results import make_result, stored
from tests.results.test_results_merge import place
from tests.results.test_results_versions import as_version_1

BASE = make_result()


@pytest.fixture
def results(capsys):
    """Run `cosmos-eval results ...` and give its exit code, its lines split at tabs, and what it says of errors."""

    def command(*arguments: object) -> tuple[int, list[list[str]], str]:
        capsys.readouterr()
        code = run_command(["results", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, [line.split("\t") for line in captured.out.splitlines()], captured.err.strip()

    return command


def test_the_list_has_a_line_for_each_result_and_for_what_was_not_run(results, tmp_path):
    place(tmp_path, "a", "toy")
    place(tmp_path, "b", "other", limit=2)
    write_not_run(tmp_path / "spec-a-aaaaaaaa/third", "a", "third", "no images")
    code, rows, _ = results("list", tmp_path)
    assert code == 0
    started = "2026-01-01"
    assert rows == [
        ["python:m:f", "toy v1", "top1", "75.00 [25.00, 100.00]", "4", "fp32", "-", started, "spec-a-aaaaaaaa/toy"],
        ["python:m:f", "other v1", "top1", "75.00 [25.00, 100.00]", "4", "fp32", "2", started, "spec-b-bbbbbbbb/other"],
        ["a, third: not run: no images"],
    ]


def test_the_list_as_json_has_whole_records(results, tmp_path, capsys):
    result = place(tmp_path, "a", "toy")
    assert run_command(["results", "list", str(tmp_path), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    (one,) = said["results"]
    assert said["not_run"] == []
    assert one["metrics"]["top1"] == result.metrics["top1"].record()
    assert one["identity"] == result.identity
    assert Path(one["path"]).is_file()
    assert one["checksum"] == result.checksum


def test_broken_and_absent_ones_are_refused_in_one_line(results, tmp_path):
    place(tmp_path, "a", "toy")
    path = tmp_path / "spec-a-aaaaaaaa/toy/RESULT.json"
    path.write_text(path.read_text().replace("0.75", "0.85"))
    for words in (["list", tmp_path], ["show", path], ["show", tmp_path], ["diff", path, tmp_path]):
        code, rows, error = results(*words)
        assert (code, rows) == (2, [])
        assert error.startswith(f"cosmos-eval: {path} was edited or damaged after it was written")
        assert "\n" not in error
    for words in (["list", tmp_path / "x"], ["show", tmp_path / "x"], ["diff", path, tmp_path / "x"]):
        code, rows, error = results(*words)
        assert (code, rows) == (2, [])
        assert "\n" not in error


def test_every_field_is_shown(results, tmp_path):
    result = place(tmp_path, "a", "toy", environment=EnvironmentSection(packages={"torch": "2.11"}, extra={"none": {}}))
    code, rows, _ = results("show", tmp_path)
    assert code == 0
    fields = dict(rows)
    path = tmp_path / "spec-a-aaaaaaaa/toy/RESULT.json"
    assert fields["file"] == str(path)
    assert fields["schema"] == "3"
    assert fields["identity"] == result.identity
    assert fields["metrics.top1"] == "75.00 [25.00, 100.00], n 4 (primary)"
    assert fields["environment.packages.torch"] == "2.11"
    assert fields["environment.none"] == "{}"
    assert fields["limit"] == "none"
    assert fields["warning"] == "collapsed"
    assert (
        fields["samples"]
        == f"{path.parent / 'samples.parquet'} is intact, {(path.parent / 'samples.parquet').stat().st_size:,} bytes"
    )
    for part in ("benchmark", "dataset", "model", "timing", "samples"):
        for key in getattr(result, part).record():
            assert any(field.startswith(f"{part}.{key}") for field in fields), key

    (path.parent / "samples.parquet").write_bytes(b"x")
    path.write_text(as_version_1(result))
    fields = dict(results("show", path)[1])
    assert fields["samples"].endswith("is not the file that RESULT.json was written with: truncated or altered")
    assert (fields["schema"], fields["checksum"]) == ("1, read as 3", "none before schema 2")
    (path.parent / "samples.parquet").unlink()
    assert dict(results("show", path)[1])["samples"].endswith("is missing")


def test_words_of_a_record_stay_in_their_cell(results, tmp_path):
    stored(tmp_path, model=replace(BASE.model, label="a\tb\n\x1b[31mc\udce9"), warnings=("x\ty\n",))
    code, rows, _ = results("show", tmp_path)
    assert code == 0
    assert all(len(row) == 2 for row in rows)
    (row,) = results("list", tmp_path)[1]
    assert row[0] == r"a\tb\n\x1b[31mc\udce9"


def test_show_asks_which_one_is_meant(results, tmp_path):
    place(tmp_path, "a", "toy")
    place(tmp_path, "b", "toy")
    code, _, error = results("show", tmp_path)
    assert code == 2
    assert "2 results below" in error


def test_equal_numbers_are_exit_0_whatever_surrounds_them(results, tmp_path):
    first = place(tmp_path / "1", "a", "toy")
    other = EnvironmentSection(python="3.12", extra={"extra": 1})
    place(tmp_path / "2", "a", "toy", environment=other, timing=replace(first.timing, seconds=9))
    code, rows, _ = results("diff", tmp_path / "1", tmp_path / "2")
    assert code == 0
    assert rows == [
        ["toy", "environment", "environment.python", "3.11", "3.12", ""],
        ["toy", "environment", "environment.extra", "-", "1", ""],
        ["toy", "timing", "timing.seconds", "0.5", "9", ""],
        ["equal numbers, 1 benchmark compared"],
    ]
    assert results("diff", tmp_path / "1", tmp_path / "1")[:2] == (0, [["equal numbers, 1 benchmark compared"]])


def test_other_numbers_are_exit_1_with_what_decides_them_first(results, tmp_path):
    ranks = {"mean_rank": Metric(2.0, 1.0, 3.0, 4)}
    place(tmp_path / "1", "a", "toy", metrics={**BASE.metrics, **ranks})
    place(tmp_path / "1", "a", "alone")
    other = {"top1": Metric(0.73, 0.2, 1.0, 4), "mean_rank": Metric(2.5, 1.0, 3.0, 4), "top5": Metric(1.0, 1.0, 1.0, 4)}
    place(tmp_path / "2", "b", "toy", metrics=other, precision="bf16")
    code, rows, _ = results("diff", tmp_path / "1", tmp_path / "2")
    assert code == 1
    assert rows == [
        ["alone", "result", "", "there", "-", f"only in {tmp_path / '1'}"],
        ["toy", "identity", "model.digest", "a" * 64, "b" * 64, ""],
        ["toy", "identity", "precision", "fp32", "bf16", ""],
        ["toy", "metric", "top1", "75.00 [25.00, 100.00]", "73.00 [20.00, 100.00]", "-2.00"],
        ["toy", "metric", "mean_rank", "2.00 [1.00, 3.00]", "2.50 [1.00, 3.00]", "+0.50"],
        ["toy", "metric", "top5", "-", "100.00 [100.00, 100.00]", "-"],
        ["different numbers in 2, 1 benchmark compared"],
    ]


def test_the_smallest_difference_is_told(results, tmp_path):
    place(tmp_path / "1", "a", "toy")
    place(tmp_path / "2", "a", "toy", metrics={"top1": Metric(0.75 + 2**-30, 0.25, 1.0, 4)})
    code, rows, _ = results("diff", tmp_path / "1", tmp_path / "2")
    assert code == 1
    assert rows[0][-1] == "+9e-08"


def test_results_of_two_benchmarks_can_be_compared(results, tmp_path):
    place(tmp_path, "a", "toy")
    place(tmp_path, "a", "other")
    folder = tmp_path / "spec-a-aaaaaaaa"
    code, rows, _ = results("diff", folder / "toy/RESULT.json", folder / "other")
    assert code == 0
    assert [row[2] for row in rows[:-1]] == ["benchmark.fingerprint", "benchmark.name"]


def test_a_merge_says_what_it_did_and_a_conflict_is_exit_2(results, tmp_path):
    place(tmp_path / "1", "a", "toy")
    place(tmp_path / "2", "a", "toy")
    place(tmp_path / "2", "a", "toy2", limit=2)
    write_not_run(tmp_path / "2/spec-a-aaaaaaaa/third", "a", "third", "no images")
    out = tmp_path / "all"
    code, rows, _ = results("merge", tmp_path / "1", tmp_path / "2", "--out", out)
    assert code == 0
    assert rows == [
        [f"{out}: 2 results of 1 model: 2 copied, 0 existed already"],
        ["1 more with the same identity and the same numbers left out"],
        ["spec-a-aaaaaaaa/third: not run anywhere"],
    ]
    place(tmp_path / "2", "a", "toy", limit=3)
    _, rows, _ = results("merge", tmp_path / "2", "--out", out)
    assert "a second result of this benchmark" in rows[2][0]
    place(tmp_path / "2", "a", "toy", metrics={"top1": Metric(0.5, 0.25, 1.0, 4)})
    code, rows, error = results("merge", tmp_path / "2", "--out", out)
    assert (code, rows) == (2, [])
    assert "different numbers" in error
    assert "\n" not in error


def test_the_schema_is_printed_and_a_result_keeps_it(results, tmp_path, capsys):
    assert run_command(["results", "schema"]) == 0
    text = capsys.readouterr().out
    assert text == resources.files("cosmos_eval.results").joinpath("schema.json").read_text(encoding="utf-8")
    validator = jsonschema.Draft202012Validator(json.loads(text))
    record = json.loads(make_result().to_json())
    validator.validate(record)
    for part in json.loads(text)["required"]:
        assert not validator.is_valid({key: value for key, value in record.items() if key != part})
