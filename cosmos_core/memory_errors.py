"""Errors that mean a lack of memory, on the device or in the machine: recognised in all their words, and reported."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from cosmos_core.errors import RequestError

_WORDS = (
    "out of memory",  # CUDA's runtime and driver, Triton, MPS ("MPS backend out of memory")
    "DefaultCPUAllocator",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "DEVICE_ALLOCATION_FAILED",  # cuDNN 9
    # A library that cannot allocate its workspace on a full device says no more than one of these:
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "CUDNN_STATUS_NOT_INITIALIZED",
    "CUDNN_STATUS_INTERNAL_ERROR",
    "unable to find an engine to execute",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that there is not enough memory, on the device or in the machine."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # torch's CPU allocator and CUDA's libraries raise a plain RuntimeError; only its message tells.
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS)


@contextmanager
def report_out_of_memory(activity: str) -> Iterator[None]:
    """Turn a lack of memory inside into a RequestError of one line: "out of memory `activity`"."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise RequestError(f"out of memory {activity}") from error
        raise
