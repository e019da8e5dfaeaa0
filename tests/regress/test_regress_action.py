"""The action `.github/actions/regress`: its steps run in another repository, and the commands in them exist.

The virtual environment of these tests is a folder with two scripts in place of what pip would install: `python` notes
calls of pip and otherwise is this interpreter; `cosmos-eval` notes its arguments, and does what the test asks for.
"""

import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.main import get_command

from cosmos_eval.cli import main as cli
from tests.helpers import fabricated
from tests.helpers.github_actions import Job, run_action, run_steps

ROOT = Path(__file__).parents[2]
ACTION = ROOT / ".github" / "actions" / "regress"
STEPS = yaml.safe_load((ACTION / "action.yml").read_text(encoding="utf-8"))["runs"]["steps"]
WORKFLOW = (ROOT / "docs" / "regress-workflow.yml").read_text(encoding="utf-8")


def write_script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/bash\n" + text, encoding="utf-8")
    path.chmod(0o755)
    return path


class Laboratory(Job):
    """A repository without cosmos-eval, on a runner whose Python makes the virtual environments described above."""

    def __init__(self, folder: Path, **outputs_of_uses: Mapping[str, str]) -> None:
        self.calls, self.packages = folder / "calls", folder / "packages"
        # what `cosmos-eval` does: by default it makes a result, and regress finds no regression
        self.evaluation = folder / "cosmos-eval"
        self.answer("exit 0")
        venv = folder / "packages.venv"
        write_script(
            venv / "bin" / "python",
            f'if [ "$1 $2" = "-m pip" ]; then echo "${{@:3}}" >> {self.packages}; exit 0; fi\n'
            f'if [ "$2" = "import torch, torchvision" ]; then exit 0; fi\nexec {sys.executable} "$@"\n',
        )
        write_script(venv / "bin" / "cosmos-eval", f'echo "${{@@Q}}" >> {self.calls}\nexec {self.evaluation} "$@"\n')
        self.python = write_script(
            folder / "python",
            f'if [ "$1 $2" = "-m venv" ]; then cp -r {venv} "$3"; exit 0; fi\nexec {sys.executable} -S "$@"\n',
        )
        workspace = folder / "repository"
        workspace.mkdir()
        outputs = {"setup-python": {"python-path": str(self.python)}, **outputs_of_uses}
        super().__init__(workspace, folder / "temporary", outputs, {"PATH": f"{folder}:{os.environ['PATH']}"})

    def answer(self, regress: str) -> None:
        """Let `cosmos-eval regress` run these shell commands; `run` writes a result of nothing."""
        run = 'mkdir -p "${@: -1}/m/b"; echo "{}" > "${@: -1}/m/b/RESULT.json"'
        write_script(self.evaluation, f'if [ "$1" = run ]; then {run}; fi\nif [ "$1" = regress ]; then {regress}; fi\n')

    def commands(self) -> list[list[str]]:
        """The calls of cosmos-eval; each is checked to have only options that its command has."""
        calls = [shlex.split(line) for line in self.calls.read_text(encoding="utf-8").splitlines()]
        for call in calls:
            check_options(call)
        return calls

    def run(self, **inputs: str) -> dict[str, str]:
        return run_action(ACTION, {name.replace("_", "-"): value for name, value in inputs.items()}, self)


def check_options(call: list[str]) -> None:
    command: Any = get_command(cli.app)
    words = list(call)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    command.make_context(call[0], words)  # refuses unknown options, and values of the wrong kind


@pytest.fixture
def laboratory(tmp_path: Path) -> Laboratory:
    return Laboratory(tmp_path)


def test_by_default_toybox_is_measured_on_cpu_in_an_environment_of_its_own(laboratory):
    outputs = laboratory.run(model="cosmos:checkpoints/last.pt", max_drop="0.5")
    assert not laboratory.failed, laboratory.log
    assert outputs == {"exit-code": "0"}
    measure, compare = laboratory.commands()
    assert measure[:3] == ["run", "--model", "cosmos:checkpoints/last.pt"]
    assert shlex.join(measure).endswith("--suite toybox --data-root data --device cpu --no-cache --out regress/results")
    assert compare[:5] == ["regress", "baseline", "regress/results", "--max-drop", "0.5"]
    installs = laboratory.packages.read_text(encoding="utf-8").splitlines()
    assert installs[0].startswith("install --quiet --require-hashes --no-deps -r ")
    assert installs[1].startswith("install --quiet --no-deps --no-build-isolation ")
    assert len(installs) == 2
    assert Path(installs[1].split()[-1]).resolve() == ROOT
    assert (laboratory.temporary / "cosmos-eval" / "requirements.txt").read_text() == (
        ROOT / "requirements.lock"
    ).read_text()
    assert [path.name for path in laboratory.workspace.iterdir()] == ["regress"]  # nothing else in the repository
    assert [action for action, _ in laboratory.used] == [
        "actions/setup-python@v5",
        "actions/cache/restore@v4",
        "actions/cache/save@v4",
        "actions/upload-artifact@v4",
    ]
    assert laboratory.used[0][1]["update-environment"] == "false"


def test_cpu_wheels_come_from_the_user_s_file_with_hashes_and_the_rest_from_the_lock(laboratory):
    (laboratory.workspace / "torch.txt").write_text("torch==2.11.0+cpu --hash=sha256:0\n")
    laboratory.run(model="cosmos:toybox", torch_requirements="torch.txt")
    assert not laboratory.failed, laboratory.log
    torch, rest, _ = laboratory.packages.read_text(encoding="utf-8").splitlines()
    assert torch == "install --quiet --require-hashes --no-deps -r torch.txt"
    lock = Path(rest.split()[-1]).read_text(encoding="utf-8")
    names = re.findall(r"^([a-z0-9-]+)==", lock, re.MULTILINE)
    locked = re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements.lock").read_text(encoding="utf-8"), re.MULTILINE)
    left_out = set(locked) - set(names)
    assert left_out >= {"torch", "torchvision", "triton"}
    assert all(re.match("torch|torchvision|triton|nvidia-|cuda-", name) for name in left_out)
    assert {"timm", "open-clip-torch", "hatchling"} <= set(names)


def test_a_missing_file_of_cpu_wheels_is_one_line_before_anything_is_installed(laboratory):
    laboratory.run(model="cosmos:toybox", torch_requirements="torch.txt")
    assert laboratory.failed
    assert not laboratory.packages.exists()
    assert "::error title=cosmos-eval::no file torch.txt; write it with lock_torch.py" in laboratory.log


@pytest.mark.parametrize("hit", [False, True])
def test_packages_and_fetched_data_are_kept_before_a_regression_ends_the_job(tmp_path, hit):
    hits = {"cache-hit": str(hit).lower()}
    laboratory = Laboratory(tmp_path, packages=hits, data=hits)
    laboratory.answer("exit 1")
    laboratory.run(model="cosmos:toybox", fetch="true", benchmark="cifar100 fer2013", data_root="sets")
    assert laboratory.failed
    assert laboratory.commands()[0] == ["data", "fetch", "cifar100", "fer2013", "--data-root", "sets", "--yes"]
    saved = [values for action, values in laboratory.used if action == "actions/cache/save@v4"]
    restored = [values for action, values in laboratory.used if action == "actions/cache/restore@v4"]
    assert saved == ([] if hit else restored)
    assert [values["path"] for values in restored] == [f"{laboratory.temporary}/cosmos-eval/pip", "sets"]
    assert laboratory.used[-1][0] == "actions/upload-artifact@v4"


def test_a_baseline_that_is_not_committed_is_restored_measured_and_kept(laboratory, tmp_path):
    laboratory.run(model="cosmos:new.pt", baseline_model="cosmos:old.pt", suite="toybox")
    assert not laboratory.failed, laboratory.log
    baseline, candidate, _ = laboratory.commands()
    assert (baseline[2], baseline[-1]) == ("cosmos:old.pt", "baseline")
    assert baseline[3:-1] == candidate[3:-1]
    restore, save = (values for action, values in laboratory.used if "cache" in action and values["path"] == "baseline")
    assert (
        restore["key"] == save["key"] == restore["restore-keys"] + "7-1"
    )  # a new key for each run; the latest is read
    (tmp_path / "other").mkdir()
    other = Laboratory(tmp_path / "other")
    other.run(model="cosmos:new.pt", baseline_model="cosmos:other.pt", suite="toybox")
    keys = [values.get("restore-keys", "") for _, values in other.used]
    assert any(keys)
    assert restore["restore-keys"] not in keys


@pytest.mark.parametrize(
    ("answer", "code", "title", "summary"),
    [
        ("exit 0", "0", "", ""),
        ('echo "| table |" > regress/regress.md; exit 1', "1", "Regression", "| table |"),
        ('echo "| table |" > regress/regress.md; exit 2', "2", "Cannot compare", "## Cannot compare\n\n\n| table |"),
        ('echo "cosmos-eval: baseline: no such folder" >&2; exit 2', "2", "Cannot compare", "baseline: no such folder"),
    ],
)
def test_the_job_ends_as_regress_does_and_the_summary_says_why(laboratory, answer, code, title, summary):
    laboratory.answer(answer)
    assert laboratory.run(model="cosmos:toybox") == {"exit-code": code}
    assert laboratory.failed == (code != "0")
    assert re.findall("::error title=(.*?)::", laboratory.log) == ([title] if title else [])
    assert summary in laboratory.summary
    assert ("Cannot compare" in laboratory.summary) == (code == "2")
    assert laboratory.used[-1] == (
        "actions/upload-artifact@v4",
        {"name": "regress", "path": "regress", "if-no-files-found": "ignore"},
    )


def test_the_new_baseline_replaces_the_old_one_and_nothing_that_is_not_a_baseline(laboratory):
    old = laboratory.workspace / "baseline" / "old-model" / "b" / "RESULT.json"
    old.parent.mkdir(parents=True)
    old.write_text("{}")
    laboratory.run(model="cosmos:toybox", update_baseline="true")
    assert not laboratory.failed, laboratory.log
    assert [call[0] for call in laboratory.commands()] == ["run"]
    files = [path for path in (laboratory.workspace / "baseline").rglob("*") if path.is_file()]
    assert files == [laboratory.workspace / "baseline" / "m" / "b" / "RESULT.json"]
    source = laboratory.workspace / "src" / "model.py"
    source.parent.mkdir()
    source.write_text("")
    laboratory.run(model="cosmos:toybox", update_baseline="true", baseline="src")
    assert laboratory.failed
    assert source.exists()
    assert "src has no results of cosmos-eval and is not replaced" in laboratory.log


def test_embeddings_are_computed_by_a_command_of_the_repository(laboratory):
    command = 'test -n "$COSMOS_EVAL_INPUTS" && echo ran > "$COSMOS_EVAL_EMBEDDINGS/made" && which python > which'
    # write_inputs.py is tested below; here the environment's Python only notes that it is called
    python = laboratory.temporary.parent / "packages.venv" / "bin" / "python"
    python.write_text(
        python.read_text().replace("exec", f'echo "$@" >> {laboratory.packages}; [ "$1" = -c ] || exit 0; exec')
    )
    laboratory.run(embed=command)
    assert not laboratory.failed, laboratory.log
    measure, _ = laboratory.commands()
    folder = Path(measure[2].removeprefix("embeddings:"))
    assert (folder / "made").exists()
    assert [name for name in measure if name.startswith("toybox-")] == [
        "toybox-retrieval",
        "toybox-classification",
        "toybox-perception",
    ]
    assert (laboratory.workspace / "which").read_text().strip() == str(laboratory.python)  # not cosmos-eval's
    assert "write_inputs.py --benchmark toybox-retrieval" in laboratory.packages.read_text()


def test_a_model_of_the_repository_s_own_code_gets_its_packages_after_cosmos_eval_s(laboratory, tmp_path):
    site = tmp_path / "lab" / "site-packages"
    site.mkdir(parents=True)
    (site / "editable.pth").write_text(str(tmp_path))
    laboratory.environment = {**laboratory.environment, "PYTHONPATH": str(site)}
    purelib = tmp_path / "purelib"
    purelib.mkdir()
    python = tmp_path / "packages.venv" / "bin" / "python"
    python.write_text(python.read_text().replace("exec", f'case "$2" in *purelib*) echo {purelib}; exit;; esac; exec'))
    laboratory.run(model="python:own:build", packages_of="python")
    assert not laboratory.failed, laboratory.log
    assert laboratory.used[0][0] == "actions/cache/restore@v4"  # no other Python is set up
    installs = laboratory.packages.read_text().splitlines()
    assert "\ntorch==" not in Path(installs[0].split()[-1]).read_text()
    lines = (purelib / "packages_of_the_job.pth").read_text().splitlines()
    assert f"import site; site.addsitedir({str(site)!r})" in lines
    before = list(sys.path)
    try:
        for line in lines:
            exec(line)  # as Python does at its start
        assert {str(site), str(tmp_path)} <= set(sys.path[len(before) :])
    finally:
        sys.path[:] = before


def test_a_worse_model_fails_the_job_with_the_real_command(laboratory, tmp_path):
    fabricated.classification(laboratory.workspace / "baseline", np.ones(100))
    fabricated.classification(tmp_path / "worse", np.append(np.zeros(20), np.ones(80)))
    run = f"mkdir -p regress; cp -r {tmp_path / 'worse'} regress/results"
    write_script(
        laboratory.evaluation, f'if [ "$1" = run ]; then {run}; exit; fi\nexec {sys.executable} -m cosmos_eval "$@"\n'
    )
    assert laboratory.run(model="cosmos:toybox", max_drop="0.5") == {"exit-code": "1"}, laboratory.log
    out = laboratory.workspace / "regress"
    assert (out / "regress.md").read_text() in laboratory.summary
    assert json.loads((out / "regress.json").read_text())["exit_code"] == 1
    assert (out / "regress.xml").exists()
    assert "::error title=Regression::worse than the baseline by more than 0.5 points" in laboratory.log


def test_no_input_is_pasted_into_a_script_and_no_address_is_in_the_files():
    for step in STEPS:
        assert "${{" not in step.get("run", "")
        assert step.get("shell", "bash") == "bash"
        assert ("shell" in step) == ("run" in step)  # GitHub requires it of composite actions
    for text in ((ACTION / "action.yml").read_text(), (ACTION / "lock_torch.py").read_text(), WORKFLOW):
        assert re.findall(r"https?://\S+", text) == []


def test_the_example_workflow_may_only_read_and_its_baseline_job_commits_what_changed(tmp_path):
    workflow = yaml.safe_load(WORKFLOW)
    assert workflow["permissions"] == {"contents": "read"}
    assert set(workflow[True]) == {"pull_request", "workflow_dispatch"}  # YAML 1.1 reads `on` as true
    jobs = workflow["jobs"]
    assert {name: job.get("permissions") for name, job in jobs.items()} == {
        "compare": None,
        "baseline": {"contents": "write"},
    }
    inputs = yaml.safe_load((ACTION / "action.yml").read_text(encoding="utf-8"))["inputs"]
    for job in jobs.values():
        (step,) = [step for step in job["steps"] if "cosmos-eval" in step.get("uses", "")]
        assert step["uses"] == "OWNER/cosmos-eval/.github/actions/regress@COMMIT"
        assert step["with"].keys() <= inputs.keys()
        assert all(isinstance(value, str) for value in step["with"].values())
    repository = tmp_path / "repository"
    (repository / "baseline").mkdir(parents=True)
    (repository / "baseline" / "RESULT.json").write_text("{}")
    real = shutil.which("git")
    pushes, clean = tmp_path / "pushes", f"/usr/bin/env -i PATH=/usr/bin:/bin HOME={tmp_path}"
    git = write_script(
        tmp_path / "bin" / "git", f'if [ "$1" = push ]; then echo "$@" >> {pushes}; exit; fi\n{clean} {real} "$@"\n'
    )
    job = Job(repository, tmp_path / "temporary", environment={"PATH": f"{git.parent}:{os.environ['PATH']}"})
    commit = [step for step in jobs["baseline"]["steps"] if step.get("name") == "Commit the baseline"]
    run_steps(
        [{"run": "git init --quiet"}, *commit, *commit, {"run": "git log --oneline --name-only"}], {}, job, tmp_path
    )
    assert not job.failed, job.log
    assert (tmp_path / "pushes").read_text() == "push\n"  # once: the second time nothing had changed
    assert "The baseline is the same." in job.log
    assert job.log.rstrip().endswith("Baseline of the regression test\nbaseline/RESULT.json")
