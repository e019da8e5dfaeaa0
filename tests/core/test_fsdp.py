"""Networks split over two ranks train as whole ones do, and their checkpoints are interchangeable."""

import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn import functional

import cosmos_core.step
import cosmos_core.train
from cosmos_core.checkpoint import load_checkpoint, read_file
from cosmos_core.config import TrainConfig
from cosmos_core.errors import RequestError
from cosmos_core.fsdp import divided_groups, joined_groups, local_parts, require_fsdp
from cosmos_core.initial_weights import InitialWeights
from cosmos_core.progress import Silent
from cosmos_core.rank_agreement import whole_entries
from cosmos_core.signals import Interrupted
from cosmos_core.step import Run
from cosmos_core.train import Callback, TrainResult, pretrain
from cosmos_core.world import World
from tests.core.gloo_ranks import on_ranks
from tests.helpers.tiny_runs import CONFIG, TINY, coloured

pytestmark = pytest.mark.usefixtures("one_thread")
STEPS, STOP = 4, 2
LOGGED = ("loss", "clip_loss", "distill_loss", "grad_norm")
# With AdamW's usual eps, rounding errors decide the steps of biases of keys, whose gradient is zero but for them.
TRAINED = replace(CONFIG, steps=STEPS, batch_size=8, accumulate=2, grad_clip=0.5, eps=1e-4, log_every=1)
TRAINED = replace(TRAINED, save_every=STOP, keep=0, threads=1)


class StopAt(Callback):
    """Sends the first rank SIGTERM after a step, as a batch system does."""

    def on_step(self, run: Run) -> None:
        if run.step == STOP and run.world.is_main:
            os.kill(os.getpid(), signal.SIGTERM)


class Shares(Callback):
    """What a rank holds after the last step: values of the student, of the teacher and of the first moments."""

    def __init__(self) -> None:
        self.values: dict[str, tuple[int, int]] = {}
        self.noted = -1

    def on_step(self, run: Run) -> None:
        moments = [state["exp_avg"] for state in run.optimizer.state_dict()["state"].values()]
        held = {"student": list(run.student.parameters()), "teacher": list(run.teacher.parameters()), "AdamW": moments}
        self.values = {
            name: (sum(part.numel() for part in local_parts(tensors)), sum(each.numel() for each in tensors))
            for name, tensors in held.items()
        }
        context = run.teacher._get_fsdp_state()._comm_ctx  # type: ignore[operator]
        self.noted = len(getattr(context, "post_forward_order", []))  # no list where the teacher was never called


def run(world: World, config: TrainConfig, out: Path, *callbacks: Callback) -> TrainResult:
    return pretrain(replace(config, out=str(out)), coloured(config.batch_size), world, callbacks, Silent(), False)


def losses(result: TrainResult) -> list[list[float]]:
    return [[line[name] for name in LOGGED] for line in result.metrics]


def continued(world: World, config: TrainConfig, checkpoint: Path, out: Path) -> list[list[float]]:
    """Losses of the steps after a checkpoint of another folder."""
    if world.is_main:
        out.mkdir()
        shutil.copyfile(checkpoint, out / checkpoint.name)
    world.barrier()
    return losses(run(world, config, out))


def trained(world: World, folder: str, objective: str, every_way: bool) -> dict[str, Any]:
    """Losses of every step, by run; those of a continued run begin after step `STOP`."""
    shared = replace(TRAINED, objective=objective, batch_size=4 * world.size)
    root, whole, split = Path(folder), *(replace(shared, fsdp=fsdp) for fsdp in (False, True))
    shares = Shares()
    result = run(world, split, root / "split", shares)
    found = {"whole": losses(run(world, whole, root / "whole")), "split": losses(result)}
    found["shares"] = {name: list(counts) for name, counts in shares.values.items()}
    found["noted"] = shares.noted
    found["student"] = dict(result.student.state_dict()) if world.is_main else {}
    found["kept on"] = sorted({each.device.type for each in result.teacher.parameters()})
    continuations = [("split from split", "split", split), ("whole from split", "split", whole)]
    if every_way:
        continuations.append(("split from whole", "whole", split))
        # the batch in other parts: a checkpoint is of whole steps, so it holds nothing of a part
        continuations.append(("split from whole, not in parts", "whole", replace(split, accumulate=1)))
        continuations.append(("whole from split, in four parts", "split", replace(whole, accumulate=4)))
        with pytest.raises(Interrupted):
            run(world, split, root / "stopped", StopAt())
        found["stopped"] = losses(run(world, split, root / "stopped"))
        student = load_checkpoint(root / "split" / "last.pt", "student")
        weights = InitialWeights("memory", TINY, student.state_dict())
        for config in (whole, split):
            once = replace(config, init="memory", steps=1)
            started = pretrain(once, coloured(once.batch_size), world, [], Silent(), False, lambda: weights)
            found[f"from weights, {config.fsdp}"] = losses(started)
    for name, source, config in continuations:
        found[name] = continued(world, config, root / source / f"step-{STOP:08d}.pt", root / name)
    return found


def assert_close(one: Any, other: Any, tolerance: float, where: str = "") -> None:
    """The same keys, and numbers that differ by no more than a tolerance."""
    if isinstance(one, dict):
        assert list(one) == list(other), where
        for key in one:
            assert_close(one[key], other[key], tolerance, f"{where}/{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for index, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_close(a, b, tolerance, f"{where}/{index}")
    elif isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype, where
        assert one.untyped_storage().nbytes() == other.untyped_storage().nbytes(), where
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance, msg=where)
    elif isinstance(one, float):
        assert one == pytest.approx(other, rel=tolerance, abs=tolerance), where
    else:
        assert one == other, where


def assert_same_training(tmp_path: Path, objective: str, size: int = 2, every_way: bool = True) -> None:
    (tmp_path / "meet").mkdir()
    ranks = on_ranks(trained, [size], tmp_path / "meet", str(tmp_path), objective, every_way)[size]
    assert [rank["kept on"] for rank in ranks] == [["cpu"], *[["meta"]] * (size - 1)]
    for rank in ranks:
        assert len(rank["whole"]) == STEPS
        assert_close(rank["split"], rank["whole"], 1e-5)
        assert rank["split from split"] == rank["split"][STOP:]
        assert_close(rank["whole from split"], rank["whole"][STOP:], 1e-5)
        assert rank["noted"] == 0
        for held, all_values in rank["shares"].values():
            assert held < 1.1 * all_values / size

    files = {name: read_file(tmp_path / name / "last.pt") for name in ("split", "whole", "split from split")}
    for part in ("student", "teacher", "optimizer"):
        assert_close(files["split from split"][part], files["split"][part], 0)
    assert files["split"]["training"].pop("fsdp") is True
    assert files["split"]["environment"].pop("fsdp") is True
    for content in files.values():
        del content["training"]["out"]
    assert_close(files["split"], files["whole"], 1e-5)
    loaded = load_checkpoint(tmp_path / "split" / "last.pt", "student")
    assert_close(dict(loaded.state_dict()), ranks[0]["student"], 0)

    if every_way:
        for rank in ranks:
            for name in ("split from whole", "split from whole, not in parts", "whole from split, in four parts"):
                assert_close(rank[name], rank["whole"][STOP:], 1e-5)
            assert rank["stopped"] == rank["split"]
            assert_close(rank["from weights, True"], rank["from weights, False"], 1e-5)
            assert rank["from weights, True"][0][0] < rank["split"][0][0] - 0.01
        config = replace(TRAINED, objective=objective, batch_size=4 * size)
        alone = continued(World(), config, tmp_path / "split" / f"step-{STOP:08d}.pt", tmp_path / "alone")
        assert_close(alone, ranks[0]["whole"][STOP:], 1e-5)
        stopped = read_file(tmp_path / "stopped" / "last.pt")
        for part in ("student", "teacher", "optimizer"):
            assert_close(stopped[part], files["split"][part], 0)


def test_two_ranks_with_halves_train_and_resume_as_two_with_all(tmp_path: Path):
    assert_same_training(tmp_path, "cosmos", every_way=False)


@pytest.mark.slow
@pytest.mark.parametrize(("objective", "ranks"), [("cosmos", 2), ("clip", 2), ("siglip", 2), ("silc", 3)])
def test_every_objective_and_way_to_continue_is_as_with_whole_networks(objective: str, ranks: int, tmp_path: Path):
    assert_same_training(tmp_path, objective, ranks)


def mixed(world: World, folder: str) -> dict[str, Any]:
    """Losses in bfloat16, which a run never uses on a CPU, and the types in which a block's weights are gathered."""
    cosmos_core.step.amp_dtype = cosmos_core.train.amp_dtype = lambda precision, device: torch.bfloat16
    layer_norm = functional.layer_norm

    def in_float32(x: Tensor, shape: Any, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        return layer_norm(x.float(), shape, weight.float(), bias.float(), eps)

    functional.layer_norm = in_float32  # as autocast does on CUDA, and not on a CPU
    types: set[str] = set()

    class Watch(Callback):
        def on_start(self, run: Run) -> None:
            block = run.student.visual.transformer.resblocks[0]
            block.mlp.c_fc.register_forward_pre_hook(lambda module, inputs: types.add(str(module.weight.dtype)))

    whole, split = (
        losses(run(world, replace(TRAINED, fsdp=fsdp, grad_checkpointing=True), Path(folder) / str(fsdp), Watch()))
        for fsdp in (False, True)
    )
    stored = read_file(Path(folder) / "True" / "last.pt")["student"].values()
    return {"whole": whole, "split": split, "types": sorted(types), "stored": sorted({str(v.dtype) for v in stored})}


@pytest.mark.slow
def test_mixed_precision_gathers_blocks_in_16_bits_and_trains_alike(tmp_path: Path):
    (tmp_path / "meet").mkdir()
    for rank in on_ranks(mixed, [2], tmp_path / "meet", str(tmp_path))[2]:
        for name, tolerance in (("loss", 0.002), ("clip_loss", 0.005), ("distill_loss", 0.005), ("grad_norm", 0.1)):
            column = LOGGED.index(name)
            split, whole = ([line[column] for line in rank[kind]] for kind in ("split", "whole"))
            assert_close(split, whole, tolerance, name)
        assert rank["split"] != rank["whole"]
        assert rank["types"] == ["torch.bfloat16", "torch.float32"]
        assert rank["stored"] == ["torch.float32"]


@pytest.mark.parametrize(
    ("change", "ranks", "device", "dtype", "why"),
    [
        ({}, 1, "cpu", None, "needs at least two ranks to split the networks over: start them with torchrun"),
        ({}, 2, "mps", None, "runs on CUDA and on CPUs, not on mps"),
        ({"compile": True}, 2, "cpu", None, "does not go with compile=true"),
        ({}, 2, "cuda", torch.float16, "has no loss scaling, which float16 needs: set precision=fp32, or amp_bf16"),
    ],
)
def test_what_split_networks_cannot_do_is_refused(change: dict, ranks: int, device: str, dtype: Any, why: str):
    config = replace(CONFIG, fsdp=True, **change)
    with pytest.raises(RequestError, match=f"fsdp=true {why}.*, or set fsdp=false"):
        require_fsdp(config, World(0, ranks), torch.device(device), dtype)
    require_fsdp(replace(config, fsdp=False), World(0, ranks), torch.device(device), dtype)


def test_a_torch_that_was_not_tried_is_refused(monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.7.1+cu126")
    with pytest.raises(RequestError, match=r"fsdp=true needs torch 2\.11, .*, or set fsdp=false"):
        require_fsdp(replace(CONFIG, fsdp=True), World(0, 2), torch.device("cpu"), None)


def test_what_is_whole_on_each_rank_is_compared():
    part = torch.Tensor._make_subclass(DTensor, torch.zeros(2))
    state = {"weight": 1.0, "part": part, 0: {"exp_avg": part, "step": 3}}
    assert whole_entries(state) == {"weight": 1.0, 0: {"step": 3}}


def test_groups_that_were_divided_are_stored_as_one():
    stored = [{"params": [0, 1, 2], "lr": 1.0}, {"params": [3], "lr": 2.0}]
    own = [{"params": [0], "lr": 1.0}, {"params": [1, 2], "lr": 1.0, "second_half": True}, {"params": [3], "lr": 2.0}]
    assert joined_groups(own) == stored
    assert [group["params"] for group in divided_groups(own, stored)] == [[0], [1, 2], [3]]
    assert len(divided_groups(own, [*stored, {"params": [4]}])) == 4  # one too many stays, to be refused
    assert len(divided_groups(own, stored[:1])) == 2
