"""Zero-shot semantic segmentation with sliding windows.

Protocol: SCLIP (Wang et al., ECCV 2024, arXiv 2312.01597), as COSMOS evaluates. Each class has one or several query
words. A query embedding is the normalised mean of the word's prompts, and its cosine with a patch embedding is a logit.
Logits of overlapping windows are averaged and resized to the image's own size (`pixel_logits.py`), optionally refined
(`pamr.py`); a softmax over all query words and a maximum over the words of each class give the class of each pixel
(`label_maps.py`). All settings are in `settings.py`.

Scored: the predicted label map of each image against its mask. Pixels with label 255 are ignored.

Reported, as by mmsegmentation: `miou`, mean intersection over union (IoU) over the classes that occur;
`pixel_accuracy`, the share of correct pixels; `mean_accuracy`, the mean over classes of the share of their pixels that
are correct; `<class>/iou`. Intersections and unions are summed over the dataset before they are divided.

Ties: of classes with equal probability, the first one wins. A model that gives the same feature for everything assigns
all pixels to one class, whose share of the pixels divided by the number of classes is its `miou`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from cosmos_eval.datasets.kinds import SEGMENTATION
from cosmos_eval.metrics.names import SUBSET
from cosmos_eval.protocol.task_info import TaskInfo

AREAS = ("intersection", "prediction", "label")
"""Columns of `samples`: for a class in an image, how many pixels are correct, predicted and labelled."""


def reported_metrics(classes: Iterable[str] = (SUBSET,)) -> list[str]:
    """The metrics reported for these classes; by default with a placeholder for any class."""
    return ["miou", "pixel_accuracy", "mean_accuracy", *(f"{name}/iou" for name in classes)]


def metric_names(metrics: Mapping[str, Any]) -> list[str]:
    """All metrics that may be reported; `metrics` of a definition has no influence."""
    return reported_metrics()


def labelled_samples(samples: Any) -> Any:
    """The samples that every model has: classes that are labelled in the image.

    A class that is only predicted has a row in the samples of one model and none in those of another.
    """
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
    read_settings="cosmos_eval.tasks.segmentation.settings:read_settings",
    windows=True,
    sample_keys=("image", "class", "name", "label"),
    sample_columns=AREAS,
    comparable_samples=labelled_samples,
    paired="cosmos_eval.tasks.segmentation.paired:paired",
    class_metric="iou",
    resampled=True,
    model_index_task="image-segmentation",
)
