"""Evaluation of a trial: the toybox benchmarks with images and texts, and the geometry of the embeddings."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.studies.ablation.files import read, write
from benchmarks.studies.ablation.rows import PRESET

if TYPE_CHECKING:
    from cosmos_eval.datasets.data import RetrievalData
    from cosmos_eval.datasets.image_sources import ArrayImage, ImageSource
    from cosmos_eval.results.record import Result
    from cosmos_eval.run.session import Session

GEOMETRY = "geometry.json"
BENCHMARK = "toybox-retrieval"
BENCHMARKS = (BENCHMARK, "toybox-classification", "toybox-perception")
"""The toybox benchmarks that the paper's ablation has. Segmentation would take longer than all of these."""
TITLES = {
    "alignment": "alignment, image and text",
    "alignment_image": "alignment, two crops",
    "alignment_text": "alignment, two texts",
    "uniformity_image": "uniformity, images",
    "uniformity_text": "uniformity, texts",
    "gap": "gap of the modalities",
}


@dataclass
class TrialEvaluator:
    """Evaluates one trial after the other, and renders the test sets only once.

    `limit` is the number of test images; None: all.
    """

    limit: int | None = None

    @cached_property
    def plan(self) -> Sequence[Any]:
        from cosmos_eval.run.plan import make_plan

        return make_plan(BENCHMARKS)

    @cached_property
    def session(self) -> "Session":
        from cosmos_eval.run.options import RunOptions
        from cosmos_eval.run.session import Session

        return Session(None, RunOptions(device="cpu", limit=self.limit))

    @cached_property
    def data(self) -> "RetrievalData":
        from cosmos_eval.datasets import load
        from cosmos_eval.datasets.data import RetrievalData
        from cosmos_eval.protocol.benchmark import load_benchmark

        data = load(load_benchmark(BENCHMARK), limit=self.limit)
        assert isinstance(data, RetrievalData)
        return data

    @cached_property
    def crops(self) -> "tuple[list[ArrayImage], list[ArrayImage]]":
        return two_crops(self.data.images)

    def results(self, folder: Path, label: str, network: str = "teacher") -> "list[Result]":
        """Evaluate one network of the checkpoint in a folder; results in `folder/results` that exist are kept."""
        self.session.out = folder / "results"
        return self.session.evaluate_model(f"cosmos:{folder / 'last.pt'}#{network}", self.plan, label=label)

    def geometry(self, folder: Path, network: str = "teacher") -> dict[str, float]:
        """Return, and save, alignment and uniformity (Wang & Isola, ICML 2020) by the keys of TITLES.

        Images are the whole images of the retrieval benchmark. `alignment`, `uniformity_text` and `gap` use the first
        of the two descriptions of an image. `alignment_text` is that of the two descriptions, and `alignment_image`
        that of two global crops of the preset, which are the same for every model. `gap` is the distance between the
        mean embeddings of the two modalities.
        """
        from cosmos_core.collapse import alignment, uniformity
        from cosmos_eval.engine import Engine
        from cosmos_eval.models import load_model

        saved = read(folder / GEOMETRY) or {}
        if network in saved:
            return saved[network]
        texts_of: list[list[str]] = [[] for _ in self.data.images]
        for text, image in zip(self.data.texts, self.data.image_of_text, strict=True):
            texts_of[image].append(text)
        engine = Engine(load_model(f"cosmos:{folder / 'last.pt'}#{network}", device="cpu"), batch_size=64)
        images = engine.image_features(self.data.images)
        texts, second_texts = (engine.text_features([both[i] for both in texts_of]) for i in (0, 1))
        first_crops, second_crops = (engine.image_features(crops) for crops in self.crops)
        figures = {
            "alignment": alignment(images, texts),
            "alignment_image": alignment(first_crops, second_crops),
            "alignment_text": alignment(texts, second_texts),
            "uniformity_image": uniformity(images),
            "uniformity_text": uniformity(texts),
            "gap": (images.mean(0) - texts.mean(0)).norm().item(),
        }
        figures = {name: round(value, 5) for name, value in figures.items()}
        write(folder / GEOMETRY, {**saved, network: figures})
        return figures


def two_crops(images: "Sequence[ImageSource]") -> "tuple[list[ArrayImage], list[ArrayImage]]":
    """Return two global crops of each image, drawn as in the preset with a generator seeded by the image's key."""
    from cosmos_core.config import load_preset
    from cosmos_eval.datasets.image_sources import ArrayImage

    crops = replace(load_preset(PRESET).views, global_crops=2, local_crops=0)
    views = [crops.pixels(image.load(), random.Random(image.key)) for image in images]
    first, second = (
        [ArrayImage(f"{image.key}/{i}", view[i]) for image, view in zip(images, views, strict=True)] for i in (0, 1)
    )
    return first, second
