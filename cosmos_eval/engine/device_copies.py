"""Copies between main memory and a CUDA device that do not hold up the device.

CUDA computes what is queued and the host goes on; whenever the host asks for a value, it waits until the queue is
empty, and then the device waits for the host. So values are copied into page-locked memory behind the work that makes
them, and read later (`HostCopy`); and inputs are copied by a stream of their own, while the device computes
(`copy_to_device`). Other devices copy at once.
"""

from functools import lru_cache

import torch
from torch import Tensor

LATE_BATCHES = 1
"""How many batches later the values of a batch on CUDA are read: while they are awaited, the device computes the next
one. More would take more memory and hide nothing else."""


def late_batches(device: torch.device) -> int:
    """How many batches later the host may read the values of a batch; 0 where that would save nothing."""
    return LATE_BATCHES if device.type == "cuda" else 0


class HostCopy:
    """A copy of a tensor in main memory, which may still be under way."""

    def __init__(self, values: Tensor) -> None:
        self._copied: torch.cuda.Event | None = None
        if values.device.type != "cuda":
            self._values = values.cpu()
            return
        self._values = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        self._values.copy_(values, non_blocking=True)
        self._copied = torch.cuda.Event(blocking=True)  # sleeps: workers need the core
        self._copied.record(torch.cuda.current_stream(values.device))  # not of the current device, which may be another

    def read(self) -> Tensor:
        """Return the values, on the CPU; waits for the work that was queued before the copy, not for later work."""
        if self._copied is not None:
            self._copied.synchronize()
            self._copied = None
        return self._values


def copy_to_device(x: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device. From page-locked memory to CUDA it is copied while the device computes."""
    if device.type != "cuda" or x.device.type != "cpu" or not x.is_pinned():
        # on MPS the host must wait: see `cosmos_core.devices.send`
        return x.to(device, non_blocking=device.type == "cuda")
    stream, computing = _copy_stream(device), torch.cuda.current_stream(device)
    with torch.cuda.stream(stream):
        copied = x.to(device, non_blocking=True)
    computing.wait_stream(stream)
    # The memory belongs to the stream of copies: without this, a later copy could overwrite it before it is used.
    copied.record_stream(computing)
    return copied


@lru_cache(maxsize=64)
def _copy_stream(device: torch.device) -> "torch.cuda.Stream":
    return torch.cuda.Stream(device)
