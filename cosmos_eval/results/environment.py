"""Versions and hardware of a measurement, for its record."""

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "torch", "torchvision", "open_clip_torch", "transformers", "timm", "clip-benchmark", "numpy", "pillow", "pandas",
)  # fmt: skip


def environment(device: str = "cpu") -> dict[str, Any]:
    """Versions of packages that decide numbers, and the hardware; no names of users or machines."""
    import torch

    import cosmos_eval
    from cosmos_core.attention_kernels import attention_kernels

    versions = {"cosmos-eval": cosmos_eval.__version__}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    hardware: dict[str, Any] = {"cpu": cpu_name(), "cores": os.cpu_count(), "threads": torch.get_num_threads()}
    if device.startswith("cuda") and torch.cuda.is_available():
        hardware["gpu"] = torch.cuda.get_device_name(torch.device(device))
        hardware["cuda"] = torch.version.cuda
        hardware["attention"] = attention_kernels()
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "packages": versions,
        "hardware": hardware,
    }


def cpu_name() -> str:
    """Model name of the processor, where the system provides it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
