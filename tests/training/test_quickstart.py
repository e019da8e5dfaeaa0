"""The whole way with a few training steps: the same bits for a seed, kept when finished, honest about who is ahead."""

import io
import re
import shlex
from contextlib import redirect_stdout
from dataclasses import replace

import pytest
import torch
import yaml

from cosmos_core.checkpoint import read_file
from cosmos_eval.cli.main import run_command
from cosmos_eval.protocol.benchmark import load_suite
from cosmos_eval.results.store import read_results, result_paths
from cosmos_eval.tasks.outcome import Metric
from cosmos_eval.training import quickstart
from cosmos_eval.training.quickstart import against_chance, times_chance, verdict
from tests.results.test_results import make_result

SCENES = {
    "toybox-retrieval": {"scenes": 20, "expected": {"images": 20, "texts": 40}},
    "toybox-classification": {"per_class": 1, "expected": {"images": 48, "classes": 48}},
    "toybox-segmentation": {"scenes": 4, "expected": {"images": 4, "classes": 9}},
    "toybox-segmentation-csa": {"scenes": 4, "expected": {"images": 4, "classes": 9}},
    "toybox-perception": {"scenes": 20, "expected": {"images": 20}},
}
"""The benchmarks of the suite toybox, with fewer scenes."""
SUITE, SHOWN = quickstart.SUITE, quickstart.SHOWN
SHORT = ["--set", "steps=3", "--set", "batch_size=16", "--set", "samples=64", "--set", "warmup=1"]


@pytest.fixture(scope="module", autouse=True)
def small_suite(tmp_path_factory):
    """The suite of the quickstart with fewer scenes; the whole one is measured by the slow test."""
    folder = tmp_path_factory.mktemp("suite")
    definitions = {
        name: folder / name / f"{name}.yaml" for name in SCENES
    }  # a base is looked for beside its file first
    for name, path in definitions.items():
        definition = {"base": name, "name": name, "version": 1, "dataset": SCENES[name]}
        if name.endswith("-csa"):
            definition |= {"base": name.removesuffix("-csa"), "segmentation": {"attention": "csa"}}
        path.parent.mkdir()
        path.write_text(yaml.safe_dump(definition))
    suite = folder / "toybox.yaml"
    suite.write_text(yaml.safe_dump({"summary": "small", "benchmarks": [f"{name}/{name}.yaml" for name in SCENES]}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quickstart, "SUITE", str(suite))
        patch.setattr(quickstart, "SHOWN", str(definitions["toybox-segmentation-csa"]))
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a quickstart, with a space in its name, and what the command printed."""
    return run_quickstart(tmp_path_factory.mktemp("quick start"))


def run_quickstart(out):
    with redirect_stdout(io.StringIO()) as printed:
        assert run_command(["quickstart", "--out", str(out), "--seed", "5", *SHORT]) == 0
    return out, printed.getvalue()


@pytest.fixture(scope="module")
def done(run):
    return run[0]


def test_the_small_suite_has_the_benchmarks_of_the_real_one():
    real = load_suite(SUITE)
    assert [benchmark.name for benchmark in real] == list(SCENES)
    small = {benchmark.name: benchmark for benchmark in load_suite(quickstart.SUITE)}
    assert SHOWN in small
    for benchmark in real:
        one = small[benchmark.name]
        assert (one.task, one.metrics, one.prompts) == (benchmark.task, benchmark.metrics, benchmark.prompts)


@pytest.mark.slow
def test_the_whole_suite_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(quickstart, "SUITE", SUITE)
    monkeypatch.setattr(quickstart, "SHOWN", SHOWN)
    run_quickstart(tmp_path)
    assert {result.dataset.n["images"] for result in read_results(tmp_path / "results")} == {1000, 960, 400}
    assert "toybox-segmentation-csa" in (tmp_path / "report.md").read_text()


def test_it_leaves_a_leaderboard_a_report_and_images(done):
    text = (done / "leaderboard.md").read_text()
    for label in ("COSMOS, 3 steps", "CLIP loss, 3 steps", "untrained", "COSMOS, shipped checkpoint"):
        assert label in text
    report = (done / "report.md").read_text()
    for name in re.findall(r"\]\((images/\S+)\)", report):
        assert (done / name).read_bytes().startswith(b"\x89PNG")
    assert "COSMOS, 3 steps is" in report
    for kind in ("replace", "swap", "add"):
        assert re.search(
            rf"^- toybox-perception {kind}: COSMOS, 3 steps has .* chance .*; untrained has ", report, re.M
        )
    assert "](images/segmentation/overlays.png)" in report
    assert "](images/attention/attention.png)" in report


def test_it_ends_with_the_table_the_page_and_a_comparison_to_try(run, capsys):
    out, printed = run
    assert (out / "leaderboard.md").read_text().splitlines()[4] in printed  # the table's head
    assert f"Report, for a browser: {out / 'report.html'}\n" in printed
    page = (out / "report.html").read_text()
    assert "COSMOS, 3 steps is" in page
    for name in ("scenes.png", "segmentation/overlays.png", "attention/attention.png"):
        assert f'"path":"images/{name}"' in page
    (command,) = re.findall(r"^Is COSMOS worse than its baseline\? (.*)$", printed, re.M)
    name, *arguments = shlex.split(command)
    assert (name, arguments[0]) == ("cosmos-eval", "regress")
    run_command(arguments)  # three steps teach nothing: whatever the answer is, it is about these two
    said = capsys.readouterr().out
    assert re.search(r"Baseline CLIP loss, 3 steps.*candidate COSMOS, 3 steps", said)
    assert "toybox-segmentation-csa" in said


def test_every_number_of_the_table_is_a_result_on_disk(done):
    results = read_results(done / "results")
    names = {result.benchmark.name for result in results}
    assert {"toybox-retrieval", "toybox-classification", "toybox-segmentation", "toybox-segmentation-csa"} <= names
    assert len(results) == 4 * len(names)
    text = (done / "leaderboard.md").read_text()
    for result in results:
        metric = result.metrics[result.primary]
        value, low, high = (f"{100 * x:.1f}" for x in (metric.value, metric.low, metric.high))
        assert re.search(rf"(\| |\*\*){re.escape(value)}(\*\*)? \[{re.escape(low)}, {re.escape(high)}\]", text)


def test_one_seed_gives_the_same_bits(done, tmp_path):
    assert run_command(["quickstart", "--out", str(tmp_path), "--seed", "5", *SHORT]) == 0
    for objective in ("cosmos", "clip"):
        ours, theirs = (read_file(folder / "train" / objective / "last.pt") for folder in (done, tmp_path))
        for side in ("student", "teacher"):
            assert all(torch.equal(ours[side][key], theirs[side][key]) for key in ours[side])
    first, second = (
        {result.label + result.benchmark.name: result.metrics for result in read_results(folder / "results")}
        for folder in (done, tmp_path)
    )
    assert first == second


def test_what_is_finished_is_kept(done, capsys):
    before = {path: path.stat().st_mtime_ns for path in [*result_paths(done), *done.rglob("last.pt")]}
    assert run_command(["quickstart", "--out", str(done), "--seed", "5", *SHORT]) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert "already trained, kept" in capsys.readouterr().err


def test_another_training_in_the_same_folder_is_refused(done, capsys):
    assert run_command(["quickstart", "--out", str(done), "--seed", "6", *SHORT]) == 2
    assert "--overwrite" in capsys.readouterr().err


def labelled(label: str, value: float, low: float, high: float):
    base = make_result()
    return replace(base, model=replace(base.model, label=label), metrics={"top1": Metric(value, low, high, 4)})


def test_the_verdict_says_who_is_ahead_and_whether_the_intervals_touch():
    ours, other = labelled("COSMOS", 0.5, 0.45, 0.55), labelled("CLIP", 0.3, 0.25, 0.35)
    assert verdict([ours, other], "COSMOS", "CLIP") == [
        "toy top-1: COSMOS is ahead of CLIP (+20.0 points, intervals apart)"
    ]
    assert verdict([ours, other], "CLIP", "COSMOS") == [
        "toy top-1: CLIP is behind COSMOS (-20.0 points, intervals apart)"
    ]
    near = labelled("CLIP", 0.5, 0.4, 0.6)
    assert verdict([ours, near], "COSMOS", "CLIP") == [
        "toy top-1: COSMOS is level with CLIP (+0.0 points, intervals overlap)"
    ]


def perceiving(label: str, **kinds: tuple[float, float, float]):
    base = make_result()
    benchmark = replace(base.benchmark, name="toy-perception", task="perception")
    metrics = {f"{kind}/accuracy": Metric(*values, 100) for kind, values in kinds.items()}
    return replace(base, benchmark=benchmark, model=replace(base.model, label=label), metrics=metrics)


def test_kinds_of_wrong_captions_stand_against_chance_and_against_no_training():
    ours = perceiving("COSMOS", replace=(0.587, 0.571, 0.604), swap=(0.514, 0.487, 0.539), add=(0.4, 0.3, 0.49))
    other = perceiving("untrained", replace=(0.49, 0.47, 0.51), swap=(0.5, 0.47, 0.52), add=(0.643, 0.622, 0.663))
    assert against_chance([labelled("COSMOS", 0.5, 0.4, 0.6), ours, other], "COSMOS", "untrained") == [
        "toy-perception replace: COSMOS has 58.7 [57.1, 60.4], above chance (50); untrained has 49.0 [47.0, 51.0]",
        "toy-perception swap: COSMOS has 51.4 [48.7, 53.9], not distinct from chance (50); "
        "untrained has 50.0 [47.0, 52.0]",
        "toy-perception add: COSMOS has 40.0 [30.0, 49.0], below chance (50); untrained has 64.3 [62.2, 66.3]",
    ]
    alone = perceiving("COSMOS", add=(0.75, 0.7, 0.8))
    assert against_chance([alone], "COSMOS", "untrained") == [
        "toy-perception add: COSMOS has 75.0 [70.0, 80.0], above chance (50)"
    ]


def test_times_chance_counts_classes_or_images():
    assert times_chance(labelled("m", 0.75, 0.5, 1.0)) == {"top1": 1.5}  # two classes: chance is one half
