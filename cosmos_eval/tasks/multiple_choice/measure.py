"""Evaluates multiple choice; protocol and tie rule are described in `cosmos_eval.tasks.multiple_choice`."""

import numpy as np
import pandas as pd
import torch

from cosmos_eval.datasets.data import ChoiceData
from cosmos_eval.engine.task_engine import TaskEngine
from cosmos_eval.engine.truncation import truncated_alike
from cosmos_eval.metrics.choice_accuracy import choice_accuracy
from cosmos_eval.metrics.jaccard import expected_jaccard
from cosmos_eval.metrics.paired_samples import number_labels
from cosmos_eval.protocol.benchmark import Benchmark
from cosmos_eval.tasks.common import (
    Measured,
    collapse_warnings,
    primary_metric,
    require_no_problems,
)
from cosmos_eval.tasks.multiple_choice import JACCARD, is_jaccard, reported_metrics
from cosmos_eval.tasks.outcome import Outcome

PRIMARY = "accuracy"
"""The primary metric if a definition names none."""


def validate(benchmark: Benchmark, data: ChoiceData) -> None:
    """Check that multiple choice can be evaluated on this data.

    Raises:
        RequestError: what `ChoiceData.problems` finds (an item without a right or a wrong candidate, an index out of
            range), or a primary metric that is not reported.
    """
    require_no_problems(benchmark, data)
    primary_metric(benchmark, reported_metrics(dict.fromkeys(data.subsets), _asked_primary(benchmark)), PRIMARY)


def run(benchmark: Benchmark, data: ChoiceData, engine: TaskEngine, seed: int = 0) -> Outcome:
    """Evaluate a model on a benchmark of multiple choice.

    Intervals resample images: an item belongs to the image of its first candidate, and images cut from one photo belong
    to that photo.

    `samples` has one row per item:

    - `item`: its index in the dataset
    - `subset`: its subset
    - `image`, `whole`: key of the image of its first candidate, and of the image that this one is cut from
    - `chance`: share of right candidates
    - `scores`: score of each candidate
    - `chosen`: position of the candidate with the highest score, from 0, the first of tied ones; no metric uses it
    - `margin`: highest score of a right candidate minus that of a wrong one
    - `correct`: probability in [0, 1] that a right candidate is first
    - `jaccard`: its Jaccard index, if this is the primary metric.

    Args:
        seed: seed of the bootstrap resampling.
    """
    scores = engine.score(data.images, data.texts)
    pair_scores = scores.of_pairs(torch.from_numpy(data.pairs)).float().numpy()
    correctness = choice_accuracy(pair_scores, data.starts, data.is_right)
    images = [data.images[i] for i in data.pairs[data.starts, 0].tolist()]
    unit = number_labels([image.parent_key for image in images])

    measured = Measured(int(unit.max()) + 1)
    labels = np.array(data.subsets, dtype=object)
    for subset in dict.fromkeys(data.subsets):
        items = np.flatnonzero(labels == subset)
        measured.mean(f"{subset}/accuracy", correctness.expected[items], unit[items])
    measured.mean_per_class("macro_accuracy", correctness.expected, number_labels(labels), unit)
    measured.mean("accuracy", correctness.expected, unit)
    columns: dict[str, np.ndarray] = {}
    if is_jaccard(_asked_primary(benchmark)):
        columns[JACCARD] = index = expected_jaccard(pair_scores, data.starts, data.is_right)
        measured.mean(JACCARD, index, unit)
        for subset in dict.fromkeys(data.subsets):
            items = np.flatnonzero(labels == subset)
            measured.mean(f"{subset}/{JACCARD}", index[items], unit[items])
    metrics = measured.metrics(seed)

    samples = pd.DataFrame(
        {
            "item": np.arange(len(images)),
            "subset": labels,
            "image": [image.key for image in images],
            "whole": [image.parent_key for image in images],
            "chance": correctness.chance,
            "scores": np.split(pair_scores, data.starts[1:]),
            "chosen": correctness.chosen,
            "margin": correctness.margin,
            "correct": correctness.expected,
            **columns,
        }
    )
    features = {"images": scores.image_features, "texts": scores.text_features}
    return Outcome(
        metrics=metrics,
        samples=samples,
        primary=primary_metric(benchmark, metrics, PRIMARY),
        warnings=collapse_warnings(features, truncated_alike(engine, "texts")),
    )


def _asked_primary(benchmark: Benchmark) -> str:
    return str(benchmark.metrics.get("primary", PRIMARY))
