"""Zero-shot segmentation with sliding windows (SCLIP, Wang et al., ECCV 2024, arXiv 2312.01597), as COSMOS evaluates.

Every query word is the mean of its prompts; a patch's logits are its cosines with the words. Metrics are those of
mmsegmentation: areas summed over the set, mean IoU over the classes that occur. A model that gives one feature for
everything puts every pixel into one class, which earns that class's share of the pixels over the number of classes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_eval.datasets.class_order import name_key
from cosmos_eval.datasets.data import SegmentationData
from cosmos_eval.engine.dense import chunk_size
from cosmos_eval.engine.features import Engine
from cosmos_eval.engine.texts import in_order
from cosmos_eval.engine.truncation import except_cut_alike
from cosmos_eval.metrics.areas import IGNORED, PresentAreas, area_evidence, class_areas, class_iou, present, summary
from cosmos_eval.metrics.intervals import Estimator
from cosmos_eval.metrics.similarity import COLLAPSED
from cosmos_eval.models.base import patch_encoder
from cosmos_eval.progress import Reporter, Silent
from cosmos_eval.protocol.benchmark import Benchmark
from cosmos_eval.tasks.common import Measured, collapse_warnings, primary_metric, refuse_widths
from cosmos_eval.tasks.outcome import Outcome
from cosmos_eval.tasks.prompts import class_weights
from cosmos_eval.tasks.segmentation import names_for
from cosmos_eval.tasks.segmentation.label_maps import LabelMaps

PRIMARY = "miou"


@dataclass(frozen=True)
class Prediction:
    """What came out for one image. Both maps are (H, W) at the image's own size."""

    index: int
    """Of the image in the dataset."""
    predicted: np.ndarray
    truth: np.ndarray
    areas: np.ndarray
    """(3, C) int64: intersection, prediction, label; see `cosmos_eval.metrics.areas`."""


def validate(benchmark: Benchmark, data: SegmentationData) -> None:
    """RequestError for masks that are not the images', not as many words as classes, or an unknown primary metric."""
    words = benchmark.words().query_words
    keys = [name_key(name) for name in data.class_names]
    places = {key: i for i, key in enumerate(keys)}
    if len(words) != len(data.class_names):
        raise RequestError(
            f"{benchmark.name}: prompts.words has {len(words)} entries for {len(data.class_names)} classes"
        )
    for i, own in enumerate(words):
        for word in own:
            there = places.get(name_key(word), i)
            if there != i and keys[there] not in map(name_key, words[there]):
                raise RequestError(
                    f"{benchmark.name}: prompts.words has {word!r} at number {i}, which is the class "
                    f"{data.class_names[i]!r}, and {words[there][0]!r} at the place of {data.class_names[there]!r}; "
                    "write them in the order of the classes"
                )
    if len(words) > IGNORED:
        raise RequestError(f"{benchmark.name}: {len(words)} classes; {IGNORED} is the label of ignored pixels")
    if len(data.masks) != len(data.images) or not len(data.images):
        raise RequestError(f"{benchmark.name}: {len(data.images):,} images with {len(data.masks):,} masks")
    primary_metric(benchmark, names_for(class_labels(data)), PRIMARY)


def predictions(benchmark: Benchmark, data: SegmentationData, engine: Engine) -> Iterator[Prediction]:
    """The label map of every image, in the dataset's order.

    Raises:
        RequestError: a model without patch features, an image or mask that cannot be read, a mask of another size than
            its image or with a label that is no class; names the image.
    """
    patch_encoder(engine.model)  # a model without patches is refused before any text is encoded
    queries, of_class = query_features(benchmark, engine)
    yield from _predictions(benchmark, data, engine, LabelMaps(queries, of_class, benchmark.settings))


def _predictions(
    benchmark: Benchmark,
    data: SegmentationData,
    engine: Engine,
    maps: LabelMaps,
    see: Callable[[Tensor], None] = lambda rows: None,
    reporter: Reporter | None = None,
) -> Iterator[Prediction]:
    """`predictions` by label maps that stand; `see` is shown the (N, D) features of each image."""
    settings = benchmark.settings
    keep_pixels = bool(settings["pamr_steps"])
    for dense in engine.window_features(data.images, settings, keep_pixels=keep_pixels, reporter=reporter):
        refuse_widths(benchmark, dense.features.shape[-1], maps.queries.shape[1], "a patch")
        see(dense.features.flatten(0, -2))
        truth = truth_of(benchmark, data, dense.index, dense.original)
        predicted = maps.predict(dense)
        yield Prediction(dense.index, predicted, truth, class_areas(predicted, truth, len(data.class_names)))


@dataclass
class Spread:
    """Between which values features lie, to know whether they differ at all."""

    first: Tensor = field(default_factory=lambda: torch.empty(0))
    """(D,) of the first."""
    low: Tensor = field(default_factory=lambda: torch.empty(0))
    high: Tensor = field(default_factory=lambda: torch.empty(0))
    wide: bool = False
    """Whether they differ for sure; no more are looked at then."""

    def add(self, rows: Tensor) -> None:
        """Look at (N, D) rows."""
        if self.wide:
            return
        low, high = rows.amin(0), rows.amax(0)
        if not len(self.first):
            self.first, self.low, self.high = rows[0].clone(), low, high
        self.low, self.high = torch.minimum(self.low, low), torch.maximum(self.high, high)
        self.wide = bool((self.high - self.low).amax() >= 2 * COLLAPSED)

    def cpu(self) -> "Spread":
        return Spread(self.first.cpu(), self.low.cpu(), self.high.cpu(), self.wide)


def collapsed(spreads: Sequence[Spread]) -> bool:
    """Whether all features lie within rounding of the first."""
    first = spreads[0].first
    return all(
        not one.wide and bool(torch.maximum(one.high - first, first - one.low).amax() < COLLAPSED) for one in spreads
    )


@dataclass(frozen=True)
class _Common:
    """What all chunks of a dataset share."""

    benchmark: Benchmark
    data: SegmentationData
    """Without its images and masks."""
    queries: Tensor
    of_class: Tensor


def areas_of_chunks(
    engine: Engine, common: _Common, chunks: Iterable[SegmentationData]
) -> Iterator[tuple[list[np.ndarray], Spread]]:
    """The areas of each image of a chunk, and how its features lie: what one rank does."""
    some = list(chunks)
    if not some:
        return
    images, masks = ([one for chunk in some for one in getattr(chunk, part)] for part in ("images", "masks"))
    maps = LabelMaps(common.queries.to(engine.device), common.of_class, common.benchmark.settings)
    data = replace(common.data, images=images, masks=masks)
    reporter = Silent() if engine.crew.size > 1 else None  # whole chunks are shown there, of all ranks
    made = _predictions(common.benchmark, data, engine, maps, lambda rows: spread.add(rows), reporter)
    for chunk in some:
        spread = Spread()
        yield [prediction.areas for prediction in islice(made, len(chunk.images))], spread.cpu()
    for _ in made:
        raise AssertionError("more predictions than images")


def query_features(benchmark: Benchmark, engine: Engine) -> tuple[Tensor, Tensor]:
    """(Q, D) rows of unit length, a query word each: the mean of its prompts; and (Q,) the class of each."""
    words = benchmark.words()
    queries = [word for own in words.query_words for word in own]
    of_class = [c for c, own in enumerate(words.query_words) for _ in own]
    if not words.templates or isinstance(words.templates, dict):
        raise RequestError(f"{benchmark.name}: prompts.templates must be a list of templates, or a named set of them")
    return class_weights(engine, queries, words.templates), torch.tensor(of_class)


def truth_of(benchmark: Benchmark, data: SegmentationData, index: int, size: tuple[int, int]) -> np.ndarray:
    """The (H, W) labels of one image, checked."""
    key, classes = data.images[index].key, len(data.class_names)
    labels = data.masks[index].hashed_labels()
    if tuple(labels.shape) != tuple(size):
        raise RequestError(
            f"{benchmark.name}: the mask of {key} has {_size(labels.shape)} pixels and its image {_size(size)}; "
            "mend the files"
        )
    known = labels[labels != IGNORED]
    if known.size and not (known.min() >= 0 and known.max() < classes):
        wrong = int(known[(known < 0) | (known >= classes)][0])
        raise RequestError(
            f"{benchmark.name}: the mask of {key} has the label {wrong}, classes are 0 to {classes - 1} and {IGNORED} "
            "is ignored; mend the file, or prepare the masks again"
        )
    return labels


def run(benchmark: Benchmark, data: SegmentationData, engine: Engine, seed: int = 0) -> Outcome:
    """Mean IoU, pixel accuracy, mean accuracy, and the IoU of every class that occurs.

    `samples` has a row for each image and each class that is in it or predicted in it: `image`, `class` (its
    index), `name`, and the areas `intersection`, `prediction` and `label` in pixels.
    """
    patch_encoder(engine.model)  # a model without patches is refused before any text is encoded
    queries, of_class = query_features(benchmark, engine)
    common = _Common(benchmark, replace(data, images=(), masks=()), queries.cpu(), of_class)
    areas, spreads = _areas(common, data, engine)
    names = class_labels(data)
    entries = present(areas, len(names))
    total = entries.total()
    if not total[2].any():
        raise RequestError(f"{benchmark.name}: no pixel of any mask has a class; all are ignored")
    measured = Measured(len(data.images))
    shared = _Resampled(entries)
    for name, value in summary(total).items():
        measured.share(name, value, len(data.images), shared.summary(name), area_evidence(entries, name))
    for c in np.flatnonzero(~np.isnan(class_iou(total))).tolist():
        value, evidence = float(class_iou(total)[c]), area_evidence(entries, "miou", c)
        measured.share(f"{names[c]}/iou", value, len(data.images), shared.iou(c), evidence)
    metrics = measured.metrics(seed)
    samples = pd.DataFrame(
        {
            "image": [data.images[i].key for i in entries.image.tolist()],
            "class": entries.label,
            "name": [names[c] for c in entries.label.tolist()],
            "intersection": entries.areas[:, 0],
            "prediction": entries.areas[:, 1],
            "label": entries.areas[:, 2],
        }
    )
    warnings = collapse_warnings({"words": queries}, except_cut_alike(engine, "words"))
    if collapsed(spreads):
        warnings += (f"collapsed: the features of all patches lie within {COLLAPSED:g} of each other",)
    primary = primary_metric(benchmark, metrics, PRIMARY)
    return Outcome(metrics=metrics, samples=samples, primary=primary, warnings=warnings)


def _areas(common: _Common, data: SegmentationData, engine: Engine) -> tuple[list[np.ndarray], list[Spread]]:
    """The areas of every image in the dataset's order, and how the features of each chunk lie."""
    plan = in_order(len(data.images), chunk_size(engine.batch_size))
    chunks = [
        replace(common.data, images=[data.images[i] for i in places], masks=[data.masks[i] for i in places])
        for places in plan
    ]
    found: dict[int, tuple[list[np.ndarray], Spread]] = {}
    shown = engine.reporter if engine.crew.size > 1 else Silent()
    with shown.task("encoding windows", len(data.images), "images") as advance:
        for number, value in engine.crew.share(areas_of_chunks, common, chunks):
            found[number] = value
            advance(len(plan[number]))
    in_turn = [found[number] for number in range(len(plan))]
    return [areas for own, _ in in_turn for areas in own], [spread for _, spread in in_turn]


class _Resampled:
    """Summed areas of a resample, added up once for all the metrics that read them."""

    def __init__(self, entries: PresentAreas) -> None:
        self.entries = entries
        self.drawn: np.ndarray | None = None
        self.total = np.zeros(0)

    def of(self, drawn: np.ndarray) -> np.ndarray:
        """(3, C)"""
        if self.drawn is not drawn:
            self.drawn, self.total = drawn, self.entries.total(drawn)
        return self.total

    def summary(self, name: str) -> Estimator:
        return lambda drawn: summary(self.of(drawn))[name]

    def iou(self, c: int) -> Estimator:
        return lambda drawn: float(class_iou(self.of(drawn)[:, [c]])[0])


def class_labels(data: SegmentationData) -> list[str]:
    """The names of the classes, told apart by their number where two are the same."""
    names = list(data.class_names)
    return [name if names.count(name) == 1 else f"{name} ({c})" for c, name in enumerate(names)]


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
