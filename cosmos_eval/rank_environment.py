"""Rank and world size of this process from torchrun's environment variables, without importing torch."""

import os

from cosmos_core.errors import RequestError
from cosmos_core.rank_environment import rank_environment
from cosmos_core.text_files import parse_integer


def is_main_process() -> bool:
    """Return whether this process prints for all ranks: rank 0, or a process without ranks.

    Also true if the environment variables are wrong: each process then prints what is wrong, as none knows whether
    another one does.
    """
    try:
        environment = rank_environment()
    except RequestError:
        return True
    return environment is None or environment.rank == 0


def read_world_size() -> int:
    """Return the world size: the number of processes that torchrun started, or 1.

    Raises:
        RequestError: WORLD_SIZE is not a whole number; or RANK is set, but WORLD_SIZE is not or is not above it.
    """
    text = os.environ.get("WORLD_SIZE", "1")
    world_size = parse_integer(text)
    if world_size is None:
        raise RequestError(f"WORLD_SIZE must be a whole number, got {text[:20]!r}; torchrun sets it")
    if "RANK" in os.environ:
        rank_environment()  # checks RANK
    return world_size
