"""benchmarks/gpu_smoke.py on the CPU: every stage runs, a wrong number fails, the page says what was measured."""

import json
import sys
import threading

import pytest
import torch

from benchmarks import gpu_smoke, gpu_smoke_checks


def run(capsys, *words):
    code = gpu_smoke.main(["--device", "cpu", "--tiny", *words])
    out = capsys.readouterr().out
    return code, out, json.loads(out.splitlines()[-1])


QUICK = ("float32", "features", "attention", "loading", "scores", "memory", "compile", *gpu_smoke.RATES)
"""Stages that take little time on a CPU; tests/device compares tasks and training with a pretended card."""


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("stages", [QUICK, pytest.param((*gpu_smoke.CHECKS, *gpu_smoke.RATES), marks=pytest.mark.slow)])
def test_stages_pass_and_the_page_has_them(stages, tmp_path, capsys):
    code, _, record = run(capsys, "--only", *stages, "--out", str(tmp_path / "gpu.md"))
    assert (code, record["name"], record["figures"]["failed"]) == (0, "gpu_smoke", [])
    assert record["figures"]["checks"] > 20
    page = (tmp_path / "gpu.md").read_text(encoding="utf-8")
    assert "patch features, naclip, bf16" in page
    assert "samples/s of a training step fed by" in page
    assert "torch 2" in page


def test_a_wrong_number_and_an_exception_fail_and_the_other_stages_run(capsys, monkeypatch):
    monkeypatch.setitem(gpu_smoke_checks.FEATURES, "fp16", 1e-9)

    def fail(smoke):
        """Fails."""
        raise RuntimeError("no kernel\nat hand")

    monkeypatch.setitem(gpu_smoke.CHECKS, "scores", fail)
    code, out, record = run(capsys, "--only", "float32", "features", "scores")
    assert code == 1
    failed = record["figures"]["failed"]
    assert "patch features, csa, fp16" in failed
    assert "scores (RuntimeError: no kernel at hand)" in failed
    assert "ok   float32 product" in out


def test_a_difference_that_is_not_a_number_fails(capsys):
    smoke = gpu_smoke.Smoke(torch.device("cpu"), tiny=True)
    smoke.check("difference", float("nan"), 1.0)
    assert smoke.failed == ["difference"]


def test_stages_are_told_when_the_time_is_over_and_a_missing_device_is_one_line(tmp_path, capsys):
    code, _, record = run(capsys, "--minutes", "0", "--out", str(tmp_path / "gpu.md"))
    assert code == 3  # nothing failed, and nothing was checked
    assert list(record["figures"]["not_run"]) == [*gpu_smoke.CHECKS, *gpu_smoke.RATES]
    assert "Not run: float32 (0 s were left); features" in (tmp_path / "gpu.md").read_text(encoding="utf-8")
    assert gpu_smoke.main(["--device", "cuda:99"]) == 2
    assert capsys.readouterr().err.startswith("gpu_smoke: no device cuda:99")
    assert gpu_smoke.main(["--device", "cpu", "--out", str(tmp_path / "missing" / "gpu.md")]) == 2
    assert "missing" in capsys.readouterr().err


def test_a_stage_that_is_at_work_when_the_time_is_over_is_stopped_and_told():
    smoke = gpu_smoke.Smoke(torch.device("cpu"), tiny=True)

    def wait(smoke):
        """Never ends, and takes any `Exception` for an unimportant one."""
        while True:
            try:
                threading.Event().wait()
            except Exception:
                continue

    gpu_smoke.run_stage(smoke, "scores", wait, seconds=0.1)
    assert smoke.not_run["scores"].startswith("stopped after")
    assert smoke.failed == []


def test_a_device_that_does_not_answer_any_more_ends_the_checks_but_not_the_page(tmp_path, capsys, monkeypatch):
    def fail(_device):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(gpu_smoke, "synchronize", fail)
    code, _, record = run(capsys, "--only", "float32", "scores", "--out", str(tmp_path / "gpu.md"))
    assert code == 1
    assert record["figures"]["failed"] == ["float32 (CUDA error: an illegal memory access was encountered)"]
    assert "scores (the device does not answer any more" in (tmp_path / "gpu.md").read_text(encoding="utf-8")


def test_ranks_that_fail_are_told_in_their_own_words():
    words = "import sys; print('noise'); print('cosmos-eval: no such file', file=sys.stderr); sys.exit(2)"
    with pytest.raises(RuntimeError, match=r"^two ranks: exit code 2; cosmos-eval: no such file$"):
        gpu_smoke_checks.run_command([sys.executable, "-c", words], "two ranks", single_thread=True)
