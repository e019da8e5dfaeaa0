"""What commit 055e6bd wrote (`frozen/`, see its README) is kept, read, compared and resumed by today's code."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from cosmos_core.checkpoint import read_file
from cosmos_eval.cli.main import run_command
from cosmos_eval.results.record import Result
from cosmos_eval.results.store import read_result, read_results, read_samples

FROZEN = Path(__file__).with_name("frozen")
BENCHMARKS = ("classification", "files", "perception", "retrieval", "segmentation")
TEACHER, STUDENT = "cosmos-train-last-216d002e", "cosmos-train-last-student-06aef86e"
SHIPPED = "cosmos-toybox-2adfb4b1"
CHECKPOINT = "cosmos:train/last.pt"
ROUNDING = {"segmentation": 0.01}
"""Features of images and texts come from the old cache; those of windows are computed again, on another CPU perhaps."""


@pytest.fixture
def old(tmp_path, monkeypatch) -> Iterator[Path]:
    """A copy of the frozen folder, which is the working directory: the specs in the results are relative to it."""
    folder = tmp_path / "old"
    shutil.copytree(FROZEN, folder)
    monkeypatch.chdir(folder)
    threads = torch.get_num_threads()
    yield folder
    torch.set_num_threads(threads)  # the training sets its own


def definitions(*names: str) -> list[str]:
    return [f"--benchmark=definitions/frozen-{name}.yaml" for name in names]


def run(spec: str, names: tuple[str, ...], out: str, *options: str) -> int:
    command = ["run", f"--model={spec}", *definitions(*names), "--out", out, "--batch-size", "8", "--device", "cpu"]
    return run_command([*command, *options])


def contents(folder: Path) -> dict[str, str]:
    """Digest of each file below a folder."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def stored(folder: Path) -> Result:
    return read_result(folder / "RESULT.json")


def log(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def same_packages(recorded: dict[str, str]) -> bool:
    """Whether what decides stored features or resized images has the versions of then; other ones are kept apart."""
    return all(metadata.version(name) == version for name, version in recorded.items())


def cache_is_of_these_packages() -> bool:
    (space, *_) = (FROZEN / "results" / ".embeddings").glob("*/space.json")
    return same_packages(json.loads(space.read_text(encoding="utf-8"))["packages"])


def test_a_run_of_the_old_command_finds_everything_done_and_changes_no_file(old, capsys):
    before = contents(old / "results")
    for spec in (f"{CHECKPOINT}#teacher", CHECKPOINT, f"{CHECKPOINT}#student", "cosmos:toybox"):
        assert run(spec, BENCHMARKS, "results") == 0
        assert capsys.readouterr().err.count("already done") == len(BENCHMARKS)
    assert contents(old / "results") == before


def test_an_old_result_of_images_that_issue_13_decodes_otherwise_is_refused_by_name_and_kept(old, capsys):
    """16 bits a value were cut off then and are scaled now: other pixels, another fingerprint, so another measurement.
    The advice leads out: with --overwrite it is measured again, and says what is special about the images."""
    path = old / "results-16-bit" / TEACHER / "frozen-16-bit"
    before = stored(path)
    assert run(CHECKPOINT, ("16-bit",), "results-16-bit", "--no-cache") == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("cosmos-eval: ")]
    assert line.endswith("frozen-16-bit/RESULT.json was measured with other data; give another --out, or --overwrite")
    assert stored(path) == before
    assert run(CHECKPOINT, ("16-bit",), "results-16-bit", "--no-cache", "--overwrite") == 0
    after = stored(path)
    assert after.dataset.fingerprint != before.dataset.fingerprint
    assert any("more than 8 bits" in warning for warning in after.warnings)
    assert run(CHECKPOINT, ("16-bit",), "results-16-bit", "--no-cache") == 0


def test_the_old_feature_cache_is_read_for_every_image_and_text(old):
    assert run(CHECKPOINT, BENCHMARKS, "new", "--cache", "results/.embeddings") == 0
    results = read_results(old / "new")
    assert len(results) == len(BENCHMARKS)
    for result in results:
        name = result.benchmark.name.removeprefix("frozen-")
        before = stored(old / "results" / TEACHER / f"frozen-{name}")
        if cache_is_of_these_packages():
            assert set(result.timing.encoded.values()) == {0}
        assert result.identity == before.identity
        assert list(result.metrics) == list(before.metrics)
        values = [[one.metrics[metric].value for metric in one.metrics] for one in (before, result)]
        np.testing.assert_allclose(values[1], values[0], rtol=0, atol=ROUNDING.get(name, 1e-9))
        assert [metric.n for metric in result.metrics.values()] == [metric.n for metric in before.metrics.values()]


def test_metrics_and_intervals_of_the_old_features_are_those_of_today(old):
    """`frozen_metrics.json` has value, low, high and n of each metric, as the commit that added it gives them."""
    known = json.loads(Path(__file__).with_name("frozen_metrics.json").read_text(encoding="utf-8"))
    assert run(CHECKPOINT, BENCHMARKS, "new", "--cache", "results/.embeddings") == 0
    results = {result.benchmark.name.removeprefix("frozen-"): result for result in read_results(old / "new")}
    assert results.keys() == known.keys()
    for name, result in results.items():
        assert list(result.metrics) == list(known[name])
        measured = [[one.value, one.low, one.high, one.n] for one in result.metrics.values()]
        np.testing.assert_allclose(measured, list(known[name].values()), rtol=0, atol=ROUNDING.get(name, 1e-9))


def test_cache_lists_verifies_exports_and_clears_the_old_cache(old, capsys):
    assert run_command(["cache", "list", "--cache", "results"]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines() if "\t" in line]
    assert {(spec, digest, images, texts) for _, spec, digest, _, images, texts, *_ in lines} == {
        ("cosmos:train/last.pt#teacher", "216d002e", "94", "513"),
        ("cosmos:train/last.pt#student", "06aef86e", "94", "513"),
    }
    assert run_command(["cache", "verify", "--cache", "results"]) == 0
    assert ", 0 damaged" in capsys.readouterr().out
    assert run_command(["cache", "export", "216d002e", "--cache", "results", "--out", "vectors"]) == 0
    assert run("embeddings:vectors", ("retrieval", "classification"), "exported", "--no-cache") == 0
    for result in read_results(old / "exported"):
        before = stored(old / "results" / TEACHER / result.benchmark.name)
        assert result.metrics[before.primary].value == pytest.approx(before.metrics[before.primary].value)
    assert run_command(["cache", "clear", "--cache", "results"]) == 0
    assert not list((old / "results" / ".embeddings").rglob("*.safetensors"))
    assert run(CHECKPOINT, BENCHMARKS, "results") == 0  # results stay, and are still done


def test_images_that_the_old_version_resized_are_read(old):
    index = json.loads((FROZEN / "resized" / "resized.json").read_text(encoding="utf-8"))
    if not same_packages(index["made"]["packages"]):
        pytest.skip("resized with other versions of the libraries, which is refused")
    assert run(CHECKPOINT, ("files",), "new", "--no-cache", "--resized", "resized") == 0
    (result,) = read_results(old / "new")
    assert result.environment.resized == index["digest"]
    before = stored(old / "results" / TEACHER / "frozen-files")
    assert result.metrics[before.primary].value == pytest.approx(before.metrics[before.primary].value)
    assert (
        run_command(["data", "prepare", "resized", "definitions/frozen-files.yaml", "--size=32", "--out=resized"]) == 0
    )


def test_leaderboard_and_report_have_every_old_result(old, capsys):
    assert run_command(["leaderboard", "results"]) == 0
    text = (old / "results" / "leaderboard.md").read_text(encoding="utf-8")
    for label in (f"{CHECKPOINT}#teacher", f"{CHECKPOINT}#student", "cosmos:toybox"):
        assert text.count(f"| {label} ") == 1 + len(BENCHMARKS)  # the table of all, and one of each
    assert "unchecked" not in text
    table = pd.read_csv(old / "results" / "leaderboard.csv")
    assert {f"frozen-{name}" for name in BENCHMARKS} <= set(table["benchmark"])
    assert run_command(["report", "results"]) == 0
    page = (old / "results" / "report.html").read_text(encoding="utf-8")
    assert all(f"frozen-{name}" in page for name in BENCHMARKS)
    assert "3 models, 5 benchmarks" in capsys.readouterr().out


def test_an_old_and_a_new_result_of_one_model_stand_in_one_column(old):
    """The data, the definition and their fingerprints are the same, so nothing divides old from new."""
    assert run("cosmos:toybox", ("retrieval",), "new", "--no-cache") == 0
    shutil.copytree(old / "results" / TEACHER, old / "new" / TEACHER)
    assert run_command(["leaderboard", "new"]) == 0
    table = pd.read_csv(old / "new" / "leaderboard.csv")
    own = table[table["benchmark"] == "frozen-retrieval"]
    assert own["fingerprint"].nunique() == 1
    assert own["model"].nunique() == 2


def test_regress_pairs_an_old_baseline_with_what_is_measured_now(old, capsys):
    assert run("cosmos:toybox", BENCHMARKS, "new", "--no-cache") == 0
    capsys.readouterr()
    testable = [f"--benchmark=frozen-{name}" for name in ("classification", "perception", "retrieval")]
    assert run_command(["regress", f"results/{SHIPPED}", "new", *testable, "--max-drop", "5"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("| no regression ") == 4  # retrieval in both directions
    assert "ot comparable" not in printed
    # All five pair; six and eight images are too few for a verdict, and regress says so (exit 2).
    assert run_command(["regress", f"results/{SHIPPED}", "new"]) == 2
    printed = capsys.readouterr().out
    assert "ot comparable" not in printed
    for name in BENCHMARKS:
        assert f"| frozen-{name} " in printed


@pytest.mark.parametrize(("baseline", "candidate"), [("new", "old"), ("old", "new"), ("old", "old")])
def test_regress_finds_what_is_worse_whichever_of_the_two_is_old(old, capsys, baseline, candidate):
    good, bad = f"results/{SHIPPED}", f"results/{TEACHER}"
    if baseline == "new":
        assert run("cosmos:toybox", ("classification", "perception", "retrieval"), "good", "--no-cache") == 0
        good = "good"
    if candidate == "new":
        assert run(CHECKPOINT, ("classification", "perception", "retrieval"), "bad") == 0
        bad = "bad"
    capsys.readouterr()
    testable = [f"--benchmark=frozen-{name}" for name in ("classification", "perception", "retrieval")]
    assert run_command(["regress", good, bad, *testable]) == 1
    printed = capsys.readouterr().out
    assert printed.count("| **regression** ") == 4
    assert "ot comparable" not in printed


def test_old_samples_are_read_with_the_columns_that_are_written_now(old):
    assert run("cosmos:toybox", BENCHMARKS, "new", "--no-cache") == 0
    for name in BENCHMARKS:
        paths = [next((old / folder).glob(f"{SHIPPED}/frozen-{name}/RESULT.json")) for folder in ("results", "new")]
        before, after = (read_samples(path, read_result(path)) for path in paths)
        assert [*before.columns, "content"] == after.columns.tolist()
        if name != "segmentation":  # a class that is only predicted has a row of its own
            assert before["image"].tolist() == after["image"].tolist()
        columns = [pd.read_parquet(path.with_name("samples.parquet")).columns for path in paths]
        assert "picture" in columns[0]
        assert "image" in columns[1]
        assert [json.loads(path.read_text(encoding="utf-8"))["schema"] for path in paths] == [2, 3]


def test_a_merged_folder_of_old_and_new_is_compared_ranked_and_reported(old, capsys):
    """Half of the good model's results are new and half of the bad model's: every pair has one of each."""
    names = ("classification", "perception", "retrieval")
    assert run("cosmos:toybox", names[:2], "new", "--no-cache") == 0
    assert run(CHECKPOINT, names[2:], "new") == 0
    for model, kept in ((SHIPPED, names[2:]), (TEACHER, names[:2])):
        for name in kept:
            shutil.copytree(old / "results" / model / f"frozen-{name}", old / "kept" / model / f"frozen-{name}")
    assert run_command(["results", "merge", "kept", "new", "--out", "merged"]) == 0
    records = [json.loads(path.read_text(encoding="utf-8")) for path in (old / "merged").rglob("RESULT.json")]
    assert {record["schema"] for record in records} == {2, 3}
    for command in ("leaderboard", "report"):
        assert run_command([command, "merged"]) == 0
    table = pd.read_csv(old / "merged" / "leaderboard.csv")
    assert table.groupby("benchmark")["model"].nunique().loc[[f"frozen-{name}" for name in names]].eq(2).all()
    capsys.readouterr()
    good, bad = f"merged/{SHIPPED}", f"merged/{TEACHER}"
    assert run_command(["results", "diff", good, bad]) == 1
    assert run_command(["results", "diff", good, f"results/{SHIPPED}"]) == 1  # it lacks two benchmarks
    capsys.readouterr()
    assert run_command(["regress", good, bad]) == 1
    printed = capsys.readouterr().out
    assert printed.count("| **regression** ") == 4
    assert "ot comparable" not in printed


def test_results_list_show_diff_and_merge_take_old_and_new(old, capsys):
    assert run(CHECKPOINT, BENCHMARKS, "new", "--cache", "results/.embeddings") == 0
    capsys.readouterr()
    assert run_command(["results", "list", "results"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3 * len(BENCHMARKS)
    assert run_command(["results", "show", f"results/{TEACHER}/frozen-perception"]) == 0
    ours, theirs = (f"{folder}/{TEACHER}/frozen-retrieval" for folder in ("new", "results"))
    if cache_is_of_these_packages():
        assert run_command(["results", "diff", theirs, ours]) == 0
    assert run_command(["results", "diff", f"results/{TEACHER}", f"results/{STUDENT}"]) == 1
    assert run_command(["results", "merge", "results", "new", "--out", "merged"]) == 0
    assert len(read_results(old / "merged")) == 3 * len(BENCHMARKS)
    assert run(CHECKPOINT, BENCHMARKS, "merged") == 0
    assert capsys.readouterr().err.count("already done") == len(BENCHMARKS)


def test_the_old_training_goes_on_to_the_end_that_the_old_code_gave_it(old, capsys):
    assert run_command(["train", "tiny.yaml", "--out", "train"]) == 0
    assert "going on from step 4 of 8" in capsys.readouterr().err
    ours, theirs = log(old / "train" / "metrics.jsonl"), log(old / "finished.jsonl")
    assert [line["step"] for line in ours] == [line["step"] for line in theirs] == [1, 2, 4, 6, 8]
    assert ours[:3] == theirs[:3]
    for mine, other in zip(ours[3:], theirs[3:], strict=True):
        assert mine.keys() >= other.keys()
        for key in ("loss", "clip_loss", "distill_loss", "logit_scale", "grad_norm", "lr", "momentum", "alignment"):
            assert mine[key] == pytest.approx(other[key], rel=1e-3, abs=1e-4), key  # another CPU rounds otherwise
    assert read_file(old / "train" / "last.pt")["step"] == 8
    assert run_command(["train", "tiny.yaml", "--out", "train"]) == 2  # finished
    assert run_command(["train", "tiny.yaml", "--out", "train", "--set", "steps=9"]) == 2  # another training
    assert run(CHECKPOINT, ("retrieval",), "new", "--no-cache") == 0
