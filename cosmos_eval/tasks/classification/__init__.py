"""Zero-shot image classification: each image is assigned to the class with the most similar prompts.

Protocol: Radford et al., CLIP, 2021, section 3.1. Each class name is filled into the templates; the mean of the
prompts' embeddings, normalised, stands for the class.

Scored: image-class similarity. If the score is the dot product, that of the image and the class embedding; if the model
has a similarity of its own, the mean similarity of the image and the class's prompts (`cosmos_eval.tasks.prompts`).

Reported: `top1` and `top5`, the share of images whose true class is among the first 1 or 5; `mean_per_class`, the
top-1 of each class, averaged with equal weight over the classes that have images. If the data have groups (regions,
incomes), `<group> <value>/top1` (and `/top5`) of each, and `worst <group>/top1`, the smallest of them. `macro_f1` if it
is the primary metric (`cosmos_eval.metrics.macro_f1`).

Ties: expectation over a random order of tied classes. Classes with the same prompts always tie. A model that scores
everything alike scores chance.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from cosmos_eval.datasets.kinds import CLASSIFICATION
from cosmos_eval.metrics.names import SUBSET
from cosmos_eval.protocol.feature_transforms import OF_EMBEDDINGS
from cosmos_eval.protocol.task_info import TaskInfo

TOP_K = 5
"""The k of `top5`, which is reported if there are at least k classes."""


MACRO_F1 = "macro_f1"
GROUP_COLUMN = "group "
"""Begins the names of the columns of `samples` with the group of each image."""
WORST = "worst "
"""Begins the name of the smallest metric over the groups of one kind: `worst region/top1`."""


def reported_metrics(
    class_count: int | None = None, primary: str = "", groups: Iterable[str] = (SUBSET,), worst: Iterable[str] = ()
) -> list[str]:
    """The metrics reported for this data.

    Args:
        class_count: number of classes; None (not known yet): whatever may be reported.
        primary: the primary metric of the definition.
        groups: names of groups (`region 3`), by default a placeholder for any; `worst`: of kinds of groups.
    """
    accuracies = ["top1", "top5"] if class_count is None or class_count >= TOP_K else ["top1"]
    names = [*accuracies, "mean_per_class", *([MACRO_F1] if primary == MACRO_F1 else [])]
    names += [f"{group}/{accuracy}" for group in groups for accuracy in accuracies]
    return names + [f"{WORST}{kind}/{accuracy}" for kind in worst for accuracy in accuracies]


def metric_names(metrics: Mapping[str, Any]) -> list[str]:
    """All metrics that may be reported with these `metrics` of a definition."""
    return reported_metrics(primary=metrics.get("primary", ""))


INFO = TaskInfo(
    name="classification",
    data=CLASSIFICATION,
    run="cosmos_eval.tasks.classification.measure:run",
    validate="cosmos_eval.tasks.classification.measure:validate",
    transforms=OF_EMBEDDINGS,
    metric_names=metric_names,
    summary="images get the class with the most similar prompts: top-1, top-5 and mean per-class accuracy",
    title="Zero-shot image classification",
    headline=("top1",),
    prompt_keys=("class_names", "templates"),
    needed_prompts={"templates": 'a list such as templates: ["a photo of a {c}."]'},
    sample_keys=("image", "label"),
    paired="cosmos_eval.tasks.classification.paired:paired",
    choices=lambda counts: counts["classes"],
    model_index_task="zero-shot-image-classification",
    clip_benchmark_task="zeroshot_classification",
    clip_benchmark_metrics={"top1": "acc1", "top5": "acc5", "mean_per_class": "mean_per_class_recall"},
)
