"""Measure the CPU time of decoding and preprocessing an image: open_clip's transform, ours, and our options.

    python benchmarks/images.py [--quick]

JPEG files of 640 by 480 (toybox scenes with noise, 120 kB each) are resized and cropped to 224, in batches of 64. The
figure is the CPU time of one thread, the smallest of several repetitions in turns, so that a busy machine has little
influence. Arms that keep the pixels of the protocol must give bit-identical floats. It also measures the CPU time of
starting and ending a worker process, which decides from how many images on `--workers auto` starts one
(`cosmos_eval.engine.worker_count.SECONDS_FOR_A_WORKER`). The last line printed is JSON.
"""

import argparse
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cosmos_core.threads import one_thread
from cosmos_eval.datasets.decoders import PIL, Decoder
from cosmos_eval.datasets.image_sources import FileImage
from cosmos_eval.datasets.resized import read_resized, write_resized
from cosmos_eval.datasets.toybox import distinct_scenes, render
from cosmos_eval.engine.image_loading import image_batches
from cosmos_eval.models.preprocess import ImagePreprocess
from cosmos_eval.results.environment import environment

SIZE, BATCH = 224, 64
EXACT = ("peer", "ours", "resized")
NOISE = 12.0


def write_images(count: int, folder: Path) -> list[FileImage]:
    """Write scenes with so much noise that they take as long to decode as photographs."""
    rng = np.random.default_rng(0)
    images = []
    for i, scene in enumerate(distinct_scenes(0, "test", count)):
        pixels = render(scene, 640)[:480] + rng.normal(0, NOISE, (480, 640, 3))
        path = folder / f"{i:04d}.jpg"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)
        images.append(FileImage(path.name, path))
    return images


def arms(images: Sequence[FileImage], folder: Path) -> dict[str, Callable[[], list[Tensor]]]:
    """Return functions, by name, that compute the input of a tower: batches of floats (B, 3, H, W)."""
    preprocess = ImagePreprocess(SIZE)
    write_resized(images, preprocess.geometry(), preprocess.pixels, folder)
    resized = read_resized(folder)

    def peer() -> list[Tensor]:
        """As in a loader with open_clip's transform: a float tensor for each image, then a batch of them."""
        batches = []
        for start in range(0, len(images), BATCH):
            tensors = []
            for source in images[start : start + BATCH]:
                with Image.open(io.BytesIO(source.path.read_bytes())) as image:
                    tensors.append(preprocess.transform(image))
            batches.append(torch.stack(tensors))
        return batches

    def ours(decoder: Decoder = Decoder(PIL), from_resized: bool = False) -> list[Tensor]:
        read = resized if from_resized else None
        batches = image_batches(images, preprocess.pixels, BATCH, 0, decoder=decoder, resized=read)
        return [preprocess.normalised(batch) for batch in batches]

    return {
        "peer": peer,
        "ours": ours,
        "torchvision": lambda: ours(Decoder("torchvision")),
        "draft": lambda: ours(Decoder("draft", (SIZE, SIZE))),
        "resized": lambda: ours(from_resized=True),
    }


def measure(count: int, repetitions: int) -> dict[str, float]:
    """Return the milliseconds for one image, for each arm and for the digest, which reads the file once more."""
    with one_thread(), tempfile.TemporaryDirectory() as folder:
        images = write_images(count, Path(folder))
        functions = arms(images, Path(folder) / "resized")
        expected = functions["peer"]()
        for name in EXACT:
            assert all(torch.equal(a, b) for a, b in zip(functions[name](), expected, strict=True)), name
        seconds: dict[str, list[float]] = {name: [] for name in (*functions, "digest")}
        for _ in range(repetitions):
            for name, run in (*functions.items(), ("digest", lambda: _digests(images))):
                start = time.process_time()
                run()
                seconds[name].append(time.process_time() - start)
    return {name: round(1000 * min(values) / count, 3) for name, values in seconds.items()}


def _digests(images: Sequence[FileImage]) -> None:
    for image in images:
        FileImage(image.key, image.path).digest()  # a new object, because an object computes its digest only once


def measure_worker_start(count: int, repetitions: int) -> float:
    """Return the milliseconds of CPU time that the same images take more with one worker, in both processes."""
    seconds: dict[int, list[float]] = {0: [], 1: []}
    with tempfile.TemporaryDirectory() as folder:
        images = write_images(count, Path(folder))
        for _ in range(repetitions):
            for workers, values in seconds.items():
                start = sum(os.times()[:4])
                for _ in image_batches(images, ImagePreprocess(SIZE).pixels, BATCH, workers):
                    pass
                values.append(sum(os.times()[:4]) - start)
    return round(1000 * (min(seconds[1]) - min(seconds[0])), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="64 images and two repetitions, instead of 256 and five")
    quick = parser.parse_args().quick
    milliseconds = measure(64 if quick else 256, 2 if quick else 5)
    for name, value in milliseconds.items():
        print(f"{name:<12}{value:>8.3f} ms per image")
    compared = [name for name in milliseconds if name not in ("peer", "digest")]
    ratios = {name: round(milliseconds["peer"] / milliseconds[name], 2) for name in compared}
    worker_start = measure_worker_start(64, 3 if quick else 10)
    print(f"starting and ending a worker: {worker_start} ms")
    figures = {**milliseconds, "worker_start": worker_start}
    print(json.dumps({"name": "images", "ratios": ratios, "figures": figures, "environment": environment()}))


if __name__ == "__main__":
    main()
