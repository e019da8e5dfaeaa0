"""`--batch-size auto`: the largest power of two whose images pass the tower in half of the free device memory."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_core.memory_errors import is_out_of_memory
from cosmos_core.short_repr import short_repr
from cosmos_eval.progress import Reporter

if TYPE_CHECKING:
    from cosmos_eval.engine.image_tower import ImageTower

AUTO = "auto"
DEFAULT_BATCH_SIZE = 64
LARGEST_BATCH_SIZE = 10**6
SMALLEST_TRIAL, LARGEST_TRIAL = 32, 512
"""The smallest and the largest batch size that `auto` tries. Beyond 512, towers hardly become faster."""
MEMORY_SHARE = 0.5
"""Share of the free memory that a batch of images may take; texts, windows and scores need the rest."""


def check_batch_size(value: int | str) -> int | str:
    """Return `auto`, or the batch size as an integer.

    Raises:
        RequestError: `value` is neither.
    """
    if value == AUTO:
        return AUTO
    try:
        size = int(value)
    except (ValueError, TypeError, OverflowError):
        size = 0
    if not 1 <= size <= LARGEST_BATCH_SIZE:
        raise RequestError(
            f"batch size must be 1 to {LARGEST_BATCH_SIZE:,}, or auto; got {short_repr(value)} (--batch-size)"
        )
    return size


def auto_batch_size(tower: "ImageTower", reporter: Reporter) -> int:
    """Return the batch size for `auto`.

    It is found by trial passes that measure memory, not time. So it depends on the model, the precision and the free
    memory only, and the same run on a free device finds the same size again. Casts of weights that are kept for all
    batches (`cosmos_eval.engine.kept_casts`, if the caller keeps them) are not free memory.
    """
    if tower.device.type != "cuda":
        reporter.note(f"batch size {DEFAULT_BATCH_SIZE}: auto measures memory on CUDA only")
        return DEFAULT_BATCH_SIZE
    image = tower.worker_preprocess(Image.new("RGB", (640, 480)))[None]
    _peak_memory(tower, image, 1, tower.device)  # makes the casts
    torch.cuda.empty_cache()  # or memory that torch keeps for itself would not count as free
    free_bytes, _ = torch.cuda.mem_get_info(tower.device)
    size = find_largest_size(lambda size: _peak_memory(tower, image, size, tower.device), free_bytes * MEMORY_SHARE)
    reporter.note(f"batch size {size}, by the free memory of {tower.device}")
    return size


def find_largest_size(peak_memory: Callable[[int], float | None], budget: float) -> int:
    """Double the batch size as long as its memory stays within the budget; return the last size that does.

    Args:
        peak_memory: batch size -> bytes, or None if memory ran out.
        budget: bytes.

    Returns:
        At least `SMALLEST_TRIAL`, also if that exceeds the budget: then batches are split when they are encoded
        (`cosmos_eval.engine.batch_splitter`). At most `LARGEST_TRIAL`.
    """
    best, size = SMALLEST_TRIAL, SMALLEST_TRIAL
    while size <= LARGEST_TRIAL:
        bytes_needed = peak_memory(size)
        if bytes_needed is None or bytes_needed > budget:
            break
        best = size
        if 2 * bytes_needed > budget:  # the next trial would exceed the budget: spare it
            break
        size *= 2
    return best


def _peak_memory(run: Callable[[Tensor], object], image: Tensor, size: int, device: torch.device) -> float | None:
    """Return the bytes that a forward pass of `size` copies of an image allocates; None if memory ran out."""
    allocated_before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    try:
        run(image.expand(size, *image.shape[1:]).contiguous())
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - allocated_before
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    # Outside of `except`: until there, the exception keeps the tensors of the failed pass alive.
    torch.cuda.empty_cache()
    return None
