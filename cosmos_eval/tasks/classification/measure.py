"""Evaluates zero-shot classification; protocol and tie rule are described in `cosmos_eval.tasks.classification`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from cosmos_eval.datasets.data import ClassificationData
from cosmos_eval.engine.task_engine import TaskEngine
from cosmos_eval.engine.truncation import truncated_alike
from cosmos_eval.metrics.accuracy import compute_class_rank_counts, expected_topk
from cosmos_eval.metrics.class_means import class_means
from cosmos_eval.metrics.macro_f1 import f1_entries, macro_f1, tied_predictions
from cosmos_eval.metrics.proportion import ProportionEstimate, estimate_proportion
from cosmos_eval.metrics.worst_group import worst_interval
from cosmos_eval.profiling import phase
from cosmos_eval.protocol.benchmark import Benchmark
from cosmos_eval.tasks.class_table import recall_table
from cosmos_eval.tasks.classification import GROUP_COLUMN, MACRO_F1, TOP_K, WORST, reported_metrics
from cosmos_eval.tasks.common import (
    Measured,
    collapse_warnings,
    primary_metric,
    require_all_used,
    require_equal_lengths,
    require_valid_index,
)
from cosmos_eval.tasks.outcome import Metric, Outcome
from cosmos_eval.tasks.prompts import ClassPrompts, require_class_prompts, score_classes

PRIMARY = "top1"
"""The primary metric if a definition names none."""


def validate(benchmark: Benchmark, data: ClassificationData) -> None:
    """Check that classification can be evaluated on this data.

    Raises:
        RequestError: a label out of range, a class without images (unless the data allow it), class names and templates
            that make no prompts, or a primary metric that is not reported.
    """
    require_equal_lengths(benchmark, images=len(data.images), labels=len(data.labels))
    require_valid_index(benchmark, data.labels, len(data.class_names), "image", "class")
    if not data.empty_classes_allowed:
        require_all_used(benchmark, data.labels, list(data.class_names), "classes", "images")
    require_class_prompts(benchmark, data.class_names, data.templates)
    reported = reported_metrics(
        len(data.class_names),
        benchmark.metrics.get("primary", PRIMARY),
        [name for kind, groups in data.groups.items() for name in group_names(kind, groups)],
        data.groups,
    )
    primary_metric(benchmark, reported, PRIMARY)


def run(benchmark: Benchmark, data: ClassificationData, engine: TaskEngine, seed: int = 0) -> Outcome:
    """Evaluate a model on a classification benchmark.

    `samples` has one row per image:

    - `image`: its key
    - `label`: index of the true class
    - `prediction`: index of the class with the highest score, the first of tied ones; no metric uses it
    - `correct`, `top5`: probability in [0, 1] that the true class is among the first 1 and 5
    - `margin`: score of the true class minus that of the best other class
    - `group <kind>`: the group of the image, of data with groups
    - `predictions`: the classes with the highest score, where macro F1 is measured.

    Args:
        seed: seed of the bootstrap resampling.
    """
    prompts = ClassPrompts.from_templates(data.class_names, data.templates)
    scores = engine.score(data.images, prompts.texts)
    class_scores, class_features = score_classes(scores, prompts)
    labels = np.asarray(data.labels, dtype=np.int64)
    class_count = len(data.class_names)
    rank_counts = compute_class_rank_counts(class_scores, torch.from_numpy(labels), class_count)

    image = np.arange(len(data.images))  # each sample is an image, the unit of the intervals
    measured = Measured(len(data.images))
    correct = expected_topk(rank_counts, 1).numpy()
    columns: dict[str, Any] = {
        "label": labels,
        "prediction": rank_counts.prediction.numpy(),
        "correct": correct,
    }
    measured.mean("top1", correct, image)
    if "top5" in reported_metrics(class_count):
        columns["top5"] = expected_topk(rank_counts, TOP_K).numpy()
        measured.mean("top5", columns["top5"], image)
    measured.mean_per_class("mean_per_class", correct, labels, image)
    if benchmark.metrics.get("primary") == MACRO_F1:
        columns["predictions"] = tied_predictions(class_scores)
        _measure_f1(measured, columns["predictions"], labels)
    worst = _measure_groups(measured, data.groups, columns)
    metrics = measured.metrics(seed)
    for name, parts in worst.items():
        metrics[name] = _worst_of([metrics[part] for part in parts], [measured.proportions[part] for part in parts])
    with phase("intervals"):
        recalls = class_means(correct, labels, class_count, seed)

    image_keys = [image.key for image in data.images]
    features = {"images": scores.image_features, "class prompts": class_features}
    return Outcome(
        metrics=metrics,
        samples=pd.DataFrame(
            {
                "image": image_keys,
                **columns,
                "margin": rank_counts.margin.numpy(),
                **{f"{GROUP_COLUMN}{kind}": groups for kind, groups in data.groups.items()},
            }
        ),
        primary=primary_metric(benchmark, metrics, PRIMARY),
        warnings=collapse_warnings(features, truncated_alike(engine, "class prompts")),
        classes=recall_table(data.class_names, recalls, data.templates),
    )


def group_names(kind: str, groups: np.ndarray) -> list[str]:
    """The names of the groups that occur, such as `region 3`, in the order of their numbers."""
    return [f"{kind} {group}" for group in np.unique(groups).tolist()]


def _measure_groups(
    measured: Measured, groups: Mapping[str, np.ndarray], columns: Mapping[str, Any]
) -> dict[str, list[str]]:
    """Add the accuracies of each group; returns the metrics of worst groups, with those they are the least of."""
    worst = {}
    for kind, of_image in groups.items():
        for name, column in (("top1", "correct"), ("top5", "top5")):
            if column not in columns:
                continue
            parts = []
            for group, group_name in zip(np.unique(of_image), group_names(kind, of_image), strict=True):
                members = np.flatnonzero(of_image == group)
                parts.append(f"{group_name}/{name}")
                measured.mean(parts[-1], columns[column][members], members)
            worst[f"{WORST}{kind}/{name}"] = parts
    return worst


def _worst_of(metrics: Sequence[Metric], estimates: Sequence[ProportionEstimate]) -> Metric:
    """The smallest of several metrics, with an interval of the smallest."""
    low, high = worst_interval(estimates, [metric.low for metric in metrics])
    smallest = min(metrics, key=lambda metric: metric.value)
    return Metric(smallest.value, low, high, smallest.n, "of the groups")


def _measure_f1(measured: Measured, predictions: list[list[int]], labels: np.ndarray) -> None:
    """Add macro F1. As the IoU, the F1 of a class is a weighted mean over images, so its interval is that of one."""
    entries = f1_entries(predictions, labels)
    weights = entries.counts / np.bincount(entries.label, weights=entries.counts)[entries.label]
    proportion = estimate_proportion(entries.hits / entries.counts, entries.sample, weights, entries.label)
    measured.share(MACRO_F1, macro_f1(entries), len(labels), lambda drawn: macro_f1(entries, drawn), proportion)
