"""The next batch on its way to the GPU while a step computes."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

import torch

from cosmos_core.data.samples import Batch


class PrefetchedBatches:
    """Iterator over batches; `prepare` fetches the next one already.

    Called after the kernels of a step are launched and before the host waits for them, `prepare` collects the next
    batch from the workers and starts its copy and its changes on a second stream of the GPU. It needs no thread, and
    nothing is drawn in another order. What goes wrong is raised by the next `next`.

    Args:
        batches: their device work is launched where `next` is called.
        waiting: the context of a wait for data, which may raise (see `Signals.waiting`).
    """

    def __init__(
        self,
        batches: Iterator[Batch],
        device: torch.device,
        waiting: Callable[[], AbstractContextManager] = nullcontext,
    ) -> None:
        self.batches, self.device, self.waiting = batches, device, waiting
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.ready: Batch | None = None
        self.error: BaseException | None = None

    def __iter__(self) -> "PrefetchedBatches":
        return self

    def __next__(self) -> Batch:
        self.prepare()
        batch, self.ready = self.ready, None
        error, self.error = self.error, None
        if error is not None:
            raise error
        assert batch is not None
        if self.stream is not None:
            current = torch.cuda.current_stream(self.device)
            current.wait_stream(self.stream)
            for view in batch.images:  # memory of the other stream, which must not be reused before this one ends
                view.record_stream(current)
        return batch

    def prepare(self) -> None:
        """Fetch the next batch unless it is there."""
        if self.ready is not None or self.error is not None:
            return
        try:
            with self.waiting(), torch.cuda.stream(self.stream) if self.stream is not None else nullcontext():
                self.ready = next(self.batches)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            self.error = error
