"""Zero-shot image-text retrieval in several languages: the same images, with captions in each language.

Protocol: in each language by itself, every image is a query against the captions of that language, and every caption
against all images, as in the task retrieval. Captions of other languages are not candidates. Images are encoded once.

Scored: image-text similarity as the model defines it.

Reported: `<language>/image_to_text_recall@k` and `<language>/text_to_image_recall@k`, and `image_to_text_recall@k` and
`text_to_image_recall@k`, their means with equal weight of the languages. open_clip's table of multilingual results has
these columns and means.

Ties: expectation over a random order of tied candidates, as in retrieval. Intervals resample images: the captions of an
image in all languages are drawn together.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from cosmos_eval.datasets.kinds import MULTILINGUAL_RETRIEVAL
from cosmos_eval.metrics.names import SUBSET
from cosmos_eval.protocol.feature_transforms import OF_RETRIEVAL
from cosmos_eval.protocol.task_info import TaskInfo
from cosmos_eval.tasks.retrieval import CUTOFFS, DIRECTIONS, HEADLINE_METRICS, check_metrics


def reported_metrics(metrics: Mapping[str, Any], languages: Iterable[str] = (SUBSET,)) -> list[str]:
    """The metrics reported for these languages; by default with a placeholder for any language."""
    means = [f"{direction}_recall@{k}" for direction in DIRECTIONS for k in metrics["k"]]
    return [*means, *(f"{language}/{name}" for language in languages for name in means)]


def metric_names(metrics: Mapping[str, Any]) -> list[str]:
    """All metrics that may be reported."""
    return reported_metrics(metrics)


INFO = TaskInfo(
    name="multilingual-retrieval",
    data=MULTILINGUAL_RETRIEVAL,
    run="cosmos_eval.tasks.multilingual_retrieval.measure:run",
    validate="cosmos_eval.tasks.multilingual_retrieval.measure:validate",
    transforms=OF_RETRIEVAL,
    metric_names=metric_names,
    summary="retrieval in several languages: recall@k of each language, and the mean over languages",
    title="Zero-shot multilingual image-text retrieval",
    headline=HEADLINE_METRICS,
    tested=HEADLINE_METRICS,
    default_metrics={"k": list(CUTOFFS)},
    metric_options={"k": list},
    check_metrics=check_metrics,
    sample_keys=("language", "direction", "query", "image"),
    paired="cosmos_eval.tasks.multilingual_retrieval.paired:paired",
    choices=lambda counts: counts["images"],
    model_index_task="image-text-retrieval",
)
