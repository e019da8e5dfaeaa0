"""clip-benchmark's result files: written from a board, so that its `build` reads them, and read as references."""

import csv
import io
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from cosmos_core.errors import RequestError
from cosmos_core.json_text import parse_json
from cosmos_core.text_files import read_text
from cosmos_eval.metrics.names import is_rank
from cosmos_eval.models.spec import parse_spec
from cosmos_eval.protocol.task_registry import find_task
from cosmos_eval.report.board import MEASURED, Board
from cosmos_eval.report.board_references import COLUMNS
from cosmos_eval.report.exchange_names import (
    SELECTION,
    SUGAR_CREPE,
    benchmarks_of,
    dataset_names,
    our_metric,
    our_tasks,
    their_metric,
)

ENGLISH = "en"
PARTS = "/accuracy"
NEEDED = ("dataset", "model", "pretrained", "task", "language")
Record = dict[str, Any]


def clip_benchmark_files(board: Board) -> dict[str, str]:
    """File name -> text: one JSON a model and dataset, of everything that was measured without a limit.

    `dataset`, `task` and `metrics` have clip-benchmark's names where it has the same benchmark or metric, else ours;
    `benchmark`, `protocol_fingerprint`, `dataset_fingerprint`, `digest` and `precision` are fields that only we write.
    """
    files: dict[str, str] = {}
    taken: set[str] = set()  # in lower case: some file systems ignore case
    for columns in board.groups():
        is_shipped = _is_shipped(columns["benchmark"].iloc[0], columns["fingerprint"].iloc[0])
        for row in board.of_kind(MEASURED):
            for record in _records(board, row, columns, is_shipped):
                stem = _slug("_".join(record[key] for key in ("dataset", "pretrained", "model", "language", "task")))
                name = untaken(stem, taken)
                files[f"{name}.json"] = json.dumps(record, allow_nan=False) + "\n"
    return files


def _records(board: Board, row: int, columns: pd.DataFrame, is_shipped: bool) -> Iterator[Record]:
    """Yield the records of one model and benchmark; `is_shipped`: the benchmark has its shipped definition."""
    model_row, head = board.rows.loc[row], columns.iloc[0]
    cells = {metric: board.cell(row, column) for column, metric in columns["metric"].items()}
    values = {metric: float(cell.value) for metric, cell in cells.items() if cell is not None}
    if not values:
        return
    model, pretrained = _model(model_row)
    provenance = {
        "benchmark": head["benchmark"],
        "protocol_fingerprint": head["fingerprint"],
        "dataset_fingerprint": head["dataset"],
        "digest": model_row["digest"],
        "precision": model_row["precision"],
    }
    name = head["benchmark"]
    dataset = dataset_names().get(name, name) if is_shipped else name
    info = find_task(head["task"]) if is_shipped and name in dataset_names() else None
    task = info.clip_benchmark_task if info is not None else ""
    ours = find_task(head["task"])
    beginning = "" if ours is not None and ours.splits else "zeroshot_"  # probes are fitted to train images
    yield {
        "dataset": dataset,
        "model": model,
        "pretrained": pretrained,
        "task": task or f"{beginning}{head['task']}",
        "metrics": {their_metric(head["task"], metric): value for metric, value in values.items()},
        "language": ENGLISH,
        **provenance,
    }
    if name == "sugarcrepe" and is_shipped:
        for metric, value in values.items():
            if metric.endswith(PARTS):
                yield {
                    "dataset": SUGAR_CREPE + metric.removesuffix(PARTS),
                    "model": model,
                    "pretrained": pretrained,
                    "task": SELECTION,
                    "metrics": {"text_acc": value, "acc": value},
                    "language": ENGLISH,
                    **provenance,
                }


def _model(row: pd.Series) -> tuple[str, str]:
    """Architecture and tag of an open_clip model; else the label and the start of the digest."""
    if row["label"] == row["spec"] and row["spec"].startswith("open_clip:"):
        spec = parse_spec(row["spec"])
        return spec.name, spec.rest + (f"#{spec.selector}" if spec.selector else "")
    return row["label"], row["digest"][:8]


def _is_shipped(name: str, fingerprint: str) -> bool:
    from cosmos_eval.protocol.benchmark import load_benchmark
    from cosmos_eval.protocol.folders import shipped_files

    return name in shipped_files() and load_benchmark(name).fingerprint == fingerprint


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")[:150] or "result"


def untaken(stem: str, taken: set[str]) -> str:
    """`stem`, or `stem-2`, ... where that is taken; the name is taken from then on."""
    name, again = stem, 2
    while name.lower() in taken:
        name, again = f"{stem}-{again}", again + 1
    taken.add(name.lower())
    return name


def read_clip_benchmark(path: Path) -> pd.DataFrame:
    """References from one JSON of clip-benchmark, a folder of them, or the CSV that its `build` makes.

    Only zero-shot results in English are read, and only for benchmarks and metrics that cosmos-eval has, too. A file
    that cosmos-eval wrote names its protocol and data; its values belong to columns of these only. A folder is one
    source: the files of one model in it (one for each dataset) make one row.

    Raises:
        RequestError: unreadable, or not such a file; names it.
    """
    paths = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not paths:
        raise RequestError(f"no JSON files in {path}; give clip-benchmark's results or the CSV of its build command")
    rows = [
        {"paper": path.resolve().name, **row}
        for file in paths
        for record in _read(file)
        for row in _references(record, file)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _read(path: Path) -> list[Record]:
    text = read_text(path)
    if path.suffix == ".csv":
        try:
            table = csv.DictReader(io.StringIO(text, newline=""))
            flat = list(table)
        except csv.Error as error:
            raise RequestError(f"cannot read {path}: {error}") from error
        if not set(NEEDED) <= set(table.fieldnames or ()):
            raise RequestError(
                f"{path} is neither the CSV of clip-benchmark's build (columns {', '.join(NEEDED)}) "
                "nor one of open_clip's tables"
            )
        return [_check({**row, "metrics": _flat_metrics(row)}, path) for row in flat]
    try:
        record = parse_json(text, path)
    except RequestError as error:
        raise RequestError(f"{error}; give a result of clip-benchmark") from error
    return [_check(record, path)]


def _flat_metrics(row: Record) -> Record:
    """The filled columns of a built CSV that hold numbers."""
    metrics = {}
    for name, value in row.items():
        try:
            metrics[name] = float(value)
        except (TypeError, ValueError):
            continue
    return metrics


def _check(record: Any, path: Path) -> Record:
    is_record = isinstance(record, dict) and isinstance(record.get("metrics"), dict)
    if not is_record or not all(isinstance(record.get(key), str) for key in NEEDED):
        raise RequestError(
            f"{path} is not a result of clip-benchmark: it needs {', '.join(NEEDED)} as texts and metrics as a map"
        )
    return record


def _references(record: Record, path: Path) -> Iterator[Record]:
    dataset, fingerprint = record["dataset"], record.get("protocol_fingerprint") or ""
    common = {
        "model": f"{record['model']} {record['pretrained']}".strip(),
        "arch": "",
        "pretraining": "",
        "source": "",
        "fingerprint": fingerprint,
        "dataset": record.get("dataset_fingerprint") or "",
    }
    if record["language"] != ENGLISH:
        return
    default_tasks = (record["task"].removeprefix("zeroshot_"),) if fingerprint else ()
    tasks = our_tasks().get(record["task"], default_tasks)
    if not any(tasks):
        return
    names = [record["benchmark"]] if fingerprint and record.get("benchmark") else benchmarks_of(dataset)
    for metric, value in record["metrics"].items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            continue  # clip-benchmark writes NaN for the top 5 of four classes
        if dataset.startswith(SUGAR_CREPE):
            our_name = dataset.removeprefix(SUGAR_CREPE) + PARTS if metric == "text_acc" else ""
        else:
            our_name = next(filter(None, (our_metric(task, metric) for task in tasks)), "") or (
                metric if fingerprint else ""
            )
        if our_name and not is_rank(our_name) and not 0 <= value <= 1:
            raise RequestError(f"{path}: {metric} of {common['model']} is {value:g}, not a fraction from 0 to 1")
        for name in names if our_name else []:
            yield {**common, "benchmark": name, "metric": our_name, "value": float(value), "decimals": 2}
