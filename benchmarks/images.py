"""CPU time of an image on its way to a tower: open_clip's transform beside ours, and what each option saves.

    python benchmarks/images.py [--quick]

JPEG files of 640 by 480 (scenes with photographic noise, 120 kB each), resized and cropped to 224, in batches of 64.
Processor time of one thread, the smallest of some repetitions in turns, so that a busy machine counts little. Arms that
keep the protocol's pixels must give the same floats, bit by bit. Prints one JSON line last.
"""

import argparse
import io
import json
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

from cosmos_eval.datasets.base import FileImage
from cosmos_eval.datasets.decoders import PIL, Decoder
from cosmos_eval.datasets.resized import read_resized, write_resized
from cosmos_eval.datasets.toybox import distinct_scenes, render
from cosmos_eval.engine.images import image_batches
from cosmos_eval.models.preprocess import ImagePreprocess
from cosmos_eval.results.environment import environment

SIZE, BATCH = 224, 64
EXACT = ("peer", "ours", "resized")
NOISE = 12.0


def write_images(count: int, folder: Path) -> list[FileImage]:
    """Scenes with as much noise as makes them as hard to decode as photographs are."""
    rng = np.random.default_rng(0)
    found = []
    for i, scene in enumerate(distinct_scenes(0, "test", count)):
        pixels = render(scene, 640)[:480] + rng.normal(0, NOISE, (480, 640, 3))
        path = folder / f"{i:04d}.jpg"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)
        found.append(FileImage(path.name, path))
    return found


def arms(images: Sequence[FileImage], folder: Path) -> dict[str, Callable[[], list[Tensor]]]:
    """By name, batches (B, 3, H, W) of the floats that a tower would see."""
    preprocess = ImagePreprocess(SIZE)
    write_resized(images, preprocess.geometry(), preprocess.pixels, folder)
    resized = read_resized(folder)

    def peer() -> list[Tensor]:
        """As in a loader over open_clip's transform: a float tensor for each source, then a batch of them."""
        batches = []
        for start in range(0, len(images), BATCH):
            some = []
            for source in images[start : start + BATCH]:
                with Image.open(io.BytesIO(source.path.read_bytes())) as image:
                    some.append(preprocess.transform(image))
            batches.append(torch.stack(some))
        return batches

    def ours(decoder: Decoder = Decoder(PIL), from_resized: bool = False) -> list[Tensor]:
        read = resized if from_resized else None
        made = image_batches(images, preprocess.pixels, BATCH, 0, decoder=decoder, resized=read)
        return [preprocess.normalised(batch) for batch in made]

    return {
        "peer": peer,
        "ours": ours,
        "torchvision": lambda: ours(Decoder("torchvision")),
        "draft": lambda: ours(Decoder("draft", (SIZE, SIZE))),
        "resized": lambda: ours(from_resized=True),
    }


def measure(count: int, repetitions: int) -> dict[str, float]:
    """Milliseconds of an image for each arm, and of reading it again for its digest."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as place:
            images = write_images(count, Path(place))
            made = arms(images, Path(place) / "resized")
            expected = made["peer"]()
            for name in EXACT:
                assert all(torch.equal(a, b) for a, b in zip(made[name](), expected, strict=True)), name
            seconds: dict[str, list[float]] = {name: [] for name in (*made, "digest")}
            for _ in range(repetitions):
                for name, run in (*made.items(), ("digest", lambda: _digests(images))):
                    start = time.process_time()
                    run()
                    seconds[name].append(time.process_time() - start)
    finally:
        torch.set_num_threads(threads)
    return {name: round(1000 * min(values) / count, 3) for name, values in seconds.items()}


def _digests(images: Sequence[FileImage]) -> None:
    for image in images:
        FileImage(image.key, image.path).digest()  # a new one: a digest is made once


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="64 images, twice, instead of 256, five times")
    quick = parser.parse_args().quick
    found = measure(64 if quick else 256, 2 if quick else 5)
    for name, value in found.items():
        print(f"{name:<12}{value:>8.3f} ms an image")
    ratios = {name: round(found["peer"] / found[name], 2) for name in found if name not in ("peer", "digest")}
    print(json.dumps({"name": "images", "ratios": ratios, "figures": found, "environment": environment()}))


if __name__ == "__main__":
    main()
