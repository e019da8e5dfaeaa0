"""What each task reports, by name: the one list behind checking a definition and measuring. Imports nothing."""

from collections.abc import Iterable, Sequence

CUTOFFS = (1, 5, 10)
"""The k of recall@k where a definition does not say them."""
TOP = 5
"""`top5` is reported where there are at least so many classes."""
SUBSET = "*"
"""Stands for a subset's name while none is known."""


def retrieval(k: Sequence[int] = CUTOFFS) -> list[str]:
    """`image_to_text_recall@1`, ..., `text_to_image_median_rank`."""
    kinds = [*(f"recall@{n}" for n in k), "mean_rank", "median_rank"]
    return [f"{direction}_{kind}" for direction in ("image_to_text", "text_to_image") for kind in kinds]


def classification(classes: int | None = None) -> list[str]:
    """`top1`, `mean_per_class`, and `top5` where there are at least five classes (or it is not known how many)."""
    few = classes is not None and classes < TOP
    return ["top1", "mean_per_class"] if few else ["top1", "top5", "mean_per_class"]


READINGS = ("accuracy", "match_accuracy", "text_score", "image_score", "group_score")
"""Of perception; which of them there are is decided by how many pictures and texts an item has."""


def perception(
    subsets: Iterable[str] = (SUBSET,),
    readings: Sequence[str] = READINGS,
    groups: Iterable[str] = (SUBSET,),
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


def segmentation(classes: Iterable[str] = (SUBSET,)) -> list[str]:
    """Mean intersection over union, accuracy over pixels, its mean over classes, and `<class>/iou`."""
    return ["miou", "pixel_accuracy", "mean_accuracy", *(f"{name}/iou" for name in classes)]


def reported(task: str, k: Sequence[int] = CUTOFFS) -> list[str]:
    """Every metric that a task can report, before anything is known of its data; `*` stands for a subset's name."""
    if task == "retrieval":
        return retrieval(k)
    if task == "classification":
        return classification()
    return segmentation() if task == "segmentation" else perception()


def is_reported(metric: str, task: str, k: Sequence[int] = CUTOFFS) -> bool:
    """Whether a task can report a metric; what stands before the last `/` may be any subset or class."""
    subset, _, rest = metric.rpartition("/")
    return (f"{SUBSET}/{rest}" if subset else metric) in reported(task, k)


def is_rank(metric: str) -> bool:
    """Whether a metric is a rank, where less is better; all others are fractions, where more is."""
    return metric.endswith("_rank")
