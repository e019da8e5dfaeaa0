"""Zero-shot segmentation with sliding windows (SCLIP, Wang et al., ECCV 2024, arXiv 2312.01597)."""

from collections.abc import Iterable, Mapping
from typing import Any

from cosmos_eval.datasets.kinds import SEGMENTATION
from cosmos_eval.metrics.names import SUBSET
from cosmos_eval.protocol.task_info import TaskInfo

AREAS = ("intersection", "prediction", "label")
"""Columns of `samples`: pixels of a class in an image that are right, predicted, and there."""


def names_for(classes: Iterable[str] = (SUBSET,)) -> list[str]:
    """Mean intersection over union, accuracy over pixels, its mean over classes, and `<class>/iou`."""
    return ["miou", "pixel_accuracy", "mean_accuracy", *(f"{name}/iou" for name in classes)]


def metric_names(metrics: Mapping[str, Any]) -> list[str]:
    return names_for()


def labelled(samples: Any) -> Any:
    """A class that is only predicted has a line in one model's samples and none in another's."""
    return samples[samples["label"] > 0].reset_index(drop=True)


INFO = TaskInfo(
    name="segmentation",
    data=SEGMENTATION,
    run="cosmos_eval.tasks.segmentation.measure:run",
    validate="cosmos_eval.tasks.segmentation.measure:validate",
    metric_names=metric_names,
    summary="label maps from patch features and query words: mIoU, pixel and mean accuracy",
    title="Zero-shot semantic segmentation",
    headline=("miou",),
    prompt_keys=("words", "templates"),
    needed_prompts={
        "templates": 'a list such as templates: ["a photo of a {c}."]',
        "words": "for each class a word, or a list of words",
    },
    settings_key="segmentation",
    read_settings="cosmos_eval.tasks.segmentation.settings:check_segmentation",
    windows=True,
    sample_keys=("image", "class", "name", "label"),
    sample_columns=AREAS,
    comparable_samples=labelled,
    paired="cosmos_eval.tasks.segmentation.paired:paired",
    resampled=True,
    model_index_task="image-segmentation",
)
