"""Multiple choice: of several captions of an image, or several images of a caption, a right one must score highest.

Protocol: an item has at least two candidates, of which one or several are right; items may have different numbers of
candidates.

Scored: image-text similarity of each candidate, as the model defines it.

Reported: `accuracy` over all items, `<subset>/accuracy`, and `macro_accuracy`, the unweighted mean over the subsets.
An item is right if the candidate with the highest score is one of the right ones.

If the primary metric of a definition is `jaccard` or `<subset>/jaccard`, these are reported, too: the mean Jaccard
index of the right candidates and the k candidates with the highest scores, where k is the number of right ones, as
WinoGAViL (Bitton et al., NeurIPS 2022) and DataComp count it.

Ties: expectation over a random order of tied candidates (`cosmos_eval.metrics.choice_accuracy`). A model that scores
everything alike scores chance: the mean over items of the share of right candidates (column `chance` of the samples).

It is a task of its own: perception has the strict tie rule of its benchmarks' authors, equal numbers of candidates of
which the first is right, and rules that compare several images with several texts; none of that holds here. The paired
test is the same, on other columns for `jaccard`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from cosmos_eval.datasets.kinds import MULTIPLE_CHOICE
from cosmos_eval.metrics.names import SUBSET
from cosmos_eval.protocol.feature_transforms import OF_EMBEDDINGS
from cosmos_eval.protocol.task_info import TaskInfo

JACCARD = "jaccard"


def is_jaccard(metric: str) -> bool:
    """Whether a metric is the Jaccard index, of all items or of a subset."""
    return metric.rpartition("/")[2] == JACCARD


def reported_metrics(subsets: Iterable[str] = (SUBSET,), primary: str = "") -> list[str]:
    """The metrics reported for these subsets, by default with a placeholder for any subset.

    Args:
        primary: the primary metric of the definition.
    """
    subsets = list(subsets)
    names = ["accuracy", "macro_accuracy", *(f"{subset}/accuracy" for subset in subsets)]
    return names + ([JACCARD, *(f"{subset}/{JACCARD}" for subset in subsets)] if is_jaccard(primary) else [])


def metric_names(metrics: Mapping[str, Any]) -> list[str]:
    """All metrics that may be reported with these `metrics` of a definition."""
    return reported_metrics(primary=metrics.get("primary", ""))


INFO = TaskInfo(
    name="multiple-choice",
    data=MULTIPLE_CHOICE,
    run="cosmos_eval.tasks.multiple_choice.measure:run",
    validate="cosmos_eval.tasks.multiple_choice.measure:validate",
    transforms=OF_EMBEDDINGS,
    metric_names=metric_names,
    summary="of several captions of an image, or images of a caption, a right one scores highest: accuracy",
    title="Multiple choice",
    sample_keys=("item", "subset", "image", "chance"),
    paired="cosmos_eval.tasks.multiple_choice.paired:paired",
    model_index_task="image-text-matching",
)
