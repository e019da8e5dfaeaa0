"""Measure how near an evaluation comes to min(decode, forward), with a simulated card and real decoding.

    python benchmarks/pipeline.py [--quick] [--workers N ...]

A thread stands for the card: it sleeps a fixed time for each batch, one batch after the other, and the tower returns
at once, as a tower on CUDA does. JPEG files of 640 by 480 are decoded and resized to 224. The engine is the real one:
loader, tower, checks of features, feature store. Three cards are simulated: one that takes half as long for a batch as
decoding does, one that takes as long, and one that takes twice as long. What is reached is given as a share of
min(decode, forward), where decode is the rate of the loader alone with the same workers, measured in turns with it.

`before`: the host waits for each batch before it loads the next one; `now`: it reads the check of a batch after it has
launched the next one (`cosmos_eval.engine.device_copies`). The last line printed is JSON.
"""

import argparse
import json
import os
import queue
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor

from benchmarks.images import SIZE, write_images
from benchmarks.output import last_line
from cosmos_eval.datasets.image_sources import FileImage
from cosmos_eval.engine import Engine
from cosmos_eval.engine.image_loading import image_batches
from cosmos_eval.models.preprocess import ImagePreprocess

BATCH = 16
CARDS = {"fast": 0.5, "equal": 1.0, "slow": 2.0}
"""Simulated card -> seconds for a batch, as a multiple of those of decoding it."""


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


class Pixels(ImagePreprocess):
    """Workers resize; the card, which costs the host nothing, normalises."""

    def normalised(self, pixels: Tensor) -> Tensor:
        return pixels


class Model:
    """A tower on a simulated card: its features are ready when the card has slept."""

    spec, digest, device = "simulated", "", torch.device("cpu")
    preprocess = Pixels(SIZE)

    def __init__(self, card: Card) -> None:
        self.card = card

    def encode_image(self, x: Tensor) -> Tensor:
        self.card.launch()
        return x[:, 0, 0].float() + 1

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        return torch.ones(len(texts), 3)


def decode(images: Sequence[FileImage], workers: int) -> float:
    """Return the seconds of the loader alone."""
    start = time.perf_counter()
    for _ in image_batches(images, Model.preprocess.pixels, BATCH, workers):
        pass
    return time.perf_counter() - start


def evaluate(images: Sequence[FileImage], workers: int, seconds: float, late: int) -> float:
    """Return the seconds of encoding with a card that takes `seconds` for a batch."""
    card = Card(seconds)

    class SimulatedCopy:
        """A copy behind the work that is queued on the card."""

        def __init__(self, values: Tensor) -> None:
            self.values, self.batch = values, card.last_batch

        def read(self) -> Tensor:
            self.batch.wait()
            return self.values

    engine = Engine(Model(card), batch_size=BATCH, workers=workers)
    with (
        mock.patch("cosmos_eval.engine.unit_features.HostCopy", SimulatedCopy),
        mock.patch("cosmos_eval.engine.encoding.late_batches", lambda _device, late=late: late),
    ):
        for image in images:
            image.digest()  # reading is another phase
        start = time.perf_counter()
        engine.image_features(images)
        elapsed = time.perf_counter() - start
    card.end()
    return elapsed


def measure(count: int, repetitions: int, workers: int) -> dict[str, Any]:
    """Return the shares of min(decode, forward) that are reached, by card, before and now, and the rates."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        images = write_images(count, Path(folder))
        batches = -(-count // BATCH)
        decode(images[:BATCH], 0)
        shares: dict[str, list[float]] = {f"{card}_{arm}": [] for card in CARDS for arm in ("before", "now")}
        decoding: list[float] = []
        for _ in range(repetitions):
            for card, factor in CARDS.items():
                decode_seconds = decode(images, workers)
                forward_seconds = factor * decode_seconds / batches
                for arm, late in (("before", 0), ("now", 1)):
                    seconds = evaluate(images, workers, forward_seconds, late)
                    again = decode(images, workers)  # the machine may have become faster or slower meanwhile
                    limit = max((decode_seconds + again) / 2, forward_seconds * batches)
                    shares[f"{card}_{arm}"].append(limit / seconds)
                    decode_seconds = again
                    decoding.append(again)
    return {
        "share": {name: statistics.median(values) for name, values in shares.items()},
        "decode_per_second": count / statistics.median(decoding),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="256 images and one repetition, instead of 512 and three")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1], help="loader processes to measure with")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    figures, ratios = {}, {}
    for workers in arguments.workers:
        measured = measure(256 if arguments.quick else 512, 1 if arguments.quick else 3, workers)
        figures[f"workers_{workers}"] = measured
        print(f"{workers} workers: decoding alone {measured['decode_per_second']:.0f} images/s")
        for card in CARDS:
            before, now = (measured["share"][f"{card}_{arm}"] for arm in ("before", "now"))
            print(f"  {card:<6} card: {before:.2f} of min(decode, forward) before, {now:.2f} now")
            ratios[f"workers_{workers}_{card}"] = now / before
    print(json.dumps(last_line("pipeline", ratios, figures, "cpu", 1, load)))


if __name__ == "__main__":
    main()
