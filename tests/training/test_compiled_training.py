"""A whole training with compile=true on the CPU: the numbers and the names of one without."""

import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cosmos_core.export import export_checkpoint
from cosmos_core.signals import Interrupted
from cosmos_core.train import initial_model, train
from cosmos_eval.report.evaluations import read_evaluations
from cosmos_eval.training.evaluator import EvaluateEvery
from tests.helpers.tiny_runs import CONFIG, TINY, StopAfter, coloured
from tests.helpers.worlds import captions_world


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
@pytest.mark.usefixtures("one_thread")
def test_a_compiled_training_is_stopped_resumed_evaluated_and_exported_as_one_without(tmp_path: Path):
    captions_world(tmp_path)
    config = replace(CONFIG, steps=4, log_every=1, grad_checkpointing=True, eval_every=2, eval_networks="both")
    # With AdamW's usual eps, rounding errors decide the steps of biases of keys, whose gradient is zero but for them.
    config = replace(config, eps=1e-4, eval_suite=str(tmp_path / "pairs.yaml"), eval_data_root=str(tmp_path))
    plain = replace(config, out=str(tmp_path / "plain"))
    compiled = replace(config, out=str(tmp_path / "compiled"), compile=True)
    expected = train(plain, coloured(8), callbacks=[EvaluateEvery(plain)])
    with pytest.raises(Interrupted):
        train(compiled, coloured(8), callbacks=[EvaluateEvery(compiled), StopAfter(2, signal.SIGTERM)])
    result = train(compiled, coloured(8), callbacks=[EvaluateEvery(compiled)])

    for key in ("loss", "clip_loss", "distill_loss", "grad_norm"):
        losses = [[line[key] for line in each.metrics] for each in (result, expected)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-3, abs=1e-5), key
    lines = [read_evaluations(Path(each.out) / "evaluations.jsonl") for each in (compiled, plain)]
    assert [[(line["step"], line["network"]) for line in each] for each in lines] == [
        [(step, network) for step in (2, 4) for network in ("teacher", "student")]
    ] * 2

    names = list(initial_model(TINY, 0).state_dict())
    stored = torch.load(tmp_path / "compiled" / "last.pt", weights_only=True)
    for network in (stored["student"], stored["teacher"], result.student.state_dict(), result.teacher.state_dict()):
        assert list(network) == names
    exported = []
    for each in (compiled, plain):
        path = tmp_path / f"{Path(each.out).name}.safetensors"
        export_checkpoint(Path(each.out) / "last.pt", path, "safetensors")
        exported.append(load_file(path))
    assert exported[0].keys() == exported[1].keys() == set(names)
    for name, value in exported[1].items():
        torch.testing.assert_close(exported[0][name], value, rtol=1e-3, atol=1e-4, msg=name)
