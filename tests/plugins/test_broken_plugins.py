"""Plug-ins that cannot be used: each is named in one line by `list`, and where its name is used; others work."""

import importlib
from dataclasses import replace
from pathlib import Path

import pytest

from tests.plugins.installed import put_distribution
from tests.plugins.test_evaluation import command

GOOD = {
    "tasks": "linear-probe",
    "readers": "labelled-parquet",
    "models": "late:PATCHES",
    "objectives": "sigmoid",
    "benchmarks": "fruit-probe",
    "suites": "fruit",
}
"""What stays usable."""
INFO = """
from cosmos_eval import DataKind, ModelKind, ReaderInfo, TaskInfo
from cosmos_eval.datasets.kinds import CLASSIFICATION
from cosmos_eval.models.kinds import ListedModel
def f(*arguments): ...
"""
TASK = 'INFO = TaskInfo(name="bad", data=CLASSIFICATION, run=f, validate=f, metric_names=f)'


def group_of(what: str) -> str:
    return "cosmos_core.objectives" if what == "objectives" else f"cosmos_eval.{what}"


@pytest.mark.parametrize(
    ("what", "source", "why"),
    [
        ("tasks", "import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("tasks", "OTHER = 1", "AttributeError"),
        ("tasks", "INFO = 3", "it is a int, not a cosmos_eval.TaskInfo"),
        ("tasks", INFO + TASK.replace("data=CLASSIFICATION", "data=int"), "its data is neither a DataKind nor a data"),
        ("tasks", INFO + TASK.replace("run=f", "run=None"), "its run is neither a function nor module:function"),
        ("tasks", INFO + TASK.replace('name="bad"', 'name="bed"'), "calls itself 'bed'"),
        (
            "tasks",
            INFO + TASK.replace(")", ', settings_key="probe")'),
            "settings_key and read_settings belong",
        ),
        (
            "tasks",
            INFO + TASK.replace(")", ', settings_key="words", read_settings=f)'),
            "has another meaning in definitions",
        ),
        ("tasks", INFO + TASK.replace(")", ', sample_keys="image")'), "its sample_keys is a text; write a tuple"),
        ("tasks", INFO + TASK.replace(")", ', scoring_version="2")'), "its scoring_version is '2'"),
        ("readers", "class INFO:\n    pass", "without load(benchmark, data_root)"),
        ("readers", "class INFO:\n    kinds = ()\n    def load(self): ...", "its kinds are not a list"),
        ("readers", "class INFO:\n    kinds = (3,)\n    def load(self): ...", "AttributeError"),
        ("readers", INFO + 'INFO = ReaderInfo(f, kinds="classification")', "its kinds are not a list"),
        (
            "readers",
            INFO + 'INFO = ReaderInfo(f, ("classification",), required={"path": str})',
            "its option path is",
        ),
        ("models", "INFO = 3", "it is a int, not a function"),
        ("models", INFO + 'INFO = ModelKind("bad", "bad:NAME", load=None)', "its load is neither a function nor"),
        ("models", INFO + 'INFO = ModelKind("bad", "bad:NAME", f, listed=("bad:small",))', "its listed are not all"),
        ("objectives", "INFO = 3", "it is not a subclass of cosmos_core.objectives.Objective"),
    ],
)
def test_a_broken_plugin_is_named_in_one_line_and_stops_no_other(
    extras, tmp_path, monkeypatch, what, source, why, capsys
):
    folder = put_distribution(tmp_path / "site", group_of(what), "bad = broken_module:INFO", source, "broken")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(__import__("sys").modules, "broken_module", raising=False)
    assert command("list", what) == 0
    captured = capsys.readouterr()
    assert GOOD[what] in {line.partition("\t")[0] for line in captured.out.splitlines()}
    assert "\nbad\t" not in captured.out
    assert captured.err.count("\n") == 1
    assert "bad of plug-in broken 1.0 (broken_module:INFO) cannot be used: " in captured.err
    assert why in captured.err
    definition = tmp_path / "own.yaml"
    used = {"task": "linear-probe", "reader": "labelled-parquet", what.removesuffix("s"): "bad"}
    definition.write_text(
        f"{{name: own, version: 1, task: {used['task']}, dataset: {{reader: {used['reader']}, path: a}}, "
        "metrics: {primary: probe_accuracy}}"
    )
    words = {
        "models": ["run", "--model", "bad:1", "--benchmark", "toybox-retrieval", "--out", tmp_path / "out"],
        "objectives": ["train", "toybox", "--set", "objective=bad", "--dry-run"],
    }.get(what, ["data", "check", definition])
    assert command(*words) == 2
    said = capsys.readouterr().err
    assert why in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("name: mine\nversion: 1\ntask: cooking\ndataset: {reader: toybox}\nmetrics: {primary: a}\n", "unknown task"),
        ("- 1\n", "a definition is a map"),
        ("name: [\n", "mine.yaml"),
    ],
)
def test_a_broken_definition_of_a_plugin_is_named_and_stops_no_other(extras, tmp_path, monkeypatch, text, why, capsys):
    folder = put_distribution(tmp_path / "site", "cosmos_eval.protocols", "mine = broken_definitions", "", "broken")
    (folder / "broken_definitions" / "suites").mkdir(parents=True)
    (folder / "broken_definitions" / "mine.yaml").write_text(text)
    (folder / "broken_definitions" / "suites" / "meals.yaml").write_text("benchmarks: [mine]\n")
    monkeypatch.syspath_prepend(str(folder))
    names = ["fruit-probe", "mine", "winoground"]  # of a hundred definitions of ours one is enough
    monkeypatch.setattr("cosmos_eval.protocol.benchmark.list_benchmarks", lambda: names)
    monkeypatch.setattr("cosmos_eval.protocol.benchmark.list_suites", lambda: ["fruit", "meals"])
    for what in ("benchmarks", "suites"):
        assert command("list", what) == 0
        captured = capsys.readouterr()
        assert GOOD[what] in {line.partition("\t")[0] for line in captured.out.splitlines()}
        assert why in captured.err
        assert "left out, as it is provided by plug-in broken 1.0" in captured.err
        assert captured.err.count("\n") == 1
    assert command("data", "check", "mine") == 2
    capsys.readouterr()
    assert command("data", "check", "--data-root", tmp_path) == 0
    captured = capsys.readouterr()
    assert "  not there   winoground   " in captured.out
    assert "left out, as it is provided by plug-in broken 1.0" in captured.err


@pytest.mark.parametrize("target_of", ["no_such_package", "cosmos_eval.protocol.task_info"])
def test_an_absent_package_of_definitions_is_named(extras, tmp_path, monkeypatch, target_of, capsys):
    folder = put_distribution(tmp_path / "site", "cosmos_eval.protocols", f"mine = {target_of}", "", "broken")
    monkeypatch.syspath_prepend(str(folder))
    assert command("list", "suites") == 0
    captured = capsys.readouterr()
    assert "fruit\t" in captured.out
    assert f"the definitions of plug-in broken 1.0 ({target_of}) cannot be used" in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("what", "name"),
    [("tasks", "retrieval"), ("readers", "jsonl"), ("models", "cosmos"), ("objectives", "clip")],
)
def test_a_name_of_ours_cannot_be_taken(extras, tmp_path, monkeypatch, what, name, capsys):
    source = "raise ImportError('it was imported')"
    folder = put_distribution(tmp_path / "site", group_of(what), f"{name} = thief_module:INFO", source, "thief")
    monkeypatch.syspath_prepend(str(folder))
    assert command("list", what) == 0
    captured = capsys.readouterr()
    assert "plug-in thief 1.0 is ignored where it provides the" in captured.err
    assert f"{name}, which cosmos-eval has itself; give it another name" in captured.err
    assert captured.err.count("\n") == 1
    (ours,) = [line for line in captured.out.splitlines() if line.startswith((f"{name}\t", f"{name}:/path"))] or ["-"]
    assert "thief" not in ours


@pytest.mark.parametrize(("below", "name"), [("", "toybox-retrieval"), ("suites", "toybox"), ("", "fruit-probe")])
def test_a_name_of_a_definition_is_taken_once(extras, tmp_path, monkeypatch, below, name, capsys):
    folder = put_distribution(tmp_path / "site", "cosmos_eval.protocols", "mine = zz_definitions", "", "zz")
    (folder / "zz_definitions" / below).mkdir(parents=True)
    (folder / "zz_definitions" / below / f"{name}.yaml").write_text("[]")
    monkeypatch.syspath_prepend(str(folder))
    assert command("list", "suites" if below else "benchmarks") == 0
    captured = capsys.readouterr()
    owner = "plug-in image-text-extras 1.0" if name.startswith("fruit") else "a shipped one"
    what = "suite" if below else "benchmark"
    assert (
        f"plug-in zz 1.0 is ignored where it provides the {what} {name}: the name is taken by {owner};" in captured.err
    )
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("what", "name"),
    [("tasks", "same-class"), ("readers", "labelled-parquet"), ("models", "late"), ("objectives", "sigmoid")],
)
def test_a_name_of_two_distributions_is_refused(extras, fruit, tmp_path, monkeypatch, what, name, capsys):
    folder = put_distribution(tmp_path / "site", group_of(what), f"{name} = second_module:INFO", "INFO = 1", "second")
    monkeypatch.syspath_prepend(str(folder))
    words = {
        "models": ["run", "--model", "late:2", "--benchmark", "toybox-retrieval", "--out", tmp_path / "out"],
        "objectives": ["train", "toybox", "--set", "objective=sigmoid", "--dry-run"],
        "tasks": ["data", "check", "fruit-pairs", "--data-root", fruit],
        "readers": ["data", "check", "fruit-probe", "--data-root", fruit],
    }[what]
    assert command(*words) == 2
    said = capsys.readouterr().err
    both = f"{name} is provided by plug-in image-text-extras 1.0 and plug-in second 1.0; uninstall all but one of them"
    assert both in said
    assert said.count("\n") == 1
    assert command("list", what) == 0
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert both in captured.err


@pytest.mark.parametrize(
    ("what", "function", "why"),
    [
        ("same_class.ImagePairs.load", lambda *given: {}["x"], "dataset reader image-pairs"),
        ("same_class.PairData.observations", lambda *given: {}["x"], "dataset reader image-pairs"),
        ("same_class.INFO.run", lambda *given: {}["x"], "task same-class"),
        ("same_class.INFO.validate", lambda *given: {}["x"], "task same-class"),
    ],
)
def test_a_bug_of_a_plugin_is_told_as_its_own(extras, fruit, tmp_path, monkeypatch, what, function, why, capsys):
    put_in_place(monkeypatch, what, function)
    words = ["--model", "brightness:1", "--benchmark", "fruit-pairs", "--data-root", fruit, "--out", tmp_path]
    assert command("run", *words) == 3
    (said,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("cosmos-eval:")]
    assert f"a bug in the {why} of plug-in image-text-extras 1.0 (KeyError: 'x'); please report it to its" in said
    Path(said.rpartition(" ")[2]).unlink()


@pytest.mark.parametrize(
    ("what", "function", "why"),
    [
        ("same_class.ImagePairs.load", lambda *given: [], "the reader image-pairs returned a list; return data of"),
        ("same_class.INFO.run", lambda *given: None, "the task same-class of plug-in image-text-extras 1.0 returned a"),
        ("same_class.INFO.sample_keys", ("image",), "returned samples without the column image"),
    ],
)
def test_what_a_plugin_returns_is_checked(extras, fruit, tmp_path, monkeypatch, what, function, why, capsys):
    put_in_place(monkeypatch, what, function)
    words = ["--model", "brightness:1", "--benchmark", "fruit-pairs", "--data-root", fruit, "--out", tmp_path]
    assert command("run", *words) == 2
    (said,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("cosmos-eval:")]
    assert why in said
    assert not list(tmp_path.rglob("RESULT.json"))


def put_in_place(monkeypatch: pytest.MonkeyPatch, what: str, value: object) -> None:
    """Another function or value of a class or of the `INFO` of the distribution."""
    module, owner, name = what.split(".")
    found = getattr(importlib.import_module(f"image_text_extras.{module}"), owner)
    if isinstance(found, type):
        monkeypatch.setattr(found, name, value)
    else:
        monkeypatch.setattr(f"image_text_extras.{module}.{owner}", replace(found, **{name: value}))
