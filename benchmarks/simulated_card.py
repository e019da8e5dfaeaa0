"""A simulated card for `pipeline.py`: a thread that sleeps a fixed time for each batch, one batch after the other."""

import queue
import threading
import time

CARDS = {"fast": 0.5, "equal": 1.0, "slow": 2.0}
"""Simulated card -> seconds for a batch, as a multiple of those of loading it."""


class Card:
    """A thread that sleeps for each batch that it is given."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.queue: queue.SimpleQueue[threading.Event | None] = queue.SimpleQueue()
        self.last_batch = threading.Event()
        self.thread = threading.Thread(target=self._compute, daemon=True)
        self.thread.start()

    def launch(self) -> None:
        self.last_batch = threading.Event()
        self.queue.put(self.last_batch)

    def _compute(self) -> None:
        while (batch := self.queue.get()) is not None:
            time.sleep(self.seconds)
            batch.set()

    def end(self) -> None:
        self.queue.put(None)
        self.thread.join()
