"""Zero-shot classification: the class whose averaged prompts lie nearest, ties in expectation."""

import numpy as np
import pandas as pd
import torch

from cosmos_core.errors import RequestError
from cosmos_eval.datasets.data import ClassificationData
from cosmos_eval.engine.features import Features
from cosmos_eval.engine.truncation import except_cut_alike
from cosmos_eval.metrics.accuracy import count_scored_classes, expected_topk
from cosmos_eval.protocol.benchmark import Benchmark
from cosmos_eval.tasks.classification import TOP, names_for
from cosmos_eval.tasks.common import (
    Measured,
    collapse_warnings,
    primary_metric,
    refuse_index,
    refuse_lengths,
    refuse_two_spaces,
    refuse_unused,
)
from cosmos_eval.tasks.outcome import Outcome
from cosmos_eval.tasks.prompts import ClassPrompts, class_prompts, class_scores

PRIMARY = "top1"


def validate(benchmark: Benchmark, data: ClassificationData) -> None:
    """RequestError for a label out of range, a class without images, unusable prompts, or an unreported metric."""
    refuse_lengths(benchmark, images=len(data.images), labels=len(data.labels))
    refuse_index(benchmark, data.labels, len(data.class_names), "image", "class")
    if not data.empty_classes_allowed:
        refuse_unused(benchmark, data.labels, list(data.class_names), "classes", "images")
    try:
        class_prompts(data.class_names, data.templates)
    except RequestError as error:
        raise RequestError(f"{benchmark.name}: {error}") from error
    primary_metric(benchmark, names_for(len(data.class_names)), PRIMARY)


def run(benchmark: Benchmark, data: ClassificationData, engine: Features, seed: int = 0) -> Outcome:
    """Top-1, top-5 and mean per-class accuracy, by cosine similarity to the class weights, or by the mean score of a
    class's prompts where the model has a score of its own.

    `mean_per_class` is the unweighted mean over the classes that have images. `samples` has a row for each image:
    `image`, `label`, `prediction` (indices; the first of equal classes), `correct` and `top5` (in [0, 1]), `margin`
    (score of the true class minus that of the best other one).
    """
    prompts = ClassPrompts.of(data.class_names, data.templates)
    scores = engine.score(data.images, prompts.texts)
    refuse_two_spaces(benchmark, scores)
    of_classes, weights = class_scores(scores, prompts)
    labels = np.asarray(data.labels, dtype=np.int64)
    classes = len(data.class_names)
    places = count_scored_classes(of_classes, torch.from_numpy(labels), classes)
    correct = expected_topk(places, 1).numpy()
    image = np.arange(len(data.images))
    measured = Measured(len(data.images))
    measured.mean("top1", correct, image)
    columns = {"label": labels, "prediction": places.prediction.numpy(), "correct": correct}
    if "top5" in names_for(classes):
        columns["top5"] = expected_topk(places, TOP).numpy()
        measured.mean("top5", columns["top5"], image)
    measured.mean_per_class("mean_per_class", correct, labels, image)
    metrics = measured.metrics(seed)
    keys = [image.key for image in data.images]
    return Outcome(
        metrics=metrics,
        samples=pd.DataFrame({"image": keys, **columns, "margin": places.margin.numpy()}),
        primary=primary_metric(benchmark, metrics, PRIMARY),
        warnings=collapse_warnings(
            {"images": scores.image_features, "class prompts": weights}, except_cut_alike(engine, "class prompts")
        ),
    )
