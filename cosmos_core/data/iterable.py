"""Training on a plain iterable (no `len`, no indices): shuffled in a buffer, in one process, not resumable."""

import random
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from cosmos_core.config import TrainConfig
from cosmos_core.data.lanes import stack_samples
from cosmos_core.data.loader import Loader, assemble, pixel_device, require_few_broken
from cosmos_core.data.samples import Batch, BrokenSample, MadeViews, Sample, SampleViews, Tokenizer
from cosmos_core.errors import RequestError
from cosmos_core.printable import plural
from cosmos_core.seeds import derive_seed

BUFFER = 1000
"""Size of the shuffle buffer, in samples."""


class IterableLoader(Loader):
    """Samples from a plain iterable: shuffled in a buffer, in this process, not resumable."""

    def __init__(self, config: TrainConfig, stream: Iterable[Sample], make: SampleViews, tokenizer: Tokenizer) -> None:
        self.config, self.stream, self.make, self.tokenizer = config, stream, make, tokenizer
        self.samples_per_epoch = config.samples
        self.steps_per_epoch = config.samples // config.batch_size
        self.seen = self.broken = 0
        self.first_reason = ""

    def batches(self, start: dict[str, Any] | None = None) -> Iterator[Batch]:
        if start is not None:
            raise RequestError("a run on a plain iterable cannot be resumed: pass train a Sequence, or set data=SHARDS")
        epoch = 0
        while True:
            # one batch behind, so that the last batch of the epoch can be marked
            pending: Batch | None = None
            for batch in self._epoch(epoch):
                if pending is not None:
                    yield pending
                pending = batch
            if pending is None:
                raise RequestError(
                    f"the training data gave no whole batch of {self.config.batch_size} in epoch {epoch}, "
                    + (
                        f"{plural(self.broken, 'sample')} skipped, the first because {self.first_reason}"
                        if self.broken
                        else "or the iterator is exhausted: pass train a Sequence"
                    )
                )
            yield replace(pending, ends_epoch=True)
            epoch += 1

    def change_on_device(self, on_device: bool) -> None:
        self.make = replace(self.make, on_device=on_device)

    def describe(self) -> dict[str, Any]:
        return {
            "sources": [{"source": type(self.stream).__name__, "kind": "iterable", "samples": None, "weight": 1.0}],
            "samples_per_epoch": self.samples_per_epoch or None,
            "steps_per_epoch": self.steps_per_epoch or None,
            "shuffle": BUFFER,
            "ranks": 1,
            "workers_per_rank": 0,
            "samples_per_rank": self.config.batch_size,
        }

    def _epoch(self, epoch: int) -> Iterator[Batch]:
        sample_views: list[MadeViews] = []
        skipped: dict[str, str] = {}
        order = random.Random(derive_seed(self.config.seed, epoch, "order"))
        for key, image, record in buffered(self.stream, order):
            self.seen += 1
            try:
                sample_views.append(self.make(key, image, record, epoch))
            except BrokenSample as error:
                skipped[key] = str(error)
                self.broken += 1
                self.first_reason = self.first_reason or str(error)
                require_few_broken(self.config.max_broken, self.broken, self.seen, str(error))
            if len(sample_views) == self.config.batch_size:
                made_slice = stack_samples(sample_views, self.tokenizer, len(sample_views) + len(skipped), skipped, {})
                yield assemble(
                    [made_slice], self.make.images, pixel_device(self.config.device), epoch, False, {}, self.broken
                )
                sample_views, skipped = [], {}


def buffered(stream: Iterable[Sample], order: random.Random, size: int = BUFFER) -> Iterator[Sample]:
    """A stream shuffled in a buffer: each new sample replaces a random one of the buffer, which is given out."""
    buffer: list[Sample] = []
    for sample in stream:
        if len(buffer) < size:
            buffer.append(sample)
            continue
        index = order.randrange(size)
        yield buffer[index]
        buffer[index] = sample
    order.shuffle(buffer)
    yield from buffer
