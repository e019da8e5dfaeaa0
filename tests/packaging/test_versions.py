"""Ranges of pyproject.toml, the lock within them, and the script that tries their ends."""

import pytest
import yaml
from packaging.specifiers import SpecifierSet

from tests.tools import versions
from tests.tools.versions import RESOLUTIONS, ROOT, Trial, closing_line, direct_requirements, pinned_versions, table


def test_every_requirement_has_a_lowest_version():
    assert {name for name, allowed in direct_requirements().items() if ">=" not in allowed} == set()


def test_the_lock_pins_a_version_within_every_range():
    pins = pinned_versions((ROOT / "requirements.lock").read_text())
    outside = {
        name: pins.get(name)
        for name, allowed in direct_requirements().items()
        if name not in pins or pins[name] not in SpecifierSet(allowed)
    }
    assert outside == {}


def test_names_are_those_of_an_index():
    assert direct_requirements().keys() >= {"torch", "open-clip-torch", "opencv-python-headless"}
    assert pinned_versions("open_clip_torch==3.1.0\nnumpy==2.0.0 \\\n    --hash=sha256:00\n") == {
        "open-clip-torch": "3.1.0",
        "numpy": "2.0.0",
    }


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ("..\n359 passed, 2 skipped in 118.45s (0:01:58)\n", "359 passed, 2 skipped"),
        ("F\n=== 1 failed, 3 passed in 2.00s ===\n", "1 failed, 3 passed"),
        ("ImportError: no module\n", "ImportError: no module"),
        ("", "nothing printed"),
    ],
)
def test_the_closing_line_of_pytest_is_told(printed, expected):
    assert closing_line(printed) == expected


def test_the_table_has_a_line_for_each_package_and_one_for_the_outcome():
    trials = [
        Trial("lowest", {"torch": "2.6.0"}, "3 passed", "evaluated", True),
        Trial("newest", {"torch": "2.15.0"}, "1 failed", "exit 3", False),
    ]
    lines = table(trials, {"torch": ">=2.6,<3"}, "3.11").splitlines()
    assert lines[2:] == [
        "|  | allowed | lowest | newest |",
        "| --- | --- | --- | --- |",
        "| torch | >=2.6,<3 | 2.6.0 | 2.15.0 |",
        "| tests |  | 3 passed | 1 failed |",
        "| toybox |  | evaluated | exit 3 |",
        "| **outcome** |  | passed | **failed** |",
    ]


def test_a_failed_trial_makes_the_exit_status_1_and_nothing_is_left(tmp_path, monkeypatch, capsys):
    def fail(name, python, tests, work):
        (work / "venv").mkdir()
        return Trial(name, {}, "1 failed", "evaluated", name == "lowest")

    monkeypatch.setattr(versions, "try_versions", fail)
    monkeypatch.setattr(versions.shutil, "which", lambda _: "uv")
    monkeypatch.setattr(versions, "FREE_BYTES", 0)
    assert versions.main(["lowest", "--work", str(tmp_path)]) == 0
    assert versions.main(["--work", str(tmp_path), "--out", str(tmp_path / "table.md")]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["table.md"]
    assert "| **outcome** |  | passed | **failed** |" in (tmp_path / "table.md").read_text()


def test_too_little_disk_is_told_before_anything_is_installed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(versions.shutil, "which", lambda _: "uv")
    monkeypatch.setattr(versions, "FREE_BYTES", 10**18)
    with pytest.raises(SystemExit) as stopped:
        versions.main(["--work", str(tmp_path)])
    assert stopped.value.code == 2
    assert "--work" in capsys.readouterr().err


def test_the_tests_that_it_runs_are_there():
    assert [path for path in versions.QUICK if not (ROOT / path).exists()] == []


def test_the_weekly_workflow_runs_both_ends():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "versions.yml").read_text())
    (job,) = workflow["jobs"].values()
    assert job["strategy"]["matrix"]["which"] == list(RESOLUTIONS)
    (command,) = [step["run"] for step in job["steps"] if "tests.tools.versions" in step.get("run", "")]
    assert command.startswith("python -m tests.tools.versions ")
