"""Peak memory of a process, in main memory or on a GPU."""

import gc
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def peak_bytes(device: "torch.device", reset: bool = False) -> int:
    """Return the peak of this process since the last reset, in bytes: of GPU memory on CUDA, else of main memory."""
    if device.type != "cuda":
        return peak_resident_bytes(reset)
    import torch

    if reset:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.max_memory_allocated(device)


def peak_resident_bytes(reset: bool = False) -> int:
    """Return the peak of the resident main memory of this process since the last reset, in bytes (Linux)."""
    if reset:
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no line VmHWM: peak memory cannot be measured on this system")


def available_bytes(device: "torch.device") -> int:
    """Return the memory that is free for use, in bytes."""
    if device.type == "cuda":
        import torch

        return torch.cuda.mem_get_info(device)[0]
    for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0
