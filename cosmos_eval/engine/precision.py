"""The device and the precision of a tower: resolved once, recorded, and part of a result's identity.

A compiled tower and a decoder other than Pillow change numbers as well. Results and the feature cache add them to the
precision, for example `bf16+compile+torchvision`, so that these numbers are never taken for the same measurement.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from cosmos_core.attention_kernels import without_cudnn_attention
from cosmos_core.devices import choose_device, describe_device, has_bf16, require_device, require_gpu_of_rank
from cosmos_core.errors import RequestError
from cosmos_core.world import World
from cosmos_eval.datasets.decoders import PIL
from cosmos_eval.metrics.similarity import plain_float32

PRECISIONS = ("fp32", "bf16", "fp16")
_AUTOCAST_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """Return a device that can compute; `auto` is the first CUDA device if it computes, else Apple's GPU, else the CPU.

    Raises:
        RequestError: not the name of a device, or this machine lacks it or cannot compute on it (`meta`, for example).
    """
    if str(device) == "auto":
        chosen, _ = choose_device(mps=True)
        return torch.device("cuda") if chosen.type == "cuda" else chosen
    return require_device(device)


def device_of_rank(device: str | torch.device, world: World) -> torch.device:
    """Return the device of this rank.

    As `resolve_device`, but for `auto` and `cuda` with several ranks: then each rank of a machine uses the GPU with the
    number of its local rank.

    Raises:
        RequestError: as `resolve_device`, or this machine has more ranks than GPUs. Of several ranks none falls back to
            the CPU alone.
    """
    if world.size == 1 or str(device) not in ("auto", "cuda") or not torch.cuda.is_available():
        return torch.device("cpu") if world.size > 1 and str(device) == "auto" else resolve_device(device)
    require_gpu_of_rank(world.rank, world.local_rank, "give --device cpu")
    torch.cuda.set_device(world.local_rank)  # page-locked memory is allocated for the current device
    return resolve_device(f"cuda:{world.local_rank}")


def resolve_precision(precision: str, device: torch.device | str) -> str:
    """Return `fp32`, `bf16` or `fp16`.

    `auto` is autocast on CUDA, to bf16 on cards that compute in it and to fp16 on others, and fp32 elsewhere.

    Raises:
        RequestError: an unknown precision, or bf16 on a card that does not compute in it.
    """
    device = torch.device(device)
    if precision == "auto":
        if device.type != "cuda":
            return "fp32"
        return "bf16" if has_bf16(device) else "fp16"
    if precision not in PRECISIONS:
        raise RequestError(f"unknown precision {precision!r}; give auto, {', '.join(PRECISIONS)}")
    if precision == "bf16" and not has_bf16(device):
        raise RequestError(f"{describe_device(device)} does not compute in bf16; give --precision fp16, fp32 or auto")
    return precision


def describe_choice(requested: str, device: torch.device | str, precision: str) -> str:
    """Return the line that says where a run computes; empty if it is the CPU and no GPU seems to be there.

    Args:
        requested: the device that was asked for.
        device: the one that was chosen.
        precision: as in `resolve_precision`.
    """
    device = torch.device(device)
    chosen = f"computing on {describe_device(device)} in {resolve_precision(precision, device)}"
    if str(requested) == "auto" and device.type != "cuda":
        _, reason = choose_device()
        if reason:
            return f"{chosen}, since the GPU cannot be used: {reason}"
    return chosen if device.type != "cpu" else ""


def full_precision(precision: str, compiled: bool = False, decoder: str = PIL) -> str:
    """Return the precision as results record it: with `+compile` and `+DECODER` if these change the numbers."""
    return "+".join([precision, *(["compile"] if compiled else []), *([decoder] if decoder != PIL else [])])


@contextmanager
def tower_precision(precision: str, device: torch.device) -> Iterator[None]:
    """Compute in a precision inside: with autocast for bf16 and fp16, in true float32 (no TF32) for fp32.

    No gradients are recorded. The part of `precision` from a "+" on is ignored.
    """
    precision = precision.partition("+")[0]
    # In inference mode autocast keeps no casts (`cosmos_eval.engine.kept_casts`); the numbers are the same.
    keeps_casts = precision != "fp32" and device.type == "cuda"
    with torch.no_grad() if keeps_casts else torch.inference_mode(), without_cudnn_attention():
        if precision == "fp32":
            with plain_float32():
                yield
        else:
            with torch.autocast(device.type, dtype=_AUTOCAST_TYPES[precision]):
                yield
