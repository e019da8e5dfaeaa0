"""`--batch-size auto`: the largest power of two whose images pass the tower in half of the memory that is free."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_core.short_repr import short_repr
from cosmos_eval.models.base import out_of_memory
from cosmos_eval.progress import Reporter

if TYPE_CHECKING:
    from cosmos_eval.engine.tower import ImageTower

AUTO = "auto"
DEFAULT = 64
LARGEST = 10**6
FIRST, MOST = 32, 512
"""Sizes that are tried; beyond 512 towers hardly get faster."""
SHARE = 0.5
"""Of the memory that is free, for a batch of images: texts, windows and scores need some, too."""


def check_batch_size(asked: int | str) -> int | str:
    """`auto`, or a number of images.

    Raises:
        RequestError: something else.
    """
    if asked == AUTO:
        return AUTO
    try:
        size = int(asked)
    except (ValueError, TypeError, OverflowError):
        size = 0
    if not 1 <= size <= LARGEST:
        raise RequestError(f"batch size must be 1 to {LARGEST:,}, or auto; got {short_repr(asked)} (--batch-size)")
    return size


def auto_batch_size(tower: "ImageTower", reporter: Reporter) -> int:
    """The size that `auto` means: depends on the model, the precision and the memory that is free, not on times."""
    if tower.device.type != "cuda":
        reporter.note(f"batch size {DEFAULT}: it is looked for on CUDA only")
        return DEFAULT
    one = tower.of_worker(Image.new("RGB", (640, 480)))[None]
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(tower.device)
    found = largest(lambda size: _peak(tower, one, size, tower.device), free * SHARE)
    reporter.note(f"batch size {found}, found for {tower.device}")
    return found


def largest(peak: Callable[[int], float | None], budget: float) -> int:
    """The largest size whose `peak` (bytes; None where memory ran out) keeps within the budget, by doubling."""
    best, size = FIRST, FIRST
    while size <= MOST:
        bytes_needed = peak(size)
        if bytes_needed is None or bytes_needed > budget:
            break
        best = size
        if 2 * bytes_needed > budget:  # twice as many would not fit
            break
        size *= 2
    return best


def _peak(run: Callable[[Tensor], object], one: Tensor, size: int, device: torch.device) -> float | None:
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    try:
        run(one.expand(size, *one.shape[1:]).contiguous())
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    except Exception as error:
        if not out_of_memory(error):
            raise
    torch.cuda.empty_cache()
    return None
