"""The kernels of scaled dot-product attention that may be used: cuDNN's are switched off."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def without_cudnn_attention() -> Iterator[None]:
    """Keep torch from choosing cuDNN's attention inside, which is its first choice on H100 and newer cards.

    Faults of it are known: gradients that are NaN with an attention mask where the length is 64 modulo 128, masks of
    another type read wrongly. It also builds a plan for every new (batch, length). FlashAttention and the
    memory-efficient kernels remain. Without CUDA nothing changes.
    """
    before = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)


def attention_kernels() -> str:
    """The kernels that a measurement on CUDA may use, for its record."""
    enabled = {
        "flash": torch.backends.cuda.flash_sdp_enabled(),
        "efficient": torch.backends.cuda.mem_efficient_sdp_enabled(),
        "math": torch.backends.cuda.math_sdp_enabled(),
    }
    return ", ".join(name for name, is_enabled in enabled.items() if is_enabled)
