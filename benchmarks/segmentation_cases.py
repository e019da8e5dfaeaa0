"""What `segmentation.py` runs: label maps with one window at a time, and with cosmos-eval, on the same images."""

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.memory import available_bytes, peak_bytes
from cosmos_eval.datasets.image_sources import ArrayImage, ImageSource
from cosmos_eval.tasks.segmentation.settings import SETTINGS

CLASSES = 150
MODEL = "ViT-B-16"
ATTENTION = "csa"
SIZES = ((375, 500), (333, 500), (500, 375), (375, 500))
"""Heights and widths of images in VOC."""


@dataclass(frozen=True)
class SegmentationPlan:
    """Sizes of the benchmark. `voc` and `toybox` are numbers of images."""

    voc: int
    toybox: int
    repetitions: int
    large: tuple[int, int]
    """Height and width of the large image, for which only memory is measured."""
    batch_size: int = 8
    device: str = "cpu"
    precision: str = "fp32"
    workers: int = 0
    """Processes that decode for cosmos-eval, with a GPU; on two cores the tower needs all of them."""
    model: str = MODEL
    vision: dict[str, Any] = field(default_factory=dict)
    """open_clip's configuration, for a model that is not in its registry."""
    classes: int = CLASSES
    settings: dict[str, Any] = field(
        default_factory=lambda: {**SETTINGS, "short_side": 336, "attention": ATTENTION, "crop": 224, "stride": 112}
    )

    @property
    def logits_bytes(self) -> int:
        """Bytes of the logits of the large image at its original size."""
        return 4 * self.classes * self.large[0] * self.large[1]


QUICK = SegmentationPlan(voc=4, toybox=4, repetitions=2, large=(1024, 1500))
FULL = SegmentationPlan(voc=16, toybox=8, repetitions=5, large=(2048, 3000))
GPU = SegmentationPlan(voc=192, toybox=192, repetitions=5, large=(2048, 3000), batch_size=64)


class Tower:
    """A ViT with random weights, as an adapter with patch features that measures the time of its forward passes."""

    spec = f"open_clip:{MODEL} with random weights"

    def __init__(self, plan: SegmentationPlan) -> None:
        from open_clip import get_model_config
        from open_clip.transformer import VisionTransformer

        from cosmos_eval.models.preprocess import ImagePreprocess

        config = plan.vision or get_model_config(plan.model)
        assert config is not None
        vision, self.width = config["vision_cfg"], int(config["embed_dim"])
        torch.manual_seed(0)
        tower = VisionTransformer(
            image_size=vision["image_size"],
            patch_size=vision["patch_size"],
            width=vision["width"],
            layers=vision["layers"],
            heads=vision["width"] // vision.get("head_width", 64),
            mlp_ratio=4.0,
            output_dim=self.width,
        )
        self.device = torch.device(plan.device)
        self.visual = tower.eval().to(self.device)
        self.preprocess = ImagePreprocess(self.visual.image_size)
        self.seconds, self.windows = 0.0, 0
        """Of all calls so far; on a GPU, the seconds until the work is submitted."""

    def encode_patches(self, x: Tensor, attention: str = "vanilla") -> Tensor:
        from cosmos_core.dense import patch_features

        start = time.perf_counter()
        features = patch_features(self.visual, x, attention).float()
        self.seconds += time.perf_counter() - start
        self.windows += len(x)
        return features


class SegmentationArms:
    """Both methods to predict label maps, with the same tower and the same random embeddings of query words."""

    def __init__(self, plan: SegmentationPlan) -> None:
        from cosmos_eval.engine import Engine
        from cosmos_eval.engine.dense import Normalise
        from cosmos_eval.tasks.segmentation.label_maps import LabelMapPredictor

        self.plan, self.tower = plan, Tower(plan)
        rng = torch.Generator().manual_seed(1)
        queries = F.normalize(torch.randn(plan.classes, self.tower.width, generator=rng), dim=1)
        self.queries = queries.to(self.tower.device)
        self.engine = Engine(self.tower, batch_size=plan.batch_size, workers=plan.workers, precision=plan.precision)
        self.maps = LabelMapPredictor(self.queries, range(plan.classes), plan.settings)
        self.normalise = Normalise.from_model(self.tower, self.tower.device)

    def batched(self, images: Sequence[ImageSource]) -> list[np.ndarray]:
        return [self.maps.predict(dense) for dense in self.engine.window_features(images, self.plan.settings)]

    def sequential(self, images: Sequence[ImageSource]) -> list[np.ndarray]:
        from tests.oracles import segmentation as oracle

        settings = oracle.Settings(self.plan.settings["crop"], self.plan.settings["stride"])
        with torch.inference_mode():
            classes = range(self.plan.classes)
            return [oracle.labels(self.sequential_logits(image), classes, settings) for image in images]

    def sequential_logits(self, source: ImageSource) -> Tensor:
        from cosmos_eval.engine.precision import tower_precision
        from cosmos_eval.engine.windows import resize_image
        from tests.oracles import segmentation as oracle

        def encode(window: Tensor) -> Tensor:
            with tower_precision(self.plan.precision, self.tower.device):
                return self.tower.encode_patches(window, self.plan.settings["attention"])

        image, settings = source.load(), self.plan.settings
        pixels = torch.from_numpy(resize_image(image, settings["short_side"], settings["long_side"]))
        with torch.inference_mode():
            return oracle.image_logits(
                encode,
                self.normalise(pixels[None])[0],
                (image.height, image.width),
                self.queries,
                oracle.Settings(settings["crop"], settings["stride"]),
            )

    def difference(self, images: Sequence[ImageSource]) -> dict[str, float]:
        """Return the largest difference of the first image's logits, and the share of pixels with different labels."""
        first = next(self.engine.window_features(images[:1], self.plan.settings))
        logits = (self.maps.logits(first) - self.sequential_logits(images[0])).abs().max().item()
        pairs = list(zip(self.batched(images), self.sequential(images), strict=True))
        different = sum(np.count_nonzero(a != b) for a, b in pairs)
        return {"logits": logits, "labels": different / sum(a.size for a, _ in pairs)}


ARMS = ("sequential", "batched")


def toybox_images(count: int) -> Sequence[ImageSource]:
    """Return toybox scenes, as `toybox-segmentation` reads them."""
    from cosmos_eval import datasets
    from cosmos_eval.protocol.benchmark import load_benchmark

    benchmark = load_benchmark("toybox-segmentation")
    expected = {**benchmark.dataset["expected"], "images": count}
    dataset = {**benchmark.dataset, "scenes": count, "expected": expected}
    return datasets.load(replace(benchmark, dataset=dataset)).images


def voc_images(count: int, folder: Path) -> Sequence[ImageSource]:
    """Write scenes with VOC's sizes in the layout of VOC2012, and return what the reader of `voc21` makes of them."""
    from PIL import Image

    from cosmos_eval import datasets
    from cosmos_eval.datasets.toybox import distinct_scenes, mask, render
    from cosmos_eval.protocol.benchmark import load_benchmark

    root = folder / "VOCdevkit" / "VOC2012"
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True)
    names = [f"2007_{i:06d}" for i in range(count)]
    for i, (name, scene) in enumerate(zip(names, distinct_scenes(0, "test", count), strict=True)):
        height, width = SIZES[i % len(SIZES)]
        side = max(height, width)
        Image.fromarray(render(scene, side)[:height, :width]).save(root / "JPEGImages" / f"{name}.jpg", quality=92)
        labels = Image.fromarray(mask(scene, side)[:height, :width]).convert("P")
        labels.save(root / "SegmentationClass" / f"{name}.png")
    (root / "ImageSets/Segmentation/val.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    benchmark = load_benchmark("voc21")
    expected = {**benchmark.dataset["expected"], "images": count}
    return datasets.load(replace(benchmark, dataset={**benchmark.dataset, "expected": expected}), folder).images


def large_image(size: tuple[int, int]) -> ImageSource:
    """Return one large image."""
    from PIL import Image

    coarse = np.random.default_rng(0).integers(0, 256, (9, 13, 3), dtype=np.uint8)
    return ArrayImage("large", np.asarray(Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BILINEAR)))


def measure(world: Any, plan: SegmentationPlan) -> dict[str, Any]:
    """Run both arms in turns on both sets of images: seconds, seconds of the tower, and differences."""
    from benchmarks.timing import take_turns

    arms = SegmentationArms(plan)
    measured: dict[str, Any] = {"threads": torch.get_num_threads()}
    with tempfile.TemporaryDirectory() as folder:
        sets = {"voc": voc_images(plan.voc, Path(folder)), "toybox": toybox_images(plan.toybox)}
        for name, images in sets.items():
            difference = arms.difference(images[:1])  # also the warm-up
            tower: dict[str, list[float]] = {arm: [0.0, 0] for arm in ARMS}

            def turn(arm: str, images: Sequence[ImageSource] = images, tower: dict[str, Any] = tower) -> None:
                seconds, windows = arms.tower.seconds, arms.tower.windows
                getattr(arms, arm)(images)
                tower[arm][0] += arms.tower.seconds - seconds
                tower[arm][1] = arms.tower.windows - windows

            times = take_turns({arm: partial(turn, arm) for arm in ARMS}, plan.repetitions, world, warm_up=0)
            measured[name] = {
                "images": len(images),
                "windows": tower["batched"][1],
                "seconds": times.seconds,
                "tower_seconds": {arm: tower[arm][0] / plan.repetitions for arm in ARMS},
                "difference": difference,
            }
    return measured


def peak(world: Any, plan: SegmentationPlan, arm: str) -> dict[str, int | None]:
    """Return the peak bytes of one arm above weights and images, for each case; None if there is too little memory."""
    arms = SegmentationArms(plan)
    arms.batched([large_image((64, 64))])  # load libraries, and create threads and their buffers
    measured: dict[str, int | None] = {}
    with tempfile.TemporaryDirectory() as folder:
        cases = {"voc": voc_images(2, Path(folder)), "large": [large_image(plan.large)]}
        # Measured once for both cases: memory that the allocator keeps after the first case must not be subtracted from
        # the second.
        before = peak_bytes(arms.tower.device, reset=True)
        for case, images in cases.items():
            if (
                arm == "sequential"
                and case == "large"
                and PEER_LOGITS * plan.logits_bytes > available_bytes(arms.tower.device)
            ):
                measured[case] = None
                continue
            peak_bytes(arms.tower.device, reset=True)
            getattr(arms, arm)(images)
            measured[case] = peak_bytes(arms.tower.device) - before
    return measured


PEER_LOGITS = 5
"""The memory that the peer needs, with a margin, as a multiple of the logits of an image at its original size."""
