"""One iteration, and four, of the training loop equal the original's."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cosmos_core.checkpoint import read_file
from cosmos_core.config import TrainConfig
from cosmos_core.data import Batch
from cosmos_core.model import COSMOS
from cosmos_core.networks import build_optimizer
from cosmos_core.schedule import cosine_lr, cosine_momentum
from cosmos_core.train import Run, Stepper
from cosmos_core.views import MultiCrop
from tests.parity.golden import EXACT, GRADIENT, Pack, Rule, compare, flatten, within
from tests.parity.test_parity_schedules import clamp, groups_of_the_pack


@pytest.fixture(scope="module")
def pack(parity_dir: Path) -> Pack:
    return Pack.at(parity_dir)


def networks(pack: Pack) -> tuple[COSMOS, COSMOS]:
    models = []
    for name in ("student", "teacher"):
        model = COSMOS.from_config(pack.json("model/config.json"))
        model.load_state_dict(pack.tensors(f"model/{name}_init.safetensors"))
        models.append(model.train())
    return models[0], models[1].requires_grad_(False)


def batch(tensors: dict[str, Tensor], prefix: str = "") -> Batch:
    names = sorted(name for name in tensors if name.startswith(f"{prefix}images."))
    texts = tensors[f"{prefix}texts_BnL"].long()
    return Batch([tensors[name].float() for name in names], texts, keys=[str(i) for i in range(len(texts))])


def training(pack: Pack, config: TrainConfig, steps: int, step: int = 0) -> tuple[Run, Stepper]:
    student, teacher = networks(pack)
    run = Run(config, student, teacher, build_optimizer(config, student), steps=steps, step=step)
    return run, Stepper(run)


def parts(pack: Pack) -> int:
    """A number of parts that the pack's batch can be taken in, above one."""
    size = len(pack.tensors("model/inputs.safetensors")["texts_BnL"])
    return next(n for n in range(2, size + 1) if size % n == 0)


def first_iteration(pack: Pack, accumulate: int = 1) -> dict[str, Any]:
    """The run after the pack's one iteration, and what it measured."""
    stored = pack.json("model/optimizer.json")
    config = TrainConfig(
        lr=stored["lr"],
        lr_schedule="const",
        warmup=0,
        weight_decay=stored["group1"]["weight_decay"],
        beta1=stored["betas"][0],
        beta2=stored["betas"][1],
        eps=stored["eps"],
        momentum_teacher=stored["momentum_teacher"],
        batch_size=len(pack.tensors("model/inputs.safetensors")["texts_BnL"]),
        accumulate=accumulate,
    )
    run, stepper = training(pack, config, steps=1)
    metrics = stepper(batch(pack.tensors("model/inputs.safetensors")))
    return {"run": run, "metrics": metrics}


def one_step(pack: Pack) -> Run:
    return pack.ours("first iteration", first_iteration)["run"]


def optimizer_numbers(pack: Pack) -> dict[str, Any]:
    run = one_step(pack)
    group = run.optimizer.param_groups[0]
    return {
        **logged(pack.ours("first iteration", first_iteration)["metrics"], "logged/"),
        "lr": group["lr"],
        "betas": list(group["betas"]),
        "eps": group["eps"],
        "momentum_teacher": run.config.momentum_teacher,
        "teacher_logit_scale/after": run.teacher.logit_scale,
        "teacher_distill_logit_scale/after": run.teacher.distill_logit_scale,
        "student_logit_scale_after": run.student.logit_scale,
        "student_distill_logit_scale_after": run.student.distill_logit_scale,
        **groups_of_the_pack(pack),
        **clamp(pack),
    }


@pytest.mark.parametrize("which", ["student", "teacher"])
def test_the_student_and_the_teacher_after_one_step(pack: Pack, which: str):
    pack.compare(f"model/{which}_after_step.safetensors", FILES[f"model/{which}_after_step.safetensors"](pack))


@pytest.mark.parametrize("which", ["student", "teacher"])
def test_the_networks_after_one_step_on_a_batch_in_parts(pack: Pack, which: str):
    done = pack.ours("first iteration in parts", lambda pack: first_iteration(pack, parts(pack)))
    pack.compare(f"model/{which}_after_step.safetensors", getattr(done["run"], which).state_dict())


def test_what_the_step_reports_and_what_the_clamp_leaves(pack: Pack):
    pack.compare("model/optimizer.json", optimizer_numbers(pack))


def test_the_optimizers_state_after_one_step_is_the_stored_one(pack: Pack):
    run, stored = one_step(pack), read_file(pack.path("checkpoint/train_format.pt"))["optimizer"]
    ours = run.optimizer.state_dict()
    options = [dict(flatten(as_lists(group))) for group in ours["param_groups"]]
    theirs = [dict(flatten(as_lists(group))) for group in stored["param_groups"]]
    assert options == theirs  # options, and which parameters in which order
    names = {id(parameter): name for name, parameter in run.student.named_parameters()}
    order = [names[id(parameter)] for group in run.optimizer.param_groups for parameter in group["params"]]
    assert list(ours["state"]) == list(stored["state"]) == list(range(len(order)))
    gradients = pack.tensors("model/grads.safetensors")
    beta1, beta2 = run.config.beta1, run.config.beta2
    for i, name in enumerate(order):
        mine, his = ours["state"][i], stored["state"][i]
        assert set(mine) == set(his)
        compare(f"{name}/step", mine["step"], his["step"], EXACT)
        # the moments of one step are shares of the gradient and of its square, and so are their errors
        slack = GRADIENT.tolerance(gradients[name].double().numpy())
        compare(f"{name}/exp_avg", mine["exp_avg"], his["exp_avg"], within((1 - beta1) * slack))
        size = np.abs(gradients[name].double().numpy())
        squared = (1 - beta2) * (2 * size + slack) * slack + 1e-12
        compare(f"{name}/exp_avg_sq", mine["exp_avg_sq"], his["exp_avg_sq"], within(squared))


def as_lists(group: dict[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in group.items()}


def test_averaging_after_the_optimizer_step_is_the_other_order(pack: Pack):
    config = replace(one_step(pack).config, ema_before_step=False)
    run, stepper = training(pack, config, steps=1)
    stepper(batch(pack.tensors("model/inputs.safetensors")))
    stored = pack.tensors("model/teacher_after_step.safetensors")
    differences = [
        (ours - stored[name]).abs().max().item()
        for name, ours in run.teacher.state_dict().items()
        if not name.endswith("logit_scale")  # clamped in the pack's teacher
    ]
    expected = pack.json("model/optimizer.json")["largest_teacher_difference_if_ema_ran_after_the_optimizer"]
    assert max(differences) == pytest.approx(expected, rel=0.1)
    with pytest.raises(AssertionError):
        pack.compare("model/teacher_after_step.safetensors", run.teacher.state_dict())


def logged(metrics: dict[str, float], prefix: str) -> dict[str, float]:
    """The loop's measurements under the original's names; momentum and learning rate are those of the step."""
    names = {
        "train/scale": "logit_scale",
        "train/lr": "lr",
        "train/momentum": "momentum",
        "train/distil_scale": "distill_logit_scale",
        "train/distill_loss": "distill_loss",
        "train/clip_loss": "clip_loss",
        "train/loss": "loss",
    }
    return {prefix + theirs: metrics[ours] for theirs, ours in names.items()}


def trajectory(pack: Pack, accumulate: int = 1) -> dict[str, Any]:
    stored, optimizer = pack.json("model/trajectory.json"), pack.json("model/optimizer.json")
    config = TrainConfig(
        lr=stored["base_lr"],
        warmup=stored["warmup"],
        weight_decay=optimizer["group1"]["weight_decay"],
        beta1=optimizer["betas"][0],
        beta2=optimizer["betas"][1],
        eps=optimizer["eps"],
        momentum_teacher=stored["base_momentum"],
        fix_momentum=False,
        grad_clip=stored["grad_clip_norm"],
        batch_size=len(pack.tensors("model/inputs.safetensors")["texts_BnL"]),
        accumulate=accumulate,
    )
    first = stored["epoch"] * stored["batches"]
    run, stepper = training(pack, config, steps=stored["total_steps"], step=first)
    ours: dict[str, Any] = {}
    for i in range(stored["batches"]):
        file, prefix = ("inputs", "") if i == 0 else ("trajectory_inputs", f"{i}.")
        metrics = stepper(batch(pack.tensors(f"model/{file}.safetensors"), prefix))
        ours |= logged(metrics, f"steps/{run.step}/")
        run.step += 1
    for name, model in (("student", run.student), ("teacher", run.teacher)):
        for parameter, value in model.state_dict().items():
            ours[f"{name}_final/{parameter}/sum"] = value.double().sum()
            ours[f"{name}_final/{parameter}/l2"] = value.double().norm()
    return ours


FILES: dict[str, Callable[[Pack], dict[str, Any]]] = {
    "model/student_after_step.safetensors": lambda pack: one_step(pack).student.state_dict(),
    "model/teacher_after_step.safetensors": lambda pack: one_step(pack).teacher.state_dict(),
    "model/optimizer.json": optimizer_numbers,
    "model/trajectory.json": trajectory,
}


def test_four_steps_follow_the_original_trajectory(pack: Pack):
    pack.compare("model/trajectory.json", pack.ours("model/trajectory.json", trajectory))


def test_four_steps_on_batches_in_parts_follow_it_too(pack: Pack):
    pack.compare("model/trajectory.json", trajectory(pack, parts(pack)))


def test_the_learning_rate_is_set_before_the_forward(pack: Pack):
    stored = pack.json("model/trajectory.json")
    lr = cosine_lr(stored["base_lr"], stored["warmup"], stored["total_steps"])
    momentum = cosine_momentum(stored["base_momentum"], 1.0, stored["total_steps"])
    for step, values in stored["steps"].items():
        compare(f"step {step}", [lr(int(step))], [values["train/lr"]], Rule(relative=1e-10))
        compare(f"step {step}", [momentum(int(step))], [values["train/momentum"]], Rule(relative=1e-10))


def test_views_of_the_pack_have_the_order_that_multi_crop_gives(pack: Pack):
    images = batch(pack.tensors("model/inputs.safetensors")).images
    sizes = [view.shape[-1] for view in images]
    crops = MultiCrop(local_crops=len(images) - 2, global_size=sizes[0], local_size=sizes[-1])
    image = (images[0][0].permute(1, 2, 0) * 0).to(torch.uint8).numpy()
    assert [view.shape[-1] for view in crops(image, random.Random(0))] == sizes
