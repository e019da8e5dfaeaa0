"""Segmentation: what two models did on the same samples."""

from typing import TYPE_CHECKING

import numpy as np

from cosmos_eval.metrics.areas import PresentAreas
from cosmos_eval.metrics.paired_samples import Areas, Hits, label_numbers
from cosmos_eval.tasks.segmentation import AREAS

if TYPE_CHECKING:
    import pandas as pd

    from cosmos_eval.results.record import Result


def paired(metric: str, results: "tuple[Result, Result]", frames: "tuple[pd.DataFrame, pd.DataFrame]") -> Hits | Areas:
    if metric in ("pixel_accuracy", "mean_accuracy"):  # shares of labelled pixels: means, unlike IoUs
        labelled = [one[one["label"] > 0] for one in frames]
        label = labelled[0]["label"].to_numpy(np.float64)
        of_class = label_numbers(labelled[0]["class"].to_numpy())
        weights = label / np.bincount(of_class, weights=label)[of_class] if metric == "mean_accuracy" else label
        hits = [one["intersection"].to_numpy() / label for one in labelled]
        return Hits(hits[0], hits[1], label_numbers(labelled[0]["image"].to_numpy()), weights)
    numbers = label_numbers(np.concatenate([one["image"].to_numpy() for one in frames]))
    class_count = 1 + int(max(one["class"].max() for one in frames))
    both = [
        PresentAreas(
            own,
            frame["class"].to_numpy(np.int64),
            frame[list(AREAS)].to_numpy(np.int64),
            class_count,
        )
        for frame, own in zip(frames, np.split(numbers, [len(frames[0])]), strict=True)
    ]
    labels = None
    if metric != "miou":
        of_name = [one.loc[one["name"] == metric.removesuffix("/iou"), "class"].unique().tolist() for one in frames]
        labels = tuple(sorted({int(c) for some in of_name for c in some}))
    return Areas(both[0], both[1], 1 + int(numbers.max()), labels)
