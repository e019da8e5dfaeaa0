"""A simulated card for `pipeline.py`: a thread that sleeps a fixed time for each batch, one batch after the other."""

import queue
import statistics
import threading
import time
from collections.abc import Callable

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


def measure_shares(
    load: Callable[[], float], run: Callable[[float, bool], float], loaded: int, batches: int, repetitions: int
) -> tuple[dict[str, float], float]:
    """Measure how near `run` comes to the limit of loading and of the card, by card, before and now.

    Args:
        load: loads `loaded` batches alone, in turns with `run`, since the machine may become faster or slower.
        run: works on `batches` batches with a card of so many seconds for each, as now or as before; as `load`, it
            returns seconds.

    Returns:
        The median shares of the limit, and the median seconds of `load`.
    """
    shares: dict[str, list[float]] = {f"{card}_{arm}": [] for card in CARDS for arm in ("before", "now")}
    loading = [load()]
    for _ in range(repetitions):
        for card, factor in CARDS.items():
            for arm in ("before", "now"):
                card_seconds = factor * loading[-1] / loaded
                seconds = run(card_seconds, arm == "now")
                loading.append(load())
                limit = max(sum(loading[-2:]) / 2, card_seconds * batches)
                shares[f"{card}_{arm}"].append(limit / seconds)
    return {name: statistics.median(values) for name, values in shares.items()}, statistics.median(loading)
