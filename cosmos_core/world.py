"""The ranks that train together, started by torchrun; or a single process."""

import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from cosmos_core.devices import require_gpu_of_rank, send, why_no_cuda
from cosmos_core.errors import RequestError
from cosmos_core.rank_environment import rank_environment
from cosmos_core.rendezvous import barrier, join_group


@dataclass(frozen=True)
class World:
    """The rank of this process and the world size. With one process, no method communicates."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """Index among the processes of this machine: the number of its GPU."""

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.size > 1:
            barrier()

    def any(self, flag: bool) -> bool:
        """Whether `flag` is true on any rank; equal on all ranks. Every rank must call it."""
        return flag if self.size == 1 else bool(self.any_of([flag]).item())

    def any_of(self, flags: Sequence[bool]) -> Tensor:
        """(n,) 1 where a flag is true on any rank and else 0, in one collective; every rank must call it.

        The result is on the GPU with NCCL, and the host does not wait for it there.
        """
        values = torch.tensor([float(flag) for flag in flags], dtype=torch.float64)
        if self.size > 1:
            values = send(values, collective_device())
            dist.all_reduce(values, dist.ReduceOp.MAX)
        return values

    def mean(self, values: Sequence[float]) -> list[float]:
        """The mean over ranks of every value, in one collective."""
        if self.size == 1:
            return list(values)
        return self.mean_of(torch.tensor(list(values), dtype=torch.float64, device=collective_device())).tolist()

    def mean_of(self, values: Tensor) -> Tensor:
        """The mean over ranks of (n,) float64 values on the device of collectives, which are overwritten.

        One collective, with several ranks; with NCCL the host does not wait for it.
        """
        if self.size == 1:
            return values
        dist.all_reduce(values)
        return values / self.size

    def gather(self, value: Any) -> list[Any]:
        """The values of all ranks, in the order of ranks, on all of them. Values of JSON types, or tensors."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values


def collective_device() -> torch.device:
    """The device of tensors for collectives: NCCL needs them on the GPU."""
    return torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")


def join_world(device: str = "auto") -> World:
    """Join the process group of torchrun's environment; a world of size 1 if there is none.

    The backend is NCCL if the run uses GPUs, one for each rank, else gloo.

    Raises:
        RequestError: the environment is incomplete, this machine has no GPU or fewer than ranks, `device` is a GPU of
            another rank, or the ranks do not meet within `cosmos_core.rendezvous.join_timeout()` seconds.
    """
    environment = rank_environment()
    if environment is None or environment.size == 1:
        return World()
    rank, size, local_rank = environment.rank, environment.size, environment.local_rank or 0
    on_gpu = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    if on_gpu:
        if environment.local_rank is None:
            raise RequestError(
                "LOCAL_RANK is not set; it selects the GPU of each rank on its machine: start the ranks with "
                "torchrun, set LOCAL_RANK (0 where each machine has one rank), or set device=cpu"
            )
        if not torch.cuda.device_count():
            error = RequestError(f"no device {device}: {why_no_cuda() or 'torch sees no CUDA device'}; set device=cpu")
            error.quiet = local_rank > 0  # the first rank of the machine says it
            raise error
        require_gpu_of_rank(rank, local_rank, "set device=cpu")
        if device not in ("auto", "cuda", f"cuda:{local_rank}"):
            raise RequestError(
                f"device={device} is one GPU, and rank {rank} of {size} needs its own, which is cuda:{local_rank}: set "
                "device=cuda (the environment variable CUDA_VISIBLE_DEVICES leaves GPUs out)"
            )
        torch.cuda.set_device(local_rank)
    if not dist.is_initialized():
        join_group("nccl" if on_gpu else "gloo", rank, size, identify_gpu(local_rank) if on_gpu else "")
    return World(rank, size, local_rank)


DESTROYED_GROUPS: list[Any] = []
"""Destroyed process groups, referenced until the process ends. Freeing a gloo group waits for its threads while it
holds the GIL, and such a thread may need the GIL to free the last collective's tensors: a deadlock."""


def leave_world(world: World) -> None:
    """Destroy the process group that `join_world` joined. Every rank must call it, so a rank that fails alone must
    not."""
    if world.size > 1 and dist.is_initialized():
        DESTROYED_GROUPS.append(dist.group.WORLD)
        with suppress(RuntimeError):  # the connection is gone if a rank has died
            dist.destroy_process_group()


def identify_gpu(index: int) -> str:
    """A text that identifies a GPU among those of all machines."""
    properties = torch.cuda.get_device_properties(index)
    return f"{socket.gethostname()}, {getattr(properties, 'uuid', None) or f'cuda:{index}'}"
