"""An update about which the device decides: to the bit what the host would have made, also where steps fail."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cosmos_core.ema import update_ema
from cosmos_core.fsdp import whole_moments
from cosmos_core.step import LaunchedStep, Stepper
from cosmos_core.train import initial_model
from cosmos_core.update import MAX_LOG_SCALE, Update, clamp_temperatures
from cosmos_core.world import World
from tests.core.gloo_ranks import on_ranks
from tests.core.small_steps import CONFIG, MODEL, noise, parameters, share, stepper
from tests.core.test_snapshots import same
from tests.core.test_step import broken, with_scaler

pytestmark = pytest.mark.usefixtures("one_thread")


class HostDecides(Update):
    on_device = False  # type: ignore[assignment]


def fused(taking: Stepper) -> Stepper:
    """The same stepper with the optimizer that it has on CUDA."""
    for group in taking.run.optimizer.param_groups:
        group["fused"] = True
    return taking


def taken(taking: Stepper, failures: dict[int, str], late: bool) -> list[str]:
    """Metrics of six steps of which some fail; if `late`, each is finished after the next one was launched."""
    run, metrics = taking.run, []
    unread: LaunchedStep | None = None
    run.student.text_projection.register_hook(
        lambda gradient: gradient + math.inf if failures.get(run.step) == "gradient" else gradient
    )
    for step in range(6):
        batch = noise(run.config, seed=step)
        launched = taking.launch(broken(batch) if failures.get(step) == "loss" else batch)
        run.step += 1
        if late:
            launched, unread = unread, launched  # type: ignore[assignment]
        if launched is not None:
            metrics.append(repr(taking.finish(launched)))
    return metrics + ([repr(taking.finish(unread))] if unread is not None else [])


SKIP = {"non_finite": "skip"}


@pytest.mark.parametrize(
    ("change", "scale", "failures"),
    [
        ({"grad_clip": 0.3, "fix_momentum": False}, 0.0, {}),
        (SKIP, 0.0, {0: "loss", 3: "gradient", 4: "loss"}),
        ({**SKIP, "ema_before_step": False, "grad_clip": 0.3}, 0.0, {2: "loss", 3: "gradient"}),
        # scaling overflows at steps 1 and 2, down to a scale of 1, at which it cannot be why
        (SKIP, 4.0, {1: "gradient", 2: "gradient", 3: "gradient", 4: "loss"}),
        ({"ema_before_step": False}, 1024.0, {0: "gradient", 3: "gradient"}),
        ({**SKIP, "objective": "sigmoid"}, 0.0, {1: "loss"}),
    ],
)
def test_the_device_decides_as_the_host_and_a_step_later_is_soon_enough(
    change: dict[str, Any], scale: float, failures: dict[int, str], plugin: Any
):
    states, metrics = [], []
    for late in (False, True):
        taking = fused(stepper(replace(CONFIG, **change)))
        if scale:
            with_scaler(taking, scale)
        if not late:
            taking.update.__class__ = HostDecides
        assert taking.is_late is late
        metrics.append(taken(taking, failures, late))
        run = taking.run
        states.append(
            {
                "student": parameters(run.student),
                "teacher": parameters(run.teacher),
                "moments": run.optimizer.state_dict()["state"],
                "objective": dict(taking.objective.state_dict()),
                "scaler": taking.scaler.state_dict(),
                "skipped": [run.skipped_steps, run.skipped_in_a_row],
            }
        )
    assert metrics[0] == metrics[1]
    assert len(metrics[0]) == 6
    assert same(*states)
    skipped = states[0]["skipped"][0]
    assert skipped == {0.0: len(failures), 4.0: 2, 1024.0: 0}[scale]


def test_a_loss_of_one_element_is_a_number():
    alone, listed = (fused(stepper(replace(CONFIG, objective="clip"))) for _ in range(2))
    compute = listed.objective.forward

    def as_a_list(*arguments: Any) -> Any:
        losses = compute(*arguments)
        return replace(losses, total=losses.total.reshape(1))

    listed.objective.forward = as_a_list  # type: ignore[method-assign]
    assert alone(noise(CONFIG)) == listed(noise(CONFIG))
    assert same(parameters(alone.run.teacher), parameters(listed.run.teacher))


def test_ten_failures_in_a_row_are_refused_at_the_tenth_although_an_eleventh_is_launched():
    taking = fused(stepper(replace(CONFIG, **SKIP)))
    before = parameters(taking.run.student)
    steps = []
    for _ in range(11):
        steps.append(taking.launch(broken(noise(CONFIG))))
        taking.run.step += 1
    for step in steps[:9]:
        taking.finish(step)
    with pytest.raises(ValueError, match="stopped at step 9: the loss is nan, and 10 steps in a row were not finite"):
        taking.finish(steps[9])
    assert same(parameters(taking.run.student), before)


def test_the_host_decides_without_fused_kernels_and_where_an_objective_averages_itself(plugin: Any):
    assert not stepper(CONFIG).is_late
    projected = replace(CONFIG, objective="projected", objective_options={"width": 16})
    assert not fused(stepper(projected)).is_late
    assert fused(stepper(replace(CONFIG, objective="sigmoid"))).is_late


@pytest.mark.parametrize("decision", [True, False])
def test_an_average_that_a_device_decides_about_has_the_same_bits_or_none_changed(decision: bool):
    student, teacher, other = (initial_model(MODEL, seed) for seed in (0, 1, 1))
    if decision:
        update_ema(other, student, 0.9)
    update_ema(teacher, student, 0.9, only_if=torch.tensor(decision))
    assert same(parameters(teacher), parameters(other))


def test_temperatures_are_clamped_only_if_the_device_says_so():
    model = initial_model(MODEL, 0)
    with torch.no_grad():
        model.logit_scale.fill_(7.0)
    clamp_temperatures(model, only_if=torch.tensor(False))
    assert model.logit_scale == 7.0
    clamp_temperatures(model, only_if=torch.tensor(True))
    assert model.logit_scale.item() == pytest.approx(MAX_LOG_SCALE)


# --- ranks ------------------------------------------------------------------------------------------------------------


def decided(world: World) -> list[list[dict[str, Any]]]:
    """What a rank has of whole and of split networks, where the host decides and where it does not."""
    return [[after_a_failure(world, fsdp, late) for late in (False, True)] for fsdp in (False, True)]


def after_a_failure(world: World, fsdp: bool, late: bool) -> dict[str, Any]:
    """The state after three steps, of which the second fails, due to the second rank's samples."""
    config = replace(CONFIG, **SKIP, fsdp=fsdp, objective="siglip", grad_clip=0.5)
    taking = fused(stepper(config, world=world))
    if not late:
        taking.update.__class__ = HostDecides
    run, launched = taking.run, []
    for step in range(3):
        batch = share(noise(config, seed=step), world)
        launched.append(taking.launch(broken(batch) if (world.rank, step) == (1, 1) else batch))
        run.step += 1
        if not late:
            taking.finish(launched.pop())
    for each in launched:
        taking.finish(each)
    return {
        "student": parameters(run.student),
        "teacher": parameters(run.teacher),
        "moments": whole_moments(run.optimizer)["state"],
        "objective": dict(taking.objective.state_dict()),
        "skipped": run.skipped_steps,
    }


def test_ranks_decide_alike_about_whole_and_split_networks(tmp_path: Path):
    first, second = on_ranks(decided, [2], tmp_path)[2]
    assert same(first, second)
    for by_host, by_device in first:
        assert same(by_host, by_device)
        assert by_device["skipped"] == 1
