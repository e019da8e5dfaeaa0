"""Evaluates zero-shot segmentation; protocol and tie rule are described in `cosmos_eval.tasks.segmentation`."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_core.printable import plural
from cosmos_eval.datasets.class_order import normalize_class_name
from cosmos_eval.datasets.data import SegmentationData
from cosmos_eval.engine.dense import DenseFeatures, chunk_size
from cosmos_eval.engine.device_copies import copy_to_device
from cosmos_eval.engine.engine import Engine
from cosmos_eval.engine.scores import require_equal_dimensions
from cosmos_eval.engine.text_batches import consecutive_batches
from cosmos_eval.engine.truncation import truncated_alike
from cosmos_eval.metrics.bootstrap import Estimator
from cosmos_eval.metrics.iou import (
    IGNORED,
    PixelCounts,
    class_iou,
    collect_pixel_counts,
    count_class_pixels,
    count_class_pixels_on_device,
    estimate_pixel_proportion,
    segmentation_metrics,
)
from cosmos_eval.metrics.similarity import COLLAPSED
from cosmos_eval.models.abilities import require_patch_encoder
from cosmos_eval.progress import Reporter, Silent
from cosmos_eval.protocol.benchmark import Benchmark
from cosmos_eval.tasks.class_table import class_table, distinguish_names
from cosmos_eval.tasks.common import Measured, collapse_warnings, primary_metric
from cosmos_eval.tasks.outcome import Outcome
from cosmos_eval.tasks.prompts import build_class_embeddings
from cosmos_eval.tasks.segmentation import reported_metrics
from cosmos_eval.tasks.segmentation.feature_range import FeatureRange, all_features_equal
from cosmos_eval.tasks.segmentation.label_maps import LabelMapPredictor
from cosmos_eval.tasks.segmentation.true_labels import TrueLabels

PRIMARY = "miou"
"""The primary metric if a definition names none."""


@dataclass(frozen=True)
class SegmentedImage:
    """The predicted label map of one image beside its true one, both (H, W) at the image's own size."""

    index: int
    """Of the image in the dataset."""
    predicted_labels: np.ndarray
    true_labels: np.ndarray
    """The labels of the mask; 255 for ignored pixels."""
    areas: np.ndarray
    """(3, C) int64 pixels of each class: intersection, prediction, label (`cosmos_eval.metrics.iou`)."""


def validate(benchmark: Benchmark, data: SegmentationData) -> None:
    """Check that segmentation can be evaluated on this data.

    Raises:
        RequestError: not one entry of query words for each class, entries in another order than the classes, too many
            classes, not one mask for each image, or a primary metric that is not reported.
    """
    prompts = benchmark.resolve_prompts()
    words_of_class = prompts.query_words
    class_count = len(data.class_names)
    if len(words_of_class) != class_count:
        raise RequestError(
            f"{benchmark.name}: prompts.words has {plural(len(words_of_class), 'entry', 'entries')} for "
            f"{plural(class_count, 'class', 'classes')}; write one entry for each class, in the order of the classes"
        )
    for i, (named, name) in enumerate(zip(prompts.query_classes, data.class_names, strict=False)):
        if normalize_class_name(named) != normalize_class_name(name):
            raise RequestError(
                f"{benchmark.name}: prompts.words has the class {named!r} at number {i}, but class {i} of the data is "
                f"{name!r}; write the classes in the order of the data"
            )
    _require_class_order(benchmark, data, words_of_class)
    if class_count > IGNORED:
        raise RequestError(
            f"{benchmark.name}: {class_count} classes, but at most {IGNORED} are possible, since {IGNORED} is the "
            "label of ignored pixels"
        )
    if len(data.masks) != len(data.images) or not len(data.images):
        raise RequestError(
            f"{benchmark.name}: {plural(len(data.images), 'image')} with {plural(len(data.masks), 'mask')}; give one "
            "mask for each image, and at least one"
        )
    primary_metric(benchmark, reported_metrics(unique_class_names(data)), PRIMARY)


def _require_class_order(benchmark: Benchmark, data: SegmentationData, words_of_class: Sequence[Sequence[str]]) -> None:
    """Check that no entry of `prompts.words` has the name of another class.

    Words are matched to classes by position, so that two exchanged entries would give wrong numbers without an error.
    A class's name may be a word of several classes, provided that it is one of the class's own words.

    Raises:
        RequestError: names the first word at the position of another class.
    """
    class_keys = [normalize_class_name(name) for name in data.class_names]
    class_of_key = {key: i for i, key in enumerate(class_keys)}
    for i, words in enumerate(words_of_class):
        for word in words:
            named_class = class_of_key.get(normalize_class_name(word), i)
            own_words = map(normalize_class_name, words_of_class[named_class])
            if named_class != i and class_keys[named_class] not in own_words:
                raise RequestError(
                    f"{benchmark.name}: prompts.words has {word!r} at number {i}, which is the class "
                    f"{data.class_names[i]!r}, and {words_of_class[named_class][0]!r} at number {named_class}, which "
                    f"is the class {data.class_names[named_class]!r}; write them in the order of the classes"
                )


def predict_label_maps(benchmark: Benchmark, data: SegmentationData, engine: Engine) -> Iterator[SegmentedImage]:
    """Predict the label map of every image, in the dataset's order.

    Raises:
        RequestError: a model without patch features, an image or mask that cannot be read, a mask of another size than
            its image, or a label that is not a class; names the image.
    """
    # Raises for a model without patch features, or without this attention, before any text is encoded.
    require_patch_encoder(engine.model, benchmark.settings["attention"])
    queries, class_of_query = encode_query_words(benchmark, engine)
    yield from _predict_images(benchmark, data, engine, LabelMapPredictor(queries, class_of_query, benchmark.settings))


def _predict_images(
    benchmark: Benchmark,
    data: SegmentationData,
    engine: Engine,
    label_maps: LabelMapPredictor,
    on_features: Callable[[Tensor], None] = lambda features: None,
    reporter: Reporter | None = None,
) -> Iterator[SegmentedImage]:
    """As `predict_label_maps`.

    Args:
        on_features: called with the (N, D) patch features of each image.
        reporter: shows the progress in place of the engine's reporter.
    """
    for dense, predicted in _predict_on_device(benchmark, data, engine, label_maps, on_features, reporter):
        assert dense.target is not None
        predicted_labels, true_labels = predicted.cpu().numpy(), dense.target.numpy()
        areas = count_class_pixels(predicted_labels, true_labels, len(data.class_names))
        yield SegmentedImage(dense.index, predicted_labels, true_labels, areas)


def _count_areas(
    benchmark: Benchmark,
    data: SegmentationData,
    engine: Engine,
    label_maps: LabelMapPredictor,
    on_features: Callable[[Tensor], None],
    reporter: Reporter | None,
) -> Iterator[Tensor]:
    """As `predict_label_maps`, but yield the areas (3, C) of each image only, on the engine's device.

    On an accelerator pixels are counted there: copying each label map would make it wait for the host.
    """
    for dense, predicted in _predict_on_device(benchmark, data, engine, label_maps, on_features, reporter):
        assert dense.target is not None
        if predicted.device.type == "cpu":
            counts = count_class_pixels(predicted.numpy(), dense.target.numpy(), len(data.class_names))
            yield torch.from_numpy(counts)
        else:
            true_labels = copy_to_device(dense.target, predicted.device)
            yield count_class_pixels_on_device(predicted, true_labels, len(data.class_names))


def _predict_on_device(
    benchmark: Benchmark,
    data: SegmentationData,
    engine: Engine,
    label_maps: LabelMapPredictor,
    on_features: Callable[[Tensor], None],
    reporter: Reporter | None,
) -> Iterator[tuple[DenseFeatures, Tensor]]:
    """Yield each image, with its true labels as `target`, and its predicted label map (H, W) on the engine's device."""
    settings = benchmark.settings
    keep_pixels = bool(settings["pamr_steps"])
    masks = TrueLabels.of(benchmark, data)
    for dense in engine.window_features(data.images, settings, keep_pixels, reporter, masks):
        require_equal_dimensions(benchmark.name, dense.features.shape[-1], label_maps.queries.shape[1], "patch")
        on_features(dense.features.flatten(0, -2))
        yield dense, label_maps.predict_on_device(dense)


def encode_query_words(benchmark: Benchmark, engine: Engine) -> tuple[Tensor, Tensor]:
    """(Q, D) embeddings of all query words, each the normalised mean of its prompts, and (Q,) the class of each."""
    prompts = benchmark.resolve_prompts()
    words = [word for words_of_class in prompts.query_words for word in words_of_class]
    class_of_word = [c for c, words_of_class in enumerate(prompts.query_words) for _ in words_of_class]
    if not prompts.templates or isinstance(prompts.templates, dict):
        raise RequestError(
            f"{benchmark.name}: prompts.templates must be a list of templates, or the name of a built-in list"
        )
    return build_class_embeddings(engine, words, prompts.templates), torch.tensor(class_of_word)


@dataclass(frozen=True)
class _SharedInput:
    """What the evaluation of every chunk of a dataset needs; sent to all ranks once."""

    benchmark: Benchmark
    data: SegmentationData
    """Without images and masks, which the chunks hold."""
    queries: Tensor
    class_of_query: Tensor


def evaluate_chunks(
    engine: Engine, shared: _SharedInput, chunks: Iterable[SegmentationData]
) -> Iterator[tuple[list[np.ndarray], FeatureRange]]:
    """Evaluate chunks of a dataset: the work of one rank.

    Yields:
        for each chunk the (3, C) areas of each of its images, and the range of its patch features.
    """
    chunks = list(chunks)
    if not chunks:
        return
    images = [image for chunk in chunks for image in chunk.images]
    masks = [mask for chunk in chunks for mask in chunk.masks]
    data = replace(shared.data, images=images, masks=masks)
    label_maps = LabelMapPredictor(shared.queries.to(engine.device), shared.class_of_query, shared.benchmark.settings)
    # With several ranks, rank 0 shows the progress of whole chunks (`_evaluate_images`).
    reporter = Silent() if engine.ranks.size > 1 else None

    def add_to_range(features: Tensor) -> None:
        feature_range.add(features)  # the range of the chunk at hand, assigned in the loop below

    # One generator for all chunks, so that images are decoded ahead across the borders of chunks. Generators are lazy:
    # an image is predicted when `islice` requests it, so its features go into the range of its own chunk.
    all_areas = _count_areas(shared.benchmark, data, engine, label_maps, add_to_range, reporter)
    for chunk in chunks:
        feature_range = FeatureRange()
        areas = torch.stack(list(islice(all_areas, len(chunk.images)))).cpu()  # one copy for the whole chunk
        yield list(areas.numpy()), feature_range.cpu()
    for _ in all_areas:
        raise AssertionError("more predictions than images")


def run(benchmark: Benchmark, data: SegmentationData, engine: Engine, seed: int = 0) -> Outcome:
    """Evaluate a model on a segmentation benchmark.

    `samples` has one row per image and class that is labelled or predicted in it:

    - `image`: the image's key
    - `class`, `name`: index and name of the class
    - `intersection`, `prediction`, `label`: pixels that are correct, predicted and labelled.

    Intervals resample images.

    Args:
        seed: seed of the bootstrap resampling.
    """
    # Raises for a model without patch features, or without this attention, before any text is encoded.
    require_patch_encoder(engine.model, benchmark.settings["attention"])
    queries, class_of_query = encode_query_words(benchmark, engine)
    shared = _SharedInput(benchmark, replace(data, images=(), masks=()), queries.cpu(), class_of_query)
    areas, feature_ranges = _evaluate_images(shared, data, engine)
    names = unique_class_names(data)
    pixel_counts = collect_pixel_counts(areas, len(names))
    total_counts = pixel_counts.total()
    if not total_counts[2].any():
        raise RequestError(
            f"{benchmark.name}: no pixel of any mask has a class, all are ignored; check the masks and the definition"
        )

    measured = Measured(len(data.images))
    resampled = _ResampledPixelCounts(pixel_counts)
    for name, value in segmentation_metrics(total_counts).items():
        measured.share(
            name, value, len(data.images), resampled.summary(name), estimate_pixel_proportion(pixel_counts, name)
        )
    iou = class_iou(total_counts)
    for c in np.flatnonzero(~np.isnan(iou)).tolist():
        proportion = estimate_pixel_proportion(pixel_counts, "miou", c)
        measured.share(f"{names[c]}/iou", float(iou[c]), len(data.images), resampled.iou(c), proportion)
    metrics = measured.metrics(seed)

    samples = pd.DataFrame(
        {
            "image": [data.images[i].key for i in pixel_counts.image.tolist()],
            "class": pixel_counts.label,
            "name": [names[c] for c in pixel_counts.label.tolist()],
            "intersection": pixel_counts.counts[:, 0],
            "prediction": pixel_counts.counts[:, 1],
            "label": pixel_counts.counts[:, 2],
        }
    )
    warnings = collapse_warnings({"words": queries}, truncated_alike(engine, "words"))
    if all_features_equal(feature_ranges):
        warnings += (f"collapsed: the features of all patches lie within {COLLAPSED:g} of each other",)
    primary = primary_metric(benchmark, metrics, PRIMARY)
    prompts = benchmark.resolve_prompts()
    images_with_class = np.bincount(pixel_counts.label[pixel_counts.counts[:, 2] > 0], minlength=len(names)).tolist()
    of_class = [metrics.get(f"{name}/iou") for name in names]
    templates = list(prompts.templates or ())  # a list: `encode_query_words` refuses a map
    classes = class_table("iou", names, images_with_class, of_class, templates, prompts.query_words)
    return Outcome(metrics=metrics, samples=samples, primary=primary, warnings=warnings, classes=classes)


def _evaluate_images(
    shared: _SharedInput, data: SegmentationData, engine: Engine
) -> tuple[list[np.ndarray], list[FeatureRange]]:
    """Evaluate all images, on all ranks.

    Returns:
        the (3, C) areas of every image in the dataset's order, and the range of the patch features of each chunk.
    """
    plan = consecutive_batches(len(data.images), chunk_size(engine.batch_size))
    chunks = [
        replace(shared.data, images=[data.images[i] for i in members], masks=[data.masks[i] for i in members])
        for members in plan
    ]
    results: dict[int, tuple[list[np.ndarray], FeatureRange]] = {}
    reporter = engine.reporter if engine.ranks.size > 1 else Silent()  # one process shows each image: `_count_areas`
    with reporter.task("encoding windows", len(data.images), "images") as advance:
        for number, result in engine.ranks.distribute(evaluate_chunks, shared, chunks):
            results[number] = result
            advance(len(plan[number]))
    in_dataset_order = [results[number] for number in range(len(plan))]
    areas = [image_areas for areas_of_chunk, _ in in_dataset_order for image_areas in areas_of_chunk]
    return areas, [feature_range for _, feature_range in in_dataset_order]


class _ResampledPixelCounts:
    """Pixel counts summed over a bootstrap resample, computed once for all metrics of that resample.

    `bootstrap_intervals` calls every estimator with the same array of draws, then all of them with the next one.
    """

    def __init__(self, pixel_counts: PixelCounts) -> None:
        self.pixel_counts = pixel_counts
        self.drawn: np.ndarray | None = None
        self.total_of_drawn = np.zeros(0)

    def total(self, drawn: np.ndarray) -> np.ndarray:
        """(3, C) pixel counts summed over images, image i counted `drawn[i]` times."""
        if self.drawn is not drawn:
            self.drawn, self.total_of_drawn = drawn, self.pixel_counts.total(drawn)
        return self.total_of_drawn

    def summary(self, name: str) -> Estimator:
        """The estimator of `miou`, `pixel_accuracy` or `mean_accuracy`."""
        return lambda drawn: segmentation_metrics(self.total(drawn))[name]

    def iou(self, c: int) -> Estimator:
        """The estimator of the IoU of class `c`."""
        return lambda drawn: float(class_iou(self.total(drawn)[:, [c]])[0])


def unique_class_names(data: SegmentationData) -> list[str]:
    """The names of the classes; where several have one name, with their numbers appended."""
    return distinguish_names(data.class_names)
