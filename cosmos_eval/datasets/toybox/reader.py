"""The reader `toybox`: renders the data of a benchmark in memory, from a seed only."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cosmos_core.errors import RequestError
from cosmos_eval.datasets.data import ClassificationData, Data, PerceptionData, RetrievalData, SegmentationData
from cosmos_eval.datasets.dataset_checks import DatasetChecker
from cosmos_eval.datasets.image_folder import templates_by_class
from cosmos_eval.datasets.image_sources import ArrayImage
from cosmos_eval.datasets.masks import ArrayMask
from cosmos_eval.datasets.toybox.captioning import captions
from cosmos_eval.datasets.toybox.drawing import OBJECT_RGB, colour_mask, render
from cosmos_eval.datasets.toybox.hard_negatives import negatives
from cosmos_eval.datasets.toybox.scenes import SPLITS, Scene, make_scene, single_object_scene
from cosmos_eval.datasets.toybox.words import CLASSES, COLOURS

if TYPE_CHECKING:
    from cosmos_eval.protocol.benchmark import Benchmark

TEMPLATES = ("{c}", "large {c}", "a large {c}", "the {c} is large")
"""Prompt templates, used where a definition has none; in the words of toybox's captions."""

PALETTE = ((134, 134, 134), *(OBJECT_RGB[colour] for colour in COLOURS))
"""Colours of the segmentation classes in overlays: background, then the colours of objects."""

COMPLETE, LONG = "complete", "long"
"""Values of the option `captions`."""

SCENES, PER_CLASS, SIZE = 1000, 20, 64
"""Defaults of the options `scenes`, `per_class` and `size`."""


def read_toybox(benchmark: "Benchmark", data_root: Path = Path()) -> Data:
    """Render the data of a toybox benchmark; nothing is read from `data_root`.

    Options: `split`, `seed`, `size` (side in pixels, default 64); retrieval, perception and segmentation: `scenes`
    (number of scenes, default 1,000); classification: `per_class` (images of each class, default 20); retrieval:
    `captions` (complete or long).

    Retrieval has the `distinct_scenes`, each with its two complete descriptions, or with one long caption; perception
    has the same scenes and an item for each negative, with its kind as the subset; segmentation has the same scenes,
    with masks of colours.
    Classification has all images of the first class, then of the second, and so on; the definition's `prompts` may give
    48 other class names and other templates.

    Raises:
        DataProblems: the counts differ from those that the definition expects.
        RequestError: an unknown split, a number below its minimum, or a kind of data that toybox does not have.
    """
    checker = DatasetChecker(benchmark, data_root)
    counted, unused = ("per_class", "scenes") if benchmark.data_kind == "classification" else ("scenes", "per_class")
    if unused in checker.options:
        raise RequestError(
            f"{benchmark.name}: toybox has no dataset.{unused} for {benchmark.data_kind}; give {counted} instead"
        )
    split = checker.options.get("split", "test")
    if split not in SPLITS:
        raise RequestError(f"{benchmark.name}: toybox has the splits {', '.join(SPLITS)}, not {split!r}")
    seed, size = _read_number(benchmark, "seed", 0, minimum=0), _read_number(benchmark, "size", SIZE, minimum=8)
    caption_kind = checker.options.get("captions", COMPLETE)
    if caption_kind not in (COMPLETE, LONG) or ("captions" in checker.options and benchmark.data_kind != "retrieval"):
        raise RequestError(f"{benchmark.name}: dataset.captions is for retrieval, and is {COMPLETE} or {LONG}")
    from_scenes: dict[str, Callable[[Sequence[Scene], int], Data]] = {
        "retrieval": long_retrieval_data if caption_kind == LONG else retrieval_data,
        "perception": perception_data,
        "segmentation": segmentation_data,
    }
    if benchmark.data_kind in from_scenes:
        scenes = distinct_scenes(seed, split, _read_number(benchmark, "scenes", SCENES))
        return checker.finish(from_scenes[benchmark.data_kind](scenes, size))
    if benchmark.data_kind == "classification":
        prompts = benchmark.resolve_prompts()
        class_names = list(prompts.class_names or CLASSES) if not isinstance(prompts.class_names, dict) else None
        if class_names is None or len(class_names) != len(CLASSES):
            checker.refuse(
                f"needs a list of {len(CLASSES)} names as prompts.class_names, in toybox's order; correct it, or leave "
                "it out for toybox's own names"
            )
        data = classification_data(class_scenes(seed, split, _read_number(benchmark, "per_class", PER_CLASS)), size)
        templates = templates_by_class(prompts.templates or list(TEMPLATES), class_names, checker)
        return checker.finish(replace(data, class_names=class_names, templates=templates))
    raise RequestError(f"{benchmark.name}: toybox has no data for {benchmark.data_kind}")


def distinct_scenes(seed: int, split: str, n: int) -> list[Scene]:
    """Return the first n scenes of a split and seed, without those whose content equals that of an earlier one.

    So no two images of a retrieval benchmark have the same complete description.
    """
    by_signature: dict[str, Scene] = {}
    index = 0
    while len(by_signature) < n:
        scene = make_scene(seed, split, index)
        by_signature.setdefault(scene.signature(), scene)
        index += 1
    return list(by_signature.values())


def class_scenes(seed: int, split: str, per_class: int) -> list[tuple[int, Scene]]:
    """Return (label, scene) of `per_class` images of each class, in the order of the classes."""
    return [
        (label, single_object_scene(seed, split, label, index))
        for label in range(len(CLASSES))
        for index in range(per_class)
    ]


def retrieval_data(scenes: Sequence[Scene], size: int = SIZE) -> RetrievalData:
    """Return each scene's image with its two complete descriptions."""
    texts = [text for scene in scenes for text in captions(scene).full]
    return RetrievalData(_images(scenes, size), texts, np.repeat(np.arange(len(scenes)), 2))


def long_retrieval_data(scenes: Sequence[Scene], size: int = SIZE) -> RetrievalData:
    """Return each scene's image with one caption: the sentences of its three long descriptions."""
    texts = [". ".join(sentence for long in captions(scene).long for sentence in long) + "." for scene in scenes]
    return RetrievalData(_images(scenes, size), texts, np.arange(len(scenes)))


def perception_data(scenes: Sequence[Scene], size: int = SIZE) -> PerceptionData:
    """Return an item for each negative of each scene; the group `of three` joins the kinds to replace, swap and add."""
    items = [(image, negative) for image, scene in enumerate(scenes) for negative in negatives(scene)]
    return PerceptionData.pairs(
        images=_images(scenes, size),
        item_image=[image for image, _ in items],
        positives=[negative.positive for _, negative in items],
        negatives=[negative.negative for _, negative in items],
        subsets=[negative.kind for _, negative in items],
        groups={"of three": [negative.kind.partition("_")[0] for _, negative in items]},
    )


def segmentation_data(scenes: Sequence[Scene], size: int = SIZE) -> SegmentationData:
    """Return each scene's image with a mask of the colours of its objects; the background is class 0."""
    return SegmentationData(
        images=_images(scenes, size),
        masks=[ArrayMask(scene.key, colour_mask(scene, size)) for scene in scenes],
        class_names=("background", *COLOURS),
        palette=PALETTE,
    )


def classification_data(labelled: Sequence[tuple[int, Scene]], size: int = SIZE) -> ClassificationData:
    """Return images of one large object each, with toybox's class names and templates.

    Args:
        labelled: (label, scene) of each image.
    """
    labels = np.array([label for label, _ in labelled], dtype=np.int64)
    return ClassificationData(_images([scene for _, scene in labelled], size), labels, CLASSES, TEMPLATES)


def _images(scenes: Sequence[Scene], size: int) -> list[ArrayImage]:
    return [ArrayImage(scene.key, render(scene, size)) for scene in scenes]


def _read_number(benchmark: "Benchmark", key: str, default: int, minimum: int = 1) -> int:
    value = benchmark.dataset.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise RequestError(
            f"{benchmark.name}: dataset.{key} must be a whole number of at least {minimum}, not {value!r}"
        )
    return value
