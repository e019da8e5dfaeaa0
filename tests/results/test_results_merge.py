"""Results of several machines in one folder: each measurement once, conflicts by name, nothing half-written."""

import json
import os
import shutil
import signal
import tempfile
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmos_core.errors import RequestError
from cosmos_eval.cli.main import run_command
from cosmos_eval.report.tables import render
from cosmos_eval.results.merge import merge
from cosmos_eval.results.record import Result
from cosmos_eval.results.store import (
    find_finished,
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
from tests.helpers.worlds import captions_world, classes_world
from tests.results.test_results import make_result, stored
from tests.results.test_results_versions import as_version_1

BASE = make_result()


def place(root: Path, model: str, benchmark: str, **changes) -> Result:
    """A result as a run places it: the model's digest is its name's letter, repeated."""
    digest = model * 64
    return stored(
        root / f"spec-{model}-{digest[:8]}" / benchmark,
        model=replace(BASE.model, digest=digest),
        benchmark=replace(BASE.benchmark, name=benchmark, fingerprint=benchmark * 8),
        **changes,
    )


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def machines(tmp_path) -> tuple[Path, Path]:
    """Two machines: model a on two benchmarks, one of them on both machines; model b on one."""
    first, second = tmp_path / "first", tmp_path / "second"
    place(first, "a", "toy")
    place(first, "a", "other")
    place(second, "a", "toy")
    place(second, "b", "toy")
    return first, second


def test_each_measurement_is_there_once_with_its_samples(machines, tmp_path):
    out = tmp_path / "deep" / "all"
    merged = merge(machines, out)
    assert (merged.copied, merged.existing, merged.repeated, merged.models) == (3, 0, 1, 2)
    assert sorted(content(out)) == sorted(
        f"spec-{model}-{model * 8}/{name}/{file}"
        for model, name in (("a", "other"), ("a", "toy"), ("b", "toy"))
        for file in ("RESULT.json", "samples.parquet")
    )
    for path in result_paths(out):
        result = read_result(path)
        assert len(read_samples(path, result)) == 2
        assert find_finished(path.parent, result.identity) == result
    for machine in machines:
        for path, text in content(machine).items():
            assert content(out)[path] == text
    assert (out.stat().st_mode & 0o777) == (tmp_path / "first").stat().st_mode & 0o777


def test_merging_again_changes_nothing_and_more_machines_are_added(machines, tmp_path):
    out = tmp_path / "all"
    merge(machines[:1], out)
    (out / "leaderboard.md").write_text("a table")
    merged = merge(machines[1:], out)
    assert (merged.copied, merged.existing, merged.repeated) == (1, 2, 1)
    before = content(out)
    assert len(before) == 7
    again = merge(machines, out)
    assert (again.copied, again.existing, again.repeated) == (0, 3, 4)
    assert content(out) == before
    assert merge([out], out).repeated == 0  # the folder itself is read once


def test_classes_that_a_killed_run_left_are_not_those_of_a_merged_result(machines, tmp_path):
    out, (_, second) = tmp_path / "out", machines
    place(out, "a", "toy")
    left = out / f"spec-b-{'b' * 8}" / "toy" / "CLASSES.json"
    left.parent.mkdir(parents=True)
    left.write_text('{"of": "another measurement"}')
    merge([second], out)
    assert read_result(left.with_name("RESULT.json")).classes is None
    assert not left.exists()


def test_the_same_measurement_with_other_numbers_is_a_conflict_and_nothing_is_written(machines, tmp_path):
    place(machines[1], "a", "other", metrics={"top1": Metric(0.7500000001, 0.25, 1.0, 4)})
    before = content(machines[0])
    with pytest.raises(
        RequestError, match=r"different numbers: .*first/spec-a-aaaaaaaa/other/RESULT\.json and .*second/"
    ):
        merge(machines, tmp_path / "all")
    assert not (tmp_path / "all").exists()
    with pytest.raises(RequestError, match=r"\(top1: 0\.75 and 0\.7500000001\).*results diff.*nothing was written"):
        merge(machines[1:], machines[0])
    assert content(machines[0]) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "second"]


def test_every_conflict_is_counted(tmp_path):
    for name in ("k", "l", "m", "n", "o"):
        place(tmp_path / "1", "a", name)
        place(tmp_path / "2", "a", name, metrics={"top1": Metric(0.5, 0.25, 1.0, 4)})
    with pytest.raises(RequestError, match="and 2 more;"):
        merge([tmp_path / "1", tmp_path / "2"], tmp_path / "all")


@pytest.mark.parametrize(
    ("metric", "seeds", "same"),
    [
        (Metric(0.75, 0.25, 1.0, 4), (0, 1), True),
        (Metric(0.75, 0.3, 1.0, 4), (0, 1), True),  # resampled with another seed
        (Metric(0.75, 0.3, 1.0, 4), (0, 0), False),
        (Metric(0.75, 0.3, 1.0, 4, "mid-p"), (0, 0), True),  # measured again by a version with other intervals
        (Metric(0.74, 0.3, 1.0, 4, "mid-p"), (0, 0), False),
        (Metric(0.75, 0.3, 1.0, 4), (0, None), False),
        (Metric(0.75, 0.25, 1.0, 5), (0, 1), False),
        (Metric(0.74, 0.25, 1.0, 4), (0, 1), False),
    ],
)
def test_intervals_count_where_the_resampling_was_the_same(metric, seeds, same, tmp_path):
    times = [BASE.timing if seed is None else replace(BASE.timing, seed=seed) for seed in seeds]
    place(tmp_path / "1", "a", "toy", timing=times[0])
    place(tmp_path / "2", "a", "toy", timing=times[1], metrics={"top1": metric})
    if same:
        assert merge([tmp_path / "1", tmp_path / "2"], tmp_path / "all").copied == 1
    else:
        with pytest.raises(RequestError, match="different numbers"):
            merge([tmp_path / "1", tmp_path / "2"], tmp_path / "all")


@pytest.mark.parametrize(
    "change", [{"precision": "bf16"}, {"limit": 2}, {"dataset": replace(BASE.dataset, fingerprint="z" * 8)}]
)
def test_another_measurement_of_the_same_benchmark_stands_beside_the_first(tmp_path, change):
    first = place(tmp_path / "1", "a", "toy")
    second = place(tmp_path / "2", "a", "toy", **change)
    merged = merge([tmp_path / "1", tmp_path / "2"], tmp_path / "all")
    (aside,) = merged.aside
    assert aside == Path("spec-a-aaaaaaaa") / f"toy-{second.identity[:8]}"
    assert read_result(tmp_path / "all" / aside / "RESULT.json") == second
    assert read_results(tmp_path / "all") == [first, second]
    assert merge([tmp_path / "2"], tmp_path / "all").copied == 0


def test_one_model_under_two_paths_is_one_folder(tmp_path):
    place(tmp_path / "1", "a", "toy")
    place(tmp_path / "2", "a", "other")
    (tmp_path / "2/spec-a-aaaaaaaa").rename(tmp_path / "2/elsewhere-aaaaaaaa")
    merge([tmp_path / "1", tmp_path / "2"], tmp_path / "all")
    assert [path.parent.parent.name for path in result_paths(tmp_path / "all")] == ["spec-a-aaaaaaaa"] * 2


def test_folders_that_no_run_made_get_the_digest_and_a_record_s_words_are_no_path(tmp_path):
    evil = replace(BASE.benchmark, name="../../../evil")
    stored(tmp_path / "1" / ".hidden", model=replace(BASE.model, digest="a" * 64), benchmark=evil)
    merge([tmp_path / "1" / ".hidden"], tmp_path / "all")
    assert sorted(content(tmp_path / "all")) == ["1-aaaaaaaa/hidden/RESULT.json", "1-aaaaaaaa/hidden/samples.parquet"]


def test_models_without_a_digest_are_the_same_only_in_the_same_record(tmp_path):
    unknown = {"model": replace(BASE.model, digest="")}
    stored(tmp_path / "1" / "own" / "toy", **unknown)
    shutil.copytree(tmp_path / "1", tmp_path / "2")
    third = stored(tmp_path / "3" / "own" / "toy", **unknown, metrics={"top1": Metric(0.5, 0.25, 1.0, 4)})
    merged = merge([tmp_path / "1", tmp_path / "2", tmp_path / "3"], tmp_path / "all")
    assert (merged.copied, merged.repeated) == (2, 1)
    assert merged.aside == [Path("own") / f"toy-{third.checksum[:8]}"]


MEASURED = st.tuples(*map(st.sampled_from, ("12", "ab", ("toy", "other"), ("fp32", "bf16"), (None, 2))))


@settings(max_examples=12, deadline=None)
@given(measured=st.lists(MEASURED, min_size=1, max_size=8), turned=st.booleans())
def test_whatever_was_measured_where_every_measurement_is_there_once(measured, turned):
    with tempfile.TemporaryDirectory() as folder:
        root, expected = Path(folder), {}
        for machine, model, benchmark, precision, limit in measured:
            # two measurements of one benchmark are of two runs, so in two folders
            run = root / machine / f"{precision}-{limit}"
            result = place(run, model, benchmark, precision=precision, limit=limit)
            expected[result.identity] = result
        sources = sorted({root / machine for machine, *_ in measured}, reverse=turned)
        merged = merge(sources, root / "all")
        found = {result.identity: result for result in read_results(root / "all")}
        assert found == expected
        assert merged.copied == len(expected) == len(list(result_paths(root / "all")))
        assert merged.repeated == len(set(measured)) - len(expected)
        assert merged.models == len({model for _, model, *_ in measured}) == len(list((root / "all").iterdir()))
        for path in result_paths(root / "all"):
            read_samples(path, read_result(path))
        again = merge([*sources, root / "all"], root / "all")
        assert (again.copied, again.existing) == (0, len(expected))


def test_old_results_travel_as_they_are(tmp_path):
    result = place(tmp_path / "1", "a", "toy")
    (path,) = result_paths(tmp_path / "1")
    path.write_text(as_version_1(result))
    place(tmp_path / "2", "a", "toy")
    assert merge([tmp_path / "1", tmp_path / "2"], tmp_path / "all").repeated == 1
    (copy,) = result_paths(tmp_path / "all")
    assert copy.read_text() == as_version_1(result)


@pytest.mark.parametrize("content_of", [None, b"", b"PAR1"])
def test_samples_that_are_not_those_of_their_result_stop_the_merge(machines, tmp_path, content_of):
    samples = machines[1] / "spec-b-bbbbbbbb/toy/samples.parquet"
    samples.unlink() if content_of is None else samples.write_bytes(content_of)
    for out in (tmp_path / "all", machines[0]):
        before = content(out)
        with pytest.raises(RequestError, match=r"spec-b-bbbbbbbb/toy/samples\.parquet is (missing|not the file)"):
            merge(machines, out)
        assert content(out) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "second"]


def test_a_result_that_changes_under_the_copy_stops_the_merge(machines, tmp_path, monkeypatch):
    copy = shutil.copyfile

    def and_change(source: Path, target: Path) -> None:
        if source.name == "RESULT.json":
            write_result(source.parent, replace(read_result(source), warnings=("another",)))
        copy(source, target)

    monkeypatch.setattr(shutil, "copyfile", and_change)
    with pytest.raises(RequestError, match=r"first/.*/RESULT\.json changed while it was copied; merge again"):
        merge(machines, tmp_path / "all")
    assert not (tmp_path / "all").exists()


def test_folders_without_results_and_broken_results_are_refused(machines, tmp_path):
    with pytest.raises(RequestError, match=r"no folder .*absent"):
        merge([machines[0], tmp_path / "absent"], tmp_path / "all")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestError, match=r"no RESULT\.json below .*empty"):
        merge([machines[0], tmp_path / "empty"], tmp_path / "all")
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match="file is not a folder"):
        merge(machines, tmp_path / "file")
    (machines[1] / "spec-a-aaaaaaaa/toy/RESULT.json").write_text("{")
    with pytest.raises(RequestError, match=r"second/spec-a-aaaaaaaa/toy/RESULT\.json is not a result"):
        merge(machines, tmp_path / "all")
    assert not (tmp_path / "all").exists()


def test_what_was_not_run_on_one_machine_and_was_on_another_is_settled(machines, tmp_path):
    write_not_run(machines[1] / "spec-a-aaaaaaaa/other", "a", "other", "no images")
    write_not_run(machines[1] / "else-aaaaaaaa/third", "a", "third", "no images")
    write_not_run(machines[0] / "spec-b-bbbbbbbb/toy", "b", "toy", "no images")
    write_not_run(machines[0] / "spec-c-cccccccc/toy", "c", "toy", "no weights")
    merged = merge(machines, tmp_path / "all")
    assert sorted(map(str, merged.not_run)) == ["spec-a-aaaaaaaa/third", "spec-c-cccccccc/toy"]
    assert read_not_run(tmp_path / "all") == ["a, third: not run: no images", "c, toy: not run: no weights"]
    place(tmp_path / "new", "c", "toy")
    assert merge([tmp_path / "new"], tmp_path / "all").not_run == [Path("spec-a-aaaaaaaa/third")]
    assert read_not_run(tmp_path / "all") == ["a, third: not run: no images"]
    (machines[1] / "else-aaaaaaaa/third/NOT_RUN.json").write_text("[]")
    with pytest.raises(RequestError, match=r"third/NOT_RUN\.json is not readable"):
        merge(machines, tmp_path / "again")


def killed_at(calls: int, work) -> bool:
    """Do some work in a process of its own that is killed as it moves its n-th file into place; whether it was."""
    child = os.fork()
    if child == 0:
        signal.alarm(600)  # never a test that hangs
        count, move = 0, Path.replace

        def counted(self, target):
            nonlocal count
            count += 1
            if count == calls:
                os.kill(os.getpid(), signal.SIGKILL)
            return move(self, target)

        Path.replace = counted
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.parametrize("there", [False, True])
def test_a_merge_that_is_killed_leaves_whole_results_and_goes_on(machines, tmp_path, there):
    write_not_run(machines[0] / "spec-c-cccccccc/toy", "c", "toy", "no weights")
    whole = tmp_path / "whole"
    merge(machines, whole)
    calls = 0
    while True:
        calls += 1
        out = tmp_path / f"all{calls}"
        if there:
            out.mkdir()
            place(out, "a", "toy")
        if not killed_at(calls, lambda out=out: merge(machines, out)):
            break
        for path in result_paths(tmp_path):  # nothing of the folder under way is taken for a result
            assert len(read_samples(path, read_result(path))) == 2
        assert there or not out.exists()
        merge(machines, out)
        found = {path: text for path, text in content(out).items() if not path.startswith(".")}
        assert found == content(whole)
    assert calls == (6 if there else 2)


def test_a_writer_that_is_killed_leaves_a_whole_result_or_none(tmp_path):
    old = stored(tmp_path)
    pd.DataFrame({"key": ["c"], "correct": [0.0]}).to_parquet(tmp_path / "table")
    table = (tmp_path / "table").read_bytes()

    class Frame:
        """A table that is made already: the forked process starts no threads."""

        def __len__(self) -> int:
            return 1

        def to_parquet(self, path: Path, index: bool) -> None:
            path.write_bytes(table)

    def write() -> None:
        samples = write_samples(tmp_path, Frame())
        write_result(tmp_path, replace(old, samples=samples, metrics={"top1": Metric(0.0, 0.0, 0.0, 1)}))

    calls = 1
    while killed_at(calls, write):
        assert read_result(tmp_path / "RESULT.json") == old  # the old record, which may have lost its samples:
        if calls > 1:
            with pytest.raises(RequestError, match="is not the file that"):
                read_samples(tmp_path / "RESULT.json", old)
            assert find_finished(tmp_path, old.identity) is None
        calls += 1
    assert calls == 3
    (metric,) = read_result(tmp_path / "RESULT.json").metrics.values()
    assert metric.value == 0.0
    assert json.loads((tmp_path / "RESULT.json").read_text())["samples"]["rows"] == 1


def test_two_machines_make_the_table_of_one_and_a_run_goes_on_from_it(tmp_path, capsys):
    colours = "python:tests.helpers.tiny_models:Colours"
    worlds = [captions_world(tmp_path), classes_world(tmp_path)]

    def run(out: str, *some: Path) -> None:
        names = [word for world in some for word in ("--benchmark", str(world))]
        assert run_command(["run", "--model", colours, *names, "--out", str(tmp_path / out)]) == 0

    run("one", worlds[0])
    run("two", worlds[1])
    run("single", *worlds)
    merge([tmp_path / "one", tmp_path / "two"], tmp_path / "all")
    before = content(tmp_path / "all")
    capsys.readouterr()
    run("all", *worlds)
    assert capsys.readouterr().err.count("already done, kept") == 2
    assert content(tmp_path / "all") == before
    tables = [render(read_results(tmp_path / name), "md") for name in ("single", "all")]
    assert tables[0] == tables[1]
    assert merge([tmp_path / "single"], tmp_path / "all").repeated == 2  # measured twice, to the same numbers
