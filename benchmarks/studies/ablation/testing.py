"""What a leg is tested on: toybox's images and texts as wholes, and the geometry of their embeddings. Test sets are
rendered once."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.studies.ablation.files import read, write
from benchmarks.studies.ablation.rows import PRESET

if TYPE_CHECKING:
    from cosmos_eval.datasets.base import ImageSource
    from cosmos_eval.datasets.data import RetrievalData
    from cosmos_eval.results.record import Result
    from cosmos_eval.run.session import Session

GEOMETRY = "geometry.json"
BENCHMARK = "toybox-retrieval"
BENCHMARKS = (BENCHMARK, "toybox-classification", "toybox-perception")
"""Of the toybox suite those that the paper's ablation is about; label maps take longer than all of them together."""
TITLES = {
    "alignment": "alignment, image and text",
    "alignment_image": "alignment, two crops",
    "alignment_text": "alignment, two texts",
    "uniformity_image": "uniformity, images",
    "uniformity_text": "uniformity, texts",
    "gap": "gap of the modalities",
}


@dataclass
class Examiner:
    """Tests one leg after the other; `limit` is the number of test images, None for all."""

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
    def crops(self) -> "tuple[list[ImageSource], list[ImageSource]]":
        return two_crops(self.data.images)

    def results(self, folder: Path, label: str, network: str = "teacher") -> "list[Result]":
        """The results for one network of the folder's checkpoint, in `folder/results`; those there are kept."""
        self.session.out = folder / "results"
        return self.session.measure(f"cosmos:{folder / 'last.pt'}#{network}", self.plan, label=label)

    def geometry(self, folder: Path, network: str = "teacher") -> dict[str, float]:
        """Alignment and uniformity (Wang & Isola, ICML 2020) by the keys of TITLES; kept in the folder once known.

        Images are the retrieval benchmark's, whole. `alignment`, `uniformity_text` and `gap` take the first of the
        two descriptions of each; `alignment_text` is that of the two, `alignment_image` that of two global crops as
        the preset draws them, the same for every model. `gap` is the distance between the modalities' mean rows.
        """
        from cosmos_core.collapse import alignment, uniformity
        from cosmos_eval.engine import Engine
        from cosmos_eval.models import load_model

        known = read(folder / GEOMETRY) or {}
        if network in known:
            return known[network]
        texts_of: list[list[str]] = [[] for _ in self.data.images]
        for text, image in zip(self.data.texts, self.data.image_of_text, strict=True):
            texts_of[image].append(text)
        engine = Engine(load_model(f"cosmos:{folder / 'last.pt'}#{network}", device="cpu"), batch_size=64)
        images = engine.image_features(self.data.images)
        texts, others = (engine.text_features([some[i] for some in texts_of]) for i in (0, 1))
        first, second = (engine.image_features(crop) for crop in self.crops)
        found = {
            "alignment": alignment(images, texts),
            "alignment_image": alignment(first, second),
            "alignment_text": alignment(texts, others),
            "uniformity_image": uniformity(images),
            "uniformity_text": uniformity(texts),
            "gap": (images.mean(0) - texts.mean(0)).norm().item(),
        }
        found = {name: round(value, 5) for name, value in found.items()}
        write(folder / GEOMETRY, {**known, network: found})
        return found


def two_crops(images: "Sequence[ImageSource]") -> "tuple[list[ImageSource], list[ImageSource]]":
    """Two global crops of each image, as the preset draws them; the draws hang on the image's key alone."""
    from cosmos_core.config import load_preset
    from cosmos_eval.datasets.base import ArrayImage

    crops = replace(load_preset(PRESET).views, global_crops=2, local_crops=0)
    views = [crops.pixels(image.load(), random.Random(image.key)) for image in images]
    first, second = (
        [ArrayImage(f"{p.key}/{i}", view[i]) for p, view in zip(images, views, strict=True)] for i in (0, 1)
    )
    return first, second
