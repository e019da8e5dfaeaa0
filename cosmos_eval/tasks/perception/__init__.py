"""Perception and composition: what belongs together must score strictly higher than what does not."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cosmos_eval.datasets.kinds import PERCEPTION
from cosmos_eval.metrics.names import SUBSET, is_rank
from cosmos_eval.protocol.task_info import TaskInfo

READINGS = ("accuracy", "match_accuracy", "text_score", "image_score", "group_score")
"""Which of them there are is decided by how many images and texts an item has."""


def names_for(
    subsets: Iterable[str] = (SUBSET,), readings: Sequence[str] = READINGS, groups: Iterable[str] = (SUBSET,)
) -> list[str]:
    """For each reading, such as `accuracy`: `accuracy` over items, `macro_accuracy` over subsets, `<subset>/accuracy`
    (parts of groups among the subsets), `<group>/macro_accuracy`; and each of them with `_expected`."""
    subsets, groups = list(subsets), list(groups)
    each = [
        name
        for reading in readings
        for name in (
            *(f"{subset}/{reading}" for subset in subsets),
            reading,
            f"macro_{reading}",
            *(f"{group}/macro_{reading}" for group in groups),
        )
    ]
    return [f"{name}{suffix}" for suffix in ("", "_expected") for name in each]


def metric_names(metrics: Mapping[str, Any]) -> list[str]:
    return names_for()


def unpaired(metric: str) -> bool:
    """SVO-Probes' `match_accuracy` judges pairs that recur in several items once, and samples are of items."""
    return is_rank(metric) or "match_accuracy" in metric


INFO = TaskInfo(
    name="perception",
    data=PERCEPTION,
    run="cosmos_eval.tasks.perception.measure:run",
    validate="cosmos_eval.tasks.perception.measure:validate",
    metric_names=metric_names,
    summary="what belongs together scores above what does not: accuracy, or text, image and group score",
    title="Perception and composition",
    metric_options={"least": int},
    sample_keys=("item", "subset", "image"),
    sample_groups="group ",
    paired="cosmos_eval.tasks.perception.paired:paired",
    unpaired=unpaired,
    choices=lambda n: 2,
    model_index_task="image-text-matching",
    clip_benchmark_task="image_caption_selection",
    clip_benchmark_metrics={"text_score": "text_acc", "image_score": "image_acc", "group_score": "acc"},
)
