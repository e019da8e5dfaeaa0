"""CONTRIBUTING.md: its recipes run as written, as plug-ins of a package and in a copy of this repository."""

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hatchling.build import build_editable

from cosmos_core.checkpoint import read_file
from cosmos_eval.cli.main import run_command
from cosmos_eval.results.record import Result
from cosmos_eval.results.store import read_results

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PACKAGE = "my_plugins"
FILE = re.compile(r"^`([^`\n]+)`(, at its end)?:\n\n```\w+\n(.*?)^```$", re.M | re.S)
COMMANDS = re.compile(r"^```bash\n(.*?)^```$", re.M | re.S)
DIFF = re.compile(r"^```diff\n--- (\S+)\n(.*?)^```$", re.M | re.S)
MOVED = re.compile(rf"`({PACKAGE}/[^`]+)` is\s+`([^`]+)`")
IN_TREE = "#### In this repository\n"


@dataclass
class Recipe:
    """One recipe: the text for a plug-in, and the text below the heading "In this repository"."""

    plugin: str
    in_tree: str

    def commands(self, text: str) -> list[list[str]]:
        """Return the arguments of each `cosmos-eval` command in `text`, or in the plug-in's text if `text` has none."""
        blocks = COMMANDS.findall(text) or COMMANDS.findall(self.plugin)
        lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
        words = [shlex.split(line) for line in lines]
        assert words
        assert all(command[0] == "cosmos-eval" for command in words)
        return [command[1:] for command in words]


def recipes() -> dict[str, Recipe]:
    parts = re.split(r"^### (.+)\n", TEXT, flags=re.M)[1:]
    return {title: Recipe(*body.split(IN_TREE)) for title, body in zip(parts[::2], parts[1::2], strict=True)}


def put(folder: Path, text: str, tree: Path | None = None) -> None:
    """Write the files that a text shows below a folder; files of our packages go below `tree`."""
    for name, at_end, content in FILE.findall(text):
        path = (tree if tree is not None and name.startswith("cosmos_") else folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text((path.read_text() + "\n" if at_end else "") + content, encoding="utf-8")


def change(tree: Path, path: str, lines: str) -> None:
    """Apply a diff without line numbers; its old lines must occur exactly once in the file."""
    old = "".join(line[1:] for line in lines.splitlines(keepends=True) if line[0] in " -")
    new = "".join(line[1:] for line in lines.splitlines(keepends=True) if line[0] in " +")
    text = (tree / path).read_text(encoding="utf-8")
    assert text.count(old) == 1, (path, old)
    (tree / path).write_text(text.replace(old, new), encoding="utf-8")


def metrics(folder: Path) -> dict[str, Result]:
    """Return the results in `runs` by model spec."""
    return {result.model.spec: result for result in read_results(folder / "runs")}


def check(title: str, folder: Path) -> None:
    """Check the results that the commands of a recipe have written to a folder."""
    if title == "An objective":
        assert read_file(folder / "runs" / "hinge" / "last.pt")["training"]["objective"] == "hinge"
        return
    results = metrics(folder)
    if title == "A benchmark":
        result = results["cosmos:toybox"]
        assert result.benchmark.name == "small-toybox"
        assert result.metrics["text_to_image_recall@1"].value > 0.9
    elif title == "A reader":
        assert results["cosmos:toybox"].dataset.n == {"images": 2, "classes": 2}
        assert results["cosmos:toybox"].metrics["top1"].value == 1
    elif title == "A model":
        metric = results["colours:red,green,blue"].metrics["text_to_image_recall@1"]
        assert 1 / 20 < metric.value < 0.5
    elif title == "A task":
        assert results["cosmos:toybox"].metrics["accuracy"].value > 0.95
        assert results["cosmos:untrained-toybox"].metrics["accuracy"].value == pytest.approx(0.5, abs=0.25)
        assert "choice" in (folder / "runs" / "leaderboard.md").read_text(encoding="utf-8")
    else:
        assert title == "A metric"
        result = results["cosmos:toybox"]
        assert result.primary == "text_to_image_percentile"
        # of 20 images the expected rank r is at the percentile (20 - r) / 19, and so is its mean
        mean_rank = result.metrics["text_to_image_mean_rank"].value
        assert result.metrics["text_to_image_percentile"].value == pytest.approx((20 - mean_rank) / 19)
        assert result.benchmark.scoring_version == 2


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A new current directory for a package of plug-ins."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.delenv("COSMOS_EVAL_PLUGINS", raising=False)
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install as `pip install -e .` does, but without an environment.

    The editable wheel is built with the settings of the package and unpacked, and the folder that it names is put on
    the path.
    """
    wheel = build_editable(str(folder / "dist"))
    zipfile.ZipFile(folder / "dist" / wheel).extractall(folder / "site")
    (names,) = (folder / "site").glob("*.pth")
    for entry in (*names.read_text().split(), str(folder / "site")):
        monkeypatch.syspath_prepend(entry)


def test_there_is_a_recipe_for_each_extension_point():
    assert list(recipes()) == ["A benchmark", "A reader", "A model", "A task", "A metric", "An objective"]


@pytest.mark.parametrize("title", recipes())
def test_a_recipe_works_as_a_plugin(title: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    recipe = recipes()[title]
    (folder / PACKAGE).mkdir()
    (folder / PACKAGE / "__init__.py").touch()
    put(folder, TEXT.partition("### ")[0] + recipe.plugin)  # the package, and the files of the recipe
    install(folder, monkeypatch)
    for command in recipe.commands(recipe.plugin):
        assert run_command(command) == 0, capsys.readouterr().err
    output = capsys.readouterr().out
    if "list" in COMMANDS.findall(recipe.plugin)[0]:
        entries = tomllib.loads((folder / "pyproject.toml").read_text())["project"]["entry-points"]
        assert all(name in output for group in entries.values() for name in group)
        assert "my-plugins 1.0" in output
    check(title, folder)
    if title == "A reader":  # it ended with a TypeError in a probe, which has no prompts
        splits = ", ".join(f"{split}: {{path: labels.csv}}" for split in ("train", "val", "test"))
        dataset = f"{{reader: csv-labels, splits: {{{splits}}}}}"
        probe = f"name: mine\nversion: 1\ntask: probe\ndataset: {dataset}\nmetrics: {{primary: top1}}\n"
        (folder / "probe.yaml").write_text(probe)
        assert run_command(["data", "check", "probe.yaml", "--data-root", "data"]) == 0, capsys.readouterr().err


@pytest.mark.parametrize("title", recipes())
def test_the_functions_of_a_recipe_have_annotations(title: str):
    """As mypy asks of every function in this repository (`disallow_untyped_defs`)."""
    for name, _, content in FILE.findall(recipes()[title].plugin):
        for node in ast.walk(ast.parse(content)) if name.endswith(".py") else ():
            if isinstance(node, ast.FunctionDef):
                arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                bare = [one.arg for one in arguments if one.annotation is None and one.arg not in ("self", "cls")]
                assert not bare, f"{name}: {node.name}"
                assert node.returns is not None, f"{name}: {node.name}"


@pytest.mark.slow
def test_recipes_pass_the_type_checker_of_this_repository(tmp_path: Path):
    (tmp_path / PACKAGE).mkdir()
    (tmp_path / PACKAGE / "__init__.py").touch()
    modules = []
    for recipe in recipes().values():
        for name, _, content in FILE.findall(recipe.plugin):
            if name.endswith(".py"):
                (tmp_path / name).write_text(content, encoding="utf-8")
                modules.append(name)
    assert len(modules) >= 5
    options = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(ROOT / ".mypy_cache")]
    (tmp_path / "wrong.py").write_text("from cosmos_core.objectives import Views\n\nViews(images=1, captions=2)\n")
    environment = {**os.environ, "MYPYPATH": str(ROOT)}
    command = [sys.executable, "-m", "mypy", *options, *modules, "wrong.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900)
    errors = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert len(errors) == 1, done.stdout + done.stderr  # the one that shows that our own types are seen
    assert errors[0].startswith("wrong.py:3:")


RUN_ALL = """
import json, os, sys
import cosmos_core, cosmos_eval
from cosmos_eval.cli.main import run_command
assert os.path.dirname(cosmos_eval.__file__) == os.path.join(sys.argv[1], "cosmos_eval"), cosmos_eval.__file__
assert os.path.dirname(cosmos_core.__file__) == os.path.join(sys.argv[1], "cosmos_core"), cosmos_core.__file__
for folder, command in json.load(open("commands.json")):
    os.chdir(folder)
    code = run_command(command)
    if code:
        sys.exit(f"{code}: {command}")
"""


def test_all_recipes_work_together_in_this_repository(tmp_path: Path):
    tree = tmp_path / "tree"
    for package in ("cosmos_core", "cosmos_eval"):
        shutil.copytree(ROOT / package, tree / package)
    commands: list[tuple[str, list[str]]] = []
    for number, recipe in enumerate(recipes().values()):
        folder = tmp_path / str(number)  # the current directory
        put(folder, TEXT.partition("### ")[0] + recipe.plugin)
        for old, new in MOVED.findall(recipe.in_tree):
            assert not (tree / new).exists()
            shutil.copy(folder / old, tree / new)
        assert MOVED.search(recipe.in_tree)
        shutil.rmtree(folder / PACKAGE)
        for path, lines in DIFF.findall(recipe.in_tree):
            change(tree, path, lines)
        put(folder, recipe.in_tree, tree)
        commands += [(str(folder), command) for command in recipe.commands(recipe.in_tree)]
    (tmp_path / "commands.json").write_text(json.dumps(commands))
    environment = {**os.environ, "PYTHONPATH": str(tree), "COSMOS_EVAL_PLUGINS": "0", "OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, "-c", RUN_ALL, str(tree)]
    done = subprocess.run(arguments, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    for number, title in enumerate(recipes()):
        check(title, tmp_path / str(number))
