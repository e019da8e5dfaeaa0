"""Perception and composition: an image and a text that belong together must score higher than ones that do not.

Protocol: an item is a few images and a few texts, and a rule says which scores must be higher than which others
(`cosmos_eval.metrics.item_accuracy`):

- one image, n texts, of which the first is right: `accuracy` (SugarCrepe, Hsieh et al., 2023; ARO, Yuksekgonul et al.,
  2023)
- m images, of which the first is right, and one text: `accuracy`; for two images also `match_accuracy` (SVO-Probes,
  Hendricks & Nematzadeh, 2021)
- two images, two texts: `text_score`, `image_score`, `group_score` (Winoground, Thrush et al., 2022; MMVP-VLM, Tong et
  al., 2024); with `metrics.each_side: true` also the four comparisons behind them, one by one (BiVLC, Miranda et al.,
  2024)
- one image, two right texts and a wrong one: `accuracy`, `first_accuracy`, `second_accuracy`, and `text_only_accuracy`,
  which compares the texts with each other (SugarCrepe++, Dumpala et al., 2024).

With `metrics.each_text: true`, items of one image, a right and a wrong text also have `auroc`, of all right texts
against all wrong ones, and, for a model with a probability of a match (SigLIP), `caption_precision`, `foil_precision`
and their mean `threshold_accuracy`, which judge each text by itself (VALSE, Parcalabescu et al., 2022;
`cosmos_eval.metrics.text_classification`).

Items may form pairs and sets that are right only if all of their items are: `pair_accuracy`, `set_accuracy` (What'sUp,
Kamath et al., 2023).

Scored: image-text similarity of each image of an item with each of its texts, as the model defines it.

Reported, for each rule: over all items (`accuracy`), over the items of each subset (`<subset>/accuracy`), and the
unweighted mean over the subsets (`macro_accuracy`). Each benchmark's authors choose one of these means; all are
reported, and the definition names its authors' one as primary. Items may be divided in further ways, called groups,
which have metrics as the subsets have (`<group>/macro_accuracy`). A group whose only part has the group's name is a
tag: it has the metrics of that part only.

Ties: strict, as the authors of all these benchmarks rule; an item counts only if the right score is higher. Each metric
is also reported as the expectation over a random order of tied scores (`accuracy_expected`). A model that scores
everything alike gets 0 in the first and chance in the second.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cosmos_eval.datasets.kinds import PERCEPTION
from cosmos_eval.metrics.names import SUBSET, is_rank
from cosmos_eval.protocol.feature_transforms import OF_EMBEDDINGS
from cosmos_eval.protocol.task_info import TaskInfo

RULES = (
    "accuracy",
    "match_accuracy",
    "text_score",
    "image_score",
    "group_score",
    "first_text_score",
    "second_text_score",
    "first_image_score",
    "second_image_score",
    "first_accuracy",
    "second_accuracy",
    "text_only_accuracy",
    "threshold_accuracy",
    "caption_precision",
    "foil_precision",
)
"""The rules; those with fitting numbers of images and texts per item are reported."""
SETS = ("pair", "set")
"""Kinds of sets of items that count together."""
AUROC = "auroc"
"""Of all items together, not a rule for one: ties count half, so that it has no second reading."""


def reported_metrics(
    subsets: Iterable[str] = (SUBSET,),
    rules: Sequence[str] = RULES,
    groups: Iterable[str] = (SUBSET,),
    sets: Sequence[str] = SETS,
    auroc: bool = True,
) -> list[str]:
    """The metrics reported for these subsets, groups and sets.

    Args:
        subsets: names of the subsets and of the parts of groups; by default a placeholder for any.
        rules: the rules that the items have.
        groups: names of the groups; by default a placeholder for any.
        sets: kinds of sets that the items form.
        auroc: whether it is reported.
    """
    subsets, groups = list(subsets), list(groups)
    strict_names = []
    for rule in rules:
        strict_names += _names_of(rule, subsets, groups)
    # Sets are made of items with one rule (What'sUp's), so that their metrics need no other name.
    strict_names += [f"{kind}_{rules[0]}" for kind in sets]
    names = [*strict_names, *(f"{name}_expected" for name in strict_names)]
    return names + (_names_of(AUROC, subsets, groups) if auroc else [])


def _names_of(reading: str, subsets: Sequence[str], groups: Sequence[str]) -> list[str]:
    """Names of a reading over the items of each subset, over all items, and as means over subsets and groups."""
    by_subset = [f"{subset}/{reading}" for subset in subsets]
    return [*by_subset, reading, f"macro_{reading}", *(f"{group}/macro_{reading}" for group in groups)]


def metric_names(metrics: Mapping[str, Any]) -> list[str]:
    """All metrics that may be reported; `metrics` of a definition has no influence."""
    return reported_metrics()


def unpaired(metric: str) -> bool:
    """Whether `samples` lacks what a paired test needs.

    `match_accuracy` counts each pair of an image and a text once, even if it is in several items; `samples` has one row
    per item. `auroc` compares texts of different items.
    """
    return is_rank(metric) or "match_accuracy" in metric or AUROC in metric


INFO = TaskInfo(
    name="perception",
    data=PERCEPTION,
    run="cosmos_eval.tasks.perception.measure:run",
    validate="cosmos_eval.tasks.perception.measure:validate",
    transforms=OF_EMBEDDINGS,
    metric_names=metric_names,
    summary="matching images and texts must score above others: accuracy, or text, image and group score",
    title="Perception and composition",
    metric_options={"least": int, "each_side": bool, "each_text": bool},
    sample_keys=("item", "subset", "image"),
    sample_groups="group ",
    paired="cosmos_eval.tasks.perception.paired:paired",
    unpaired=unpaired,
    choices=lambda counts: 2,
    model_index_task="image-text-matching",
    clip_benchmark_task="image_caption_selection",
    clip_benchmark_metrics={"text_score": "text_acc", "image_score": "image_acc", "group_score": "acc"},
)
