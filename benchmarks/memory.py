"""What a process holds of a machine's or a GPU's memory at its peak."""

import gc
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def held(device: "torch.device", reset: bool = False) -> int:
    """The most bytes that this process has held, or has held of a GPU, since the last reset."""
    if device.type != "cuda":
        return resident(reset)
    import torch

    if reset:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.max_memory_allocated(device)


def resident(reset: bool = False) -> int:
    """The most bytes of main memory that this process has held since the last reset (Linux)."""
    if reset:
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("the system does not say how much memory a process held")


def available(device: "torch.device") -> int:
    """Bytes of memory that may be used."""
    if device.type == "cuda":
        import torch

        return torch.cuda.mem_get_info(device)[0]
    for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0
