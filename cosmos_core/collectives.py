"""What the losses send between ranks: views are gathered once, sums are formed once, gradients go back once.

The number of collectives of a step does not depend on the number of views: two forward and one backward.
"""

from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from cosmos_core.errors import RequestError
from cosmos_core.world import World


class Collectives:
    """The traffic of one objective, counted; with one process nothing is sent and nothing counted.

    Every rank must make the same calls in the same order, with tensors of the same shape.
    """

    def __init__(self, world: World | None = None) -> None:
        self.world = world or World()
        self.calls: Counter[str] = Counter()
        """Collectives since the beginning, by kind; `check` is made once in a run, all others once a step."""
        self._shape: tuple[int, ...] | None = None

    def columns(self, *parts: Tensor) -> list[Tensor]:
        """Views of all ranks' samples from those of this rank's, in one collective.

        Args:
            parts: (m, b, D) views of this rank's b samples; float32 at least comes out. Gradients flow into those that
                require them, summed over ranks, in one collective of the backward pass; nothing is sent for the others.

        Returns:
            For each part (m, world.size * b, D), ranks in order; the parts as they are in a world of one.

        Raises:
            RequestError: ranks have different numbers of samples or views (found at the first call), or the number has
                changed since the first call.
        """
        if self.world.size == 1:
            return list(parts)
        dtype = torch.float32
        for part in parts:
            dtype = torch.promote_types(dtype, part.dtype)
        places = sorted(range(len(parts)), key=lambda i: not parts[i].requires_grad)  # those with gradients first
        live = [parts[i].to(dtype) for i in places if parts[i].requires_grad]
        fixed = [parts[i].to(dtype) for i in places if not parts[i].requires_grad]
        none = parts[0].new_zeros(0, *parts[0].shape[1:], dtype=dtype)
        self._check(sum(len(part) for part in parts), *parts[0].shape[1:])
        whole = _Columns.apply(self, torch.cat([none, *live]), torch.cat([none, *fixed]))
        split = [*whole[0].split([len(part) for part in live]), *whole[1].split([len(part) for part in fixed])]
        return [split[places.index(i)] for i in range(len(parts))]

    def sum(self, value: Tensor) -> Tensor:
        """The sum over ranks, the same on all of them; no gradient passes."""
        self.calls["all_reduce"] += 1
        value = value.detach().clone()
        self.all_reduce(value)
        return value

    def mean(self, own: Tensor) -> Tensor:
        """A loss of the whole batch from the mean over this rank's samples, the same value on all ranks.

        Its gradient is that of `own`, so that the mean over ranks of the gradients is that of the whole batch.
        """
        if self.world.size == 1:
            return own
        return own + (self.sum(own) / self.world.size - own).detach()

    def gather(self, value: Tensor) -> Tensor:
        """(world.size, *shape) of every rank's (*shape); no gradient passes."""
        self.calls["all_gather"] += 1
        return self.all_gather(value.contiguous())

    def scatter(self, value: Tensor) -> Tensor:
        """This rank's share (*shape) of the sum over ranks of (world.size, *shape)."""
        self.calls["reduce_scatter"] += 1
        return self.reduce_scatter(value.contiguous())

    def _check(self, *shape: int) -> None:
        if self._shape is None:
            self.calls["check"] += 1
            found = self.gather_shapes(shape)
            if len(set(found)) > 1:
                raise RequestError(
                    "the ranks of one loss need equal batches and views, got (views, samples, width) of "
                    f"{', '.join(map(str, found))}; give each rank as many samples, drop a last smaller batch"
                )
            self._shape = shape
        elif shape != self._shape:
            raise RequestError(
                f"rank {self.world.rank} brings (views, samples, width) of {shape} to a loss that began with "
                f"{self._shape}: other ranks would wait for ever; drop a last smaller batch"
            )

    # the four below are what a test replaces to play several ranks in one process

    def all_gather(self, value: Tensor) -> Tensor:
        whole = value.new_empty(self.world.size * value.numel())
        dist.all_gather_into_tensor(whole, value.flatten())
        return whole.view(self.world.size, *value.shape)

    def all_reduce(self, value: Tensor) -> None:
        dist.all_reduce(value)

    def reduce_scatter(self, value: Tensor) -> Tensor:
        own = value.new_empty(value[0].numel())
        dist.reduce_scatter_tensor(own, value.flatten())
        return own.view(value.shape[1:])

    def gather_shapes(self, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
        return self.world.gather(shape)


class _Columns(torch.autograd.Function):
    """Both parts gathered as one; the gradient of the first goes back to the ranks that the rows came from."""

    @staticmethod
    def forward(ctx: Any, collectives: Collectives, live: Tensor, fixed: Tensor) -> tuple[Tensor, Tensor]:
        ctx.collectives = collectives
        whole = collectives.gather(torch.cat([live, fixed])).transpose(0, 1).flatten(1, 2)  # (m, world * b, D)
        gathered, rest = whole[: len(live)], whole[len(live) :].clone()
        ctx.mark_non_differentiable(rest)
        return gathered.clone(), rest

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[None, Tensor, None]:
        by_rank = gradient.unflatten(1, (ctx.collectives.world.size, -1)).transpose(0, 1)  # (world, m, b, D)
        return None, ctx.collectives.scatter(by_rank), None
