"""What torchrun, or a batch system that sets its variables, says of this process; read without torch."""

import os
from dataclasses import dataclass

from cosmos_core.errors import RequestError
from cosmos_core.text_files import whole_number


@dataclass(frozen=True)
class RankEnvironment:
    """RANK, WORLD_SIZE and LOCAL_RANK."""

    rank: int
    size: int
    local_rank: int | None
    """None: not set."""


def rank_environment() -> RankEnvironment | None:
    """The variables, checked; None where there are none and the process is alone.

    Raises:
        RequestError: one of two is missing, a value is no whole number, or RANK is not below WORLD_SIZE.
    """
    given = {name: os.environ[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK") if name in os.environ}
    if "RANK" not in given and "WORLD_SIZE" not in given:
        return None
    for there, missing in (("RANK", "WORLD_SIZE"), ("WORLD_SIZE", "RANK")):
        if missing not in given:
            raise RequestError(
                f"{there} is set and {missing} is not: start the ranks with torchrun, which sets both, or unset {there}"
            )
    numbers = {name: whole_number(text) for name, text in given.items()}
    wrong = [f"{name}={given[name][:20]!r}" for name, number in numbers.items() if number is None]
    if wrong:
        raise RequestError(
            f"RANK, WORLD_SIZE and LOCAL_RANK must be whole numbers, got {', '.join(wrong)}; torchrun sets them"
        )
    rank, size = numbers["RANK"] or 0, numbers["WORLD_SIZE"] or 0
    if not rank < size:
        raise RequestError(f"RANK={rank} must be below WORLD_SIZE={size}: ranks are counted from 0; torchrun sets both")
    return RankEnvironment(rank, size, numbers.get("LOCAL_RANK"))
