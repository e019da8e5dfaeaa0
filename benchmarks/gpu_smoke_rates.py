"""The rates of `gpu_smoke.py`: decoding, forward, both together, training steps with ready and with loaded data."""

import io
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from benchmarks.random_model import random_model
from benchmarks.train_throughput import TINY, Case, config_of, seconds_of_steps
from cosmos_eval.datasets.image_sources import FileImage
from cosmos_eval.engine import Engine
from cosmos_eval.engine.image_tower import ImageTower
from cosmos_eval.engine.precision import resolve_precision, tower_precision

if TYPE_CHECKING:
    from benchmarks.gpu_smoke import Smoke
    from cosmos_eval.models.open_clip import OpenClipModel


TINY_MODEL = {**TINY, "text_cfg": {**TINY["text_cfg"], "vocab_size": 49408}}
"""With the vocabulary of open_clip's tokenizer."""


def open_model(smoke: "Smoke") -> "OpenClipModel":
    return random_model("ViT-B-16", str(smoke.device), TINY_MODEL if smoke.tiny else None)


def usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def rate_forward(smoke: "Smoke") -> None:
    """Images a second of the tower of ViT-B/16, with pixels that are ready on the device."""
    model = open_model(smoke)
    tower = ImageTower(model)
    for precision in dict.fromkeys((resolve_precision("auto", smoke.device), "fp32")):
        for size in (8,) if smoke.tiny else (64, 256, 512):
            x = torch.randn(size, 3, *model.network.visual.image_size, device=smoke.device)  # type: ignore[union-attr]
            with tower_precision(precision, smoke.device):
                images_per_second = smoke.rate(size, partial(tower.encode, x))
            smoke.tell(f"images/s of the tower, {precision}, batch {size}", images_per_second)


def rate_evaluation(smoke: "Smoke") -> None:
    """Images a second from JPEG files to features, by workers, beside decoding and resizing alone."""
    model = open_model(smoke)
    count = 64 if smoke.tiny else 3000
    cores = usable_cores()
    with tempfile.TemporaryDirectory() as folder:
        images = write_jpegs(Path(folder), count)
        first = images[: min(64, count)]
        decoded = smoke.rate(len(first), lambda: [model.preprocess(image.load()) for image in first], repeat=1)
        smoke.tell("images/s of decoding and resizing, one core", decoded)
        for workers in dict.fromkeys((0, max(1, cores // 2), max(1, cores - 1))):
            part = images if workers else images[: max(64, count // 8)]
            engine = Engine(model, batch_size=64, workers=workers)
            start = time.perf_counter()
            engine.image_features(part)
            smoke.synchronize()
            smoke.tell(f"images/s from files, {workers} workers", round(len(part) / (time.perf_counter() - start)))


def write_jpegs(folder: Path, count: int) -> list[FileImage]:
    """Write JPEG files of 500 by 375 that are all different."""
    generator = np.random.default_rng(0)
    coarse = [Image.fromarray(generator.integers(0, 256, (12, 16, 3), dtype=np.uint8)) for _ in range(16)]
    pixels = [np.asarray(image.resize((500, 375), Image.Resampling.BICUBIC)) for image in coarse]
    images = []
    for index in range(count):
        image = pixels[index % 16].copy()
        image[0, :8] = [index >> shift & 255 for shift in (0, 8, 16)]
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "JPEG", quality=92)
        path = folder / f"{index:05d}.jpg"
        path.write_bytes(stream.getvalue())
        images.append(FileImage(path.name, path))
    return images


def rate_training(smoke: "Smoke") -> None:
    """Samples a second of COSMOS's step (ViT-B/16, 2 + 6 views) with views that are ready on the device."""
    from cosmos_core.sizing import Workload, memory

    on_gpu = smoke.device.type == "cuda"
    for case in (Case("auto" if on_gpu else "fp32", 8 if smoke.tiny else 128),):
        config = config_of(case, smoke.device.type, tiny=smoke.tiny)
        if on_gpu:
            torch.cuda.reset_peak_memory_stats(smoke.device)
        seconds = sorted(seconds_of_steps(config, smoke.device, 5))
        smoke.tell(f"samples/s of a training step, {case.label}", round(case.batch / seconds[len(seconds) // 2], 1))
        if on_gpu:
            planned = memory(Workload(config))
            del planned["next batch"]  # there is none in these steps
            peak = torch.cuda.max_memory_allocated(smoke.device)
            smoke.tell("peak memory over the plan of a dry run", round(peak / sum(planned.values()), 2))


def rate_loaded_training(smoke: "Smoke") -> None:
    """Samples a second of the same step with views that workers make from JPEG files."""
    from cosmos_core.train import train

    cores = usable_cores()
    case = Case("auto" if smoke.device.type == "cuda" else "fp32", 8 if smoke.tiny else 128)
    workers = 0 if smoke.tiny else max(1, cores - 1)
    steps = 3 if smoke.tiny else 20
    with tempfile.TemporaryDirectory() as folder:
        images = [np.asarray(image.load()) for image in write_jpegs(Path(folder), 32)]
    text = "a photo of a dog that plays on the beach. The sand is wet."
    samples = [
        (str(index), images[index % 32], {"raw_caption": text, "shortIB_captions": text, "longIB_captions": text})
        for index in range(case.batch * (steps + 1))
    ]
    config = replace(
        config_of(case, smoke.device.type, tiny=smoke.tiny),
        **{"steps": steps, "warmup": 1, "workers": workers, "lanes": 2 ** (max(1, workers).bit_length() - 1)},
        **{"log_every": steps - 1, "samples": len(samples), "out": ""},
    )
    line = train(config, samples).metrics[-1]
    smoke.tell(f"samples/s of a training step fed by {workers} workers", round(line["samples_per_second"], 1))
    smoke.tell("share of the time that waits for data", round(line["data_wait"], 3))


RATES: dict[str, Callable[["Smoke"], None]] = {
    "forward": rate_forward,
    "evaluation": rate_evaluation,
    "training_step": rate_training,
    "loaded_training": rate_loaded_training,
}
