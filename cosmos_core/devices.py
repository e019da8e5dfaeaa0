"""Torch devices by name, for training and evaluation: which one computes, and in which precision it can."""

import warnings
from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from cosmos_core.errors import RequestError
from cosmos_core.printable import one_line, plural
from cosmos_core.short_repr import short_repr

ADVICE = "give auto, cpu, cuda, cuda:N or mps"


def choose_device(index: int = 0, mps: bool = False) -> tuple[torch.device, str]:
    """Return the device of `auto`: this CUDA device if it computes, else (with `mps`) Apple's GPU, else the CPU.

    The device is tried once: a driver may be too old, or a card older than what this torch has code for, although torch
    counts it as available.

    Returns:
        The device, and why it is not a GPU although this machine seems to have one (empty otherwise).
    """
    reason = why_no_cuda()
    if not reason and torch.cuda.is_available():
        if index >= torch.cuda.device_count():
            reason = f"there is no cuda:{index}, torch sees {plural(torch.cuda.device_count(), 'CUDA device')}"
        else:
            card = torch.device("cuda", index)
            reason = why_unusable(card)
            if not reason:
                return card, ""
    if mps and torch.backends.mps.is_available() and not why_unusable(torch.device("mps")):
        return torch.device("mps"), reason
    return torch.device("cpu"), reason


@lru_cache(maxsize=1)
def why_no_cuda() -> str:
    """Why torch finds no CUDA device on a machine with an NVIDIA driver; empty if it does, or if there is no driver.

    torch says it in a warning, and only the first time that it is asked.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if torch.cuda.is_available():
            return ""
    for warning in caught:
        if "CUDA" in str(warning.message):
            return one_line(str(warning.message), 300)
    if torch.version.cuda is None and torch.version.hip is None and Path("/dev/nvidiactl").exists():
        return f"there is an NVIDIA driver, but torch {torch.__version__} is built without CUDA"
    return ""


def why_unusable(device: torch.device) -> str:
    """Why a device cannot compute, after trying a matrix product and a convolution on it; empty if it can."""
    try:
        image = torch.ones(1, 3, 8, 8, device=device)
        convolved = F.conv2d(image, torch.ones(2, 3, 4, 4, device=device))
        (image[0, 0] @ image[0, 0] + convolved.sum()).sum().item()  # reads a number back, which `meta` cannot
    except Exception as error:  # torch raises five kinds here, by device
        text = one_line(str(error), 160)
        if "no kernel image" in text and device.type == "cuda":
            capability = ".".join(map(str, torch.cuda.get_device_capability(device)))
            return (
                f"{torch.cuda.get_device_name(device)} has compute capability {capability}, and torch "
                f"{torch.__version__} has code for {', '.join(torch.cuda.get_arch_list())}: install a build of torch "
                "that supports this card"
            )
        return text or type(error).__name__
    return ""


def require_device(device: str | torch.device) -> torch.device:
    """Return the device with this name, after a check that it computes on this machine.

    Raises:
        RequestError: not a device, or one that this machine lacks or cannot compute on (`meta` among them).
    """
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise RequestError(f"unknown device {short_repr(device)}; {ADVICE}") from error
    if chosen.type == "cuda":
        if reason := why_no_cuda():
            raise RequestError(f"no device {device}: {reason}; give auto or cpu")
        if (chosen.index or 0) >= torch.cuda.device_count():
            raise RequestError(
                f"no device {device}: torch sees {plural(torch.cuda.device_count(), 'CUDA device')}; give auto or cpu"
            )
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise RequestError(f"no device {device}: torch sees no GPU of Apple; give auto or cpu")
    if reason := why_unusable(chosen):
        raise RequestError(f"no device {device}: {reason}; {ADVICE}")
    return chosen


def require_gpu_of_rank(rank: int, local_rank: int, advice: str) -> None:
    """RequestError, which ends with `advice`, if this machine has no GPU with the number of the rank's local rank."""
    count = torch.cuda.device_count()
    if local_rank >= count:
        raise RequestError(
            f"rank {rank} needs GPU {local_rank}, but its machine has {plural(count, 'GPU')}: start as many processes "
            f"as GPUs (torchrun --nproc-per-node), or {advice}"
        )


def has_bf16(device: torch.device) -> bool:
    """Whether a device computes in bfloat16.

    Cards before compute capability 8.0 (T4, RTX 20xx, V100) do not: torch emulates it there, and cuDNN has no
    convolution for it. Apple's GPUs do from macOS 14 on: before, autocast leaves everything in float32.
    """
    if device.type == "mps":
        return torch.backends.mps.is_macos_or_newer(14, 0)
    if device.type != "cuda":
        return True
    with torch.cuda.device(device) if torch.cuda.is_available() else nullcontext():
        return torch.cuda.is_bf16_supported(including_emulation=False)


def describe_device(device: torch.device) -> str:
    """A device with the name of its card, such as `cuda:0 (NVIDIA H200)`."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def synchronize(device: torch.device) -> None:
    """Wait for what is queued on a device; only CUDA and MPS compute behind the host's back."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def to_float64(values: Tensor) -> Tensor:
    """Values in float64: on their device, or on the CPU if that is MPS, which has no float64."""
    return (values.cpu() if values.device.type == "mps" else values).double()


def send(values: Tensor, device: torch.device) -> Tensor:
    """Values on a device. To CUDA they go through page-locked memory, so that the host does not wait for the copy.

    To others the host waits: a copy to MPS that it does not wait for may read memory that was freed meanwhile
    (pytorch/pytorch#189690).
    """
    if device.type != "cuda" or values.device.type != "cpu":
        return values.to(device)
    return (values if values.is_pinned() else values.pin_memory()).to(device, non_blocking=True)
