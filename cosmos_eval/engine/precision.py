"""Where a tower runs and in which precision; both are resolved once, recorded, and part of a result's identity.

A compiled tower and another decoder than Pillow change numbers, too: results and stores name them behind the precision,
`bf16+compile+torchvision` say, so that nothing takes them for the same measurement.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from cosmos_core.devices import require_device
from cosmos_core.errors import RequestError
from cosmos_core.world import World
from cosmos_eval.datasets.decoders import PIL
from cosmos_eval.metrics.similarity import plain_float32

PRECISIONS = ("fp32", "bf16", "fp16")
_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """`auto` is the first CUDA device where there is one, else the CPU.

    Raises:
        RequestError: not a device, or one that this machine lacks or cannot compute on (`meta` among them).
    """
    if str(device) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return require_device(device)


def device_of_rank(device: str | torch.device, world: World) -> torch.device:
    """`resolve_device`; of several ranks each has the card of its place on its machine for `auto` and `cuda`.

    Raises:
        RequestError: as `resolve_device`, or a machine has fewer cards than ranks.
    """
    if world.size == 1 or str(device) not in ("auto", "cuda") or not torch.cuda.is_available():
        return resolve_device(device)
    if world.local_rank >= torch.cuda.device_count():
        raise RequestError(
            f"rank {world.rank} wants card {world.local_rank}, and its machine has {torch.cuda.device_count()}: start "
            "as many processes as cards (torchrun --nproc-per-node), or give --device cpu"
        )
    torch.cuda.set_device(world.local_rank)  # what pins memory looks for it there
    return resolve_device(f"cuda:{world.local_rank}")


def resolve_precision(precision: str, device: torch.device | str) -> str:
    """`fp32`, `bf16` or `fp16`; `auto` is fp32 on the CPU and bf16 autocast on CUDA.

    Raises:
        RequestError: another word.
    """
    if precision == "auto":
        return "bf16" if torch.device(device).type == "cuda" else "fp32"
    if precision not in PRECISIONS:
        raise RequestError(f"unknown precision {precision!r}; give auto, {', '.join(PRECISIONS)}")
    return precision


def full_precision(precision: str, compiled: bool = False, decoder: str = PIL) -> str:
    """How a result calls a resolved precision with what else changes the numbers of a tower."""
    return "+".join([precision, *(["compile"] if compiled else []), *([decoder] if decoder != PIL else [])])


@contextmanager
def tower_precision(precision: str, device: torch.device) -> Iterator[None]:
    """The precision of what runs inside, without what stands behind a "+": autocast for bf16 and fp16,
    true float32 (TF32 off) for fp32. No gradients."""
    precision = precision.partition("+")[0]
    with torch.inference_mode():
        if precision == "fp32":
            before = torch.backends.cudnn.allow_tf32
            torch.backends.cudnn.allow_tf32 = False
            try:
                with plain_float32():
                    yield
            finally:
                torch.backends.cudnn.allow_tf32 = before
        else:
            with torch.autocast(device.type, dtype=_AUTOCAST[precision]):
                yield
