"""What `classification.py` runs: ImageNet's protocol on part of its classes, end to end, on both sides."""

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
from benchmarks.random_model import image_size, random_model
from benchmarks.studies.imagenet_words import first_words
from benchmarks.timing import take_turns
from cosmos_eval.models.open_clip import OpenClipModel
from cosmos_eval.protocol.benchmark import Benchmark, load_benchmark

ARMS = ("peer", "ours")
SIZES = ((375, 500), (500, 375), (333, 500), (375, 500))
"""Heights and widths of images; 500 x 375 is ImageNet's most frequent size."""
SAMPLE = 8
"""Number of batches for the rate of the forward pass alone, and for each worker for the rate of decoding alone."""


@dataclass(frozen=True)
class ClassificationPlan:
    """Sizes of the benchmark. ImageNet has 50 images and 80 prompts for each class."""

    classes: int
    repetitions: int
    per_class: int = 50
    workers: int = 2
    device: str = "cpu"
    precision: str = "fp32"
    batch_size: int = 64
    model: str = "ViT-B-32"
    config: dict[str, Any] | None = None
    """open_clip's configuration, for a model that is not in its registry."""

    @property
    def images(self) -> int:
        return self.classes * self.per_class


QUICK = ClassificationPlan(classes=5, repetitions=1, per_class=50)
FULL = ClassificationPlan(classes=20, repetitions=3)
GPU = ClassificationPlan(classes=1000, repetitions=3, per_class=10, workers=14, batch_size=256)
GPU_QUICK = replace(GPU, classes=100, per_class=50)


def measure(world: Any, plan: ClassificationPlan) -> dict[str, Any]:
    """Run both sides in turns: seconds in total, of the head and of the images; metrics; the rates that limit them."""
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
            figures[arm], part_seconds = (peer if arm == "peer" else ours)(model, plan, root, definition)
            parts[arm].append(part_seconds)

        times = take_turns({arm: partial(turn, arm) for arm in ARMS}, plan.repetitions, world, warm_up=0)
        return {
            "seconds": times.seconds,
            "parts": {
                f"{arm} {part}": [seconds[part] for seconds in parts[arm]]
                for arm in ARMS
                for part in ("head", "images")
            },
            "figures": figures["ours"],
            "largest_difference": max(abs(figures["ours"][name] - value) for name, value in figures["peer"].items()),
            "phases": phases(model, plan, root, definition),
            **separate_rates(model, plan, root),
            "threads": torch.get_num_threads(),
        }


def warm_up(model: OpenClipModel) -> None:
    """Import libraries, and let the towers create their threads and buffers."""
    import clip_benchmark.datasets.builder
    import clip_benchmark.metrics.zeroshot_classification  # noqa: F401 - the imports of the peer

    import cosmos_eval.run.evaluate  # noqa: F401

    with torch.inference_mode():
        model.encode_image(torch.zeros(8, 3, *image_size(model)))
        model.encode_text(["a"] * 8)


def write_images(plan: ClassificationPlan, root: Path) -> None:
    """Write JPEG images in ImageNet's folders, `val/<wnid>/`.

    They are toybox scenes with noise, so that files are as large as those of photographs. At most 64 scenes are
    rendered; the other images repeat them with other noise.
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


def imagenet(plan: ClassificationPlan) -> Benchmark:
    """Return ImageNet's definition for the first classes only, which the reader of all 1,000 would refuse."""
    full = load_benchmark("imagenet1k")
    if plan.classes == 1000:
        dataset = {**full.dataset, "path": "val", "expected": {"images": plan.images, "classes": 1000}}
        return replace(full, dataset={key: value for key, value in dataset.items() if key != "labels"})
    names, templates = first_words(plan.classes)
    return replace(
        full,
        name=f"imagenet1k-first-{plan.classes}",
        dataset={
            "reader": "image-folder",
            "path": "val",
            "expected": {"images": plan.images, "classes": plan.classes},
        },
        prompts={"class_names": names, "templates": templates},
    )


def phases(model: OpenClipModel, plan: ClassificationPlan, root: Path, definition: Benchmark) -> dict[str, float]:
    """Return the seconds of each phase in one more run of cosmos-eval, by the names that `run --profile` prints."""
    from cosmos_eval.profiling import PHASES, Profile

    profile = Profile()
    ours(model, plan, root, definition, profile)
    return {PHASES[name]: seconds for name, seconds in profile.total().seconds.items()}


def ours(
    model: OpenClipModel, plan: ClassificationPlan, root: Path, definition: Benchmark, profile: Any = None
) -> tuple[dict[str, float], dict[str, float]]:
    """Evaluate with cosmos-eval, from the files to the intervals; return metrics, and seconds of head and images."""
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
    metrics = {name: result.metrics[name].value for name in ("top1", "top5", "mean_per_class")}
    return metrics, {"head": sum(head), "images": sum(images)}


def peer(
    model: OpenClipModel, plan: ClassificationPlan, root: Path, definition: Benchmark
) -> tuple[dict[str, float], dict[str, float]]:
    """Evaluate with clip-benchmark's dataset and `evaluate` on the same network; return the same as `ours`."""
    from clip_benchmark.metrics import zeroshot_classification as clip_benchmark_classification

    names, templates = first_words(plan.classes)
    with (
        contextlib.redirect_stderr(io.StringIO()),  # its progress bars
        timed(clip_benchmark_classification, "zero_shot_classifier") as head,
        timed(clip_benchmark_classification, "run_classification") as images,
    ):
        result = clip_benchmark_classification.evaluate(
            model.network,
            peer_loader(model, plan, root),
            model.tokenizer,
            names,
            templates,
            plan.device,
            amp=plan.precision != "fp32",
        )
    metrics = {"top1": result["acc1"], "top5": result["acc5"], "mean_per_class": result["mean_per_class_recall"]}
    return metrics, {"head": sum(head), "images": sum(images)}


def peer_loader(model: OpenClipModel, plan: ClassificationPlan, root: Path) -> DataLoader:
    """Build the loader of clip-benchmark's command, for its ImageNet that needs no devkit."""
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
    """Measure the seconds of each call of `owner.name` inside the context."""
    seconds: list[float] = []
    function, original = getattr(owner, name), vars(owner)[name]

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
        setattr(owner, name, original)


def separate_rates(model: OpenClipModel, plan: ClassificationPlan, root: Path) -> dict[str, float]:
    """Return the images per second of decoding with preprocessing alone, and of the tower alone."""
    from cosmos_eval import datasets
    from cosmos_eval.engine.image_loading import image_batches
    from cosmos_eval.engine.precision import tower_precision

    images = datasets.load(imagenet(plan), root).images[: SAMPLE * max(1, plan.workers) * plan.batch_size]
    batches = image_batches(images, model.preprocess.pixels, plan.batch_size, plan.workers)
    sample = [next(batches)]  # the workers have started before the clock does
    start, count = time.perf_counter(), 0
    for batch in batches:
        count += len(batch)
        if len(sample) < SAMPLE:
            sample.append(batch)
    decode = count / (time.perf_counter() - start)
    sample = [model.preprocess.normalised(batch.to(model.device)) for batch in sample]
    with tower_precision(plan.precision, model.device):
        for is_timed in (False, True):  # the first round warms up
            start = time.perf_counter()
            for batch in sample if is_timed else sample[:1]:
                embeddings = model.encode_image(batch)
            embeddings.sum().item()  # wait for the GPU, which computes asynchronously
    return {"decode_rate": decode, "forward_rate": sum(map(len, sample)) / (time.perf_counter() - start)}
