"""A lack of memory is recognised in all the words of CUDA's libraries, and every stage reports it as one line."""

from dataclasses import replace

import pytest
import torch

from cosmos_core import train as training
from cosmos_core.errors import RequestError
from cosmos_core.memory_errors import is_out_of_memory, report_out_of_memory
from cosmos_core.step import Stepper
from cosmos_core.train import Callback, train
from cosmos_eval.cli.main import run_command
from tests.core.test_train import CONFIG
from tests.helpers.tiny_runs import coloured

LACKS = [
    torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB"),
    MemoryError(),
    RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be ..."),
    RuntimeError("CUDA driver error: out of memory"),
    RuntimeError("Triton Error [CUDA]: out of memory"),
    RuntimeError("MPS backend out of memory (MPS allocated: 17.9 GB, max allowed: 18.1 GB)"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"),
    RuntimeError("GET was unable to find an engine to execute this computation"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
]
OTHERS = [
    RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED"),
    RuntimeError("CUDA error: device-side assert triggered"),
    RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. Its workers may be out of shared memory."),
    ValueError("out of memory"),
]  # fmt: skip


@pytest.mark.parametrize("error", LACKS, ids=str)
def test_a_lack_of_memory_is_recognised(error):
    assert is_out_of_memory(error)
    with pytest.raises(RequestError) as caught, report_out_of_memory("in the kitchen; tidy up"):
        raise error
    assert str(caught.value) == "out of memory in the kitchen; tidy up"
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", OTHERS, ids=str)
def test_other_errors_pass(error):
    assert not is_out_of_memory(error)
    with pytest.raises(type(error)) as caught, report_out_of_memory("in the kitchen"):
        raise error
    assert caught.value is error


@pytest.mark.parametrize(
    ("owner", "stage", "line"),
    [
        (Stepper, "launch", "out of memory in step 1 on cpu; lower batch_size, raise accumulate, or set grad_checkp"),
        (training, "initial_model", "out of memory building the model on cpu; free memory there"),
    ],
)
def test_training_without_memory_ends_with_advice(owner, stage, line, monkeypatch):
    def fail(*args):
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(owner, stage, fail)
    with pytest.raises(RequestError, match=line):
        train(CONFIG, coloured(8))


@pytest.mark.parametrize(
    ("stage", "line"),
    [
        ("cosmos_core.data.loader.finish_views", "out of memory preparing batch 1 on cpu; lower batch_size"),
        ("cosmos_core.step.Networks", "out of memory preparing the first step on cpu; free memory"),
        ("cosmos_core.run_state.load_optimizer", r"out of memory restoring .*\.pt on cpu; free memory"),
    ],
)
def test_a_batch_ddp_and_a_resume_without_memory_are_told_apart(stage, line, monkeypatch, tmp_path):
    def fail(*args):
        raise RuntimeError("CUDA error: out of memory")

    config = replace(CONFIG, steps=2, out=str(tmp_path), save_every=1)
    if "restoring" in line:
        with pytest.raises(ZeroDivisionError):
            train(config, coloured(8), callbacks=[StopAfterOneStep()])
    monkeypatch.setattr(stage, fail)
    with pytest.raises(RequestError, match=line):
        train(config, coloured(8))


class StopAfterOneStep(Callback):
    def on_step(self, run):
        if run.step == 2:
            raise ZeroDivisionError


@pytest.mark.parametrize("stage", ["cosmos_eval.models.cosmos.load_checkpoint", "torch.mm"])
def test_wherever_memory_lacks_the_command_line_says_one_line_and_exits_with_2(stage, monkeypatch, tmp_path, capsys):
    def fail(*args, **options):
        raise RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later")

    monkeypatch.setattr(stage, fail)
    words = ["--model", "cosmos:toybox", "--benchmark", "toybox-retrieval", "--limit", "8", "--out", str(tmp_path)]
    assert run_command(["run", *words]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("cosmos-eval: out of memory ")
    assert "device" in error
