"""Errors that are shown to the user as one line."""


class RequestError(ValueError):
    """The request cannot be carried out: a bad spec, missing data, an unreadable checkpoint.

    The message is one line that says what, where and how to fix it; the command line prints it and exits with 2.
    """

    quiet = False
    """Whether another rank prints the message."""


def is_dead_worker_error(error: BaseException) -> bool:
    """Whether this is torch's error for a dead DataLoader worker: a plain RuntimeError, recognised by its text."""
    return isinstance(error, RuntimeError) and "DataLoader worker (pid" in str(error)


def dead_worker_reason(error: BaseException) -> str:
    """What happened to a worker process that has died while reading and decoding images."""
    return f"a worker that decodes images died ({' '.join(str(error).split())})"


def dead_worker_error(error: BaseException, option: str) -> RequestError:
    """The error for such a worker, with advice.

    Args:
        option: the name of the setting for the number of workers.
    """
    return RequestError(
        f"{dead_worker_reason(error)}; where memory ran out, or shared memory (/dev/shm), give fewer {option}"
    )
