"""The variables by which torchrun (or a batch system) describes this process; read without importing torch."""

import os
from dataclasses import dataclass

from cosmos_core.errors import RequestError
from cosmos_core.text_files import parse_integer


@dataclass(frozen=True)
class RankEnvironment:
    """RANK, WORLD_SIZE and LOCAL_RANK."""

    rank: int
    size: int
    local_rank: int | None
    """None: not set."""


def rank_environment() -> RankEnvironment | None:
    """The variables, checked; None if there are none, for a single process.

    Raises:
        RequestError: RANK or WORLD_SIZE is missing, a value is not an integer, or RANK is not below WORLD_SIZE.
    """
    values = {name: os.environ[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK") if name in os.environ}
    if "RANK" not in values and "WORLD_SIZE" not in values:
        return None
    for present, missing in (("RANK", "WORLD_SIZE"), ("WORLD_SIZE", "RANK")):
        if missing not in values:
            raise RequestError(
                f"{present} is set and {missing} is not: start the ranks with torchrun, which sets both, or "
                f"unset {present}"
            )
    numbers = {name: parse_integer(text) for name, text in values.items()}
    wrong = [f"{name}={values[name][:20]!r}" for name, number in numbers.items() if number is None]
    if wrong:
        raise RequestError(
            f"RANK, WORLD_SIZE and LOCAL_RANK must be whole numbers, got {', '.join(wrong)}; torchrun sets them"
        )
    rank, size = numbers["RANK"] or 0, numbers["WORLD_SIZE"] or 0
    if not rank < size:
        raise RequestError(f"RANK={rank} must be below WORLD_SIZE={size}: ranks are counted from 0; torchrun sets both")
    return RankEnvironment(rank, size, numbers.get("LOCAL_RANK"))
