"""The built wheel works where there is no checkout."""

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.results.test_results import stored

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A virtual environment with our wheel; the packages that it needs are lent by the environment of the tests."""
    work = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(work)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (wheel,) = work.glob("*.whl")
    venv.create(work / "venv", with_pip=False)
    python = work / "venv" / "bin" / "python"
    (site,) = (work / "venv" / "lib").glob("python*/site-packages")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site)]
    subprocess.run([*install, str(wheel)], check=True, timeout=300)
    # Behind our own packages in the path; an editable install of the checkout does not travel along.
    (site / "lent.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return python


def run(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(python), *arguments], cwd=python.parent, capture_output=True, text=True, timeout=300)


def test_the_wheel_is_used_and_not_the_checkout(installed):
    code = "import cosmos_core, cosmos_eval; print(cosmos_core.__file__); print(cosmos_eval.__file__)"
    done = subprocess.run(
        [str(installed), "-c", code], cwd=installed.parent, capture_output=True, text=True, timeout=300
    )
    assert all(str(installed.parents[1]) in line for line in done.stdout.splitlines()), done.stdout + done.stderr


def test_the_wheel_lists_models_benchmarks_and_suites(installed):
    for what, known in (("models", "cosmos:toybox"), ("benchmarks", "toybox-retrieval"), ("suites", "toybox")):
        done = run(installed, "-m", "cosmos_eval", "list", what)
        assert done.returncode == 0, done.stderr
        assert known in done.stdout


def test_the_wheel_makes_a_leaderboard(installed, tmp_path):
    stored(tmp_path / "model" / "toy")
    done = run(installed, "-m", "cosmos_eval", "leaderboard", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "75.0" in (tmp_path / "leaderboard.md").read_text()


def test_the_wheel_carries_its_presets_definitions_and_checkpoint(installed):
    code = (
        "from importlib import resources as r\n"
        "presets = {path.name for path in r.files('cosmos_core').joinpath('presets').iterdir()}\n"
        "assert {'toybox.yaml', 'cc3m.yaml', 'merged30m-b32.yaml', 'flickr8k.yaml'} <= presets\n"
        "from cosmos_core.settings import settings\n"
        "assert all(one.about for one in settings())\n"
        "assert r.files('cosmos_core').joinpath('assets/toybox.safetensors').is_file()\n"
        "assert r.files('cosmos_eval').joinpath('protocols/toybox-retrieval.yaml').is_file()\n"
        "assert r.files('cosmos_eval').joinpath('datasets/fetch/sources.yaml').is_file()\n"
        "assert r.files('cosmos_eval').joinpath('results/schema.json').is_file()\n"
        "assert r.files('cosmos_eval').joinpath('published/published.csv').is_file()\n"
        "from cosmos_eval.page.assembly import assemble\n"
        "assert 'aria-sort' in assemble({}, '')\n"
    )
    done = subprocess.run(
        [str(installed), "-c", code], cwd=installed.parent, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
