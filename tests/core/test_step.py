"""One iteration: what a loop over parameters would do, and what happens where a number is not finite."""

import math
import shutil
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from cosmos_core.config import TrainConfig
from cosmos_core.data import Batch
from cosmos_core.ema import update_ema
from cosmos_core.errors import RequestError
from cosmos_core.objectives import OBJECTIVES
from cosmos_core.schedule import cosine_lr, cosine_momentum, is_decayed
from cosmos_core.step import Stepper, amp_dtype
from cosmos_core.train import initial_model
from tests.core.small_steps import CONFIG, MODEL, gradients, noise, parameters, stepper
from tests.oracles.step import PlainAdamW, averaged, plain_step

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 0.99, 0.9995, 1.0])
def test_the_teachers_average_has_the_bits_of_a_loop_over_parameters(momentum: float):
    student, teacher = initial_model(MODEL, 0), initial_model(MODEL, 1)
    for _ in range(3):
        expected = {}
        for (name, theirs), ours in zip(teacher.named_parameters(), student.parameters(), strict=True):
            expected[name] = theirs.detach().clone().mul_(momentum).add_(ours.detach(), alpha=1 - momentum)
            torch.testing.assert_close(expected[name], averaged(theirs.detach(), ours.detach(), momentum))
        update_ema(teacher, student, momentum)
        for name, value in parameters(teacher).items():
            assert torch.equal(value, expected[name]), name


def test_networks_of_different_architectures_cannot_be_averaged():
    other = {**MODEL, "text_cfg": {**MODEL["text_cfg"], "layers": 1}}
    with pytest.raises(ValueError, match=r"a teacher of .* parameters for a student of"):
        update_ema(initial_model(other, 0), initial_model(MODEL, 0), 0.9)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"ema_before_step": False},
        {"fix_momentum": False, "grad_clip": 0.3},
        {"objective": "clip", "grad_clip": 1e9},
        {"accumulate": 2, "grad_clip": 0.3},
    ],
)
def test_four_steps_are_those_of_a_loop_over_parameters(change: dict[str, Any]):
    config = replace(CONFIG, **change)
    taking, plain = stepper(config, torch.float64), stepper(config, torch.float64)
    student, teacher = plain.run.student, plain.run.teacher
    decays = {name: config.weight_decay * is_decayed(name, p) for name, p in student.named_parameters()}
    optimizer = PlainAdamW(decays, (config.beta1, config.beta2), config.eps)
    lr = cosine_lr(config.lr, config.warmup, 20)
    momentum = cosine_momentum(0.9, 1.0, 20) if not config.fix_momentum else (lambda step: 0.9)
    for i in range(4):
        batch = noise(config, seed=i, dtype=torch.float64)
        before = {name: getattr(taking.run.student, name).item() for name in ("logit_scale", "distill_logit_scale")}
        metrics = taking(batch)
        taking.run.step += 1
        student.zero_grad()
        total = plain.backward(batch).total.item()
        norm = plain_step(
            student,
            teacher,
            optimizer,
            gradients(student),
            lr=lr(i),
            momentum=momentum(i),
            ema_before_step=config.ema_before_step,
            grad_clip=config.grad_clip,
        )
        expected = {**before, "loss": total, "grad_norm": norm, "lr": lr(i), "momentum": momentum(i)}
        assert {name: metrics[name] for name in expected} == pytest.approx(expected, rel=1e-9)
        assert metrics["clip_loss"] + metrics["distill_loss"] == pytest.approx(total)
        assert metrics["skipped_steps"] == 0
    for ours, theirs in ((taking.run.student, student), (taking.run.teacher, teacher)):
        for name, value in parameters(ours).items():
            torch.testing.assert_close(value, theirs.get_parameter(name).detach(), rtol=1e-8, atol=1e-9, msg=name)


@pytest.mark.parametrize("objective", list(OBJECTIVES))
def test_what_is_frozen_is_just_what_an_objective_gives_no_gradient(objective: str):
    config = replace(CONFIG, objective=objective)
    taking = stepper(config)
    student = taking.run.student
    frozen = {name for name, p in student.named_parameters() if not p.requires_grad}
    taking(noise(config))
    assert {name for name, p in student.named_parameters() if p.grad is None} == frozen
    student.requires_grad_(True).zero_grad()
    taking.backward(noise(config))
    assert {name for name, p in student.named_parameters() if p.grad is None} == frozen
    groups = [[tuple(p.shape) for p in group["params"]] for group in taking.run.optimizer.param_groups]
    own = [[tuple(p.shape)] for p in taking.objective_parameters]  # siglip's bias is in a group after the student's
    students = [[tuple(p.shape) for p in g["params"]] for g in stepper(CONFIG).run.optimizer.param_groups]
    assert groups == [*students, *own]


class Spoiled:
    """A stepper whose gradients are made infinite or not a number at chosen steps, while the loss stays finite."""

    def __init__(self, config: TrainConfig, steps: set[int], value: float = math.inf) -> None:
        self.taking = stepper(config)
        self.student, self.teacher = self.taking.run.student, self.taking.run.teacher
        self.student.text_projection.register_hook(
            lambda gradient: gradient + value if self.taking.run.step in steps else gradient
        )

    def __call__(self) -> dict[str, float]:
        metrics = self.taking(noise(CONFIG, seed=self.taking.run.step))
        self.taking.run.step += 1
        return metrics


def unchanged(model: torch.nn.Module, before: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, before[name]) for name, value in parameters(model).items())


@pytest.mark.parametrize("ema_before_step", [True, False])
def test_a_gradient_that_is_not_finite_stops_the_run_before_anything_has_changed(ema_before_step: bool):
    spoiled = Spoiled(replace(CONFIG, ema_before_step=ema_before_step), {1})
    spoiled()
    before = [parameters(spoiled.student), parameters(spoiled.teacher)]
    with pytest.raises(RequestError, match=r"stopped at step 1: the norm of the gradient is inf \(lr 0.01, logit") as e:
        spoiled()
    assert "\n" not in str(e.value)
    assert unchanged(spoiled.student, before[0])
    assert unchanged(spoiled.teacher, before[1])


def broken(batch: Batch) -> Batch:
    return replace(batch, images=[view * math.nan for view in batch.images])


@pytest.mark.parametrize("ema_before_step", [True, False])
def test_a_skipped_step_leaves_both_networks_and_the_optimizer_and_is_counted(ema_before_step: bool):
    taking = stepper(replace(CONFIG, non_finite="skip", ema_before_step=ema_before_step))
    taking(noise(CONFIG))
    before = [parameters(taking.run.student), parameters(taking.run.teacher)]
    metrics = taking(broken(noise(CONFIG)))
    assert math.isnan(metrics["loss"])
    assert metrics["skipped_steps"] == taking.run.skipped_steps == taking.run.skipped_in_a_row == 1
    assert unchanged(taking.run.student, before[0])
    assert unchanged(taking.run.teacher, before[1])
    assert taking.run.optimizer.state[taking.run.student.text_projection]["step"] == 1
    assert taking(noise(CONFIG, seed=1))["skipped_steps"] == 1
    assert taking.run.skipped_in_a_row == 0
    assert not unchanged(taking.run.student, before[0])


def test_ten_skipped_steps_in_a_row_stop_the_run_and_nine_do_not():
    taking = stepper(replace(CONFIG, non_finite="skip"))
    good, bad = noise(CONFIG), broken(noise(CONFIG))
    for _ in range(9):
        taking(bad)
    taking(good)
    for _ in range(9):
        taking(bad)
    with pytest.raises(RequestError, match="the loss is nan, and 10 steps in a row were not finite") as caught:
        taking(bad)
    assert "\n" not in str(caught.value)
    assert taking.run.skipped_steps == 19


def with_scaler(taking: Stepper, scale: float) -> torch.amp.GradScaler:
    """Loss scaling as on a card without bfloat16; the CPU leaves it out otherwise."""
    taking.scaler = taking.run.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    return taking.scaler


@pytest.mark.parametrize("ema_before_step", [True, False])
def test_a_gradient_that_the_scaling_overflowed_is_left_out_without_being_a_failure(ema_before_step: bool):
    spoiled = Spoiled(replace(CONFIG, ema_before_step=ema_before_step), {1})
    scaler = with_scaler(spoiled.taking, 1024.0)
    spoiled()
    before = [parameters(spoiled.student), parameters(spoiled.teacher)]
    metrics = spoiled()
    assert metrics["grad_norm"] == math.inf
    assert metrics["skipped_steps"] == 0
    assert scaler.get_scale() == 512
    assert unchanged(spoiled.student, before[0])
    # the original averages before it asks the scaler; an average after the step belongs to the step
    assert unchanged(spoiled.teacher, before[1]) is not ema_before_step
    assert math.isfinite(spoiled()["grad_norm"])
    assert not unchanged(spoiled.student, before[0])


def test_a_gradient_that_overflows_without_scaling_is_a_failure_with_a_scaler_too():
    spoiled = Spoiled(CONFIG, set(range(9)))
    with_scaler(spoiled.taking, 4.0)
    for _ in range(2):
        spoiled()
    with pytest.raises(RequestError, match="stopped at step 2: the norm of the gradient is inf"):
        spoiled()
    loss = stepper(replace(CONFIG, non_finite="skip"))
    scaler = with_scaler(loss, 4.0)
    assert loss(broken(noise(CONFIG)))["skipped_steps"] == 1
    assert scaler.get_scale() == 2  # and the scaler is ready for the next step
    assert loss(noise(CONFIG))["skipped_steps"] == 1


def test_clipping_and_the_reported_norm_are_those_of_the_unscaled_gradient():
    config = replace(CONFIG, grad_clip=0.3)
    plain, scaled = stepper(config), stepper(config)
    with_scaler(scaled, 256.0)
    for i in range(3):
        a, b = plain(noise(config, seed=i)), scaled(noise(config, seed=i))
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-5)
        assert a["grad_norm"] > 0.3
        clipped = torch.stack([g.norm() for g in gradients(scaled.run.student).values()]).norm()
        assert clipped.item() == pytest.approx(0.3, rel=1e-4)
    for name, value in parameters(plain.run.student).items():
        torch.testing.assert_close(parameters(scaled.run.student)[name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_recomputed_activations_give_the_same_gradients_with_parts_too():
    found = []
    for checkpointing, parts in ((False, 1), (True, 1), (True, 4)):
        taking = stepper(replace(CONFIG, grad_checkpointing=checkpointing, accumulate=parts), torch.float64)
        assert taking.run.student.visual.transformer.grad_checkpointing is checkpointing
        taking.backward(noise(CONFIG, dtype=torch.float64))
        found.append(gradients(taking.run.student))
    for other in found[1:]:
        assert list(other) == list(found[0])
        for name, gradient in found[0].items():
            torch.testing.assert_close(other[name], gradient, rtol=1e-9, atol=1e-13, msg=name)


@pytest.mark.parametrize(
    ("precision", "bfloat16", "expected"),
    [
        ("auto", True, torch.bfloat16),
        ("auto", False, torch.float16),
        ("amp", True, torch.float16),
        ("amp_bf16", True, torch.bfloat16),
        ("fp32", True, None),
    ],
)
def test_the_card_decides_what_auto_is_and_a_cpu_always_has_float32(
    precision: str, bfloat16: bool, expected: torch.dtype | None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: bfloat16)
    assert amp_dtype(precision, torch.device("cuda")) is expected
    assert amp_dtype(precision, torch.device("cpu")) is None


def test_bfloat16_is_refused_on_a_card_that_emulates_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    with pytest.raises(RequestError, match=r"cuda:0 \(Tesla T4\) does not compute in bfloat16; set precision=auto"):
        amp_dtype("amp_bf16", torch.device("cuda:0"))


def test_what_wraps_the_networks_leaves_no_trace_in_their_names():
    plain = list(initial_model(MODEL, 0).state_dict())
    taking = stepper(replace(CONFIG, compile=True))  # nothing is compiled before the first call
    assert list(taking.run.student.state_dict()) == list(taking.run.teacher.state_dict()) == plain


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
@pytest.mark.parametrize("change", [{}, {"accumulate": 2, "grad_checkpointing": True}])
def test_compiled_networks_take_the_same_step(change: dict[str, Any]):
    config = replace(CONFIG, **change)
    eager, compiled = stepper(config), stepper(replace(config, compile=True))
    a, b = eager(noise(config)), compiled(noise(config))
    assert b["loss"] == pytest.approx(a["loss"], abs=1e-5)
    assert b["grad_norm"] == pytest.approx(a["grad_norm"], rel=1e-4)
    assert list(compiled.run.student.state_dict()) == list(eager.run.student.state_dict())
    ours = gradients(compiled.run.student)
    for name, gradient in gradients(eager.run.student).items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-3, atol=2e-5, msg=name)
