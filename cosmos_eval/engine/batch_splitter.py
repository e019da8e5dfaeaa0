"""Batches that do not fit in memory: they pass the tower in parts, which are halved until one fits.

The members of a batch are decided before (`cosmos_eval.engine.text_batches`) and do not change here. Only the forward
pass is split, and the features of the parts are joined again. So everything else (the feature cache, ranks, progress)
sees the planned batches, also on a device with little memory. Rounding may differ: a kernel may add in another order
for another batch size.

What happens when memory runs out, for 8 images that do not fit and of which 2 would: the pass of 8 fails, then that of
4; 0-1, 2-3, 4-5 and 6-7 pass. All later batches start with 2 at a time. Parts that have passed are not repeated, and
sizes never grow again within a run: every failed pass costs time, and memory that is short once is short again.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_core.memory_errors import is_out_of_memory
from cosmos_eval.engine.layer_progress import LayerProgress
from cosmos_eval.engine.text_batches import TEXTS_PER_IMAGE
from cosmos_eval.progress import Reporter

UNITS = {"images": 1, "texts": TEXTS_PER_IMAGE, "windows": 1, "pairs": 1}
"""Unit of encoding -> how many of it form a batch, for each image of the batch size."""


class BatchSplitter:
    """Encodes batches, whole or in parts. Each unit (images, texts, ...) has its own number of parts.

    Args:
        batch_size: images of a whole batch.
        device: the device of the model, for messages.
        reporter: gets a note whenever parts become smaller.
        progress: gets a call before each part of a batch passes the tower.
    """

    def __init__(
        self, batch_size: int, device: torch.device, reporter: Reporter, progress: LayerProgress | None = None
    ) -> None:
        self.batch_size = batch_size
        self.device = device
        self.reporter = reporter
        self.progress = progress or LayerProgress(None, enabled=False)
        # Pairs are added with their first batch: most models score none, and results list all units of this dictionary.
        self._parts = dict.fromkeys((unit for unit in UNITS if unit != "pairs"), 1)

    @property
    def sizes(self) -> dict[str, int]:
        """For each unit, how many items of a whole batch pass the tower together now."""
        return {unit: _divide_up(self.batch_size * UNITS[unit], parts) for unit, parts in self._parts.items()}

    def encode(self, unit: str, batch: Any, encode: Callable[[Any], Tensor]) -> Tensor:
        """Return what `encode` returns for a batch, in parts if necessary.

        Args:
            unit: a key of `UNITS`.
            batch: has a length and can be sliced.
            encode: a batch, or a slice of one -> a tensor with one row for each item.

        Raises:
            RequestError: a single item does not fit in memory, or `encode` returns rows of different shapes.
        """
        count = len(batch)
        results: list[Tensor] = []
        done = 0
        noted_parts = self._parts.setdefault(unit, 1)
        while done < count:
            size = min(_divide_up(count, self._parts[unit]), count - done)
            part = batch if size == count else batch[done : done + size]
            self.progress.start_part(done, size, count)
            result = self._try_encode(part, encode, size, unit)
            if result is None:
                # The part that failed may be the rest of a batch, smaller than the other parts. So double until parts
                # are smaller than the failed one: doubling once could repeat the same pass.
                while _divide_up(count, self._parts[unit]) >= size:
                    self._parts[unit] *= 2
                continue
            if noted_parts != self._parts[unit]:
                noted_parts = self._parts[unit]
                self.reporter.note(
                    f"{self.batch_size * UNITS[unit]:,} {unit} at a time exceed the memory of {self.device}; "
                    f"{self.sizes[unit]:,} at a time from now on"
                )
            results.append(result)
            done += size
        if any(result.shape[1:] != results[0].shape[1:] for result in results):
            shapes = " and ".join(dict.fromkeys(str(tuple(result.shape)) for result in results))
            raise RequestError(f"the model gave features of shapes {shapes} for {unit}; pad all items to one length")
        return results[0] if len(results) == 1 else torch.cat(results)

    def _try_encode(self, part: Any, encode: Callable[[Any], Tensor], size: int, unit: str) -> Tensor | None:
        """Return what `encode` returns, or None if memory ran out.

        Raises:
            RequestError: memory ran out for a single item.
        """
        try:
            return encode(part)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if size == 1:
                raise RequestError(
                    f"out of memory encoding {unit} on {self.device}, even one at a time; free memory there, or give "
                    "another --device"
                ) from error
        # The exception refers to the frames of the failed pass, and these to its activations. Only here, after `except`
        # has deleted it, are they freed, and only then can the cache of the allocator be emptied.
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return None


def _divide_up(number: int, divisor: int) -> int:
    """Return number / divisor, rounded up."""
    return -(-number // divisor)
