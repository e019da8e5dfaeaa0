"""Errors of collectives: whether another rank is gone, or NCCL failed for a reason of its own."""

from torch import distributed as dist

from cosmos_core.printable import one_line

LOST_RANK_WORDS = (
    "closed by peer", "closed by remote peer", "Connection reset", "Broken pipe", "Socket Timeout", "recvValue failed",
    "ncclRemoteError", "remote process exit", "communicator was aborted", "collective operation timeout",
    "retrieving ncclUniqueId",  # from rank 0, which did not get that far
)  # fmt: skip
NCCL_WORDS = ("NCCL", "nccl")


def is_lost_rank_error(error: BaseException) -> bool:
    """Whether a collective failed because another rank has ended, or hangs.

    NCCL raises the same type for its other errors, such as two ranks on one GPU or a failed CUDA call: their cause is
    here, so their own message must be kept.
    """
    if not isinstance(error, RuntimeError):
        return False
    text = str(error)
    if any(words in text for words in LOST_RANK_WORDS):
        return True
    return isinstance(error, dist.DistError) and not any(word in text for word in NCCL_WORDS)


def is_nccl_error(error: BaseException) -> bool:
    """Whether NCCL failed for a reason of its own, which its message tells."""
    return (
        isinstance(error, RuntimeError)
        and any(word in str(error) for word in NCCL_WORDS)
        and not is_lost_rank_error(error)
    )


def describe_nccl_error(error: BaseException, rank: int) -> str:
    """A line for an error that `is_nccl_error`."""
    return f"NCCL failed on rank {rank} ({one_line(error, 300)}); NCCL_DEBUG=INFO tells more"
