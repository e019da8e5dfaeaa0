"""Processes for tests: forked, within milliseconds, from a server that has made the imports of all of them once.

A worker of the tests has one such server, which begins with the first process. What it has imported by then holds for
all later ones, so that every test takes its processes from here.
"""

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import multiprocessing as torch_multiprocessing

SERVER = multiprocessing.get_context("forkserver")
READY = (
    "tests.helpers.killing cosmos_core.train cosmos_core.objectives.cosmos cosmos_eval.training.callback "
    "cosmos_eval.training.plan cosmos_eval.cli.main cosmos_eval.cli.console webdataset pydantic "
    "cosmos_eval.run.evaluate pandas pyarrow.parquet jsonschema tabulate cosmos_eval.datasets.fetch.fetching "
    "cosmos_eval.datasets.mmseg.prepare requests cosmos_core.model torch.distributed torch.nn.parallel pytest"
)
SERVER.set_forkserver_preload(READY.split())


def run_ranks(work: Callable[[int, int, str], None], size: int, folder: Path) -> list[Any]:
    """What each rank of `work(rank, size, folder)` has left in `folder/RANK.pt`; an error in one of them is raised."""
    torch_multiprocessing.start_processes(work, (size, str(folder)), nprocs=size, start_method="forkserver")
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(size)]
