"""Evaluates zero-shot classification; protocol and tie rule are described in `cosmos_eval.tasks.classification`."""

import numpy as np
import pandas as pd
import torch

from cosmos_eval.datasets.data import ClassificationData
from cosmos_eval.engine.engine import TaskEngine
from cosmos_eval.engine.truncation import truncated_alike
from cosmos_eval.metrics.accuracy import compute_class_rank_counts, expected_topk
from cosmos_eval.metrics.class_means import class_means
from cosmos_eval.profiling import phase
from cosmos_eval.protocol.benchmark import Benchmark
from cosmos_eval.tasks.class_table import recall_table
from cosmos_eval.tasks.classification import TOP_K, reported_metrics
from cosmos_eval.tasks.common import (
    Measured,
    collapse_warnings,
    primary_metric,
    require_all_used,
    require_equal_lengths,
    require_joint_space,
    require_valid_index,
)
from cosmos_eval.tasks.outcome import Outcome
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
    primary_metric(benchmark, reported_metrics(len(data.class_names)), PRIMARY)


def run(benchmark: Benchmark, data: ClassificationData, engine: TaskEngine, seed: int = 0) -> Outcome:
    """Evaluate a model on a classification benchmark.

    `samples` has one row per image:

    - `image`: its key
    - `label`: index of the true class
    - `prediction`: index of the class with the highest score, the first of tied ones; no metric uses it
    - `correct`, `top5`: probability in [0, 1] that the true class is among the first 1 and 5
    - `margin`: score of the true class minus that of the best other class.

    Args:
        seed: seed of the bootstrap resampling.
    """
    prompts = ClassPrompts.from_templates(data.class_names, data.templates)
    scores = engine.score(data.images, prompts.texts)
    require_joint_space(benchmark, scores)
    class_scores, class_features = score_classes(scores, prompts)
    labels = np.asarray(data.labels, dtype=np.int64)
    class_count = len(data.class_names)
    rank_counts = compute_class_rank_counts(class_scores, torch.from_numpy(labels), class_count)

    image = np.arange(len(data.images))  # each sample is an image, the unit of the intervals
    measured = Measured(len(data.images))
    correct = expected_topk(rank_counts, 1).numpy()
    columns = {"label": labels, "prediction": rank_counts.prediction.numpy(), "correct": correct}
    measured.mean("top1", correct, image)
    if "top5" in reported_metrics(class_count):
        columns["top5"] = expected_topk(rank_counts, TOP_K).numpy()
        measured.mean("top5", columns["top5"], image)
    measured.mean_per_class("mean_per_class", correct, labels, image)
    metrics = measured.metrics(seed)
    with phase("intervals"):
        recalls = class_means(correct, labels, class_count, seed)

    image_keys = [image.key for image in data.images]
    features = {"images": scores.image_features, "class prompts": class_features}
    return Outcome(
        metrics=metrics,
        samples=pd.DataFrame({"image": image_keys, **columns, "margin": rank_counts.margin.numpy()}),
        primary=primary_metric(benchmark, metrics, PRIMARY),
        warnings=collapse_warnings(features, truncated_alike(engine, "class prompts")),
        classes=recall_table(data.class_names, recalls, data.templates),
    )
