"""The reader `toybox`: a benchmark's data made in memory, from a seed and nothing else."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cosmos_core.errors import RequestError
from cosmos_eval.datasets.base import ArrayImage, ArrayMask
from cosmos_eval.datasets.data import ClassificationData, Data, PerceptionData, RetrievalData, SegmentationData
from cosmos_eval.datasets.dataset_checks import Survey
from cosmos_eval.datasets.folders import templates_by_class
from cosmos_eval.datasets.toybox.contrasts import negatives
from cosmos_eval.datasets.toybox.drawing import OBJECT_RGB, colour_mask, render
from cosmos_eval.datasets.toybox.scenes import SPLITS, Scene, make_scene, single_object_scene
from cosmos_eval.datasets.toybox.sentences import captions
from cosmos_eval.datasets.toybox.words import CLASSES, COLOURS

if TYPE_CHECKING:
    from cosmos_eval.protocol.benchmark import Benchmark

TEMPLATES = ("{c}", "large {c}", "a large {c}", "the {c} is large")
"""Prompts of a definition that asks for the dataset's own; in the words of toybox's captions."""

PALETTE = ((134, 134, 134), *(OBJECT_RGB[colour] for colour in COLOURS))
"""Colours of the masks' classes: background, then the objects' own."""

SCENES, PER_CLASS, SIZE = 1000, 20, 64
"""What a definition that does not say it reads: scenes, images of a class, pixels of a side."""


def read_toybox(benchmark: "Benchmark", data_root: Path = Path()) -> Data:
    """The data of a toybox benchmark; nothing is read from `data_root`.

    Options: `split`, `seed`, `size` (pixels of a side, 64); retrieval, perception and segmentation: `scenes` (1,000);
    classification: `per_class` (20). Retrieval: `distinct_scenes`, each with its two complete descriptions.
    Perception: the same scenes, an item for every negative, its kind as the subset. Classification: balanced, class
    by class; `prompts` may bring other class names (48) and templates.

    Raises:
        DataProblems: counts not as expected.
        RequestError: an unknown split, a number that is not positive, or a task that toybox does not serve.
    """
    survey = Survey(benchmark, data_root)
    split = survey.options.get("split", "test")
    if split not in SPLITS:
        raise RequestError(f"{benchmark.name}: toybox has the splits {', '.join(SPLITS)}, not {split!r}")
    seed, size = _number(benchmark, "seed", 0, least=0), _number(benchmark, "size", SIZE, least=8)
    if benchmark.data_kind == "retrieval":
        return survey.finish(retrieval_data(distinct_scenes(seed, split, _number(benchmark, "scenes", SCENES)), size))
    if benchmark.data_kind == "perception":
        return survey.finish(perception_data(distinct_scenes(seed, split, _number(benchmark, "scenes", SCENES)), size))
    if benchmark.data_kind == "segmentation":
        return survey.finish(
            segmentation_data(distinct_scenes(seed, split, _number(benchmark, "scenes", SCENES)), size)
        )
    if benchmark.data_kind == "classification":
        words = benchmark.words()
        names = list(words.class_names or CLASSES) if not isinstance(words.class_names, dict) else None
        if names is None or len(names) != len(CLASSES):
            survey.refuse(f"needs prompts.class_names as a list of {len(CLASSES)} names, in toybox's order, or none")
        data = classification_data(class_scenes(seed, split, _number(benchmark, "per_class", PER_CLASS)), size)
        templates = templates_by_class(words.templates or list(TEMPLATES), names, survey)
        return survey.finish(replace(data, class_names=names, templates=templates))
    raise RequestError(f"{benchmark.name}: toybox has no data for {benchmark.data_kind}")


def distinct_scenes(seed: int, split: str, n: int) -> list[Scene]:
    """The first n scenes of a seed in a split, leaving out those whose content an earlier one has.

    So no two images of a retrieval set have the same complete description.
    """
    seen: dict[str, Scene] = {}
    index = 0
    while len(seen) < n:
        scene = make_scene(seed, split, index)
        seen.setdefault(scene.signature(), scene)
        index += 1
    return list(seen.values())


def class_scenes(seed: int, split: str, per_class: int) -> list[tuple[int, Scene]]:
    """(label, scene) of `per_class` images of every class, class by class."""
    return [
        (label, single_object_scene(seed, split, label, index))
        for label in range(len(CLASSES))
        for index in range(per_class)
    ]


def retrieval_data(scenes: Sequence[Scene], size: int = SIZE) -> RetrievalData:
    """Every scene's image with its two complete descriptions."""
    texts = [text for scene in scenes for text in captions(scene).full]
    return RetrievalData(_images(scenes, size), texts, np.repeat(np.arange(len(scenes)), 2))


def perception_data(scenes: Sequence[Scene], size: int = SIZE) -> PerceptionData:
    """Every negative of every scene; replace, swap and add as groups of kinds."""
    items = [(i, negative) for i, scene in enumerate(scenes) for negative in negatives(scene)]
    return PerceptionData.pairs(
        images=_images(scenes, size),
        item_image=[i for i, _ in items],
        positives=[negative.positive for _, negative in items],
        negatives=[negative.negative for _, negative in items],
        subsets=[negative.kind for _, negative in items],
        groups={"of three": [negative.kind.partition("_")[0] for _, negative in items]},
    )


def segmentation_data(scenes: Sequence[Scene], size: int = SIZE) -> SegmentationData:
    """Every scene's image with the colour of the object that each pixel belongs to; background is class 0."""
    return SegmentationData(
        images=_images(scenes, size),
        masks=[ArrayMask(scene.key, colour_mask(scene, size)) for scene in scenes],
        class_names=("background", *COLOURS),
        palette=PALETTE,
    )


def classification_data(labelled: Sequence[tuple[int, Scene]], size: int = SIZE) -> ClassificationData:
    """Images of one large object each, with toybox's own class names and templates."""
    labels = np.array([label for label, _ in labelled], dtype=np.int64)
    return ClassificationData(_images([scene for _, scene in labelled], size), labels, CLASSES, TEMPLATES)


def _images(scenes: Sequence[Scene], size: int) -> list[ArrayImage]:
    return [ArrayImage(scene.key, render(scene, size)) for scene in scenes]


def _number(benchmark: "Benchmark", key: str, default: int, least: int = 1) -> int:
    value = benchmark.dataset.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise RequestError(f"{benchmark.name}: dataset.{key} must be a whole number from {least}, not {value!r}")
    return value
