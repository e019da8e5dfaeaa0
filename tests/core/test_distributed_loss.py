"""Losses on several ranks: their gradients are those of the whole batch, and traffic and memory are as documented."""

import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cosmos_core.collectives import Collectives
from cosmos_core.errors import RequestError
from cosmos_core.loss import Losses, Pairs, losses_of_pairs, pair_losses
from cosmos_core.model import Features
from cosmos_core.objectives import OBJECTIVES, build_objective
from cosmos_core.objectives.cosmos import CosmosLoss
from cosmos_core.world import World
from tests.core.gloo_ranks import on_ranks
from tests.core.test_loss import some_features
from tests.core.threaded_ranks import ThreadedCollectives, play
from tests.core.tiny_steps import all_objectives, counted_collectives
from tests.oracles.cosmos_loss import cosmos_loss, cosmos_loss_of_ranks, pair

ROWS = ("image_features", "text_features", "image_cross_features", "text_cross_features")
SCALES = ("logit_scale", "distill_logit_scale")


# ranks are threads of their own here
pytestmark = pytest.mark.usefixtures("one_thread")


def whole_batch(ranks: list[Features], batch: int) -> Features:
    """Features of one process that holds the samples of all ranks, ranks in order; leaves of their own."""

    def rows(name: str) -> Tensor | None:
        parts = [getattr(features, name) for features in ranks]
        if parts[0] is None:
            return None
        views = [part.detach().unflatten(0, (-1, batch)) for part in parts]
        return torch.cat(views, dim=1).flatten(0, 1).requires_grad_()

    return Features(
        **{name: rows(name) for name in ROWS},
        **{name: getattr(ranks[0], name).detach().clone().requires_grad_() for name in SCALES},
    )


def share_of(whole: Tensor, rank: int, size: int, batch: int) -> Tensor:
    """The rows of one rank among those of the whole batch."""
    return whole.unflatten(0, (-1, size, batch))[:, rank].flatten(0, 1)


def doubled(features: Features) -> Features:
    values = {field.name: getattr(features, field.name) for field in fields(features)}
    return Features(**{name: None if x is None else x.detach().double().requires_grad_() for name, x in values.items()})


def cosmos_on(ranks: ThreadedCollectives, students: list[Features], teachers: list[Features], batch: int) -> Losses:
    loss = CosmosLoss(ranks.world)
    loss.collectives = ranks
    losses = loss(students[ranks.world.rank], teachers[ranks.world.rank], batch)
    losses.total.backward()
    return losses


@settings(deadline=None, max_examples=25)
@given(
    size=st.sampled_from([1, 2, 4]),
    batch=st.integers(1, 4),
    images=st.integers(2, 5),
    texts=st.integers(2, 5),
    width=st.integers(2, 8),
    scale=st.floats(1, 100),
    seed=st.integers(0, 2**31),
)
def test_losses_and_gradients_of_ranks_are_those_of_a_loop_over_pairs_of_the_whole_batch(
    size: int, batch: int, images: int, texts: int, width: int, scale: float, seed: int
):
    students = [doubled(some_features(batch, images, texts, width, seed + i, scale=scale)) for i in range(size)]
    teachers = [doubled(some_features(batch, 2, 2, width, seed + 10 + i, cross=False)) for i in range(size)]
    whole, targets = whole_batch(students, batch), whole_batch(teachers, batch)
    expected = cosmos_loss(whole, targets, batch * size)
    expected["total"].backward()

    found = play(size, lambda ranks: cosmos_on(ranks, students, teachers, batch))

    close: Any = {"atol": 1e-10, "rtol": 1e-8}
    for losses in found:
        for name in ("total", "clip_loss", "distill_loss"):
            torch.testing.assert_close(getattr(losses, name), expected[name], **close)
        for name, term in losses.distill_terms.items():
            torch.testing.assert_close(term, expected[name], **close)
    for name in ROWS:
        for rank, features in enumerate(students):
            # the gradient of a rank's own rows is its part of the sum that DDP divides by the number of ranks
            ours = getattr(features, name).grad / size
            torch.testing.assert_close(ours, share_of(getattr(whole, name).grad, rank, size, batch), **close)
    for name in SCALES:
        ours = sum(getattr(features, name).grad for features in students) / size
        torch.testing.assert_close(ours, getattr(whole, name).grad, **close)
    assert all(features.image_features.grad is None for features in teachers)


def test_gradients_are_those_of_the_usual_local_loss_averaged_over_ranks():
    students = [doubled(some_features(3, 3, 3, 6, seed=seed)) for seed in (0, 1)]
    copies = [doubled(features) for features in students]
    teachers = [doubled(some_features(3, 2, 2, 6, seed=seed, cross=False)) for seed in (2, 3)]
    play(2, lambda ranks: cosmos_on(ranks, students, teachers, 3))
    parts = [cosmos_loss_of_ranks(copies, teachers, [3, 3], rank, local=True)["total"] for rank in (0, 1)]
    (sum(parts) / 2).backward()
    for ours, theirs in zip(students, copies, strict=True):
        for name in ROWS:
            torch.testing.assert_close(getattr(ours, name).grad / 2, getattr(theirs, name).grad)


@pytest.mark.parametrize("gathered", ["ours", "theirs"])
def test_either_side_of_the_pairs_may_be_the_gathered_one(gathered: str):
    draw = torch.Generator().manual_seed(0)
    ours, theirs = (torch.randn(n, 6, 4, generator=draw, dtype=torch.float64) for n in (2, 3))
    scale = torch.tensor(2.0, dtype=torch.float64)

    def act(ranks: ThreadedCollectives) -> Tensor:
        own = slice(3 * ranks.world.rank, 3 * ranks.world.rank + 3)
        mine, yours = ours[:, own], theirs[:, own]
        if gathered == "ours":
            (mine,) = ranks.columns(mine)
        else:
            (yours,) = ranks.columns(yours)
        return losses_of_pairs([Pairs(mine, yours, scale)], ranks)[0]

    for found in play(2, act):
        torch.testing.assert_close(found, pair_losses(ours, theirs, scale))
        for i in range(2):
            for j in range(3):
                torch.testing.assert_close(found[i, j], pair(ours[i], theirs[j], scale))


def test_a_pair_of_two_ranks_with_a_sample_each_worked_by_hand():
    rows = [torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.0, 1.0]]])]
    columns = torch.tensor([[[1.0, 0.0]]])

    def act(ranks: ThreadedCollectives) -> float:
        (wide,) = ranks.columns(columns)
        return losses_of_pairs([Pairs(rows[ranks.world.rank], wide, torch.tensor(2.0))], ranks)[0].item()

    # logits [[2, 2], [0, 0]]: rows are coin flips; columns give the first row weight e^2 / (e^2 + 1)
    over_rows = -math.log(math.e**2 / (math.e**2 + 1)) - math.log(1 / (math.e**2 + 1))
    assert play(2, act) == pytest.approx([(math.log(2) + over_rows / 2) / 2] * 2)


def test_several_parts_come_back_in_their_order_with_and_without_gradients():
    def act(ranks: ThreadedCollectives) -> None:
        rank = ranks.world.rank
        first = torch.full((1, 2, 3), 10.0 + rank)
        second = torch.full((2, 2, 3), 20.0 + rank, requires_grad=True)
        third = torch.full((1, 2, 3), 30.0 + rank, dtype=torch.bfloat16)
        a, b, c = ranks.columns(first, second, third)
        assert [x.dtype for x in (a, b, c)] == [torch.float32] * 3
        assert a[0, :, 0].tolist() == [10, 10, 11, 11]
        assert b[1, :, 0].tolist() == [20, 20, 21, 21]
        assert c[0, :, 0].tolist() == [30, 30, 31, 31]
        assert not a.requires_grad
        (b * (1 + rank)).sum().backward()
        assert second.grad is not None
        assert torch.equal(second.grad, torch.full((2, 2, 3), 3.0))  # 1 from rank 0, 2 from rank 1

    play(2, act)


def test_a_loss_that_is_not_finite_on_one_rank_is_not_finite_on_all():
    for bad in (math.nan, math.inf):
        students = [some_features(2, 2, 2, 4, seed=seed) for seed in (0, 1)]
        teachers = [some_features(2, 2, 2, 4, seed=seed, cross=False) for seed in (2, 3)]
        with torch.no_grad():
            students[1].text_features[0, 0] = bad
        for losses in play(2, lambda ranks: cosmos_on(ranks, students, teachers, 2)):  # noqa: B023
            assert not math.isfinite(losses.total.item())
            assert not math.isfinite(losses.clip_loss.item())
            assert math.isfinite(losses.distill_loss.item())


def test_mixed_precision_does_not_round_the_logits_of_ranks():
    students = [some_features(3, 3, 3, 6, seed=seed, scale=100.0) for seed in (0, 1)]
    teachers = [some_features(3, 2, 2, 6, seed=seed, cross=False) for seed in (2, 3)]

    def act(ranks: ThreadedCollectives) -> float:
        with torch.autocast("cpu", torch.bfloat16):
            return cosmos_on(ranks, students, teachers, 3).total.item()

    whole = CosmosLoss()(whole_batch(students, 3), whole_batch(teachers, 3), 6).total.item()
    assert play(2, act) == pytest.approx([whole] * 2, rel=1e-6)


@pytest.mark.parametrize("batches", [(3, 2), (2, 3)])
def test_unequal_batches_are_refused_in_one_line_on_all_ranks(batches: tuple[int, int]):
    students = [some_features(batch, 2, 2, 4, seed=0) for batch in batches]
    teachers = [some_features(batch, 2, 2, 4, seed=1, cross=False) for batch in batches]

    def act(ranks: ThreadedCollectives) -> None:
        with pytest.raises(RequestError, match=r"need equal batches and views.*\(6, 3, 4\)") as refusal:
            cosmos_on(ranks, students, teachers, batches[ranks.world.rank])
        assert "\n" not in str(refusal.value)

    play(2, act)


def test_a_rank_whose_batch_changes_stops_before_it_sends_anything():
    def act(ranks: ThreadedCollectives) -> None:
        ranks.columns(torch.zeros(1, 4, 2))
        before = dict(ranks.calls)
        with pytest.raises(
            RequestError, match=rf"rank {ranks.world.rank} brings .*\(1, 3, 2\).*began with \(1, 4, 2\)"
        ):
            ranks.columns(torch.zeros(1, 3, 2))
        assert dict(ranks.calls) == before

    play(2, act)


@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_collectives_of_a_step_do_not_depend_on_the_number_of_views(name: str):
    found = []
    for images, texts in ((3, 3), (8, 8)):
        students = [some_features(2, images, texts, 4, seed=seed) for seed in (0, 1)]
        teachers = [some_features(2, 2, 2, 4, seed=seed, cross=False) for seed in (2, 3)]

        def act(ranks: ThreadedCollectives) -> dict[str, int]:
            objective = with_collectives(build_objective(name, ranks.world), ranks)
            for _ in range(3):
                losses = objective(students[ranks.world.rank], teachers[ranks.world.rank], 2)  # noqa: B023
                losses.total.backward()
            return dict(ranks.calls)

        found += play(2, act)
    assert all(calls == {"check": 1, "all_gather": 3, "all_reduce": 3, "reduce_scatter": 3} for calls in found)


def with_collectives(objective: nn.Module, collectives: Collectives) -> nn.Module:
    for module in objective.modules():
        if hasattr(module, "collectives"):
            module.collectives = collectives
    return objective


class LargestTensor(TorchDispatchMode):
    """Elements of the largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        sizes = [x.numel() for x in tree_leaves(out) if isinstance(x, Tensor)]
        self.elements = max(self.elements, *sizes, 0) if sizes else self.elements
        return out


@pytest.mark.parametrize(("size", "batch"), [(1, 8), (2, 4), (4, 2), (2, 8), (4, 4)])
def test_the_largest_tensor_is_the_logits_of_the_batch_by_the_local_batch(size: int, batch: int):
    images, texts = 5, 6
    students = [some_features(batch, images, texts, 2, seed=seed) for seed in range(size)]
    teachers = [some_features(batch, 2, 2, 2, seed=seed + 9, cross=False) for seed in range(size)]

    def act(ranks: ThreadedCollectives) -> int:
        with LargestTensor() as largest:
            cosmos_on(ranks, students, teachers, batch)
        return largest.elements

    distillation = (images + texts) * 4  # more pairs of views than the contrastive loss has
    assert play(size, act) == [distillation * batch * (batch * size)] * size


def test_every_objective_trains_alike_on_one_two_and_four_processes(tmp_path: Path):
    alone = all_objectives(World())
    for size, ranks in on_ranks(all_objectives, [4, 2, 1], tmp_path).items():
        for name, expected in alone.items():
            for found in (rank[name] for rank in ranks):
                assert found["losses"] == pytest.approx(expected["losses"], abs=1e-12)
                assert found["losses"] == ranks[0][name]["losses"]  # to the bit
                assert set(found["gradients"]) == set(expected["gradients"])
                for parameter, gradient in expected["gradients"].items():
                    torch.testing.assert_close(found["gradients"][parameter], gradient, atol=1e-12, rtol=1e-10)
                once = {"check": 1, "all_gather": 1, "all_reduce": 1, "reduce_scatter": 1}
                assert found["calls"] == (once if size > 1 else {})


def test_what_is_counted_is_what_torch_sends(tmp_path: Path):
    for found in on_ranks(counted_collectives, [2], tmp_path)[2]:
        assert found["torch"] == {"all_gather_into_tensor": 2, "all_reduce": 2, "reduce_scatter_tensor": 2}
        assert found["ours"] == {"check": 1, "all_gather": 2, "all_reduce": 2, "reduce_scatter": 2}
