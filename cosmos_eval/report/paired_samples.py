"""What two models did on the same samples, for one metric: from both samples.parquet to what a paired test takes.

The unit is the one that the metric's interval resamples: the picture, where captions or items share one (of a cut-out
the picture that it is cut from, of an item of several pictures the first).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from cosmos_core.errors import RequestError
from cosmos_eval.metrics.areas import PresentAreas
from cosmos_eval.metrics.paired import Drops, class_weights, drops_of
from cosmos_eval.metrics.paired_areas import AreaDrop, bootstrap_areas
from cosmos_eval.results.record import Result

if TYPE_CHECKING:
    import pandas as pd

SAME = 1e-9
"""A metric computed anew from its samples may differ by so much from the recorded one."""
KEYS = {
    "retrieval": ("direction", "query", "picture"),
    "classification": ("picture", "label"),
    "perception": ("item", "subset", "picture"),
    "segmentation": ("picture", "class", "name", "label"),
}
"""Columns that say what a sample is, alike in both models."""
AREAS = ("intersection", "prediction", "label")
OF_PARTS = ("whole", "picture")
"""Columns of the unit in perception: the picture that a cut-out is cut from, where the table has it."""


@dataclass(frozen=True)
class Hits:
    """Hits in [0, 1] of N samples in both models, and what each adds to the metric."""

    baseline: np.ndarray
    candidate: np.ndarray
    unit: np.ndarray
    weights: np.ndarray | None = None

    def drops(self) -> Drops:
        return drops_of(self.baseline, self.candidate, self.unit, self.weights)

    def if_all_lost(self) -> Drops:
        """The worst candidate there can be: no hit at all."""
        return drops_of(self.baseline, np.zeros(len(self.baseline)), self.unit, self.weights)

    def values(self) -> tuple[float, float]:
        both = [np.average(one, weights=self.weights) for one in (self.baseline, self.candidate)]
        return float(both[0]), float(both[1])


@dataclass(frozen=True)
class Areas:
    """Areas of the same pictures in both models, for a mean IoU over `labels` (all that occur without)."""

    baseline: PresentAreas
    candidate: PresentAreas
    pictures: int
    labels: tuple[int, ...] | None = None

    def exchanged(self) -> "Areas":
        """With the candidate as the baseline."""
        return Areas(self.candidate, self.baseline, self.pictures, self.labels)

    def drop(self, resamples: int, seed: int) -> AreaDrop:
        return bootstrap_areas(self.baseline, self.candidate, self.pictures, self.labels, resamples, seed)


def refuse_other_samples(task: str, baseline: "pd.DataFrame", candidate: "pd.DataFrame") -> None:
    """RequestError unless both tables are of the same samples in the same order."""
    keys = [*KEYS[task], *(name for name in baseline.columns if name.startswith("group "))]
    for name in (*keys, *(AREAS if task == "segmentation" else ())):
        _refuse_absent(name, baseline, candidate)
    if task == "segmentation":  # a class that is only predicted has a row in one table and none in the other
        baseline, candidate = (one[one["label"] > 0].reset_index(drop=True) for one in (baseline, candidate))
    if len(baseline) != len(candidate):
        raise RequestError(f"{len(baseline):,} samples in the baseline and {len(candidate):,} in the candidate")
    for name in keys:
        differ = np.flatnonzero(baseline[name].to_numpy() != candidate[name].to_numpy())
        if len(differ):
            i = int(differ[0])
            ours, theirs = baseline[name].iloc[i], candidate[name].iloc[i]
            raise RequestError(f"sample {i} has {name} {ours} in the baseline and {theirs} in the candidate")


def paired(metric: str, results: tuple[Result, Result], frames: tuple["pd.DataFrame", "pd.DataFrame"]) -> Hits | Areas:
    """The samples behind one metric in both models.

    Args:
        metric: a fraction that both results report.
        results: baseline, candidate: comparable, with samples that `refuse_other_samples` lets pass.
        frames: their samples.

    Raises:
        RequestError: a metric that cannot be computed from samples, or does not come out as recorded.
    """
    task = results[0].benchmark["task"]
    make: dict[str, Callable[..., Hits | Areas]] = {
        "retrieval": _retrieval,
        "classification": _classification,
        "perception": partial(_perception, results[0]),
        "segmentation": _segmentation,
    }
    found = make[task](metric, *frames)
    if isinstance(found, Hits):
        for result, value in zip(results, found.values(), strict=True):
            refuse_other_value(metric, result, value)
    return found


def refuse_other_value(metric: str, result: Result, value: float) -> None:
    """RequestError where the samples do not give the metric that is recorded."""
    recorded = result.metrics[metric].value
    if not abs(recorded - value) <= SAME:
        raise RequestError(
            f"{metric} of {result.label} is {100 * recorded:.4f} in RESULT.json, and its samples give "
            f"{100 * value:.4f}; measure again"
        )


def can_be_paired(metric: str) -> bool:
    """Whether samples hold what a paired test of this metric needs.

    Ranks are no fractions and have no bound that a test could use; SVO-Probes' `match_accuracy` judges pairs that recur
    in several items once, and samples are of items.
    """
    return not metric.endswith("_rank") and "match_accuracy" not in metric


def _retrieval(metric: str, baseline: "pd.DataFrame", candidate: "pd.DataFrame") -> Hits:
    direction, _, k = metric.partition("_recall@")
    rows = (baseline["direction"] == direction).to_numpy()
    column = f"hit@{k}"
    _refuse_absent(column, baseline, candidate)
    return Hits(
        baseline[column].to_numpy()[rows],
        candidate[column].to_numpy()[rows],
        _numbers(baseline["picture"].to_numpy()[rows]),
    )


def _classification(metric: str, baseline: "pd.DataFrame", candidate: "pd.DataFrame") -> Hits:
    column = {"top1": "correct", "top5": "top5", "mean_per_class": "correct"}[metric]
    _refuse_absent(column, baseline, candidate)
    weights = class_weights(baseline["label"].to_numpy()) if metric == "mean_per_class" else None
    hits = [one[column].to_numpy() for one in (baseline, candidate)]
    return Hits(hits[0], hits[1], np.arange(len(baseline)), weights)


def _perception(result: Result, metric: str, baseline: "pd.DataFrame", candidate: "pd.DataFrame") -> Hits:
    name = metric.removesuffix("_expected")
    part, _, reading = name.rpartition("/")
    macro = reading.startswith("macro_")
    reading = reading.removeprefix("macro_")
    kind = "correct" if name == metric else "expected"
    column = kind if kind in baseline else f"{reading}_{kind}"
    _refuse_absent(column, baseline, candidate)
    weights = None
    if macro:
        labels = baseline[f"group {part}" if part else "subset"].to_numpy()
        # subsets with too few items have no metric of their own, and no place in the mean
        rows = np.array([bool(label) and f"{label}/{reading}" in result.metrics for label in labels])
        weights = class_weights(_numbers(labels[rows]))
    elif part:
        rows = _rows_of_part(baseline, part)
    else:
        rows = np.ones(len(baseline), dtype=bool)
    unit = next(baseline[one] for one in OF_PARTS if one in baseline)
    hits = [one[column].to_numpy()[rows] for one in (baseline, candidate)]
    return Hits(hits[0], hits[1], _numbers(unit.to_numpy()[rows]), weights)


def _rows_of_part(frame: "pd.DataFrame", part: str) -> np.ndarray:
    """Of the subset of that name, else of the first group that has such a part."""
    for name in ("subset", *(column for column in frame.columns if column.startswith("group "))):
        rows = (frame[name] == part).to_numpy()
        if rows.any():
            return rows
    raise RequestError(f"no sample belongs to {part!r}; measure again")


def _segmentation(metric: str, baseline: "pd.DataFrame", candidate: "pd.DataFrame") -> Hits | Areas:
    frames = (baseline, candidate)
    if metric in ("pixel_accuracy", "mean_accuracy"):  # shares of labelled pixels: means, unlike IoUs
        labelled = [one[one["label"] > 0] for one in frames]
        label = labelled[0]["label"].to_numpy(np.float64)
        of_class = _numbers(labelled[0]["class"].to_numpy())
        weights = label / np.bincount(of_class, weights=label)[of_class] if metric == "mean_accuracy" else label
        hits = [one["intersection"].to_numpy() / label for one in labelled]
        return Hits(hits[0], hits[1], _numbers(labelled[0]["picture"].to_numpy()), weights)
    numbers = _numbers(np.concatenate([one["picture"].to_numpy() for one in frames]))
    class_count = 1 + int(max(one["class"].max() for one in frames))
    both = [
        PresentAreas(
            own,
            frame["class"].to_numpy(np.int64),
            frame[list(AREAS)].to_numpy(np.int64),
            class_count,
        )
        for frame, own in zip(frames, np.split(numbers, [len(baseline)]), strict=True)
    ]
    labels = None
    if metric != "miou":
        of_name = [one.loc[one["name"] == metric.removesuffix("/iou"), "class"].unique().tolist() for one in frames]
        labels = tuple(sorted({int(c) for some in of_name for c in some}))
    return Areas(both[0], both[1], 1 + int(numbers.max()), labels)


def _refuse_absent(column: str, *frames: "pd.DataFrame") -> None:
    if any(column not in frame for frame in frames):
        raise RequestError(f"samples.parquet has no column {column!r}; measure again")


def _numbers(labels: np.ndarray | Sequence[str]) -> np.ndarray:
    """(N,) int64, equal for equal labels, from 0 in order of first appearance."""
    import pandas as pd

    return pd.factorize(np.asarray(labels))[0].astype(np.int64)
