"""docs/training.md and cosmos_core/README.md: their examples run, and the names in them exist."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cosmos_core import config as config_module
from cosmos_core import objectives
from cosmos_core.checkpoint import read_file
from cosmos_core.config import list_presets, load_preset
from cosmos_core.settings import settings
from cosmos_core.train import train
from cosmos_eval.protocol.benchmark import list_benchmarks, list_suites
from tests.cli.test_cli_train import tiny  # noqa: F401 - a fixture
from tests.core.siglip import put_distribution
from tests.core.test_train import CONFIG
from tests.helpers.documents import block, check_command, commands
from tests.helpers.processes import free_port
from tests.helpers.tiny_runs import coloured

ROOT = Path(__file__).resolve().parents[2]
TRAINING = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
CORE = (ROOT / "cosmos_core" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("containing", ["CosmosLoss()", "train(config, records)"])
def test_the_examples_in_python_run(containing: str):
    names: dict = {}
    exec(block(CORE, "python", containing), names)
    if "result" in names:
        assert names["result"].steps == 4


def test_the_objective_of_the_example_trains(monkeypatch, tmp_path: Path):
    (tmp_path / "two_captions.py").write_text(block(CORE, "python", "class TwoCaptions"))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(objectives.OBJECTIVES, "two", "two_captions:TwoCaptions")
    names: dict = {}
    exec(block(CORE, "python", "class Temperatures"), names)
    watch = names["Temperatures"]()
    changes = {"steps": 40, "batch_size": 8, "lr": 3e-3, "objective": "two"}
    result = train(config_module.TrainConfig(**{**CONFIG.__dict__, **changes}), coloured(64), callbacks=[watch])
    assert result.metrics[-1]["loss"] < 0.8 * result.metrics[0]["loss"]
    assert len(watch.seen) == 40


def test_the_objective_with_a_learned_bias_trains_it_as_a_plugin(monkeypatch, tmp_path: Path):
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "siglip.py").write_text(block(CORE, "python", "class SigLip"))
    (entry,) = re.findall(r'cosmos_core.objectives"\]\n(\w+) = "(.*)"', block(CORE, "toml", "entry-points"))
    put_distribution(tmp_path, " = ".join(entry))
    monkeypatch.syspath_prepend(str(tmp_path))
    own = {"objective": "sigmoid", "objective_options": {"init_bias": -8}}
    changes = {"steps": 40, "batch_size": 8, "lr": 3e-3, **own}
    result = train(config_module.TrainConfig(**{**CONFIG.__dict__, **changes, "out": str(tmp_path)}), coloured(64))
    assert result.metrics[-1]["loss"] < 0.8 * result.metrics[0]["loss"]
    bias = read_file(tmp_path / "last.pt")["objective"]["state"]["bias"].item()
    assert 0.01 < abs(bias + 8) < 1


def test_every_key_preset_and_suite_in_the_documents_exists():
    keys = {setting.key for setting in settings()}
    for document in (TRAINING, CORE):
        for key in re.findall(r"--set '?([a-z_.]+)=", document):
            assert key in keys or key.startswith(("model.", "objective_options.")), key
        for key in re.findall(r"`([a-z_]+)=[^`]+`", document):
            assert key in keys, key
        for name in re.findall(r"cosmos[-_]eval train ([a-z0-9-]+)(?=[\s`])", document):
            assert name in list_presets(), name
        for name in re.findall(r"(?:--suite |eval_suite=)([a-z0-9-]+)", document):
            assert name in [*list_suites(), *list_benchmarks()], name
    for change in re.findall(r"--set (model\.[^`]+)`", TRAINING):
        load_preset("cc3m", [change])


def test_every_command_in_the_documents_exists_and_has_its_options():
    all_commands = commands(TRAINING)
    assert len(all_commands) > 8
    for command in all_commands:
        check_command(command)


def test_named_files_exist():
    for name in re.findall(r"`([a-z_]+\.py)`", CORE):
        assert (ROOT / "cosmos_core" / name).is_file() or name == "__init__.py", name
    for folder, document in ((ROOT / "docs", TRAINING), (ROOT / "cosmos_core", CORE)):
        for link in re.findall(r"\]\(([^)#:]+)\)", document):
            assert (folder / link).resolve().is_file(), link


FAKE_SRUN = """#!{python}
import os, signal, subprocess, sys
command = [word for word in sys.argv[1:] if not word.startswith("--")]
slurm = [{{"SLURM_PROCID": str(i), "SLURM_LOCALID": str(i), "SLURM_NTASKS": "2"}} for i in range(2)]
tasks = [subprocess.Popen(command, env={{**os.environ, **own}}) for own in slurm]
signal.signal(signal.SIGUSR1, lambda number, frame: [task.send_signal(number) for task in tasks])
sys.exit(max(task.wait() for task in tasks))
"""
FAKE_SCONTROL = """#!/bin/bash
if [ "$1" = show ]; then echo 127.0.0.1; else echo "$@" >> "$REQUEUED"; fi
"""
FAKE_COSMOS = """#!/bin/bash
exec {python} -m cosmos_eval train "$SETTINGS" --out "$OUT"
"""


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no SIGUSR1 here")
def test_the_slurm_script_writes_a_checkpoint_and_queues_itself_again(tiny: Path, tmp_path: Path):  # noqa: F811
    """The script as written, with stand-ins for Slurm's two commands and for `cosmos-eval`, which trains longer."""
    script = tmp_path / "cosmos.sbatch"
    script.write_text(block(TRAINING, "bash", "#SBATCH").replace("MASTER_PORT=29500", f"MASTER_PORT={free_port()}"))
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in (("srun", FAKE_SRUN), ("scontrol", FAKE_SCONTROL), ("cosmos-eval", FAKE_COSMOS)):
        (tools / name).write_text(text.format(python=sys.executable) if "python" in text else text)
        (tools / name).chmod(0o755)
    tiny.write_text(tiny.read_text().replace("steps: 4", "steps: 100000"))
    out = tmp_path / "run"
    environment = {
        **os.environ,
        "PATH": f"{tools}:{os.environ['PATH']}",
        "SLURM_JOB_NODELIST": "here",
        "SLURM_JOB_ID": "17",
        "REQUEUED": str(tmp_path / "requeued"),
        "SETTINGS": str(tiny),
        "OUT": str(out),
    }
    job = subprocess.Popen(["bash", str(script)], env=environment, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 240
        while not (out / "metrics.jsonl").is_file() or not (out / "metrics.jsonl").read_text():
            assert job.poll() is None, job.stderr.read() if job.stderr else ""
            assert time.monotonic() < deadline
            time.sleep(0.2)
        job.send_signal(signal.SIGUSR1)  # as `--signal=B:USR1@120` does, only to the script
        _, said = job.communicate(timeout=240)
    finally:
        job.kill()
    assert (tmp_path / "requeued").read_text() == "requeue 17\n"
    assert said.count("stopped by SIGUSR1 after step") == 1, said
    assert (out / "last.pt").is_file()
