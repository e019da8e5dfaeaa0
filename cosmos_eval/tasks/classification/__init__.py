"""Zero-shot classification: the class whose averaged prompts lie nearest."""

from collections.abc import Mapping
from typing import Any

from cosmos_eval.datasets.kinds import CLASSIFICATION
from cosmos_eval.protocol.task_info import TaskInfo

TOP = 5
"""`top5` is reported where there are at least so many classes."""


def names_for(classes: int | None = None) -> list[str]:
    """`top1`, `mean_per_class`, and `top5` where there are at least five classes (or it is not known how many)."""
    few = classes is not None and classes < TOP
    return ["top1", "mean_per_class"] if few else ["top1", "top5", "mean_per_class"]


def metric_names(metrics: Mapping[str, Any]) -> list[str]:
    return names_for()


INFO = TaskInfo(
    name="classification",
    data=CLASSIFICATION,
    run="cosmos_eval.tasks.classification.measure:run",
    validate="cosmos_eval.tasks.classification.measure:validate",
    metric_names=metric_names,
    summary="the class whose averaged prompts lie nearest: top-1, top-5 and mean per-class accuracy",
    title="Zero-shot image classification",
    headline=("top1",),
    prompt_keys=("class_names", "templates"),
    needed_prompts={"templates": 'a list such as templates: ["a photo of a {c}."]'},
    sample_keys=("image", "label"),
    paired="cosmos_eval.tasks.classification.paired:paired",
    choices=lambda n: n["classes"],
    model_index_task="zero-shot-image-classification",
    clip_benchmark_task="zeroshot_classification",
    clip_benchmark_metrics={"top1": "acc1", "top5": "acc5", "mean_per_class": "mean_per_class_recall"},
)
