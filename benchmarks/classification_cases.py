"""What the benchmark of classification compares: ImageNet's protocol on part of its classes, end to end."""

import contextlib
import io
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from torch.utils.data import DataLoader

from benchmarks.peers.mixed import same_arithmetic
from benchmarks.random_model import random_model
from benchmarks.studies.imagenet_words import first_words
from benchmarks.timing import take_turns
from cosmos_eval.models.open_clip import OpenClipModel
from cosmos_eval.protocol.benchmark import Benchmark, load_benchmark

ARMS = ("peer", "ours")
SIZES = ((375, 500), (500, 375), (333, 500), (375, 500))
"""Heights and widths of images; 500 x 375 is ImageNet's most frequent size."""
SAMPLE = 8
"""Batches by which the pure rate of the forward pass is measured, and that of decoding: so many for each worker."""


@dataclass(frozen=True)
class Plan:
    """How much is done. ImageNet has 50 images and 80 prompts a class."""

    classes: int
    repetitions: int
    per_class: int = 50
    workers: int = 2
    device: str = "cpu"
    precision: str = "fp32"
    batch_size: int = 64
    model: str = "ViT-B-32"
    config: dict[str, Any] | None = None
    """open_clip's configuration where the model is not one of its own."""

    @property
    def images(self) -> int:
        return self.classes * self.per_class


QUICK = Plan(classes=5, repetitions=1, per_class=50)
FULL = Plan(classes=20, repetitions=3)
GPU = Plan(classes=1000, repetitions=3, per_class=10, workers=14, batch_size=256)
GPU_QUICK = replace(GPU, classes=100, per_class=50)


def measure(world: Any, plan: Plan) -> dict[str, Any]:
    """Both sides in turns: seconds of all, of the head and of the images; figures; what bounds the images."""
    same_arithmetic()
    model = random_model(plan.model, plan.device, plan.config)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_images(plan, root)
        definition = imagenet(plan)
        warm_up(model)
        figures: dict[str, dict[str, float]] = {}
        parts: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}

        def turn(arm: str) -> None:
            figures[arm], spent = (peer if arm == "peer" else ours)(model, plan, root, definition)
            parts[arm].append(spent)

        times = take_turns({arm: partial(turn, arm) for arm in ARMS}, plan.repetitions, world, warm_up=0)
        return {
            "seconds": times.seconds,
            "parts": {
                f"{arm} {part}": [spent[part] for spent in parts[arm]] for arm in ARMS for part in ("head", "images")
            },
            "figures": figures["ours"],
            "apart": max(abs(figures["ours"][name] - value) for name, value in figures["peer"].items()),
            "phases": phases(model, plan, root, definition),
            **pure(model, plan, root),
            "threads": torch.get_num_threads(),
        }


def warm_up(model: OpenClipModel) -> None:
    """Load libraries, and let towers have their threads and buffers."""
    import clip_benchmark.datasets.builder
    import clip_benchmark.metrics.zeroshot_classification  # noqa: F401 - what the peer needs

    import cosmos_eval.run.evaluate  # noqa: F401

    side = model.network.visual.image_size
    with torch.inference_mode():
        model.encode_image(torch.zeros(8, 3, *side))
        model.encode_text(["a"] * 8)


def write_images(plan: Plan, root: Path) -> None:
    """JPEG images in ImageNet's folders, `val/<wnid>/`: scenes under noise, so that files are as long as photographs.

    The first are rendered, and the others are those in another noise.
    """
    from PIL import Image

    from cosmos_eval.datasets.imagenet import imagenet_wnids
    from cosmos_eval.datasets.toybox import distinct_scenes, render

    scenes = [render(scene, 500) for scene in distinct_scenes(0, "test", min(64, plan.images))]
    wnids = imagenet_wnids()[: plan.classes]
    for wnid in wnids:
        (root / "val" / wnid).mkdir(parents=True)

    def write(number: int) -> None:
        height, width = SIZES[number % len(SIZES)]
        rough = (height // 2 + 1, width // 2 + 1, 3)
        noise = np.random.default_rng(number).integers(-40, 41, rough, dtype=np.int16).repeat(2, 0).repeat(2, 1)
        pixels = scenes[number % len(scenes)][:height, :width] + noise[:height, :width]
        image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        folder = root / "val" / wnids[number // plan.per_class]
        image.save(folder / f"ILSVRC2012_val_{number + 1:08d}.JPEG", quality=90)

    with ThreadPoolExecutor() as pool:
        list(pool.map(write, range(plan.images)))


def imagenet(plan: Plan) -> Benchmark:
    """ImageNet's definition on the class folders that are there; the reader of all 1,000 refuses fewer."""
    whole = load_benchmark("imagenet1k")
    if plan.classes == 1000:
        dataset = {**whole.dataset, "path": "val", "expected": {"images": plan.images, "classes": 1000}}
        return replace(whole, dataset={key: value for key, value in dataset.items() if key != "labels"})
    names, templates = first_words(plan.classes)
    return replace(
        whole,
        name=f"imagenet1k-first-{plan.classes}",
        dataset={
            "reader": "image-folder",
            "path": "val",
            "expected": {"images": plan.images, "classes": plan.classes},
        },
        prompts={"class_names": names, "templates": templates},
    )


def phases(model: OpenClipModel, plan: Plan, root: Path, definition: Benchmark) -> dict[str, float]:
    """Seconds of each phase of one more run of ours, by the words that `run --profile` has for them."""
    from cosmos_eval.profiling import PHASES, Profile

    profile = Profile()
    ours(model, plan, root, definition, profile)
    return {PHASES[name]: seconds for name, seconds in profile.total().seconds.items()}


def ours(
    model: OpenClipModel, plan: Plan, root: Path, definition: Benchmark, profile: Any = None
) -> tuple[dict[str, float], dict[str, float]]:
    """From the files on disk to intervals; figures and seconds."""
    from cosmos_eval.engine import Engine
    from cosmos_eval.run.evaluate import evaluate

    with timed(Engine, "text_features") as head, timed(Engine, "image_features") as images:
        (result,) = evaluate(
            model,
            [definition],
            root,
            batch_size=plan.batch_size,
            workers=plan.workers,
            precision=plan.precision,
            device=plan.device,
            profile=profile,
        )
    found = {name: result.metrics[name].value for name in ("top1", "top5", "mean_per_class")}
    return found, {"head": sum(head), "images": sum(images)}


def peer(
    model: OpenClipModel, plan: Plan, root: Path, definition: Benchmark
) -> tuple[dict[str, float], dict[str, float]]:
    """The same by clip-benchmark's dataset and evaluate function on the same network."""
    from clip_benchmark.metrics import zeroshot_classification as theirs

    names, templates = first_words(plan.classes)
    with (
        contextlib.redirect_stderr(io.StringIO()),  # its bars
        timed(theirs, "zero_shot_classifier") as head,
        timed(theirs, "run_classification") as images,
    ):
        got = theirs.evaluate(
            model.network,
            peer_loader(model, plan, root),
            model.tokenizer,
            names,
            templates,
            plan.device,
            amp=plan.precision != "fp32",
        )
    found = {"top1": got["acc1"], "top5": got["acc5"], "mean_per_class": got["mean_per_class_recall"]}
    return found, {"head": sum(head), "images": sum(images)}


def peer_loader(model: OpenClipModel, plan: Plan, root: Path) -> DataLoader:
    """clip-benchmark's ImageNet without the devkit, in the batches of its command."""
    from clip_benchmark.datasets.builder import build_dataset, get_dataset_collate_fn

    dataset = build_dataset(
        dataset_name="imagenet1k-unverified",
        root=str(root),
        transform=model.preprocess.transform,
        split="test",
        download=False,
        task="zeroshot_classification",
    )
    return DataLoader(
        dataset,
        batch_size=plan.batch_size,
        shuffle=False,
        num_workers=plan.workers,
        collate_fn=get_dataset_collate_fn("imagenet1k-unverified"),
    )


@contextlib.contextmanager
def timed(owner: Any, name: str) -> Iterator[list[float]]:
    """Seconds of each call of a function while inside."""
    seconds: list[float] = []
    function, as_it_was = getattr(owner, name), vars(owner)[name]

    def call(*arguments: Any, **options: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            seconds.append(time.perf_counter() - start)

    setattr(owner, name, call)
    try:
        yield seconds
    finally:
        setattr(owner, name, as_it_was)


def pure(model: OpenClipModel, plan: Plan, root: Path) -> dict[str, float]:
    """Images a second that are decoded and preprocessed with nothing else to do, and that pass the tower alone."""
    from cosmos_eval import datasets
    from cosmos_eval.engine.images import image_batches
    from cosmos_eval.engine.precision import tower_precision

    images = datasets.load(imagenet(plan), root).images[: SAMPLE * max(1, plan.workers) * plan.batch_size]
    batches = image_batches(images, model.preprocess.pixels, plan.batch_size, plan.workers)
    there = [next(batches)]
    start, count = time.perf_counter(), 0
    for batch in batches:
        count += len(batch)
        if len(there) < SAMPLE:
            there.append(batch)
    decode = count / (time.perf_counter() - start)
    there = [model.preprocess.normalised(batch.to(model.device)) for batch in there]
    with tower_precision(plan.precision, model.device):
        for timing in (False, True):
            start = time.perf_counter()
            for batch in there if timing else there[:1]:
                rows = model.encode_image(batch)
            rows.sum().item()  # a GPU works on while Python goes ahead
    return {"decode_rate": decode, "forward_rate": sum(map(len, there)) / (time.perf_counter() - start)}
