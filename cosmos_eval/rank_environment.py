"""Which of torchrun's processes this one is, by its environment: what can be known without torch."""

import os

from cosmos_core.errors import RequestError
from cosmos_core.rank_environment import rank_environment
from cosmos_core.text_files import parse_integer


def is_main() -> bool:
    """Whether this process speaks for all that work together: torchrun's first, one that is alone, and one whose
    variables are of no rank, since nobody else would tell what is wrong with them."""
    try:
        environment = rank_environment()
    except RequestError:
        return True
    return environment is None or environment.rank == 0


def ranks_here() -> int:
    """How many processes work together: what torchrun says, or one.

    Raises:
        RequestError: a number that is none, or RANK without or beyond it.
    """
    text = os.environ.get("WORLD_SIZE", "1")
    number = parse_integer(text)
    if number is None:
        raise RequestError(f"WORLD_SIZE must be a whole number, got {text[:20]!r}; torchrun sets it")
    if "RANK" in os.environ:
        rank_environment()
    return number
