"""Measures one step of a training: results in a folder of the step, and lines of `evaluations.jsonl`."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cosmos_eval.report.evaluations import Line, line_of
from cosmos_eval.run.result_folders import model_folder

if TYPE_CHECKING:
    from cosmos_eval.models.cosmos import CosmosModel
    from cosmos_eval.results.record import Result
    from cosmos_eval.run.plan import PlannedBenchmark
    from cosmos_eval.run.session import Session
    from cosmos_eval.training.sweep import Swept


def swept_lines(swept: "Swept", results: "Sequence[Result]") -> list[Line]:
    """The results of one checkpoint of a sweep as lines; `network` includes the run, where there are several."""
    return [line_of(swept.checkpoint.step, swept.series, result) for result in results]


def step_folder(out: Path, step: int, network: str) -> Path:
    return out / f"step-{step:08d}-{network}"


def measure_step(
    session: "Session",
    out: Path | None,
    model: "CosmosModel",
    step: int,
    network: str,
    plan: "Sequence[PlannedBenchmark]",
) -> list[Line]:
    """Measure the weights of one step on a plan; existing results of the same weights are kept, others replaced.

    Args:
        session: its `out` becomes the step's folder below `out`.
        model: one network of the step.
    """
    if out is not None:
        session.out = step_folder(out, step, network)
        keep = session.out / model_folder(model)
        for other in session.out.iterdir() if session.out.is_dir() else ():
            if other != keep and other.is_dir():  # this step of another training, or with other weights
                shutil.rmtree(other)
    return [line_of(step, network, result) for result in session.evaluate_model(model, plan)]
