"""Every command into a pipe whose reader has gone (`| head -1`, `| true`): its work and its exit code stay."""

import os
import shlex
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from cosmos_eval.cli import main as cli
from cosmos_eval.results.store import result_paths
from cosmos_eval.training.quickstart import Quickstart
from tests.cli.test_cli_arguments import COMMANDS
from tests.cli.test_streams import in_shell
from tests.helpers.boards import result_of
from tests.helpers.tiny_runs import checkpoint
from tests.helpers.worlds import captions_world

COLOURS, CONSTANT = "python:tests.helpers.tiny_models:Colours", "python:tests.helpers.tiny_models:Constant"
LINES = {
    "quickstart": (0, "--out quick"),
    "run": (0, f"--model {COLOURS} --benchmark pairs.yaml --data-root . --out again --profile"),
    "train": (0, "toybox --dry-run"),
    "export": (0, "run/step-00000100.pt small.safetensors --overwrite"),
    "watch": (0, "run --once --benchmark pairs.yaml --data-root ."),
    "leaderboard": (0, "eval --format md,csv,tex,html,json"),
    "regress": (2, "{Colours} {Constant}"),
    "report": (0, "eval"),
    "reproduce": (0, "paper-retrieval --results eval"),
    "list models": (0, ""),
    "list benchmarks": (0, ""),
    "list tasks": (0, ""),
    "list readers": (0, ""),
    "list suites": (0, ""),
    "list templates": (0, ""),
    "list presets": (0, ""),
    "list objectives": (0, ""),
    "list settings": (0, ""),
    "data check": (1, "coco-val2017-retrieval"),
    "data fetch": (0, "cifar10 --data-root . --dry-run"),
    "data prepare": (0, "toybox --out made --train 1 --test 1 --per-class 1"),
    "cache list": (0, "--cache eval"),
    "cache verify": (0, "--cache eval"),
    "cache clear": (0, "--cache again"),
    "cache export": (0, f"{COLOURS} --cache eval --out vectors"),
    "results list": (0, "eval"),
    "results show": (0, "{Colours}"),
    "results diff": (1, "{Colours} {Constant}"),
    "results merge": (0, "eval --out merged"),
    "results schema": (0, ""),
    "results classes": (2, "{Colours}"),
    "show segmentation": (0, "--model cosmos:toybox --benchmark masks.yaml --out shown"),
    "show attention": (0, "--model cosmos:toybox --scene 0 --out shown"),
    "show retrieval": (0, f"--model {COLOURS} --benchmark pairs.yaml --data-root . --out shown --cases 1"),
    "show classification": (0, "--model cosmos:toybox --benchmark classes.yaml --out shown --images 1"),
    "show geometry": (0, "--model cosmos:toybox --benchmark classes.yaml --out shown"),
    "show model": (0, "cosmos:toybox"),
    "show perception": (0, f"--model {COLOURS} --benchmark items.yaml --out shown --cases 1"),
}  # fmt: skip
"""Arguments that take a second at most, and the exit code with them."""
GROUPS = sorted({words.rsplit(" ", 1)[0] for words in COMMANDS if " " in words})
TOYBOX = {"reader": "toybox", "split": "test", "seed": 0}


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """A folder with data, definitions, results of two models, and a checkpoint."""
    root = tmp_path_factory.mktemp("pipes")
    pairs = captions_world(root)
    masks = {"base": "toybox-segmentation", "name": "masks", "version": 1, "segmentation": {"crop": 0}}
    items = {"name": "items", "version": 1, "task": "perception", "metrics": {"primary": "accuracy"}}
    masks["dataset"] = {"scenes": 2, "size": 32, "expected": {"images": 2}}
    items["dataset"] = {**TOYBOX, "scenes": 6}
    classes = {"base": "toybox-classification", "name": "classes", "version": 1}
    classes["dataset"] = {"per_class": 1, "expected": {"images": 48, "classes": 48}}
    for name, record in (("masks", masks), ("items", items), ("classes", classes)):
        (root / f"{name}.yaml").write_text(yaml.safe_dump(record))
    (root / "run").mkdir()
    checkpoint(root / "run" / "step-00000100.pt", 100)
    models = ["--model", COLOURS, "--model", CONSTANT]
    for out in ("eval", "again"):
        assert cli.run_command(["run", *models, "--benchmark", str(pairs), "--out", str(root / out)]) == 0
    return root


@contextmanager
def gone(monkeypatch, *names: str):
    """Streams into a pipe that nobody reads, buffered as Python has them; closing one is what the interpreter does."""
    with monkeypatch.context() as patched:
        streams = []
        for name in names:
            reader, writer = os.pipe()
            os.close(reader)
            streams.append(open(writer, "w", encoding="utf-8"))  # noqa: PTH123, SIM115
            patched.setattr(sys, name, streams[-1])
        yield
    for stream in streams:
        stream.close()  # raises where something is left that the pipe does not take ("Exception ignored")


def made_up_quickstart(out: Path, **options) -> Quickstart:
    return Quickstart([result_of("one", "toybox-retrieval")], out / "a.md", out / "b.html", "cosmos-eval", ["said"])


def test_every_command_has_its_line():
    assert LINES.keys() == COMMANDS.keys()


@pytest.mark.parametrize("words", LINES)
def test_a_command_whose_reader_has_gone_ends_as_ever(words, world, monkeypatch, capsys):
    monkeypatch.chdir(world)
    monkeypatch.setattr("cosmos_eval.training.quickstart.quickstart", made_up_quickstart)
    places = {path.parent.parent.name.split("-")[-2]: path for path in result_paths(world / "eval")}
    code, line = LINES[words]
    given = [*words.split(), *shlex.split(line.format_map(places))]
    with gone(monkeypatch, "stdout"):
        answer = cli.run_command(given)
    told = capsys.readouterr().err
    assert answer == code, told
    assert "a bug in cosmos-eval" not in told
    assert "Traceback" not in told


@pytest.mark.parametrize("words", ["", *GROUPS, *COMMANDS])
def test_help_whose_reader_has_gone_is_no_failure(words, monkeypatch, capsys):
    with gone(monkeypatch, "stdout", "stderr"):
        assert cli.run_command([*words.split(), "--help"]) == 0
    assert capsys.readouterr().err == ""


def test_real_pipes():
    lines = ("--help", "list settings", "results schema", "nothing")
    script = "; ".join(f"$CE {line} | head -1 >/dev/null; echo ${{PIPESTATUS[0]}}" for line in lines)
    done = in_shell(script)
    assert done.stdout.split() == ["0", "0", "0", "2"]
    assert len(done.stderr.splitlines()) == 1  # of the last
