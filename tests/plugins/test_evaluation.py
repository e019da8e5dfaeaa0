"""A task, data, readers, models and definitions of another package: every command takes them as it takes ours."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
import yaml

from cosmos_eval.cli import main as cli
from cosmos_eval.results.store import located_results, read_result
from tests.helpers.killing import ended
from tests.helpers.rank_runs import start
from tests.plugins.installed import imported, write_fruit

PLUGIN = "image-text-extras 1.0"
SUITE = ["fruit-probe", "fruit-pairs"]


def command(*arguments: object) -> int:
    return cli.run_command([str(one) for one in arguments])


def run(out: Path, root: Path, *more: object, models: Sequence[str] = ("late:2",), suite: str = "fruit") -> int:
    chosen = [word for model in models for word in ("--model", model)]
    return command("run", *chosen, "--suite", suite, "--data-root", root, "--out", out, *more)


@pytest.fixture(scope="session")
def measured(target: Path, fruit: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of two models on both benchmarks, and of a benchmark of ours."""
    out = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(target))
        models = ["--model", "late:2", "--model", "brightness:2"]
        assert command("run", *models, "--suite", "fruit", "--data-root", fruit, "--out", out) == 0
    return out


def result_of(out: Path, model: str, benchmark: str) -> Path:
    (path,) = [path for path, one in located_results(out) if one.model.spec == model and path.parent.name == benchmark]
    return path


def folder_of(out: Path, model: str) -> Path:
    return result_of(out, model, "fruit-probe").parent.parent


@pytest.mark.parametrize(
    ("what", "names"),
    [
        ("tasks", ["linear-probe", "same-class"]),
        ("readers", ["labelled-parquet", "image-pairs"]),
        ("models", ["late:PATCHES", "brightness:..."]),
        ("objectives", ["sigmoid"]),
        ("benchmarks", SUITE),
        ("suites", ["fruit"]),
    ],
)
def test_list_tells_of_plugins_and_who_brings_them(extras: Path, what: str, names: list[str], capsys):
    assert command("list", what) == 0
    captured = capsys.readouterr()
    rows = {line.partition("\t")[0]: line for line in captured.out.splitlines()}
    for name in names:
        assert PLUGIN in rows[name]
    assert captured.err == ""


def test_data_check_decodes_and_tells_problems_in_the_words_of_the_data(extras: Path, tmp_path: Path, capsys):
    root = write_fruit(tmp_path)
    assert command("data", "check", *SUITE, "--deep", "--data-root", root) == 0
    assert capsys.readouterr().out.splitlines() == [
        "ready    fruit-probe: 24 images, 3 classes",
        "ready    fruit-pairs: 24 images, 69 pairs",
    ]
    pairs = (root / "pairs.csv").read_text().splitlines()
    (root / "pairs.csv").write_text("\n".join([*pairs[:-1], "03.png,03.png,1"]))
    (root / "images" / "00.png").write_bytes(b"no image")
    (root / "fruit.parquet").write_bytes(b"no table")
    assert command("data", "check", *SUITE, "--deep", "--data-root", root) == 1
    told = capsys.readouterr().out
    assert "fruit-pairs has 1 pairs of an image with itself" in told
    assert "fruit-probe cannot read" in told
    (root / "pairs.csv").write_text("\n".join(pairs[:-1]))
    assert command("data", "check", "fruit-pairs", "--deep", "--data-root", root) == 1
    told = capsys.readouterr().out
    assert "fruit-pairs needs 69 pairs, found 68" in told
    (root / "pairs.csv").write_text("\n".join(pairs))
    assert command("data", "check", "fruit-pairs", "--deep", "--data-root", root) == 1
    assert "fruit-pairs: cannot decode the image" in capsys.readouterr().out
    own = definition(root, "own", reader="image-pairs", path="pairs.txt", images="images")
    assert command("data", "check", own) == 1
    assert "own needs a .csv file, not pairs.txt" in capsys.readouterr().out


def definition(root: Path, name: str, task: str = "same-class", metrics: object = None, more: object = None, **dataset):
    path = root / f"{name}.yaml"
    primary = "verification_accuracy" if task == "same-class" else "probe_accuracy"
    content = {"name": name, "version": 1, "task": task, "dataset": dataset, "metrics": {"primary": primary}}
    content["metrics"].update(metrics or {})
    path.write_text(yaml.safe_dump({**content, **(more or {})}))
    return path


def test_results_say_which_code_made_them_and_a_finished_run_is_kept(extras, fruit, measured, tmp_path, capsys):
    result = read_result(result_of(measured, "late:2", "fruit-probe"))
    assert result.benchmark.plugins == {"reader": PLUGIN, "task": PLUGIN}
    assert result.model.plugin == PLUGIN
    assert result.metrics["probe_accuracy"].n == 24
    samples = pd.read_parquet(result_of(measured, "late:2", "fruit-probe").parent / "samples.parquet")
    assert samples.columns.tolist() == ["image", "label", "prediction", "correct", "content"]
    before = {path: path.stat().st_mtime_ns for path in measured.rglob("RESULT.json")}
    assert run(measured, fruit, models=("late:2", "brightness:2")) == 0
    assert capsys.readouterr().err.count("already done, kept") == 4
    assert before == {path: path.stat().st_mtime_ns for path in measured.rglob("RESULT.json")}


def test_features_of_patches_are_cached_and_read(extras, fruit, measured, tmp_path, capsys):
    cache = measured / ".embeddings"
    assert run(tmp_path / "again", fruit, "--cache", cache) == 0
    captured = capsys.readouterr()
    assert "encoding" not in captured.err
    for name in SUITE:
        ours, theirs = (read_result(result_of(out, "late:2", name)) for out in (tmp_path / "again", measured))
        assert ours.metrics == theirs.metrics
        assert set(ours.timing.encoded.values()) <= {0}
    assert command("cache", "list", "--cache", cache) == 0
    assert "late:2" in capsys.readouterr().out
    assert command("cache", "verify", "--cache", cache) == 0


def test_a_limited_run_takes_the_subset_of_the_data_and_regress_refuses_it(extras, fruit, measured, tmp_path, capsys):
    assert run(tmp_path, fruit, "--limit", 8) == 0
    (limited,) = [one for _, one in located_results(tmp_path) if one.benchmark.name == "fruit-pairs"]
    assert limited.dataset.n["images"] == 8
    assert limited.limit == 8
    words = ["--benchmark", "fruit-pairs", "--data-root", fruit, "--out", tmp_path / "none", "--limit", 1]
    assert command("run", "--model", "late:2", *words) == 2
    assert "a limit of 1 images leaves no pair; give more" in capsys.readouterr().err
    assert command("regress", folder_of(measured, "late:2"), folder_of(tmp_path, "late:2")) == 2
    assert "was made with --limit 8" in capsys.readouterr().out


def test_ours_and_theirs_go_together(extras, fruit, tmp_path, capsys):
    """Our tasks on their readers and models, their task on our reader."""
    zero_shot = {
        "prompts": {"class_names": ["apple", "lime", "plum"], "templates": ["a {c}"]},
        "metrics": {"primary": "top1"},
    }
    paths = [
        definition(
            fruit, "zero-shot", task="classification", more=zero_shot, reader="labelled-parquet", path="fruit.parquet"
        ),
        definition(fruit, "toybox-probe", task="linear-probe", reader="toybox", split="test", seed=0, per_class=1),
    ]
    retrieval = {"metrics": {"primary": "text_to_image_recall@1"}}
    toybox = {"reader": "toybox", "split": "test", "seed": 0, "scenes": 6}
    paths.append(definition(fruit, "toybox-pairs", task="retrieval", more=retrieval, **toybox))
    chosen = [word for path in paths for word in ("--benchmark", path)]
    assert command("run", "--model", "late:4", *chosen, "--out", tmp_path) == 0
    found = {one.benchmark.name: one for _, one in located_results(tmp_path)}
    assert found["zero-shot"].benchmark.plugins == {"reader": PLUGIN}
    assert found["toybox-probe"].benchmark.plugins == {"task": PLUGIN}
    assert found["toybox-pairs"].benchmark.plugins == {}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"task": "linear-probe", "more": {"linear_probe": {"fold": 3}}}, "unknown key 'fold'; known: folds, ridge"),
        ({"task": "linear-probe", "more": {"segmentation": {}}}, "linear-probe takes no settings of segmentation"),
        ({"task": "linear-probe", "more": {"prompts": {"templates": ["{c}"]}}}, "unknown key 'templates' in prompts"),
        ({"metrics": {"threshold": 3}}, "threshold is a cosine from -1 to 1, not 3"),
        ({"metrics": {"threshold": "high"}}, "threshold must be a number"),
        ({"metrics": {"primary": "top1"}}, "unknown metric 'top1' of same-class; known: verification_accuracy"),
        ({"more": {"linear_probe": {}}}, "unknown key 'linear_probe'"),
        ({"task": "same-clas"}, "unknown task 'same-clas'; did you mean same-class?"),
        ({"task": "retrieval"}, "gives data for classification, not for retrieval"),
    ],
)
def test_definitions_are_checked_by_what_the_plugin_says(extras, tmp_path, changes, why, capsys):
    dataset = {"reader": "labelled-parquet", "path": "a"}
    if changes.get("task", "same-class") == "same-class":
        dataset = {"reader": "image-pairs", "path": "a", "images": "b"}
    assert command("data", "check", definition(tmp_path, "own", **changes, **dataset)) == 2
    said = capsys.readouterr().err
    assert why in said
    assert "own.yaml:" in said
    assert said.count("\n") == 1


def test_settings_of_the_task_enter_the_fingerprint(extras, fruit, tmp_path):
    from cosmos_eval.protocol.benchmark import load_benchmark

    own = [
        definition(tmp_path, "own", task="linear-probe", more=more, reader="labelled-parquet", path="a")
        and load_benchmark(tmp_path / "own.yaml").fingerprint
        for more in ({}, {"linear_probe": {"folds": 5}}, {"linear_probe": {"folds": 4}})
    ]
    assert own[0] == own[1] != own[2]


@pytest.mark.parametrize("form", ["md", "csv", "html", "tex", "json", "clip-benchmark", "model-index"])
def test_leaderboards_in_every_format(extras, measured, tmp_path, form, capsys):
    arguments = [measured, "--format", form, "--suite", "fruit", "--out", tmp_path]
    assert command("leaderboard", *arguments) == 0
    texts = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert all(name in "".join(texts) for name in ("late:2", "fruit-pairs"))
    if form == "md":
        assert "mean of fruit" in texts[0]
        assert "same/verification_accuracy" in texts[0]


def test_the_page_shows_their_benchmarks(extras, measured, tmp_path):
    assert command("report", measured, "--out", tmp_path / "page.html") == 0
    text = (tmp_path / "page.html").read_text()
    assert all(name in text for name in ("fruit-probe", "verification_accuracy", "late:2"))


def test_regress_pairs_the_samples_as_the_task_says(extras, measured, capsys):
    better, worse = folder_of(measured, "late:2"), folder_of(measured, "brightness:2")
    assert command("regress", better, worse) == 1
    told = capsys.readouterr().out
    assert "probe_accuracy" in told
    assert told.count("**regression**") == 2
    assert command("regress", worse, better) == 0
    assert capsys.readouterr().out.count("**improved**") == 2
    assert command("regress", better, better) == 0
    assert command("regress", better, worse, "--metric", "probe_mean_per_class") == 2
    assert "there is no paired test of probe_mean_per_class" in capsys.readouterr().err


def test_results_are_compared_and_merged(extras, measured, tmp_path, capsys):
    first, second = (folder_of(measured, model) for model in ("late:2", "brightness:2"))
    assert command("results", "diff", first, second) == 1
    assert "verification_accuracy" in capsys.readouterr().out
    assert command("results", "list", measured) == 0
    assert command("results", "show", first / "fruit-probe") == 0
    assert "probe_accuracy" in capsys.readouterr().out
    assert command("results", "merge", measured, "--out", tmp_path / "merged") == 0
    assert len(located_results(tmp_path / "merged")) == 4


def test_show_and_export_refuse_in_one_line(extras, fruit, tmp_path, capsys):
    for what in ("retrieval", "perception", "segmentation"):
        arguments = ["--model", "late:2", "--benchmark", "fruit-pairs", "--data-root", fruit, "--out", tmp_path]
        assert command("show", what, *arguments) == 2
        said = capsys.readouterr().err
        assert f"fruit-pairs has the task same-class; show {what} needs a benchmark of {what}" in said
        assert said.count("\n") == 1
    assert command("show", "attention", "--model", "late:2", "--scene", 0, "--out", tmp_path) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert command("export", "late:2", tmp_path / "late.safetensors") == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_bad_specs_are_refused_before_any_data_are_read(extras, fruit, tmp_path, capsys):
    assert run(tmp_path, fruit, models=["late:many"]) == 2
    assert "late:many: the name is the number of patches on a side, as in late:4" in capsys.readouterr().err
    assert run(tmp_path, fruit, models=["brightness:high"]) == 2
    said = capsys.readouterr().err
    assert "brightness:high (plug-in image-text-extras 1.0)" in said
    assert "could not convert string to float" in said
    assert said.count("cosmos-eval:") == 1


def test_two_ranks_give_the_results_of_one(extras, fruit, measured, tmp_path):
    arguments = [
        "run",
        "--model",
        "late:2",
        "--suite",
        "fruit",
        "--data-root",
        str(fruit),
        "--out",
        str(tmp_path / "out"),
    ]
    processes = start([*arguments, "--batch-size", "4"], 2, tmp_path / "said")
    assert [ended(process) for process in processes] == [0, 0], (tmp_path / "said" / "0").read_text()
    for name in SUITE:
        ours, theirs = (result_of(out, "late:2", name) for out in (tmp_path / "out", measured))
        assert read_result(ours).metrics == read_result(theirs).metrics
        assert read_result(ours).timing.ranks == 2
        frames = [pd.read_parquet(path.parent / "samples.parquet") for path in (ours, theirs)]
        pd.testing.assert_frame_equal(*frames)


def test_nothing_is_imported_until_a_name_is_used(extras, measured, capsys):
    for words in (
        ["--help"],
        ["run", "--help"],
        ["list", "--help"],
        ["train", "--help"],
        ["train", "toybox", "--dry-run"],
    ):
        assert command(*words) == 0
        assert imported() == []
    assert command("data", "check", "winoground") == 1
    assert imported() == []
    words = ["--benchmark", "winoground", "--skip-missing", "--dry-run"]
    assert command("run", "--model", "cosmos:toybox", *words) == 0
    assert imported() == []
    assert command("data", "check", "fruit-pairs", "--data-root", measured) == 1
    assert imported() == ["image_text_extras.definitions", "image_text_extras.same_class"] or imported() == [
        "image_text_extras.same_class"
    ]


def test_the_command_in_a_process_of_its_own(extras, fruit, tmp_path):
    """As a user calls it, with nothing of these tests."""
    words = ["run", "--model", "brightness:2", "--benchmark", "fruit-pairs", "--data-root", fruit, "--out", tmp_path]
    code = "from cosmos_eval.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    record = json.loads(result_of(tmp_path, "brightness:2", "fruit-pairs").read_text())
    assert record["benchmark"]["plugins"] == {"reader": PLUGIN, "task": PLUGIN}
