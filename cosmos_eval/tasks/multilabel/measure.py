"""Evaluates multi-label classification; protocol and tie rule are described in `cosmos_eval.tasks.multilabel`."""

import numpy as np
import pandas as pd
import torch

from cosmos_eval.datasets.data import MultilabelData
from cosmos_eval.datasets.data.multilabel import PRESENT, UNDECIDED
from cosmos_eval.engine.task_engine import TaskEngine
from cosmos_eval.engine.truncation import truncated_alike
from cosmos_eval.metrics.average_precision import RankedClass, ResampledPrecisions, rank_classes
from cosmos_eval.metrics.proportion import estimate_proportion
from cosmos_eval.metrics.query_scores import QueryScores
from cosmos_eval.protocol.benchmark import Benchmark
from cosmos_eval.tasks.class_table import class_table
from cosmos_eval.tasks.common import (
    Measured,
    collapse_warnings,
    primary_metric,
    require_equal_lengths,
    require_no_problems,
)
from cosmos_eval.tasks.multilabel import OF_CLASS, reported_metrics
from cosmos_eval.tasks.outcome import Outcome
from cosmos_eval.tasks.prompts import ClassPrompts, require_class_prompts, score_classes

PRIMARY = "mean_average_precision"
"""The primary metric if a definition names none."""


def validate(benchmark: Benchmark, data: MultilabelData) -> None:
    """Check that multi-label classification can be evaluated on this data.

    Raises:
        RequestError: what `MultilabelData.problems` finds (labels of another shape or value, no label at all, a class
            name twice), class names and templates that make no prompts, or a primary metric that is not reported.
    """
    require_equal_lengths(benchmark, images=len(data.images), images_with_labels=len(data.labels))
    require_no_problems(benchmark, data)
    require_class_prompts(benchmark, data.class_names, data.templates)
    ranked_names = [data.class_names[c] for c in _ranked_classes(data)]
    primary_metric(benchmark, reported_metrics(ranked_names), PRIMARY)


def run(benchmark: Benchmark, data: MultilabelData, engine: TaskEngine, seed: int = 0) -> Outcome:
    """Evaluate a model on a multi-label benchmark.

    `samples` has one row per image:

    - `image`: its key
    - `labels`, `undecided`: indices of its classes and of those that it is undecided about, joined by spaces
    - `scores`: its score for each class, float32.

    Args:
        seed: seed of the bootstrap resampling.
    """
    prompts = ClassPrompts.from_templates(data.class_names, data.templates)
    scores = engine.score(data.images, prompts.texts)
    class_scores, class_features = score_classes(scores, prompts)
    matrix = _to_matrix(class_scores)
    ranked_classes = _ranked_classes(data)
    rankings = [ranking for ranking in rank_classes(matrix, data.labels) if ranking is not None]
    metrics = _measure(rankings, [data.class_names[c] for c in ranked_classes], len(data.images)).metrics(seed)
    samples = pd.DataFrame(
        {
            "image": [image.key for image in data.images],
            "labels": join_classes(data.labels == PRESENT),
            "undecided": join_classes(data.labels == UNDECIDED),
            "scores": list(matrix),
        }
    )
    features = {"images": scores.image_features, "class prompts": class_features}
    support = (data.labels == PRESENT).sum(0).tolist()
    of_class = [metrics.get(f"{name}{OF_CLASS}") for name in data.class_names]
    return Outcome(
        metrics=metrics,
        samples=samples,
        primary=primary_metric(benchmark, metrics, PRIMARY),
        warnings=collapse_warnings(features, truncated_alike(engine, "class prompts")),
        classes=class_table(OF_CLASS.removeprefix("/"), data.class_names, support, of_class, data.templates),
    )


def _ranked_classes(data: MultilabelData) -> list[int]:
    """The classes that an image has, the only ones with an average precision."""
    return np.flatnonzero((data.labels == PRESENT).any(0)).tolist()


def _to_matrix(class_scores: QueryScores) -> np.ndarray:
    """(N, C) float32 scores of all images and classes; equal classes have equal columns."""
    blocks = [block[:, class_scores.column.to(block.device)].float().cpu() for _, _, block in class_scores.blocks()]
    return torch.cat(blocks).numpy()


def _measure(rankings: list[RankedClass], names: list[str], images: int) -> Measured:
    """The average precision of each class and their mean.

    An average precision is the mean over the positive images of the precision at their score, so the interval of means
    applies to these, with images as units. This treats the precision as the image's own, although it depends on the
    images above; the bootstrap, which decides where there are many positives, does not.
    """
    measured = Measured(images)
    resampled = ResampledPrecisions(rankings)
    ones = np.ones(images)
    values = resampled.of(ones)
    label = np.repeat(np.arange(len(rankings)), [len(ranking.positive_image) for ranking in rankings])
    precision = np.concatenate([ranking.precisions for ranking in rankings])
    image = np.concatenate([ranking.positive_image for ranking in rankings])
    evidence = estimate_proportion(precision, image, classes=label)
    measured.share(PRIMARY, float(values.mean()), len(label), resampled.mean(), evidence)
    for c, (name, value) in enumerate(zip(names, values.tolist(), strict=True)):
        evidence = estimate_proportion(precision[label == c], image[label == c])
        measured.share(f"{name}{OF_CLASS}", value, int((label == c).sum()), resampled.of_class(c), evidence)
    return measured


def join_classes(is_in: np.ndarray) -> list[str]:
    """Join the indices of the classes that are true in each row of (N, C): "0 7"."""
    return [" ".join(map(str, np.flatnonzero(row).tolist())) for row in is_in]
