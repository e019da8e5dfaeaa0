"""Real processes that talk by gloo: the same function on every rank, at several numbers of ranks, for one start.

Processes are forked from one that has imported torch once; each start would import it again otherwise.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import distributed as dist

from cosmos_core.world import World, leave_world
from tests.helpers.fork_server import SERVER

SECONDS = 300


def on_ranks(act: Callable[..., Any], sizes: Sequence[int], folder: Path, *arguments: Any) -> dict[int, list[Any]]:
    """What `act(world, *arguments)` returns on each rank, by the number of ranks.

    Args:
        act: a function of a module; it returns tensors, numbers, strings, and dicts and lists of them.
        sizes: numbers of ranks, one after the other, in the same processes.
        folder: an empty one for this call.
    """
    processes = [
        SERVER.Process(target=one_process, args=(place, list(sizes), folder, act, arguments), daemon=True)
        for place in range(max(sizes))
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(SECONDS)
    hanging = [process for process in processes if process.is_alive()]
    for process in hanging:
        process.kill()
    assert not hanging, f"{len(hanging)} of {len(processes)} processes wait forever"
    assert all(process.exitcode == 0 for process in processes), [process.exitcode for process in processes]
    return {
        size: [torch.load(folder / f"{size}-{rank}.pt", weights_only=True) for rank in range(size)] for size in sizes
    }


def one_process(
    place: int, sizes: list[int], folder: Path, act: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    for size in sizes:
        if place >= size:
            continue
        dist.init_process_group("gloo", init_method=f"file://{folder}/meet-{size}", rank=place, world_size=size)
        try:
            torch.save(act(World(place, size, place), *arguments), folder / f"{size}-{place}.pt")
        finally:
            leave_world(World(place, size, place))
