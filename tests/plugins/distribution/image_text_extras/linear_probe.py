"""A task over data that are there already: a linear classifier on frozen features, cross-validated."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_eval import TaskInfo
from cosmos_eval.datasets.data import ClassificationData
from cosmos_eval.metrics.paired_samples import Hits, require_column
from cosmos_eval.tasks.common import Measured, primary_metric
from cosmos_eval.tasks.outcome import Outcome

SETTINGS = {"folds": 5, "ridge": 0.01}


def settings(source: Any) -> dict[str, Any]:
    """`linear_probe` of a definition, filled in."""
    given = source.value.get("linear_probe", {})
    for key in given:
        if key not in SETTINGS:
            raise source.refuse(("linear_probe", key), f"unknown key {key!r}; known: {', '.join(SETTINGS)}")
    found = {**SETTINGS, **given}
    if not isinstance(found["folds"], int) or found["folds"] < 2:
        raise source.refuse(("linear_probe", "folds"), f"folds is a whole number from 2 on, not {found['folds']!r}")
    return {**found, "ridge": float(found["ridge"])}


def validate(benchmark: Any, data: ClassificationData) -> None:
    if len(data.images) < benchmark.settings["folds"]:
        raise RequestError(f"{benchmark.name}: {len(data.images)} images are fewer than the folds; give fewer folds")


def run(benchmark: Any, data: ClassificationData, engine: Any, seed: int) -> Outcome:
    features = engine.image_features(data.images).flatten(1).double().cpu()  # (N, D), of models with patches too
    labels = torch.as_tensor(data.labels)
    fold = torch.arange(len(labels)) % benchmark.settings["folds"]
    predicted = torch.empty_like(labels)
    for held in range(benchmark.settings["folds"]):
        weights = fit(features[fold != held], labels[fold != held], len(data.class_names), benchmark.settings["ridge"])
        predicted[fold == held] = (with_bias(features[fold == held]) @ weights).argmax(1)
    correct = (predicted == labels).double().numpy()
    image = np.arange(len(labels))
    measured = Measured(len(labels))
    measured.mean("probe_accuracy", correct, image)
    measured.mean_per_class("probe_mean_per_class", correct, labels.numpy(), image)
    metrics = measured.metrics(seed)
    samples = pd.DataFrame(
        {
            "image": [image.key for image in data.images],
            "label": labels.numpy(),
            "prediction": predicted.numpy(),
            "correct": correct,
        }
    )
    return Outcome(metrics, samples, primary_metric(benchmark, metrics, "probe_accuracy"))


def fit(features: Tensor, labels: Tensor, classes: int, ridge: float) -> Tensor:
    """(D + 1, C) of least squares with a penalty, one class against the others."""
    x = with_bias(features)
    y = torch.nn.functional.one_hot(labels, classes).double()
    return torch.linalg.solve(x.T @ x + ridge * torch.eye(x.shape[1], dtype=x.dtype), x.T @ y)


def with_bias(features: Tensor) -> Tensor:
    return torch.cat([features, torch.ones(len(features), 1, dtype=features.dtype)], dim=1)


def paired(metric: str, results: Any, frames: Any) -> Hits:
    require_column("correct", *frames)
    baseline, candidate = (frame["correct"].to_numpy() for frame in frames)
    return Hits(baseline, candidate, np.arange(len(baseline)))


INFO = TaskInfo(
    name="linear-probe",
    data=ClassificationData,
    run=run,
    validate=validate,
    metric_names=lambda metrics: ["probe_accuracy", "probe_mean_per_class"],
    summary="a linear classifier on frozen features: accuracy in cross-validation",
    title="Linear probe",
    headline=("probe_accuracy",),
    tested=("probe_accuracy",),
    prompt_keys=("class_names",),
    settings_key="linear_probe",
    read_settings=settings,
    sample_keys=("image", "label"),
    paired=paired,
    unpaired=lambda metric: metric != "probe_accuracy",
    choices=lambda counts: counts["classes"],
)
