"""Read finished trials, and the outcome of every test sample for a metric and a row."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.studies.ablation.files import read
from benchmarks.studies.ablation.rows import ROWS
from benchmarks.studies.ablation.statistics import Outcomes
from benchmarks.studies.ablation.trial import FINISHED
from cosmos_core.errors import RequestError
from cosmos_eval.results.store import RESULT, read_result, read_samples


@dataclass(frozen=True)
class Metric:
    """One column of the tables, and the column of samples.parquet with its outcomes."""

    benchmark: str
    name: str
    title: str
    column: str
    only: tuple[str, str] | None = None
    """A column and its value: only these samples count."""
    subset: str | None = None
    """The column of subsets, if the metric is a mean over subsets."""


METRICS = (
    Metric("toybox-retrieval", "image_to_text_recall@1", "I→T R@1", "hit@1", ("direction", "image_to_text")),
    Metric("toybox-retrieval", "text_to_image_recall@1", "T→I R@1", "hit@1", ("direction", "text_to_image")),
    Metric("toybox-classification", "top1", "top-1", "correct"),
    Metric("toybox-perception", "macro_accuracy", "perception", "correct", subset="subset"),
)


@dataclass(frozen=True)
class Trial:
    """A finished trial: its folder and record, and its row and seed."""

    folder: Path
    row: str
    seed: int
    record: dict[str, Any]


def finished_trials(out: Path) -> dict[str, dict[int, Trial]]:
    """Return row -> seed -> trial for every finished trial below a folder, in the order of the rows.

    Raises:
        RequestError: no trial is finished, or one was trained with other settings than the others.
    """
    by_row: dict[str, dict[int, Trial]] = {row.name: {} for row in ROWS}
    for path in sorted(out.glob(f"*/{FINISHED}")):
        record = read(path)
        assert record is not None
        row, seed = record["config"]["name"], record["config"]["seed"]
        if row in by_row:
            by_row[row][seed] = Trial(path.parent, row, seed, record)
    trials = [trial for seeds in by_row.values() for trial in seeds.values()]
    if not trials:
        raise RequestError(f"no finished trial below {out}")
    first = shared_settings(trials[0])
    for trial in trials:
        different = [key for key, value in shared_settings(trial).items() if value != first[key]]
        if different:
            folders = f"{trial.folder} differs from {trials[0].folder}"
            raise RequestError(f"{folders} in {', '.join(different)}: they are not one ablation")
    return {row: seeds for row, seeds in by_row.items() if seeds}


def shared_settings(trial: Trial) -> dict[str, Any]:
    """Return the settings that must be equal in all rows."""
    may_differ = {"name", "seed", "objective", "captions"}
    config = {key: value for key, value in trial.record["config"].items() if key not in may_differ}
    return {"limit": trial.record.get("limit"), **config}


def outcomes(trials: dict[int, Trial], metric: Metric, seeds: list[int]) -> Outcomes:
    """Return the outcome of every sample of a metric, in the given seeds of one row.

    Raises:
        RequestError: two trials were evaluated on different samples, or samples do not belong to their result.
    """
    frames = []
    for seed in seeds:
        trial = trials[seed]
        path = trial.folder / trial.record["results"][metric.benchmark] / RESULT
        frame = read_samples(path, read_result(path))
        if metric.only is not None:
            frame = frame[frame[metric.only[0]] == metric.only[1]]
        frames.append(frame.reset_index(drop=True))
    for seed, frame in zip(seeds, frames, strict=True):
        if not frame["image"].equals(frames[0]["image"]):
            folder = trials[seed].folder
            raise RequestError(f"{folder} was evaluated on other samples of {metric.benchmark}; delete this folder")
    _, unit = np.unique(frames[0]["image"].to_numpy(dtype=str), return_inverse=True)
    classes = None
    if metric.subset is not None:
        _, classes = np.unique(frames[0][metric.subset].to_numpy(dtype=str), return_inverse=True)
    return Outcomes(np.stack([frame[metric.column].to_numpy(np.float64) for frame in frames]), unit, classes)
