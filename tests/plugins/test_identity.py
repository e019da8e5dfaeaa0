"""What another version of a plug-in measures is another measurement; results outlive the plug-in that made them."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from cosmos_eval.results.store import read_result
from tests.plugins.installed import forget, put_before
from tests.plugins.test_evaluation import SUITE, command, folder_of, measured, result_of, run

__all__ = ["measured"]


@pytest.fixture
def copied(measured: Path, tmp_path: Path) -> Path:
    """The results, to be changed."""
    return Path(shutil.copytree(measured, tmp_path / "results"))


@pytest.fixture
def newer(target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Version 1.1 of the distribution is installed."""
    folder = Path(shutil.copytree(target, tmp_path / "newer"))
    (information,) = folder.glob("*.dist-info")
    metadata = information / "METADATA"
    metadata.write_text(metadata.read_text().replace("Version: 1.0", "Version: 1.1"))
    information.rename(folder / "image_text_extras-1.1.dist-info")
    forget()
    put_before(monkeypatch, folder)
    yield folder
    forget()


def test_another_version_of_the_plugin_is_measured_again_and_told(newer, copied, fruit, measured, capsys):
    assert run(copied, fruit) == 0
    said = capsys.readouterr().err
    other = "by image-text-extras 1.1, not image-text-extras 1.0"
    for name in SUITE:
        assert f"{name}: measured again: task {other}; reader {other}" in said
        assert read_result(result_of(copied, "late:2", name)).benchmark.plugins["task"] == "image-text-extras 1.1"
    assert run(copied, fruit) == 0
    assert capsys.readouterr().err.count("already done, kept") == 2
    assert command("regress", folder_of(measured, "late:2"), folder_of(copied, "late:2")) == 2
    told = capsys.readouterr().out
    assert "the plug-ins of task and reader differs: " in told
    assert "measure both again with run --overwrite" in told
    assert command("leaderboard", copied) == 0  # one model was measured by 1.1, the other by 1.0
    page = (copied / "leaderboard.md").read_text()
    assert "fruit-probe: scored by different code: image-text-extras 1.0, scoring version 1 (brightness:2" in page
    assert run(copied, fruit, "--overwrite", models=["brightness:2"]) == 0  # as the remark advises
    assert command("leaderboard", copied) == 0
    assert "different code" not in (copied / "leaderboard.md").read_text()


def test_a_later_scoring_version_is_measured_again_and_told(extras, copied, measured, fruit, monkeypatch, capsys):
    from image_text_extras import linear_probe

    monkeypatch.setattr(linear_probe, "INFO", replace(linear_probe.INFO, scoring_version=2))
    assert run(copied, fruit) == 0
    said = capsys.readouterr().err
    assert "fruit-probe: measured again: scoring version 2 of the task, not 1" in said
    assert "fruit-pairs: already done, kept" in said
    old, new = (read_result(result_of(out, "late:2", "fruit-probe")) for out in (measured, copied))
    assert new.benchmark.scoring_version == 2
    assert old.identity != new.identity
    assert old.metrics == new.metrics
    words = ["--benchmark", "fruit-probe"]
    assert command("regress", folder_of(measured, "late:2"), folder_of(copied, "late:2"), *words) == 2
    assert "scoring version of the task differs: 1 in the baseline, 2 in the candidate" in capsys.readouterr().out
    for out in (measured, copied):  # following the advice leads out of the error
        again = out.parent / f"{out.name}-again"
        assert run(again, fruit, models=["late:2"]) == 0
    assert command("regress", folder_of(copied, "late:2"), folder_of(again, "late:2")) == 0


@pytest.mark.parametrize("turned_off", [False, True])
def test_results_are_read_without_the_plugin_and_regress_says_what_to_install(
    turned_off, target, measured, tmp_path, monkeypatch, capsys
):
    if turned_off:
        forget()
        put_before(monkeypatch, target)
        monkeypatch.setenv("COSMOS_EVAL_PLUGINS", "0")
    assert (
        command(
            "leaderboard", measured, "--format", "md,csv,html,tex,json,clip-benchmark,model-index", "--out", tmp_path
        )
        == 0
    )
    assert "verification_accuracy" in (tmp_path / "leaderboard.md").read_text()
    assert command("report", measured, "--out", tmp_path / "page.html") == 0
    assert command("results", "list", measured) == 0
    assert command("results", "diff", folder_of(measured, "late:2"), folder_of(measured, "brightness:2")) == 1
    assert command("results", "merge", measured, "--out", tmp_path / "merged") == 0
    assert command("cache", "list", "--cache", measured / ".embeddings") == 0
    capsys.readouterr()
    assert command("regress", folder_of(measured, "late:2"), folder_of(measured, "brightness:2")) == 2
    told = capsys.readouterr().out
    advice = "plug-ins are turned off by COSMOS_EVAL_PLUGINS=0" if turned_off else "pip install image-text-extras==1.0"
    for name, task in (("fruit-probe", "linear-probe"), ("fruit-pairs", "same-class")):
        (line,) = [line for line in told.splitlines() if line.startswith(f"- {name}")]
        assert f"the task {task} is provided by the plug-in image-text-extras 1.0" in line
        assert advice in line
    forget()


def test_plugins_that_are_turned_off_are_named_where_a_name_is_not_found(extras, fruit, tmp_path, monkeypatch, capsys):
    definition = tmp_path / "own.yaml"
    definition.write_text(
        "{name: own, version: 1, task: same-class, dataset: {reader: image-pairs, path: a}, metrics: {primary: top1}}"
    )
    monkeypatch.setenv("COSMOS_EVAL_PLUGINS", "0")
    for words in (
        ["run", "--model", "late:2", "--benchmark", "toybox-retrieval", "--out", tmp_path / "out"],
        ["run", "--model", "cosmos:toybox", "--benchmark", "fruit-probe", "--out", tmp_path / "out"],
        ["run", "--model", "cosmos:toybox", "--suite", "fruit", "--out", tmp_path / "out"],
        ["data", "check", definition],
        ["train", "toybox", "--set", "objective=sigmoid", "--dry-run"],
    ):
        assert command(*words) == 2
        said = capsys.readouterr().err
        assert said.endswith("(plug-ins are turned off by COSMOS_EVAL_PLUGINS=0)\n"), said
        assert said.count("\n") == 1
    for what in ("tasks", "readers", "models", "objectives", "benchmarks", "suites"):
        assert command("list", what) == 0
        assert "image-text-extras" not in capsys.readouterr().out
