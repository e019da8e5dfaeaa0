"""Try the lowest and the newest versions that pyproject.toml allows, each in an environment of its own.

    python -m tests.tools.versions                      # both, a table in Markdown; 1 where one fails
    python -m tests.tools.versions lowest --out FILE    # one; the table is also written to FILE
    python -m tests.tools.versions newest --tests tests/core tests/engine

Needs `uv` (`pip install uv`), a package index, and 9 GB of free disk below `--work`, all of it free again afterwards.
"lowest" is the lowest of what pyproject.toml names and the newest of everything else. In each environment the tests run
that show whether the product works, and `cosmos-eval run` evaluates the checkpoint that ships with us on a part of
toybox.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RESOLUTIONS = {"lowest": "lowest-direct", "newest": "highest"}
"""What the table says -> uv's word for it."""
FREE_BYTES = 9 * 10**9
QUICK = (
    "tests/datasets/test_datasets_mmseg.py",
    "tests/datasets/test_mmseg_refusals.py",
    "tests/datasets/test_mmseg_import.py",
    "tests/datasets/test_datasets_clip_benchmark.py",
    "tests/tasks",
    "tests/core/test_checkpoint.py",
    "tests/core/test_checkpoint_refusals.py",
    "tests/core/test_loss.py",
    "tests/core/test_model.py",
    "tests/core/test_tokenizer.py",
    "tests/core/test_train.py",
    "tests/engine/test_engine.py",
    "tests/engine/test_scores.py",
    "tests/models",
)
"""Tests of what calls another library: readers, tasks, training, the engine, models."""


@dataclass(frozen=True)
class Trial:
    """One environment and what came of it."""

    name: str
    versions: dict[str, str]
    """Normalised name of a package -> its version."""
    tests: str
    """Pytest's closing line, or what went wrong before it."""
    toybox: str
    passed: bool


def normalised(name: str) -> str:
    """The name by which an index knows a package: `open_clip_torch` is `open-clip-torch`."""
    return re.sub(r"[-_.]+", "-", name).lower()


def direct_requirements() -> dict[str, str]:
    """Normalised name of each package that pyproject.toml asks for -> the versions it allows, such as `>=2.6,<3`."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    split = (re.fullmatch(r"([A-Za-z0-9._-]+?)\s*([<>=!~].*)?", one) for one in listed)
    return {normalised(match[1]): match[2] or "" for match in split if match is not None}


def pinned_versions(pins: str) -> dict[str, str]:
    """Normalised name -> version of each `name==version` line."""
    return {normalised(match[1]): match[2] for match in re.finditer(r"^([\w.-]+)==([\w.+!-]+)", pins, re.M)}


def resolve(name: str, python: str, work: Path) -> Path:
    """A file with the versions of one environment, the test tools at their newest in each."""
    product, everything = work / "product.txt", work / "everything.txt"
    compile_pins = ["uv", "pip", "compile", "pyproject.toml", "--python", python]
    compile_pins += ["--quiet", "--no-header", "--no-annotate"]
    run_quietly([*compile_pins, "--resolution", RESOLUTIONS[name], "-o", str(product)])
    run_quietly([*compile_pins, "--extra", "test", "--constraint", str(product), "-o", str(everything)])
    return everything


def install(pins: Path, python: str, work: Path) -> Path:
    """A virtual environment with these versions and this checkout; returns its folder."""
    folder = work / "venv"
    run_quietly(["uv", "venv", "--quiet", "--python", python, str(folder)])
    into = ["uv", "pip", "install", "--quiet", "--no-deps", "--python", str(folder / "bin" / "python")]
    run_quietly([*into, "-r", str(pins)])  # complete: --no-deps keeps opencv-python, which is overridden, out
    run_quietly([*into, "--no-build-isolation", "--editable", str(ROOT)])
    return folder


def run_quietly(command: list[str]) -> None:
    """Run a command of uv's whose words matter only if it fails."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")


def try_versions(name: str, python: str, tests: list[str], work: Path) -> Trial:
    """Resolve, install, test and evaluate; what pytest prints goes to this process's standard error."""
    os.environ["UV_CACHE_DIR"] = str(work / "cache")  # beside the environment: files are linked, and go with it
    pins = resolve(name, python, work)
    folder = install(pins, python, work)
    shutil.rmtree(work / "cache")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"VIRTUAL_ENV": str(folder), "PATH": f"{folder / 'bin'}{os.pathsep}{environment['PATH']}"}
    environment["PYTHONUNBUFFERED"] = "1"  # what pytest prints is shown while it runs
    command = [str(folder / "bin" / "python"), "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    command += ["--basetemp", str(work / "pytest")]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        printed = ""
        for line in process.stdout or ():
            sys.stderr.write(line)
            printed += line
    evaluate = [str(folder / "bin" / "cosmos-eval"), "run", "--suite", "toybox", "--limit", "32", "--device", "cpu"]
    evaluated = subprocess.run(
        [*evaluate, "--out", str(work / "run")], cwd=work, env=environment, capture_output=True, text=True
    )
    sys.stderr.write(evaluated.stderr if evaluated.returncode else "")
    return Trial(
        name,
        pinned_versions(pins.read_text()),
        closing_line(printed),
        "evaluated" if evaluated.returncode == 0 else f"exit {evaluated.returncode}",
        process.returncode == 0 and evaluated.returncode == 0,
    )


def closing_line(printed: str) -> str:
    """`359 passed, 2 skipped` of what pytest printed; its last line where there is no such count."""
    lines = [line.strip("= \n") for line in printed.splitlines() if line.strip()]
    last = lines[-1] if lines else "nothing printed"
    return re.sub(r" in [\d.]+s.*$", "", last)


def table(trials: list[Trial], allowed: dict[str, str], python: str) -> str:
    """The versions and the outcome of each trial as Markdown."""
    rows = [["", "allowed", *(trial.name for trial in trials)], ["---"] * (2 + len(trials))]
    rows += [[name, allowed[name], *(trial.versions.get(name, "") for trial in trials)] for name in allowed]
    rows += [
        ["tests", "", *(trial.tests for trial in trials)],
        ["toybox", "", *(trial.toybox for trial in trials)],
        ["**outcome**", "", *("passed" if trial.passed else "**failed**" for trial in trials)],
    ]
    lines = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
    return f"Made by `python -m tests.tools.versions`, with Python {python}.\n\n{lines}\n"


def main(arguments: list[str] | None = None) -> int:
    """0 where every trial passed, 1 where one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", nargs="*", metavar="lowest|newest", help="both where none is given")
    parser.add_argument("--tests", nargs="+", default=list(QUICK), help="what pytest runs")
    parser.add_argument("--python", default=f"{sys.version_info.major}.{sys.version_info.minor}")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()), help="where environments are built")
    parser.add_argument("--out", type=Path, help="write the table here, too")
    options = parser.parse_args(arguments)
    if unknown := set(options.which) - RESOLUTIONS.keys():
        parser.error(f"no versions are called {min(unknown)}; there are lowest and newest")
    if shutil.which("uv") is None:
        parser.error("uv is not there; install it: pip install uv")
    if shutil.disk_usage(options.work).free < FREE_BYTES:
        parser.error(f"{options.work} has less than {FREE_BYTES / 1e9:.0f} GB free; give another folder with --work")
    trials = []
    for name in options.which or RESOLUTIONS:  # one at a time: two environments would need twice the disk
        with tempfile.TemporaryDirectory(prefix=f"versions-{name}-", dir=options.work) as work:
            trials.append(try_versions(name, options.python, options.tests, Path(work)))
    text = table(trials, direct_requirements(), options.python)
    print(text)
    if options.out is not None:
        options.out.write_text(text)
    return 0 if all(trial.passed for trial in trials) else 1


if __name__ == "__main__":
    raise SystemExit(main())
