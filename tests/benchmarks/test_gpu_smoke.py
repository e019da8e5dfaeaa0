"""benchmarks/gpu_smoke.py on the CPU: every stage runs, a wrong number fails, the page says what was measured."""

import json

import pytest
import torch

from benchmarks import gpu_smoke, gpu_smoke_checks


def run(capsys, *words):
    code = gpu_smoke.main(["--device", "cpu", "--tiny", *words])
    out = capsys.readouterr().out
    return code, out, json.loads(out.splitlines()[-1])


QUICK = ("float32", "features", "scores", "memory", "compile", *gpu_smoke.RATES)
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


def test_stages_are_left_out_when_the_time_is_over_and_a_missing_device_is_one_line(capsys):
    _, _, record = run(capsys, "--minutes", "0")
    assert record["figures"]["left_out"] == [*gpu_smoke.CHECKS, *gpu_smoke.RATES]
    assert gpu_smoke.main(["--device", "cuda:99"]) == 2
    assert capsys.readouterr().err.startswith("gpu_smoke: no device cuda:99")
