"""Copies of values in main memory that do not hold up a CUDA device.

CUDA computes what is queued and the host goes on; whenever the host asks for a value, it waits until the queue is
empty, and then the device waits for the host. So values are copied into page-locked memory behind the work that makes
them, and read later. Other devices copy at once.
"""

import torch
from torch import Tensor


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
