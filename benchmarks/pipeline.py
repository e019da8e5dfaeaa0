"""Measure how near evaluation and training come to the slower of input and card: a simulated card, real decoding.

    python benchmarks/pipeline.py [--quick] [--workers N ...] [--only evaluation | training]

Evaluation, as a share of min(decode, forward):

A thread stands for the card: it sleeps a fixed time for each batch, one batch after the other, and the tower returns
at once, as a tower on CUDA does. JPEG files of 640 by 480 are decoded and resized to 224. The engine is the real one:
loader, tower, checks of features, feature store. Three cards are simulated: one that takes half as long for a batch as
decoding does, one that takes as long, and one that takes twice as long. What is reached is given as a share of
min(decode, forward), where decode is the rate of the loader alone with the same workers, measured in turns with it.

`before`: the host waits for each batch before it loads the next one; `now`: it reads the check of a batch after it has
launched the next one (`cosmos_eval.engine.device_copies`).

Training, as a share of min(loader, step): see `training_share.py`. The last line printed is JSON.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor

from benchmarks import training_share
from benchmarks.images import SIZE, write_images
from benchmarks.output import last_line
from benchmarks.simulated_card import CARDS, Card, measure_shares
from cosmos_eval.datasets.image_sources import FileImage
from cosmos_eval.engine import Engine
from cosmos_eval.engine.image_loading import image_batches
from cosmos_eval.models.preprocess import ImagePreprocess

BATCH = 16


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


def measure(images: Sequence[FileImage], repetitions: int, workers: int) -> dict[str, Any]:
    """Return the shares of min(decode, forward) that are reached, by card, before and now, and the rate of decoding."""
    batches = -(-len(images) // BATCH)
    decode(images[:BATCH], 0)
    shares, seconds = measure_shares(
        lambda: decode(images, workers),
        lambda forward_seconds, now: evaluate(images, workers, forward_seconds, late=int(now)),
        loaded=batches,
        batches=batches,
        repetitions=repetitions,
    )
    return {"share": shares, "decode_per_second": len(images) / seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="256 images and one repetition, instead of 512 and three")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1], help="loader processes to measure with")
    parser.add_argument("--only", choices=("evaluation", "training"), help="this half")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    torch.set_num_threads(1)
    figures: dict[str, dict[str, Any]] = {f"workers_{workers}": {} for workers in arguments.workers}
    ratios: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        images = write_images(256 if arguments.quick else 512, Path(folder))
        repetitions = 1 if arguments.quick else 3
        for workers in arguments.workers:
            measured = figures[f"workers_{workers}"]
            if arguments.only != "training":
                measured |= measure(images, repetitions, workers)
                print(f"{workers} workers: decoding alone {measured['decode_per_second']:.0f} images/s")
                ratios |= compare(measured["share"], f"workers_{workers}", "min(decode, forward)")
            if arguments.only != "evaluation":
                measured |= training_share.measure(images, repetitions, workers)
                print(f"{workers} workers: loading alone {measured['samples_per_second']:.0f} training samples/s")
                ratios |= compare(measured["training_share"], f"training_workers_{workers}", "min(loader, step)")
    print(json.dumps(last_line("pipeline", ratios, figures, "cpu", 1, load)))


def compare(shares: Mapping[str, float], name: str, limit: str) -> dict[str, float]:
    """Print the shares of each card, and return how many times larger they are now than before."""
    ratios = {}
    for card in CARDS:
        before, now = (shares[f"{card}_{arm}"] for arm in ("before", "now"))
        print(f"  {card:<6} card: {before:.2f} of {limit} before, {now:.2f} now", flush=True)
        ratios[f"{name}_{card}"] = now / before
    return ratios


if __name__ == "__main__":
    main()
