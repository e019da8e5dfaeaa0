"""The processes that train together: torchrun's ranks, or one process that is alone."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed as dist

from cosmos_core.errors import RequestError
from cosmos_core.joining import join_group
from cosmos_core.rank_environment import rank_environment


@dataclass(frozen=True)
class World:
    """This process among those that train together. With one process nothing is ever sent."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """Place among the processes of this machine: the number of its card."""

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.size > 1:
            dist.barrier()

    def any(self, flag: bool) -> bool:
        """Whether `flag` is set on any rank; the same answer on all. Every rank must call it."""
        if self.size == 1:
            return flag
        value = torch.tensor(int(flag), device=collective_device())
        dist.all_reduce(value, dist.ReduceOp.MAX)
        return bool(value.item())

    def mean(self, values: Sequence[float]) -> list[float]:
        """The mean over ranks of every value, in one collective."""
        if self.size == 1:
            return list(values)
        tensor = torch.tensor(list(values), dtype=torch.float64, device=collective_device())
        dist.all_reduce(tensor)
        return (tensor / self.size).tolist()

    def gather(self, value: Any) -> list[Any]:
        """Every rank's plain value (what JSON holds, or tensors), by rank, on all ranks."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values


def collective_device() -> torch.device:
    """Where small tensors must lie for the backend in use: NCCL knows the card only."""
    return torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")


def join_world(device: str = "auto") -> World:
    """The group that torchrun's environment names, joined; a world of one where there is none.

    NCCL where each rank has a card of its own and the run is not on the CPU, gloo otherwise.

    Raises:
        RequestError: the environment is incomplete, there are more ranks on this machine than cards, or the ranks do
            not find each other within a minute.
    """
    place = rank_environment()
    if place is None or place.size == 1:
        return World()
    rank, size, local_rank = place.rank, place.size, place.local_rank or 0
    on_card = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    if on_card:
        if place.local_rank is None:
            raise RequestError(
                "LOCAL_RANK is not set, and says which card of its machine a rank takes: start the ranks with "
                "torchrun, set LOCAL_RANK (0 where each machine has one rank), or set device=cpu"
            )
        if local_rank >= torch.cuda.device_count():
            raise RequestError(
                f"rank {rank} wants card {local_rank}, and this machine has {torch.cuda.device_count()}: "
                "start as many processes as cards (torchrun --nproc-per-node), or set device=cpu"
            )
        torch.cuda.set_device(local_rank)
    if not dist.is_initialized():
        join_group("nccl" if on_card else "gloo", rank, size)
    return World(rank, size, local_rank)


LEFT: list[Any] = []
"""Groups that were left, kept until the process ends. What frees a gloo group waits for its threads with Python's lock
held, and one of those may need that lock to let go of the last collective's tensors: both would wait for ever."""


def leave_world(world: World) -> None:
    """Leave the group that `join_world` joined. Every rank must come here: where one fails alone, it is not to wait."""
    if world.size > 1 and dist.is_initialized():
        LEFT.append(dist.group.WORLD)
        with suppress(RuntimeError):  # a rank that died takes the connection with it
            dist.destroy_process_group()


def lost_rank(error: BaseException) -> bool:
    """Whether a collective failed because another rank is gone."""
    words = ("closed by peer", "Connection reset", "Broken pipe", "NCCL", "Socket Timeout", "recvValue failed")
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    )
