"""Batches that memory does not hold are encoded in parts, halved until it does; nothing that is done is lost."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_eval.engine.pass_progress import PassProgress
from cosmos_eval.engine.texts import TEXTS_PER_IMAGE
from cosmos_eval.models.base import out_of_memory
from cosmos_eval.progress import Reporter

UNITS = {"images": 1, "texts": TEXTS_PER_IMAGE, "windows": 1, "pairs": 1}
"""What is encoded, and how many of it for each image of a batch."""


class Parts:
    """How batches of each unit pass a tower: whole, or, once memory ran out, in so many parts from there on.

    The members of a batch stay what was planned; its rows come together again. So a store, and other machines, see the
    same batches, and rows differ by rounding at most.
    """

    def __init__(
        self, batch_size: int, device: torch.device, reporter: Reporter, progress: PassProgress | None = None
    ) -> None:
        """`progress` is told which part of a batch passes the tower."""
        self.progress = progress or PassProgress(None, enabled=False)
        self.batch_size = batch_size
        self.device = device
        self.reporter = reporter
        # pairs are counted from the first batch on: few models score them, and results list what passed
        self.parts = dict.fromkeys((unit for unit in UNITS if unit != "pairs"), 1)

    @property
    def sizes(self) -> dict[str, int]:
        """How many of each unit pass a tower together now, of a whole batch."""
        return {unit: -(-self.batch_size * UNITS[unit] // parts) for unit, parts in self.parts.items()}

    def encode(self, unit: str, batch: Any, encode: Callable[[Any], Tensor]) -> Tensor:
        """The rows of a batch, which has a length and can be sliced; parts that memory does not hold are halved.

        Raises:
            RequestError: memory does not hold even one.
        """
        count, rows, done, told = len(batch), [], 0, self.parts.setdefault(unit, 1)
        while done < count:
            size = min(-(-count // self.parts[unit]), count - done)
            part = batch if size == count else batch[done : done + size]
            self.progress.start_part(done, size, count)
            made = self._tried(part, encode, size, unit)
            if made is None:
                while -(-count // self.parts[unit]) >= size:
                    self.parts[unit] *= 2
                continue
            if told != self.parts[unit]:
                told = self.parts[unit]
                self.reporter.note(
                    f"memory of {self.device} does not hold {self.batch_size * UNITS[unit]:,} {unit} at a time; "
                    f"{self.sizes[unit]:,} from here on"
                )
            rows.append(made)
            done += size
        if any(made.shape[1:] != rows[0].shape[1:] for made in rows):
            shapes = " and ".join(dict.fromkeys(str(tuple(made.shape)) for made in rows))
            raise RequestError(f"the model gave features of shapes {shapes} for {unit}; pad all items to one length")
        return rows[0] if len(rows) == 1 else torch.cat(rows)

    def _tried(self, part: Any, encode: Callable[[Any], Tensor], size: int, unit: str) -> Tensor | None:
        """None where memory does not hold it."""
        try:
            return encode(part)
        except Exception as error:
            if not out_of_memory(error):
                raise
            if size == 1:
                raise RequestError(
                    f"out of memory encoding {unit} on {self.device}, even one at a time; make room there, or give "
                    "another --device"
                ) from error
        # Only here, without the exception, is what the failed pass held free.
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return None
