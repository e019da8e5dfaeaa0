"""Measure the CPU time of loading a training sample: our loader beside torchvision's transforms, in one run.

    python benchmarks/loader.py [--quick]

JPEG files of 640 by 480 (those of `images.py`) become batches of 2 crops of 224 and 6 of 96 pixels. Both sides draw
from the same distributions and decode a file once for all of its crops. Captions and tokens are left out on both sides.

loader: all changes on the CPU. torchvision: RandomResizedCrop (bicubic), RandomHorizontalFlip, ColorJitter,
RandomGrayscale, GaussianBlur (a kernel of a tenth of the crop, as in SimCLR, arXiv 2002.05709, appendix A),
RandomSolarize, ToTensor, Normalize, on Pillow images, one after the other for each crop.
loader_device: what is left for the CPU with `augment=device`: decoded, cropped and resized, as uint8 batches.

The figure is the CPU time of one thread, the smallest of several repetitions in turns, so that a busy machine has
little influence. With workers, each is such a thread. The last line printed is JSON.
"""

import argparse
import io
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms as tv

from benchmarks.images import write_images
from cosmos_core.data.lanes import stack_samples
from cosmos_core.data.loader import assemble
from cosmos_core.data.samples import SampleViews
from cosmos_core.text_crop import TextCrop
from cosmos_core.threads import one_thread
from cosmos_core.views import CLIP_MEAN, CLIP_STD, MultiCrop
from cosmos_eval.results.environment import environment

VIEWS = MultiCrop()
CPU = torch.device("cpu")


def peer_transforms(views: MultiCrop, whole: bool) -> list[Callable[[Image.Image], Tensor]]:
    """Return torchvision's pipeline of each crop; crops alone, as uint8, unless `whole`."""
    transforms: list[Callable[[Image.Image], Tensor]] = []
    for index in range(views.global_crops + views.local_crops):
        is_local = index >= views.global_crops
        kind = 2 if is_local else min(index, 1)
        size = views.local_size if is_local else views.global_size
        steps: list[Any] = [
            tv.RandomResizedCrop(
                size,
                scale=(views.min_scale, views.crop_scale) if is_local else (views.crop_scale, views.max_scale),
                ratio=views.ratio,
                interpolation=tv.InterpolationMode.BICUBIC,
            ),
            tv.RandomHorizontalFlip(views.flip),
        ]
        if whole:
            jitter = tv.ColorJitter(views.brightness, views.contrast, views.saturation, views.hue)
            steps += [
                tv.RandomApply([jitter], views.jitter),
                tv.RandomGrayscale(views.gray),
                tv.RandomApply([tv.GaussianBlur(size // 20 * 2 + 1, views.blur_radius)], views.blur[kind]),
                tv.RandomSolarize(128, views.solarise[kind]),
                tv.ToTensor(),
                tv.Normalize(CLIP_MEAN, CLIP_STD),
            ]
        else:
            steps.append(tv.PILToTensor())
        transforms.append(tv.Compose(steps))
    return transforms


def peer_batch(files: Sequence[bytes], transforms: Sequence[Callable[[Image.Image], Tensor]]) -> list[Tensor]:
    """Return one (B, 3, H, W) tensor for each crop, as a dataset with these transforms and torch's collate make it."""
    samples = []
    for content in files:
        with Image.open(io.BytesIO(content)) as opened:
            image = opened.convert("RGB")
        samples.append([transform(image) for transform in transforms])
    return [torch.stack(view) for view in zip(*samples, strict=True)]


def our_batch(files: Sequence[bytes], make: SampleViews) -> list[Tensor]:
    """Return the views of a batch as the loader makes them in one process; with `on_device` as a worker gives them."""
    made = [make(str(index), content, {"raw_caption": "a"}, 0) for index, content in enumerate(files)]
    part = stack_samples(made, lambda texts: torch.zeros(len(texts), 1, dtype=torch.long), len(made), {}, {})
    return part.images if make.on_device else assemble([part], make.images, CPU, 0, False, {}, 0).images


def measure(count: int, batch: int, repetitions: int) -> dict[str, float]:
    """Return the milliseconds of CPU time for one sample, for each arm."""
    make = SampleViews(VIEWS, TextCrop(1, "raw"))
    on_device = replace(make, on_device=True)
    whole, crops = peer_transforms(VIEWS, True), peer_transforms(VIEWS, False)
    arms: dict[str, Callable[[Sequence[bytes]], list[Tensor]]] = {
        "torchvision": lambda files: peer_batch(files, whole),
        "ours": lambda files: our_batch(files, make),
        "torchvision_crops": lambda files: peer_batch(files, crops),
        "ours_device": lambda files: our_batch(files, on_device),
    }
    with one_thread():
        with tempfile.TemporaryDirectory() as folder:
            files = [source.path.read_bytes() for source in write_images(count, Path(folder))]
        seconds: dict[str, list[float]] = {name: [] for name in arms}
        for _ in range(repetitions):
            for name, run in arms.items():
                torch.manual_seed(0)  # torchvision draws from it; ours depend on the samples' keys
                start = time.process_time()
                for first in range(0, count, batch):
                    views = run(files[first : first + batch])
                seconds[name].append(time.process_time() - start)
                assert sum(view.numel() for view in views) == batch * 3 * (2 * 224**2 + 6 * 96**2), name
    return {name: round(1000 * min(values) / count, 3) for name, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="32 samples, three repetitions; not 128 and five")
    quick = parser.parse_args().quick
    milliseconds = measure(32 if quick else 128, 32, 3 if quick else 5)
    for name, value in milliseconds.items():
        print(f"{name:<18}{value:>8.3f} ms per sample{1000 / value:>8.1f} samples/s per core")
    ratios = {
        "loader": round(milliseconds["torchvision"] / milliseconds["ours"], 2),
        "loader_device": round(milliseconds["torchvision_crops"] / milliseconds["ours_device"], 2),
    }
    print(json.dumps({"name": "loader", "ratios": ratios, "figures": milliseconds, "environment": environment()}))


if __name__ == "__main__":
    main()
