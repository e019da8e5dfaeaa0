"""The arguments of every command: what cannot be used is refused in one line, before the command itself begins."""

import functools
import inspect
import os
from pathlib import Path

import pytest
import typer
from typer.models import ArgumentInfo

from cosmos_core.errors import RequestError
from cosmos_eval.cli import main as cli
from cosmos_eval.cli.arguments import checked, name_of, output_kind, parameters_of
from cosmos_eval.engine.batch_size import check_batch_size

HUGE = ("1" + "0" * 30, "9" * 5000)
NOT_FINITE = ("nan", "inf")


def commands(app: typer.Typer = cli.app, before: tuple[str, ...] = ()):
    for one in app.registered_commands:
        yield (*before, one.name or one.callback.__name__.rstrip("_")), one.callback
    for group in app.registered_groups:
        yield from commands(group.typer_instance, (*before, group.name))


COMMANDS = {" ".join(words): function for words, function in commands()}


@pytest.fixture(autouse=True)
def no_command_begins(monkeypatch, tmp_path):
    """Put in place of every command one with its arguments that does nothing; it is exit 3 where one begins."""
    monkeypatch.chdir(tmp_path)
    groups = [cli.app]
    while groups:
        app = groups.pop()
        groups += [one.typer_instance for one in app.registered_groups]
        for one in app.registered_commands:
            monkeypatch.setattr(one, "callback", checked(nothing_like(one.callback.__wrapped__)))


def nothing_like(command):
    @functools.wraps(command)
    def nothing(**values):
        raise NotImplementedError(f"begins with {values}")

    return nothing


def options(*kinds: str):
    """(words of the command, name of the parameter) of every option or argument of one of the kinds."""
    for words, function in COMMANDS.items():
        for name, _ in parameters_of(function):
            annotation = str(inspect.signature(function, eval_str=True).parameters[name].annotation)
            if any(f"[{kind}" in annotation or f"{kind}]" in annotation for kind in kinds):
                yield words, name


def line_for(words: str, parameter: str, value: str) -> list[str]:
    """A command line that gives one parameter a value, and others only where they must have one."""
    function = COMMANDS[words]
    infos = dict(parameters_of(function))
    line, last = words.split(), []
    for name, one in inspect.signature(function).parameters.items():
        given = value if name == parameter else "given"
        if name != parameter and one.default is not inspect.Parameter.empty:
            continue
        if isinstance(infos[name], ArgumentInfo):
            last.append(given)
        else:
            line += [name_of(name, infos[name]), given]
    return [*line, "--", *last] if last else line


def refused(line: list[str], capsys) -> str:
    code = cli.run_command(line)
    lines = capsys.readouterr().err.splitlines()
    assert code == 2, (line, lines)
    assert len(lines) == 1, lines
    return lines[0]


@pytest.mark.parametrize(("words", "name"), [*options("int", "float")], ids=" ".join)
def test_numbers_beyond_any_use_are_refused(words, name, capsys):
    for value in (*HUGE, *NOT_FINITE, "-1"):
        option = "pictures" if name == "former_images" else name.rpartition("_")[2]
        assert option in refused(line_for(words, name, value), capsys)


@pytest.mark.parametrize("value", [*HUGE, "0", "-1", "nan"], ids=lambda value: value[:5])
def test_a_batch_size_beyond_any_use_is_refused(value):
    with pytest.raises(RequestError, match="--batch-size"):
        check_batch_size(value)


PATHS = [*options("pathlib.Path", "pathlib._local.Path")]


def test_the_walk_finds_the_paths():
    assert {("run", "out"), ("report", "folder"), ("results merge", "folders"), ("export", "out")} <= set(PATHS)


@pytest.mark.parametrize(("words", "name"), PATHS, ids=" ".join)
def test_paths_that_no_file_can_have_are_refused(words, name, capsys):
    for value in ("", "a\0b", "n" * 5000, "~nobody-of-that-name/x"):
        message = refused(line_for(words, name, value), capsys)
        assert len(message) < 300


@pytest.mark.parametrize(("words", "name"), PATHS, ids=" ".join)
def test_a_tilde_is_the_home_folder(words, name, monkeypatch, tmp_path):
    """What the command gets is looked at, so that none has to run."""
    monkeypatch.setenv("HOME", str(tmp_path))
    seen = {}

    def looked(**values):
        seen.update(values)

    looked.__signature__ = inspect.signature(COMMANDS[words], eval_str=True)
    value = [Path("~/x.html")] if name == "folders" else Path("~/x.html")
    checked(looked)(**{name: value})
    assert seen[name] in (tmp_path / "x.html", [tmp_path / "x.html"])


OUTPUTS = [
    (words, name)
    for words, name in PATHS
    # whether the output of an export is a file depends on its format (tests/training/test_export_folders.py)
    if (words != "export" and name in {"out", "markdown", "json", "junit"})
    or output_kind(dict(parameters_of(COMMANDS[words]))[name])
]


@pytest.mark.parametrize(("words", "name"), OUTPUTS, ids=" ".join)
def test_outputs_that_cannot_be_written_are_refused(words, name, capsys, tmp_path):
    info = dict(parameters_of(COMMANDS[words]))[name]
    assert output_kind(info), "an output says so, and is checked"
    file, dangling, loop = tmp_path / "file.html", tmp_path / "link.html", tmp_path / "loop.html"
    file.touch()
    dangling.symlink_to(tmp_path / "absent")
    loop.symlink_to(loop)
    for place in (
        file / "below.html",
        dangling,
        loop,
        dangling / "below.html",
        file if output_kind(info) == "folder" else tmp_path,
    ):
        message = refused(line_for(words, name, str(place)), capsys)
        assert str(tmp_path) in message
    assert sorted(one.name for one in tmp_path.iterdir()) == ["file.html", "link.html", "loop.html"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_rights_is_refused(capsys, tmp_path):
    tmp_path.chmod(0o500)
    assert "cannot be written to" in refused(["run", "--out", str(tmp_path / "out")], capsys)


def test_a_folder_without_rights_is_named(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert str(tmp_path) in refused(["run", "--out", str(tmp_path / "out")], capsys)


def test_options_that_are_no_paths_may_be_empty(capsys):
    assert cli.run_command(["reproduce", "paper", "--format", "", "--model", ""]) == 3  # it begins
    assert "begins with" in capsys.readouterr().err


def test_a_tilde_works_where_a_path_is_a_word(monkeypatch, tmp_path):
    """Definitions, references, training settings and their data are words of the command line, or of a YAML file."""
    from cosmos_core.config import load_preset
    from cosmos_core.data.sources import build_source
    from cosmos_eval.protocol.benchmark import load_benchmark
    from cosmos_eval.published.references import read_references
    from tests.helpers.worlds import captions_world

    monkeypatch.setenv("HOME", str(tmp_path))
    definition = captions_world(tmp_path)
    assert load_benchmark(f"~/{definition.name}").folder == tmp_path
    (tmp_path / "mine.yaml").write_text("preset: toybox\nout: ~/run\n")
    config = load_preset("~/mine.yaml")
    assert config.out == str(tmp_path / "run")
    assert load_preset("toybox", ["out=~/other"]).out == str(tmp_path / "other")
    (tmp_path / "a.tar").touch()
    assert build_source("~/a.tar", config, None).urls == [str(tmp_path / "a.tar")]
    for text in ("~/absent.csv", "coco:~/absent.json,~/images"):
        with pytest.raises(RequestError, match=str(tmp_path / "absent")):
            build_source(text, config, None)
    with pytest.raises(RequestError, match=str(tmp_path / "absent")):
        read_references(["~/absent.json"])


def test_outputs_of_a_training_s_settings_are_looked_at(capsys, tmp_path):
    (tmp_path / "file").touch()
    function = COMMANDS["train"].__wrapped__
    with pytest.raises(RequestError, match="is a file; give a folder"):
        function("toybox", changes=[f"out={tmp_path / 'file'}"])
