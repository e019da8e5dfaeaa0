"""The training half of `pipeline.py`: how near a training comes to min(loader, step), with a simulated card.

The loader is the real one with `augment=device`: JPEG files of 640 by 480 are decoded, cropped (2 views of 224 and 6 of
96 pixels) and resized, captions are drawn and tokenized, and batches are put together in one buffer for each size of
view. The copy goes nowhere (to torch's device `meta`), and the changes of views cost the host nothing. The loop is that
of `cosmos_core.train.train_steps`: a step is launched, the next batch is prepared (`now`; `before`, it is not), and the
host waits for the step.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from benchmarks.simulated_card import Card, measure_shares
from cosmos_core.config import load_preset
from cosmos_core.configs import preset
from cosmos_core.data.loader import LaneLoader
from cosmos_core.data.open_loader import open_loader
from cosmos_core.data.prefetch import PrefetchedBatches
from cosmos_core.data.samples import Tokenizer
from cosmos_core.tokenizer import build_tokenizer
from cosmos_eval.datasets.image_sources import FileImage

BATCH = 16
SENTENCES = (
    "A dog plays on the beach. The sand is wet and the sky is cloudy. In the background, two people walk along the "
    "water. The dog has a red ball in its mouth. There are footprints in the sand."
)


@contextmanager
def simulated_copies() -> Iterator[None]:
    """Inside, memory that a loader would page-lock is ordinary memory, and views that arrive are not changed."""
    empty = torch.empty

    def ordinary(*shape: Any, pin_memory: bool = False, **options: Any) -> Tensor:
        return empty(*shape, **options)

    with (
        mock.patch("torch.empty", ordinary),
        mock.patch("torch.Tensor.pin_memory", lambda values: values),
        mock.patch("cosmos_core.data.loader.change_views", lambda pixels, *_: pixels),
        mock.patch("cosmos_core.data.loader.normalize_channels", lambda pixels, *_: pixels),
    ):
        yield


@cache
def open_tokenizer() -> Tokenizer:
    return build_tokenizer(preset("ViT-B-16")["text_cfg"])


def open_training(images: Sequence[FileImage], workers: int) -> LaneLoader:
    """Return the loader of COSMOS's views, whose batches go to a device without memory."""
    config = replace(
        load_preset("cc3m"), batch_size=BATCH, lanes=0, workers=workers, samples=len(images), data="", device="cpu"
    )
    record = {"raw_caption": SENTENCES, "shortIB_captions": SENTENCES, "longIB_captions": SENTENCES}
    samples = [(image.key, image.path, record) for image in images]
    loader = open_loader(config, config.required_views(), open_tokenizer(), samples)
    assert isinstance(loader, LaneLoader)
    loader.change_on_device(True)
    loader.device = torch.device("meta")
    return loader


def load(images: Sequence[FileImage], workers: int) -> float:
    """Return the seconds of the loader alone for all batches but the first, which waits for the workers to start."""
    loader = open_training(images, workers)
    with simulated_copies():
        batches = loader.batches()
        next(batches)
        start = time.perf_counter()
        for _ in range(len(images) // BATCH - 1):
            next(batches)
        elapsed = time.perf_counter() - start
    loader.close()
    return elapsed


def train(images: Sequence[FileImage], workers: int, seconds: float, prefetches: bool) -> float:
    """Return the seconds of a step on each batch, the first of which is ready; the card takes `seconds` for one."""
    loader, card, steps = open_training(images, workers), Card(seconds), len(images) // BATCH
    with simulated_copies():
        batches = PrefetchedBatches(loader.batches(), torch.device("cpu"))
        batches.prepare()
        start = time.perf_counter()
        for step in range(steps):
            next(batches)
            card.launch()
            if prefetches and step + 1 < steps:
                batches.prepare()
            card.last_batch.wait()
        elapsed = time.perf_counter() - start
    loader.close()
    card.end()
    return elapsed


def measure(images: Sequence[FileImage], repetitions: int, workers: int) -> dict[str, Any]:
    """Return the shares of min(loader, step) that are reached, by card, before and now, and the loader's rate."""
    steps = len(images) // BATCH
    load(images[: 2 * BATCH], workers)
    shares, seconds = measure_shares(
        lambda: load(images, workers),
        lambda step_seconds, now: train(images, workers, step_seconds, prefetches=now),
        loaded=steps - 1,  # the first is not timed
        batches=steps,
        repetitions=repetitions,
    )
    return {"training_share": shares, "samples_per_second": BATCH * (steps - 1) / seconds}
