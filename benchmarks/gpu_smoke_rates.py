"""The rates of `gpu_smoke.py`: decoding, forward, both together, training steps with ready and with loaded data."""

import io
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from benchmarks.random_model import image_size, random_model
from benchmarks.train_throughput import TINY, Case, config_of, seconds_of_steps
from cosmos_eval.datasets.image_sources import FileImage
from cosmos_eval.engine import Engine
from cosmos_eval.engine.image_loading import image_batches
from cosmos_eval.engine.image_tower import ImageTower
from cosmos_eval.engine.kept_casts import keeps_casts, kept_casts
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


def most_workers() -> int:
    """One for each core but that of the main process, 32 at most, as `--workers auto` chooses."""
    return min(32, max(1, usable_cores() - 1))


def rate_forward(smoke: "Smoke") -> None:
    """Images a second of the tower of ViT-B/16, with pixels that are ready on the device."""
    model = open_model(smoke)
    for precision in dict.fromkeys((resolve_precision("auto", smoke.device), "fp32")):
        for size in (8,) if smoke.tiny else (64, 256, 512):
            smoke.tell(f"images/s of the tower, {precision}, batch {size}", tower_rate(smoke, model, precision, size))


def tower_rate(smoke: "Smoke", model: "OpenClipModel", precision: str, size: int) -> float:
    """Images a second of the tower, as the engine calls it: weights cast once."""
    tower = ImageTower(model)
    x = torch.randn(size, 3, *image_size(model), device=smoke.device)
    if smoke.device.type == "cuda":
        x = x.contiguous(memory_format=torch.channels_last)
    with kept_casts(model, keeps_casts(precision, smoke.device, False)), tower_precision(precision, smoke.device):
        return smoke.rate(size, partial(tower.encode, x))


def rate_evaluation(smoke: "Smoke") -> None:
    """Images a second from JPEG files to features, by workers, and the share of min(decode, forward) that this is."""
    model, size = open_model(smoke), 8 if smoke.tiny else 256
    forward = tower_rate(smoke, model, resolve_precision("auto", smoke.device), size)
    count = 64 if smoke.tiny else 3000
    with tempfile.TemporaryDirectory() as folder:
        images = write_jpegs(Path(folder), count)
        for image in images:
            image.digest()  # files are hashed before
        for workers in dict.fromkeys((0, max(1, usable_cores() // 2), most_workers())):
            part = images if workers else images[: max(64, count // 8)]
            engine = Engine(model, batch_size=size, workers=workers)

            def load(part: list[FileImage] = part, engine: Engine = engine) -> None:
                pin = smoke.device.type == "cuda"
                for _ in image_batches(part, engine.tower.worker_preprocess, size, engine.workers, pin_memory=pin):
                    pass

            decoded = smoke.rate_once(len(part), load)
            from_files = smoke.rate_once(len(part), partial(engine.image_features, part))
            smoke.tell(f"images/s of decoding and resizing, {workers} workers", decoded)
            smoke.tell(f"images/s from files, {workers} workers", from_files)
            share = round(from_files / min(decoded, forward), 2)
            smoke.tell(f"share of min(decode, forward), {workers} workers", share)


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


def training_case(smoke: "Smoke") -> Case:
    """COSMOS's step of as many samples as the plan of a dry run fits in four fifths of the free memory."""
    if smoke.tiny or smoke.device.type != "cuda":
        return Case("fp32", 8)
    from cosmos_core.sizing import memory
    from cosmos_core.workload import Workload

    free, _ = torch.cuda.mem_get_info(smoke.device)
    for batch in (128, 64, 32, 16):
        case = Case("auto", batch)
        if sum(memory(Workload(config_of(case, str(smoke.device), tiny=False))).values()) < 0.8 * free:
            return case
    return Case("auto", 8)


def rate_training(smoke: "Smoke", case: Case | None = None) -> None:
    """Samples a second of COSMOS's step (ViT-B/16, 2 + 6 views) with views that are ready on the device."""
    from cosmos_core.sizing import memory
    from cosmos_core.workload import Workload

    on_gpu, case = smoke.device.type == "cuda", case or training_case(smoke)
    config = config_of(case, str(smoke.device), tiny=smoke.tiny)
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(smoke.device)
    seconds = sorted(seconds_of_steps(config, smoke.device, 5))
    smoke.tell(step_figure(case), round(case.batch / seconds[len(seconds) // 2], 1))
    if on_gpu:
        planned = memory(Workload(config))
        del planned["next batch"]  # there is none in these steps
        peak = torch.cuda.max_memory_allocated(smoke.device)
        smoke.tell("peak memory over the plan of a dry run", round(peak / sum(planned.values()), 2))


def step_figure(case: Case) -> str:
    return f"samples/s of a training step, {case.label}"


def rate_loaded_training(smoke: "Smoke") -> None:
    """Samples a second of training with views from JPEG files, beside the step and the loader alone."""
    from cosmos_core.data.open_loader import open_loader
    from cosmos_core.tokenizer import build_tokenizer
    from cosmos_core.train import train
    from cosmos_core.workload import Workload

    steps, workers = 3 if smoke.tiny else 20, 0 if smoke.tiny else most_workers()
    case = training_case(smoke)
    if step_figure(case) not in smoke.figures:
        rate_training(smoke, case)
    step = smoke.figures[step_figure(case)]
    lanes = max(1, workers)
    case = replace(case, batch=max(1, case.batch // lanes) * lanes)
    with tempfile.TemporaryDirectory() as folder:
        files = [image.path.read_bytes() for image in write_jpegs(Path(folder), 32)]
    text = "a photo of a dog that plays on the beach. The sand is wet."
    samples = [
        (str(index), files[index % 32], {"raw_caption": text, "shortIB_captions": text, "longIB_captions": text})
        for index in range(case.batch * (steps + 1))
    ]
    config = config_of(case, str(smoke.device), tiny=smoke.tiny)
    config = replace(config, steps=steps, warmup=1, workers=workers, lanes=lanes, samples=len(samples), out="")
    config = replace(config, log_every=steps - 1)
    loader = open_loader(config, config.required_views(), build_tokenizer(Workload(config).model["text_cfg"]), samples)
    loader.change_on_device(smoke.device.type == "cuda")
    batches = loader.batches()
    next(batches)  # the workers have started

    def load() -> None:
        for _ in range(steps - 1):
            next(batches)

    loaded = smoke.rate_once(case.batch * (steps - 1), load)
    loader.close()
    line = train(config, samples).metrics[1]  # of all steps but the first and the last, for which nothing is prefetched
    smoke.tell(f"samples/s of the loader alone, {workers} workers", loaded)
    smoke.tell(f"samples/s of a training step fed by {workers} workers", round(line["samples_per_second"], 1))
    smoke.tell("share of min(loader, step)", round(line["samples_per_second"] / min(loaded, step), 2))


RATES: dict[str, Callable[["Smoke"], None]] = {
    "forward": rate_forward,
    "evaluation": rate_evaluation,
    "training_step": rate_training,
    "loaded_training": rate_loaded_training,
}
