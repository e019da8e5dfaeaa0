"""`--label`: the model's name in tables; it decides neither which result is meant nor which is kept."""

import json
from types import SimpleNamespace

import pytest

from cosmos_core.errors import RequestError
from cosmos_eval.cli.main import run_command
from cosmos_eval.results.store import read_result, read_results
from cosmos_eval.run.evaluate import evaluate
from cosmos_eval.run.labels import LONGEST_LABEL, check_label
from cosmos_eval.training.model_labels import label_models
from cosmos_eval.training.sweep import Checkpoint, Swept
from tests.helpers.tiny_runs import checkpoint
from tests.helpers.worlds import classes_world

MODELS = """
from tests.helpers.tiny_models import Colours

class First(Colours):
    digest = "first"

class Second(Colours):
    digest = "second"
"""
FIRST, SECOND = "python:labelled_models:First", "python:labelled_models:Second"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    (tmp_path / "labelled_models.py").write_text(MODELS)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "data").mkdir()
    world = str(classes_world(tmp_path / "data"))

    def command(*words: str, out: str = "out") -> SimpleNamespace:
        code = run_command(["run", *words, "--benchmark", world, "--out", str(tmp_path / out)])
        captured = capsys.readouterr()
        return SimpleNamespace(code=code, out=captured.out, err=captured.err)

    command.out = tmp_path / "out"
    command.world = world
    return command


def labels(folder) -> dict[str, str]:
    """Spec -> name in tables, of the results below a folder."""
    return {result.model.spec: result.label for result in read_results(folder)}


def test_each_model_gets_its_label_in_records_and_tables_but_not_in_its_identity(run, capsys):
    plain = run("--model", FIRST, out="plain")
    assert plain.code == 0
    done = run("--model", FIRST, "--model", SECOND, "--label", "ours, 30 M", "--label", "theirs")
    assert done.code == 0, done.err
    assert labels(run.out) == {FIRST: "ours, 30 M", SECOND: "theirs"}
    assert "ours, 30 M" in done.out
    assert FIRST not in done.out
    (before,) = read_results(run.out.with_name("plain"))
    after = next(result for result in read_results(run.out) if result.model.spec == FIRST)
    assert after.identity == before.identity
    # named after the model: a run goes on under any label
    first_folder = f"python-labelled_models-First-{after.model.digest[:8]}"
    assert (run.out / first_folder).is_dir()
    assert (run.out.with_name("plain") / first_folder).is_dir()
    assert run_command(["leaderboard", str(run.out)]) == 0
    assert "\n| theirs " in capsys.readouterr().out
    assert run_command(["report", str(run.out)]) == 0
    assert "ours, 30 M" in (run.out / "report.html").read_text(encoding="utf-8")
    one, two = (next(run.out.glob(f"*-{name}-*")) for name in ("First", "Second"))
    capsys.readouterr()
    run_command(["regress", str(one), str(two), "--json", str(run.out / "regress.json")])
    assert f"ours, 30 M ({after.model.digest[:8]})" in "".join(capsys.readouterr())


def test_a_finished_result_is_kept_and_gets_the_new_label(run):
    assert run("--model", FIRST).code == 0
    path = next(run.out.rglob("RESULT.json"))
    before = read_result(path)
    done = run("--model", FIRST, "--label", "ours")
    assert done.code == 0
    assert f"already done, kept (labelled ours, formerly {FIRST})" in done.err
    after = read_result(path)
    assert after.label == "ours"
    assert (after.identity, after.metrics, after.timing, after.samples) == (
        before.identity, before.metrics, before.timing, before.samples,
    )  # fmt: skip
    again = run("--model", FIRST, "--label", "ours")
    assert "already done, kept\n" in again.err
    run("--model", FIRST)  # no label: the one that is there stays
    assert read_result(path).label == "ours"


def test_the_label_of_another_model_in_the_folder_is_told(run):
    assert run("--model", FIRST, "--label", "ours").code == 0
    assert "another model" not in run("--model", FIRST, "--label", "ours").err
    done = run("--model", SECOND, "--label", "ours")
    assert done.code == 0
    assert "ours is also the label of another model" in done.err
    assert run_command(["leaderboard", str(run.out)]) == 0
    table = (run.out / "leaderboard.md").read_text(encoding="utf-8")
    assert all(f"ours ({result.model.digest[:8]})" in table for result in read_results(run.out))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", FIRST, "--model", SECOND, "--label", "ours"], "--model is given 2 times and --label once"),
        (["--model", FIRST, "--label", "a", "--label", "b"], "--model is given once and --label 2 times"),
        (["--model", FIRST, "--model", SECOND, "--label", "a", "--label", "a"], "would both be called a"),
        (["--model", FIRST, "--model", FIRST, "--label", "a", "--label", "b"], "has two labels, a and b"),
        (["--model", FIRST, "--label", ""], "empty"),
        (["--model", FIRST, "--label", "  "], "empty"),
        (["--model", FIRST, "--label", "a\tb"], r"'a\tb' has a control character"),
        (["--model", FIRST, "--label", "a\x1b[31m"], r"'a\x1b[31m' has a control character"),
        (["--model", FIRST, "--label", "a\u202eb"], r"'a\u202eb' has a control character"),
        (["--model", FIRST, "--label", " a"], "begins or ends with a space"),
        (["--model", FIRST, "--label", "a" * (LONGEST_LABEL + 1)], "201 characters"),
    ],
)
def test_labels_that_fit_no_table_are_refused_in_one_line(run, words, said):
    done = run(*words)
    assert done.code == 2
    (line,) = done.err.splitlines()
    assert said in line
    assert not run.out.exists()


def test_python_refuses_the_same_labels_and_takes_others(run):
    for label in ("", "a\nb", 3):
        with pytest.raises(RequestError, match="the label"):
            evaluate(FIRST, run.world, label=label)
    (result,) = evaluate(FIRST, run.world, label="模型 {step}")  # no pattern: braces are as they are
    assert result.label == "模型 {step}"


def test_the_label_of_a_pattern_has_a_placeholder_for_each_checkpoint(tmp_path, run):
    for step in (10, 20):
        checkpoint(tmp_path / "x" / f"step-{step:08d}.pt", step)
    pattern = f"cosmos:{tmp_path}/x/*.pt"
    assert "'ours {step}'" in run("--model", pattern, "--label", "ours").err
    assert "nothing is called {stp}; did you mean step?" in run("--model", pattern, "--label", "ours {stp}").err
    assert "would both be called ours teacher" in run("--model", pattern, "--label", "ours {network}").err
    words = ["--model", pattern, "--model", FIRST, "--label", "ours, {network} at {step}", "--label", "other"]
    done = run(*words, "--dry-run")
    assert done.code == 0
    assert [line.partition(" × ")[0].rpartition("(")[2] for line in done.out.splitlines()] == [
        "ours, teacher at 10)", "ours, teacher at 20)", "other)",
    ]  # fmt: skip


def test_placeholders_are_filled_with_what_differs():
    def swept(run, name, step):
        return Swept(
            f"cosmos:{run}/{name}.pt", Checkpoint(SimpleNamespace(stem=name), step), "student", run, "cosmos:*"
        )

    models = {model.spec: model for model in (swept("a", "one", 1), swept("b", "one", 1))}
    with pytest.raises(RequestError, match=r"add \{run\}"):
        label_models(["cosmos:*"], ["x {step}"], list(models), models)
    assert label_models(["cosmos:*"], ["{run}/{file} {step} {network}"], list(models), models) == {
        "cosmos:a/one.pt": "a/one 1 student",
        "cosmos:b/one.pt": "b/one 1 student",
    }
    # a checkpoint that is also given by itself has its own label
    given = ["cosmos:*", "cosmos:a/one.pt"]
    assert label_models(given, ["{run}", "best"], list(models), models)["cosmos:a/one.pt"] == "best"
    assert label_models(given, [], list(models), models) == {}


@pytest.mark.parametrize("label", ["ours", "ours, 30 M (v2)", "ViT-B/16 → ours", "模型", "👩‍🔬 probe"])
def test_ordinary_names_are_labels(label):
    check_label(label)


def test_a_result_of_an_older_schema_keeps_its_label_and_its_bytes(run, monkeypatch):
    assert run("--model", FIRST).code == 0
    path = next(run.out.rglob("RESULT.json"))
    text = path.read_bytes()
    monkeypatch.setattr("cosmos_eval.run.labels.SCHEMA", 4)  # as if the file were of the version before
    done = run("--model", FIRST, "--label", "ours")
    assert done.code == 0
    assert "its file has an older schema" in done.err
    assert path.read_bytes() == text
    assert json.loads(text)["model"]["label"] is None
