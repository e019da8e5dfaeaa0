"""Zero-shot classification in several languages: the same images, with class names and templates in each language.

Protocol: as in the task classification, in each language by itself. A language may lack names for some classes, as in
Babel-ImageNet (Geigle et al., 2023): then these classes are not candidates in it, and their images are left out there.
Images are encoded once. The section `languages` of a definition gives the words
(`cosmos_eval.datasets.languages.words`).

Scored: image-class similarity, as in classification.

Reported: `<language>/top1` and `<language>/top5`, and `top1` and `top5`, their means with equal weight of the
languages; top-5 if every language has at least five classes.

Ties: expectation over a random order of tied classes.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from cosmos_eval.datasets.kinds import CLASSIFICATION
from cosmos_eval.metrics.names import SUBSET
from cosmos_eval.protocol.feature_transforms import OF_EMBEDDINGS
from cosmos_eval.protocol.task_info import TaskInfo


def reported_metrics(languages: Iterable[str] = (SUBSET,), fewest_classes: int = 5) -> list[str]:
    """The metrics reported for these languages, by default with a placeholder for any.

    Args:
        fewest_classes: number of classes of the language that has fewest.
    """
    means = ["top1", "top5"] if fewest_classes >= 5 else ["top1"]
    return [*means, *(f"{language}/{name}" for language in languages for name in means)]


def metric_names(metrics: Mapping[str, Any]) -> list[str]:
    """All metrics that may be reported; `metrics` of a definition has no influence."""
    return reported_metrics()


INFO = TaskInfo(
    name="multilingual-classification",
    data=CLASSIFICATION,
    run="cosmos_eval.tasks.multilingual_classification.measure:run",
    validate="cosmos_eval.tasks.multilingual_classification.measure:validate",
    transforms=OF_EMBEDDINGS,
    metric_names=metric_names,
    summary="classification with class names in several languages: top-1 of each language, and the mean",
    title="Zero-shot multilingual image classification",
    headline=("top1",),
    prompt_keys=("class_names",),
    settings_key="languages",
    read_settings="cosmos_eval.datasets.languages.words:read_settings",
    sample_keys=("language", "image", "label"),
    paired="cosmos_eval.tasks.multilingual_classification.paired:paired",
    model_index_task="zero-shot-image-classification",
)
