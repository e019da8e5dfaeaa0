"""Finished legs as tables of what happened to every test sample, one a metric and a row."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.studies.ablation.files import read
from benchmarks.studies.ablation.leg import FINISHED
from benchmarks.studies.ablation.rows import ROWS
from benchmarks.studies.ablation.statistics import Outcomes
from cosmos_core.errors import RequestError
from cosmos_eval.results.store import RESULT, read_result, read_samples


@dataclass(frozen=True)
class Metric:
    """One column of the tables, and where its samples stand."""

    benchmark: str
    name: str
    title: str
    column: str
    only: tuple[str, str] | None = None
    """Column and value of the samples that count."""
    subset: str | None = None
    """Column of the subsets that the metric is a mean over."""


METRICS = (
    Metric("toybox-retrieval", "image_to_text_recall@1", "I→T R@1", "hit@1", ("direction", "image_to_text")),
    Metric("toybox-retrieval", "text_to_image_recall@1", "T→I R@1", "hit@1", ("direction", "text_to_image")),
    Metric("toybox-classification", "top1", "top-1", "correct"),
    Metric("toybox-perception", "macro_accuracy", "perception", "correct", subset="subset"),
)


@dataclass(frozen=True)
class Leg:
    """A finished leg: its folder, its record, and what it stands for."""

    folder: Path
    row: str
    seed: int
    record: dict[str, Any]


def finished_legs(out: Path) -> dict[str, dict[int, Leg]]:
    """Row -> seed -> leg, for every finished leg below a folder; rows in their order.

    Raises:
        RequestError: none is finished, or one was trained with other settings than the others; names it.
    """
    found: dict[str, dict[int, Leg]] = {one.name: {} for one in ROWS}
    for path in sorted(out.glob(f"*/{FINISHED}")):
        record = read(path)
        assert record is not None
        row, seed = record["config"]["name"], record["config"]["seed"]
        if row in found:
            found[row][seed] = Leg(path.parent, row, seed, record)
    legs = [leg for seeds in found.values() for leg in seeds.values()]
    if not legs:
        raise RequestError(f"no finished leg below {out}")
    for leg in legs:
        odd = [key for key in shared(leg) if shared(leg)[key] != shared(legs[0])[key]]
        if odd:
            raise RequestError(f"{leg.folder} differs from {legs[0].folder} in {', '.join(odd)}: not one ablation")
    return {row: seeds for row, seeds in found.items() if seeds}


def shared(leg: Leg) -> dict[str, Any]:
    """The settings that all rows must have alike."""
    differ = {"name", "seed", "objective", "captions"}
    return {"limit": leg.record.get("limit")} | {k: v for k, v in leg.record["config"].items() if k not in differ}


def outcomes(legs: dict[int, Leg], metric: Metric, seeds: list[int]) -> Outcomes:
    """What happened to every sample of a metric in the given seeds of one row.

    Raises:
        RequestError: two legs were tested on different samples, or samples are not those of their result.
    """
    frames = []
    for seed in seeds:
        leg = legs[seed]
        path = leg.folder / leg.record["results"][metric.benchmark] / RESULT
        frame = read_samples(path, read_result(path))
        if metric.only is not None:
            frame = frame[frame[metric.only[0]] == metric.only[1]]
        frames.append(frame.reset_index(drop=True))
    for seed, frame in zip(seeds, frames, strict=True):
        if not frame["image"].equals(frames[0]["image"]):
            raise RequestError(f"{legs[seed].folder} was tested on other samples of {metric.benchmark}; delete it")
    _, unit = np.unique(frames[0]["image"].to_numpy(dtype=str), return_inverse=True)
    classes = None
    if metric.subset is not None:
        _, classes = np.unique(frames[0][metric.subset].to_numpy(dtype=str), return_inverse=True)
    return Outcomes(np.stack([frame[metric.column].to_numpy(np.float64) for frame in frames]), unit, classes)
