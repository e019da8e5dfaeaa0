"""Run a function in process groups of several sizes on one machine; each process imports its libraries only once."""

import importlib
import multiprocessing
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from queue import Empty
from typing import Any

from cosmos_core.errors import RequestError

CONTEXT = multiprocessing.get_context("spawn")
"""Of the processes: each imports its libraries anew, so that it has no memory or threads of another."""


def run_in_processes(sizes: Sequence[int], work: str, *arguments: Any, threads: int = 0) -> dict[int, Any]:
    """Return, by world size, what rank 0 returns from `work(world, *arguments)` in gloo process groups, one by one.

    Processes that a smaller group does not need wait without using the CPU.

    Args:
        sizes: numbers of processes.
        work: `module:function`; only the processes import it, so that the caller need not wait for its libraries.
        arguments: must be picklable.
        threads: of each process; 0: its share of the machine's cores, at least one. More processes than cores
            oversubscribe the cores.

    Raises:
        RequestError: a process failed; its traceback is on the standard error stream.
    """
    with tempfile.TemporaryDirectory() as folder:
        barrier, results = CONTEXT.Barrier(max(sizes)), CONTEXT.Queue()
        processes = [
            CONTEXT.Process(
                target=run_process, args=(rank, list(sizes), folder, barrier, results, threads, work, arguments)
            )
            for rank in range(max(sizes))
        ]
        for process in processes:
            process.start()
        try:
            return dict(next_result(results, processes) for _ in sizes)
        finally:
            for process in processes:
                process.join(timeout=30 if sys.exc_info()[0] is None else 0)
                if process.is_alive():
                    process.kill()
                    process.join()


def next_result(results: Any, processes: Sequence[Any]) -> tuple[int, Any]:
    """Return the next (size, result).

    Raises:
        RequestError: a process has failed.
    """
    while True:
        try:
            size, result, failure = results.get(timeout=1)
        except Empty:
            if any(process.exitcode for process in processes):
                raise RequestError(
                    "a process of the benchmark ended without a result; perhaps there is too little memory"
                ) from None
            continue
        if failure:
            print(failure, file=sys.stderr)
            raise RequestError(f"rank {result} of {size} processes failed: {failure.strip().splitlines()[-1]}")
        return size, result


def run_process(
    rank: int,
    sizes: list[int],
    folder: str,
    barrier: Any,
    results: Any,
    threads: int,
    work: str,
    arguments: tuple[Any, ...],
) -> None:
    """Run `work` in one process, once for each world size that includes its rank."""
    size = sizes[0]
    try:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # all ranks are on this machine
        # A spawned process would also spawn the workers of its loaders, and each of these imports for seconds. The
        # commands of cosmos-eval fork, so this sets the default of the platform again.
        multiprocessing.set_start_method(None, force=True)
        module, _, name = work.partition(":")
        function = getattr(importlib.import_module(module), name)
        import torch
        from torch import distributed as dist

        from cosmos_core.world import World, leave_world

        for size in sizes:
            barrier.wait()
            if rank >= size:
                continue
            torch.set_num_threads(threads or max(1, (os.cpu_count() or 1) // size))
            world = World(rank, size, rank)
            if size > 1:
                store = f"file://{Path(folder) / f'world-{size}'}"
                dist.init_process_group("gloo", init_method=store, rank=rank, world_size=size)
            result = function(world, *arguments)
            leave_world(world)
            if rank == 0:
                results.put((size, result, ""))
    except BaseException:
        results.put((size, rank, traceback.format_exc()))
        raise
