"""Parameters of an objective from a plug-in: trained, shared by ranks, counted, refused where they cannot be saved."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed as dist

from cosmos_core.errors import RequestError
from cosmos_core.loss_costs import loss_costs
from cosmos_core.networks import build_optimizer
from cosmos_core.prepare import initial_model, initial_objective
from cosmos_core.rank_agreement import state_facts
from cosmos_core.sizing import memory
from cosmos_core.step import Run, Stepper
from cosmos_core.train import train
from cosmos_core.workload import Workload
from cosmos_core.world import World, leave_world
from tests.core.siglip import SigLip
from tests.core.sigmoid_objective import siglip
from tests.core.small_steps import CONFIG as SMALL
from tests.core.small_steps import gradients, noise, parameters, share, stepper
from tests.core.test_snapshots import same
from tests.core.test_step import broken
from tests.helpers.fork_server import run_ranks
from tests.helpers.tiny_runs import coloured

pytestmark = pytest.mark.usefixtures("one_thread", "plugin")


def own(taking: Stepper) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in taking.objective.state_dict().items()}


# --- one process ------------------------------------------------------------------------------------------------------


def test_parameters_of_the_objective_are_trained_by_the_rule_for_gains_and_biases():
    taking = stepper(replace(SMALL, objective="projected", objective_options={"width": 16}))
    groups = taking.run.optimizer.param_groups
    names = {id(value): name for name, value in taking.objective.named_parameters()}
    held = [(sorted(names.get(id(one), "") for one in group["params"]), group["weight_decay"]) for group in groups[2:]]
    assert held == [(["bias", "head.bias", "log_scale"], 0.0), (["head.weight"], SMALL.weight_decay)]
    before = own(taking)
    taking(noise(taking.run.config))
    after = own(taking)
    assert [name for name, value in after.items() if torch.equal(value, before[name])] == []
    # moved by their first step of Adam: the learning rate, since weight decay leaves them alone
    assert (after["bias"] - before["bias"]).abs().item() == pytest.approx(taking.lr(0), rel=1e-4)


def test_what_an_objective_averages_follows_the_momentum_of_the_teacher():
    taking = stepper(replace(SMALL, objective="projected", objective_options={"width": 16}, ema_before_step=False))
    before = own(taking)
    taking(noise(taking.run.config))
    after = own(taking)
    expected = 0.9 * before["teacher_head.weight"] + 0.1 * after["head.weight"]
    torch.testing.assert_close(after["teacher_head.weight"], expected)


def test_initial_values_come_from_the_seed_and_leave_the_global_generator_alone():
    config = replace(SMALL, objective="projected", objective_options={"width": 16})
    state = torch.get_rng_state()
    first, again, other = (initial_objective(replace(config, seed=seed)) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert same(dict(first.state_dict()), dict(again.state_dict()))
    assert not torch.equal(first.head.weight, other.head.weight)


def test_the_gradient_that_is_clipped_holds_the_objectives_own():
    config = replace(SMALL, objective="sigmoid", grad_clip=1e-3)
    taking = stepper(config)
    norm = taking(noise(config))["grad_norm"]
    kept = [p.grad for p in [*taking.run.student.parameters(), *taking.objective.parameters()] if p.grad is not None]
    assert torch.nn.utils.get_total_norm(kept).item() == pytest.approx(1e-3, rel=1e-3)
    scale = norm / 1e-3
    assert taking.objective.bias.grad.abs().item() * scale > 0.5  # of 8 pairs that are far from their labels
    students = torch.nn.utils.get_total_norm([p.grad for p in taking.run.student.parameters() if p.grad is not None])
    assert students.item() * scale < norm


@pytest.mark.parametrize("parts", [2, 4])
def test_a_batch_in_parts_has_the_gradients_of_the_batch(parts: int):
    config = replace(SMALL, objective="sigmoid")
    batch = noise(config, dtype=torch.float64)
    whole, accumulated = stepper(config, torch.float64), stepper(replace(config, accumulate=parts), torch.float64)
    for taking in (whole, accumulated):
        taking.backward(batch)
    for of in ("student", "objective"):
        found, expected = (gradients(getattr(one.run, of)) for one in (accumulated, whole))
        assert list(found) == list(expected)
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-13, msg=name)
    assert set(gradients(whole.objective)) == {"bias", "log_scale"}
    assert own(accumulated)["samples"] == own(whole)["samples"] == 8  # called once, not once a part


def test_scaled_gradients_of_float16_are_unscaled_for_the_objective_too():
    config = replace(SMALL, objective="sigmoid", grad_clip=1.0)
    plain, scaled = stepper(config), stepper(config)
    scaled.scaler = scaled.run.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for taking in (plain, scaled):
        taking(noise(config))
    assert same(own(scaled), own(plain))


@pytest.mark.parametrize("scale", [0.0, 1024.0])
def test_a_step_that_is_left_out_leaves_parameters_and_buffers(scale: float):
    config = replace(SMALL, objective="sigmoid", non_finite="skip")
    taking = stepper(config)
    if scale:
        taking.scaler = taking.run.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    before = own(taking)
    taking(broken(noise(config)))
    assert taking.run.skipped_steps == 1
    assert same(own(taking), before)


def test_an_optimizer_without_the_objectives_parameters_is_refused():
    student = initial_model(SMALL.model, 0)
    config = replace(SMALL, objective="sigmoid")
    run = Run(config, student, initial_model(SMALL.model, 1), build_optimizer(config, student), steps=20)
    with pytest.raises(ValueError, match="the optimizer lacks parameters of the objective"):
        Stepper(run)


# --- ranks ------------------------------------------------------------------------------------------------------------

CASES: dict[str, dict[str, Any]] = {
    "sigmoid": {"grad_clip": 0.5},
    "sigmoid, in parts": {"grad_clip": 0.5, "accumulate": 2},
    "projected": {"objective_options": {"width": 16}},
}


def steps_of(case: str, world: World) -> dict[str, Any]:
    config = replace(SMALL, objective=case.split(",")[0], **CASES[case])
    taking = stepper(config, torch.float64, world)
    for i in range(3):
        metrics = taking(share(noise(config, seed=i, dtype=torch.float64), world))
        taking.run.step += 1
    skipping = stepper(replace(config, non_finite="skip"), torch.float64, world)
    before, batch = own(skipping), share(noise(config, dtype=torch.float64), world)
    skipping(broken(batch) if world.rank == world.size - 1 else batch)
    return {
        "metrics": metrics,
        "student": parameters(taking.run.student),
        "objective": own(taking),
        "left out": same(own(skipping), before) and skipping.run.skipped_steps == 1,
    }


def idle(world: World) -> str:
    """What is said of an objective that leaves a parameter of the student idle without saying so."""
    config = replace(SMALL, objective="forgetful")
    try:
        stepper(config, torch.float64, world)(share(noise(config, dtype=torch.float64), world))
    except RequestError as error:
        return str(error)
    return ""


def work(rank: int, size: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", f"file://{folder}/store", rank=rank, world_size=size, timeout=timedelta(seconds=300)
    )
    world = World(rank, size, rank)
    torch.save({"idle": idle(world), **{case: steps_of(case, world) for case in CASES}}, f"{folder}/{rank}.pt")
    leave_world(world)


def test_two_ranks_do_what_one_process_does_and_hold_the_same_bits(tmp_path: Path):
    folder = tmp_path / "ranks"
    folder.mkdir()
    first, second = run_ranks(work, 2, folder)
    assert same(first, second)
    assert first.pop("idle").startswith(
        "objective forgetful gives the student's logit_scale no gradient, which several"
    )
    with pytest.warns(UserWarning, match="objective forgetful gives the student's logit_scale no gradient"):
        assert idle(World()) == ""
    for case, found in first.items():
        alone = steps_of(case, World())
        assert found["left out"] is True
        assert alone["left out"] is True
        for name in ("loss", "clip_loss", "distill_loss", "grad_norm"):
            assert found["metrics"][name] == pytest.approx(alone["metrics"][name], rel=1e-9), (case, name)
        for kind in ("student", "objective"):
            assert list(found[kind]) == list(alone[kind])
            for name, value in alone[kind].items():
                torch.testing.assert_close(found[kind][name], value, rtol=1e-7, atol=1e-9, msg=f"{case} {kind} {name}")


def test_ranks_that_begin_with_other_parameters_differ_in_a_fact():
    facts = []
    for bias in (-3.0, -4.0):
        taking = stepper(replace(SMALL, objective="sigmoid", objective_options={"init_bias": bias}))
        facts.append(state_facts(taking.run, None))
    differing = [name for name in facts[0] if facts[0][name] != facts[1][name]]
    assert differing == ["the objective's parameters and buffers"]


class Lazy(SigLip):
    def __init__(self, world: World | None = None) -> None:
        super().__init__(world)
        self.head = torch.nn.LazyLinear(4)


class WithObject(SigLip):
    def get_extra_state(self) -> Any:
        return {"an": object()}


@pytest.mark.parametrize(
    ("cls", "why"), [(Lazy, "head.weight has no shape"), (WithObject, "_extra_state of its state")]
)
def test_a_state_that_could_not_be_saved_is_refused_before_the_first_step(
    plugin: Callable[..., None], cls: type, why: str
):
    plugin("4.0", f"sigmoid = {cls.__module__}:{cls.__name__}")
    with pytest.raises(RequestError, match=f"objective sigmoid: {why}") as refused:
        train(siglip(), coloured(8))
    assert "\n" not in str(refused.value)


def test_a_plan_counts_the_objectives_own_parameters():
    work = Workload(replace(SMALL, objective="projected", objective_options={"width": 16}))
    assert work.objective_parameters == 16 * 16 + 16 + 2
    clip = Workload(replace(SMALL, objective="clip"))
    assert clip.objective_parameters == 0
    assert memory(work)["weights"] - memory(clip)["weights"] == 4 * work.objective_parameters
    assert loss_costs(work.config)[0] == 1  # the head's layers grow with the batch, not with its square
