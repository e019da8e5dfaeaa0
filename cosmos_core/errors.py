"""What both packages show to a user as one line."""


class RequestError(ValueError):
    """What was asked for cannot be carried out: a bad spec, missing data, an unreadable checkpoint.

    The message is one line that says what, where and how to mend it; the command line prints it and exits with 2.
    """

    quiet = False
    """Whether another of the processes that train together says it."""


def of_dead_worker(error: BaseException) -> bool:
    """Whether torch says by it that a process of a loader is gone: a RuntimeError without a class of its own."""
    return isinstance(error, RuntimeError) and "DataLoader worker (pid" in str(error)


def dead_worker(error: BaseException, option: str) -> RequestError:
    """What to say when a process that reads and decodes images is gone.

    Args:
        option: the name of the setting that says how many there are.
    """
    return RequestError(
        f"a worker that decodes images died ({' '.join(str(error).split())}); where memory ran out, or shared memory "
        f"(/dev/shm), give fewer {option}"
    )
