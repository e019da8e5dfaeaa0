"""Errors that are shown to the user as one line."""

from collections.abc import Iterator
from contextlib import contextmanager


class RequestError(ValueError):
    """The request cannot be carried out: a bad spec, missing data, an unreadable checkpoint.

    The message is one line that says what, where and how to fix it; the command line prints it and exits with 2.
    """

    quiet = False
    """Whether another rank prints the message."""


@contextmanager
def naming(owner: str) -> Iterator[None]:
    """Put the name of what a caller asked for before the message of a RequestError."""
    try:
        yield
    except RequestError as error:
        raise RequestError(f"{owner}: {error}") from error


def is_dead_worker_error(error: BaseException) -> bool:
    """Whether this is torch's error for a dead DataLoader worker: a plain RuntimeError, recognised by its text."""
    return isinstance(error, RuntimeError) and "DataLoader worker (pid" in str(error)


@contextmanager
def report_dead_worker(option: str) -> Iterator[None]:
    """Turn torch's error for a dead worker into a `dead_worker_error`: its signal handler raises it wherever this
    process happens to be."""
    try:
        yield
    except RuntimeError as error:
        if is_dead_worker_error(error):
            raise dead_worker_error(error, option) from error
        raise


def dead_worker_reason(error: BaseException) -> str:
    """What happened to a worker process that has died while reading and decoding images."""
    return f"a worker that decodes images died ({' '.join(str(error).split())})"


def dead_worker_error(error: BaseException, option: str) -> RequestError:
    """The error for such a worker, with advice.

    Args:
        option: the name of the setting for the number of workers.
    """
    return RequestError(
        f"{dead_worker_reason(error)}; where memory ran out, give fewer {option}; where shared memory (/dev/shm) did, "
        "a smaller batch, or a larger /dev/shm (in a container: --shm-size or --ipc=host)"
    )
