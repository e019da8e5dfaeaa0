"""Zero-shot multi-label classification: for each class, images that show it should score above images that do not.

Protocol: as clip-benchmark evaluates VOC 2007 (`voc2007_multilabel`). Class embeddings are those of zero-shot
classification (`cosmos_eval.tasks.classification`); each class ranks the images.

Scored: image-class similarity, as in classification.

Reported: `<class>/average_precision`, and `mean_average_precision` (mAP), its mean over the classes that an image has.
An image that is undecided about a class (VOC: difficult) does not count for that class.

Ties: as scikit-learn's `average_precision_score` (`cosmos_eval.metrics.average_precision`): images of equal score pass
a threshold together. A model that scores everything alike scores the prevalence of each class, and their mean.

It is a task of its own: labels, metrics, samples and the paired test all differ from those of classification, which has
one label for each image and ranks classes. Only the prompts are shared, and they are shared code.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from cosmos_eval.datasets.kinds import MULTILABEL
from cosmos_eval.metrics.names import SUBSET
from cosmos_eval.protocol.feature_transforms import OF_EMBEDDINGS
from cosmos_eval.protocol.task_info import TaskInfo

OF_CLASS = "/average_precision"
"""End of the name of a class's metric."""


def reported_metrics(classes: Iterable[str] = (SUBSET,)) -> list[str]:
    """The metrics reported for these classes; by default with a placeholder for any class."""
    return ["mean_average_precision", *(f"{name}{OF_CLASS}" for name in classes)]


def metric_names(metrics: Mapping[str, Any]) -> list[str]:
    """All metrics that may be reported; `metrics` of a definition has no influence."""
    return reported_metrics()


INFO = TaskInfo(
    name="multilabel",
    data=MULTILABEL,
    run="cosmos_eval.tasks.multilabel.measure:run",
    validate="cosmos_eval.tasks.multilabel.measure:validate",
    transforms=OF_EMBEDDINGS,
    metric_names=metric_names,
    summary="each class ranks the images that show it above the others: mean average precision",
    title="Zero-shot multi-label classification",
    headline=("mean_average_precision",),
    prompt_keys=("class_names", "templates"),
    needed_prompts={"templates": 'a list such as templates: ["a photo of a {c}."]'},
    sample_keys=("image", "labels", "undecided"),
    sample_columns=("scores",),
    paired="cosmos_eval.tasks.multilabel.paired:paired",
    class_metric=OF_CLASS.removeprefix("/"),
    resampled=True,
    model_index_task="zero-shot-image-classification",
    clip_benchmark_task="zeroshot_classification",
    clip_benchmark_metrics={"mean_average_precision": "mean_average_precision"},
)
