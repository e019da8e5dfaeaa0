"""Ranks that train together do what one process does with all their samples."""

import copy
import functools
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed as dist

from cosmos_core.errors import RequestError
from cosmos_core.objectives import OBJECTIVES
from cosmos_core.world import World, leave_world
from tests.core.small_steps import CONFIG, gradients, noise, parameters, share, stepper
from tests.core.test_step import broken
from tests.helpers.fork_server import run_ranks

STEPS = 2
ON_TWO: dict[str, dict[str, Any]] = {
    **{name: {"objective": name, "grad_clip": 0.5} for name in OBJECTIVES},
    **{f"{name}, in parts": {"objective": name, "accumulate": 2} for name in ("cosmos", "clip")},
    "average after the step": {"ema_before_step": False},
    "a frozen tower, in parts": {"objective": "clip", "freeze": "image", "accumulate": 2},
    "frozen blocks, rates by layer": {"freeze": "text.blocks.0, temperatures", "layer_decay": 0.5},
    "recomputed activations": {"grad_checkpointing": True},
    "recomputed activations, in parts": {"grad_checkpointing": True, "accumulate": 2},
}
ON_FOUR: dict[str, dict[str, Any]] = {"cosmos": {"grad_clip": 0.5}, "cosmos, in parts": {"accumulate": 2}}
CASES = [*((2, case) for case in ON_TWO), *((4, case) for case in ON_FOUR)]
Found = list[dict[str, Any]]


def steps_of(change: dict[str, Any], world: World) -> dict[str, Any]:
    """What a rank has after some steps on its share of the batches."""
    config = replace(CONFIG, **change)
    taking = stepper(config, torch.float64, world)
    for i in range(STEPS):
        taking.run.metrics = taking(share(noise(config, seed=i, dtype=torch.float64), world))
        taking.run.step += 1
    run = taking.run
    return {
        "metrics": run.metrics,
        "gradients": gradients(run.student),
        "student": parameters(run.student),
        "teacher": parameters(run.teacher),
        "names": list(run.student.state_dict()),
    }


def refusals(world: World) -> dict[str, Any]:
    """What is said where one rank alone has an image of NaN, and what a policy of skipping leaves."""
    found: dict[str, Any] = {}
    for policy in ("stop", "skip"):
        taking = stepper(replace(CONFIG, non_finite=policy), torch.float64, world)
        batch = share(noise(CONFIG, dtype=torch.float64), world)
        before = parameters(taking.run.student)
        try:
            taking(broken(batch) if world.rank == 1 else batch)
        except RequestError as error:
            found["message"] = str(error)
        found[policy] = taking.run.skipped_steps
        found[f"{policy} left all"] = all(torch.equal(v, before[n]) for n, v in parameters(taking.run.student).items())
    return found


def continued(world: World) -> bool:
    """Whether the fourth step has the same bits in the process that did three before and in one that begins there."""
    first = stepper(CONFIG, world=world)
    for i in range(3):
        first(share(noise(CONFIG, seed=i), world))
        first.run.step += 1
    second = stepper(CONFIG, world=world)
    for name in ("student", "teacher", "optimizer"):
        getattr(second.run, name).load_state_dict(copy.deepcopy(getattr(first.run, name).state_dict()))
    second.run.step = first.run.step
    for taking in (first, second):
        taking(share(noise(CONFIG, seed=3), world))
    theirs = parameters(second.run.student)
    return all(torch.equal(value, theirs[name]) for name, value in parameters(first.run.student).items())


def work(rank: int, size: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", store, rank=rank, world_size=size, timeout=timedelta(seconds=300))
    world = World(rank, size, rank)
    found = {name: steps_of(change, world) for name, change in (ON_TWO if size == 2 else ON_FOUR).items()}
    more = {"refusals": refusals(world), "continued": continued(world)}
    torch.save({"steps": found, **more}, f"{folder}/{rank}.pt")
    leave_world(world)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Found]:
    """What each of so many ranks has found."""

    @functools.cache
    def of(size: int) -> Found:
        folder: Path = tmp_path_factory.mktemp("ranks")
        return run_ranks(work, size, folder)

    return of


@pytest.mark.parametrize(("size", "case"), CASES)
def test_ranks_take_the_step_of_one_process_with_all_samples(ranks: Callable[[int], Found], size: int, case: str):
    alone = steps_of({**(ON_TWO | ON_FOUR)[case], "accumulate": 1, "grad_checkpointing": False}, World())
    for rank in ranks(size):
        found = rank["steps"][case]
        assert found["names"] == alone["names"]
        for name in ("loss", "clip_loss", "distill_loss", "grad_norm", "logit_scale"):
            assert found["metrics"][name] == pytest.approx(alone["metrics"][name], rel=1e-9), name
        for kind in ("gradients", "student", "teacher"):
            assert list(found[kind]) == list(alone[kind])
            for name, value in alone[kind].items():
                torch.testing.assert_close(found[kind][name], value, rtol=1e-7, atol=1e-9, msg=f"{kind} {name}")


@pytest.mark.parametrize(("size", "case"), CASES)
def test_ranks_hold_the_same_bits(ranks: Callable[[int], Found], size: int, case: str):
    first, *others = (rank["steps"][case] for rank in ranks(size))
    for other in others:
        assert other["metrics"] == first["metrics"]
        for kind in ("student", "teacher"):
            assert all(torch.equal(other[kind][name], value) for name, value in first[kind].items())


@pytest.mark.parametrize("size", [2, 4])
def test_a_process_that_begins_in_the_middle_gets_the_bits_of_one_that_was_there_all_the_time(
    ranks: Callable[[int], Found], size: int
):
    assert [rank["continued"] for rank in ranks(size)] == [True] * size


@pytest.mark.parametrize("size", [2, 4])
def test_a_number_that_is_not_finite_on_one_rank_is_refused_on_all_in_the_same_words(
    ranks: Callable[[int], Found], size: int
):
    for rank in ranks(size):
        found = rank["refusals"]
        assert found["message"] == ranks(size)[0]["refusals"]["message"]
        assert "training stopped at step 0: the loss is nan" in found["message"]
        assert (found["stop left all"], found["skip left all"]) == (True, True)
        assert found["skip"] == 1
