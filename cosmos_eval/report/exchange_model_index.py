"""The `model-index` of a Hugging Face model card, one for each model of a board."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pandas as pd

from cosmos_eval.protocol.task_registry import find_task
from cosmos_eval.report.board import MEASURED, Board
from cosmos_eval.report.cells import detail
from cosmos_eval.report.exchange_clip_benchmark import untaken
from cosmos_eval.report.names import short

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

METRICS = {"top1": "accuracy", "miou": "mean_iou"}
"""What the hub calls a metric; others keep our name."""


def model_index_files(board: Board) -> dict[str, str]:
    """File name -> YAML: `model-index:` with everything that was measured without a limit, as fractions.

    To be pasted between the `---` lines of a model card. A dataset's `config` is the protocol's version and
    fingerprint, its `revision` the fingerprint of the data; `args` of a metric hold its 95 % interval and n.
    """
    from huggingface_hub import ModelCardData

    files: dict[str, str] = {}
    taken: set[str] = set()
    for row in board.of_kind(MEASURED):
        model_row = board.rows.loc[row]
        results = [result for columns in board.groups() for result in _results(board, row, columns)]
        if not results:
            continue
        name = untaken(_slug(f"{model_row['label'][:80]}-{model_row['digest'][:8]}"), taken)
        label = " ".join(model_row["label"].split()) or name
        files[f"{name}.yaml"] = ModelCardData(model_name=label, eval_results=results).to_yaml() + "\n"
    return files


def _results(board: Board, row: int, columns: pd.DataFrame) -> Iterator["EvalResult"]:
    from huggingface_hub import EvalResult

    head = columns.iloc[0]
    info = find_task(head["task"])
    task = (info.model_index_task or head["task"], info.title or head["task"]) if info else (head["task"], head["task"])
    for column in detail(columns):
        cell, metric = board.cell(row, column), board.columns.at[column, "metric"]
        if cell is None:
            continue
        yield EvalResult(
            task_type=task[0],
            task_name=task[1],
            dataset_type=head["benchmark"],
            dataset_name=head["benchmark"],
            dataset_config=f"v{head['version']}-{head['fingerprint'][:8]}",
            dataset_revision=head["dataset"],
            metric_type=METRICS.get(metric, metric),
            metric_name=short(metric),
            metric_value=float(cell.value),
            metric_args={"low": float(cell.low), "high": float(cell.high), "n": int(cell.n)},
        )


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.") or "model"
