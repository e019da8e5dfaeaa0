"""Several ranks played by the threads of one process: the collectives meet at a barrier."""

import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from cosmos_core.collectives import Collectives
from cosmos_core.world import World

Result = TypeVar("Result")


class Table:
    """Where ranks lay what they send; every rank has to come before one may go."""

    def __init__(self, size: int) -> None:
        self.places: list[Any] = [None] * size
        self.barrier = threading.Barrier(size, timeout=300)

    def exchange(self, rank: int, value: Any) -> list[Any]:
        self.places[rank] = value
        self.barrier.wait()
        found = list(self.places)
        self.barrier.wait()
        return found


class ThreadedCollectives(Collectives):
    """Those of one of the threads."""

    def __init__(self, world: World, table: Table) -> None:
        super().__init__(world)
        self.table = table

    def all_gather(self, value: Tensor) -> Tensor:
        return torch.stack(self.table.exchange(self.world.rank, value))

    def all_reduce(self, value: Tensor) -> None:
        first, *others = self.table.exchange(self.world.rank, value.clone())
        value.copy_(sum(others, first))

    def reduce_scatter(self, value: Tensor) -> Tensor:
        return torch.stack([sent[self.world.rank] for sent in self.table.exchange(self.world.rank, value)]).sum(dim=0)

    def gather_shapes(self, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
        return self.table.exchange(self.world.rank, shape)


def play(size: int, act: Callable[[ThreadedCollectives], Result]) -> Sequence[Result]:
    """What `act` returns on each rank; the first error of any of them is raised."""
    table = Table(size)
    results: list[Any] = [None] * size
    errors: list[BaseException | None] = [None] * size

    def run(rank: int) -> None:
        try:
            results[rank] = act(ThreadedCollectives(World(rank, size, rank), table))
        except BaseException as error:
            errors[rank] = error
            table.barrier.abort()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [error for error in errors if error is not None]
    for error in sorted(found, key=lambda e: isinstance(e, threading.BrokenBarrierError)):
        raise error
    return results
