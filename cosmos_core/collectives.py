"""Communication of the losses between ranks: views are gathered once, sums formed once, gradients sent back once.

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
    """The collectives of one objective, counted. With one process nothing is sent or counted.

    Every rank must make the same calls in the same order, with tensors of the same shape.
    """

    def __init__(self, world: World | None = None) -> None:
        self.world = world or World()
        self.calls: Counter[str] = Counter()
        """Collectives since the start, by kind; `check` happens once in a run, all others once in a step."""
        self._shape: tuple[int, ...] | None = None

    def columns(self, *parts: Tensor) -> list[Tensor]:
        """Views of all ranks' samples from those of this rank's, in one collective.

        Args:
            parts: (m, b, D) views of this rank's b samples. Gradients flow into those that require them, summed over
                ranks, in one collective of the backward pass; nothing is sent for the others.

        Returns:
            For each part (m, world.size * b, D) in the order of ranks, in float32 at least; with one process the parts
            themselves.

        Raises:
            RequestError: ranks have different numbers of samples or views (checked at the first call), or this rank's
                have changed since the first call.
        """
        if self.world.size == 1:
            return list(parts)
        dtype = torch.float32
        for part in parts:
            dtype = torch.promote_types(dtype, part.dtype)
        # parts that require gradients first
        order = sorted(range(len(parts)), key=lambda i: not parts[i].requires_grad)
        with_gradient = [parts[i].to(dtype) for i in order if parts[i].requires_grad]
        without_gradient = [parts[i].to(dtype) for i in order if not parts[i].requires_grad]
        empty = parts[0].new_zeros(0, *parts[0].shape[1:], dtype=dtype)
        self._require_same_shape(sum(len(part) for part in parts), *parts[0].shape[1:])
        gathered = _Columns.apply(self, torch.cat([empty, *with_gradient]), torch.cat([empty, *without_gradient]))
        in_order = [
            *gathered[0].split([len(part) for part in with_gradient]),
            *gathered[1].split([len(part) for part in without_gradient]),
        ]
        return [in_order[order.index(i)] for i in range(len(parts))]

    def sum(self, value: Tensor) -> Tensor:
        """The sum over ranks, the same on all of them; without gradient."""
        self.calls["all_reduce"] += 1
        value = value.detach().clone()
        self.all_reduce(value)
        return value

    def mean(self, local_mean: Tensor) -> Tensor:
        """The loss of the whole batch, equal on all ranks, from the mean over this rank's samples.

        Its gradient is that of `local_mean`; the mean of these over ranks is the gradient of the whole batch.
        """
        if self.world.size == 1:
            return local_mean
        return local_mean + (self.sum(local_mean) / self.world.size - local_mean).detach()

    def gather(self, value: Tensor) -> Tensor:
        """(world.size, *shape) of every rank's (*shape); without gradient."""
        self.calls["all_gather"] += 1
        return self.all_gather(value.contiguous())

    def scatter(self, value: Tensor) -> Tensor:
        """This rank's share (*shape) of the sum over ranks of (world.size, *shape)."""
        self.calls["reduce_scatter"] += 1
        return self.reduce_scatter(value.contiguous())

    def _require_same_shape(self, *shape: int) -> None:
        if self._shape is None:
            self.calls["check"] += 1
            shapes = self.gather_shapes(shape)
            if len(set(shapes)) > 1:
                raise RequestError(
                    "all ranks need equal batches and views, got (views, samples, width) of "
                    f"{', '.join(map(str, shapes))}; give each rank equally many samples, and drop a smaller last batch"
                )
            self._shape = shape
        elif shape != self._shape:
            raise RequestError(
                f"rank {self.world.rank} brings (views, samples, width) of {shape} to a loss that began with "
                f"{self._shape}: other ranks would wait forever; drop a smaller last batch"
            )

    # The four methods below talk to torch.distributed. A test replaces them to run several ranks in one process.

    def all_gather(self, value: Tensor) -> Tensor:
        gathered = value.new_empty(self.world.size * value.numel())
        dist.all_gather_into_tensor(gathered, value.flatten())
        return gathered.view(self.world.size, *value.shape)

    def all_reduce(self, value: Tensor) -> None:
        dist.all_reduce(value)

    def reduce_scatter(self, value: Tensor) -> Tensor:
        share = value.new_empty(value[0].numel())
        dist.reduce_scatter_tensor(share, value.flatten())
        return share.view(value.shape[1:])

    def gather_shapes(self, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
        return self.world.gather(shape)


class _Columns(torch.autograd.Function):
    """Gathers both parts in one collective; the gradient of the first goes back to the ranks it was gathered from."""

    @staticmethod
    def forward(
        ctx: Any, collectives: Collectives, with_gradient: Tensor, without_gradient: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.collectives = collectives
        gathered = collectives.gather(torch.cat([with_gradient, without_gradient]))  # (world, m, b, D)
        gathered = gathered.transpose(0, 1).flatten(1, 2)  # (m, world * b, D)
        differentiable, constant = gathered[: len(with_gradient)].clone(), gathered[len(with_gradient) :].clone()
        ctx.mark_non_differentiable(constant)
        return differentiable, constant

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[None, Tensor, None]:
        by_rank = gradient.unflatten(1, (ctx.collectives.world.size, -1)).transpose(0, 1)  # (world, m, b, D)
        return None, ctx.collectives.scatter(by_rank), None
