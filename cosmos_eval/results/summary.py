"""Tables of `results list`, `results show` and `results diff`."""

import json
from pathlib import Path
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.printable import printable
from cosmos_core.text_files import read_text
from cosmos_eval.metrics.names import is_rank
from cosmos_eval.results.class_rows import extreme_rows
from cosmos_eval.results.compare import changed_fields, changed_metrics, flatten_fields
from cosmos_eval.results.record import Result, unchecked_legend
from cosmos_eval.results.store import RESULT, SAMPLES, file_digest, read_model, read_result, result_paths
from cosmos_eval.results.versions import CHECKSUM, SCHEMA, parse
from cosmos_eval.tasks.outcome import Metric

LISTED = ("model", "benchmark", "primary metric", "value", "n", "precision", "limit", "date", "where")
DIFFERENCES = ("benchmark", "what", "field", "first", "second", "difference")
NONE = "-"


def as_listed(path: Path, result: Result, below: Path) -> tuple[str, ...]:
    """One row of `results list`, under LISTED."""
    return (
        plain(result.label),
        plain(result.transforms.name_of(f"{result.benchmark.name} v{result.benchmark.version}")),
        plain(result.primary),
        shown(result.primary, result.metrics[result.primary]),
        f"{result.metrics[result.primary].n:,}",
        result.precision,
        NONE if result.limit is None else str(result.limit),
        plain(result.timing.started)[:10],
        plain(str(path.parent.relative_to(below))),
    )


def as_record(path: Path, result: Result) -> dict[str, Any]:
    """One result of `results list --json`: its path, identity and label, and all that RESULT.json holds."""
    return {"path": str(path), "identity": result.identity, "label": result.label, **json.loads(result.to_json())}


def as_fields(path: Path) -> list[tuple[str, str]]:
    """Every field of one result as (field, value): file, identity, metrics and provenance."""
    path = find_result_file(path)
    result = read_result(path)
    record, version, _ = parse(read_text(path), path)
    rows = [
        ("file", str(path)),
        ("schema", str(version) if version == SCHEMA else f"{version}, read as {SCHEMA}"),
        ("checksum", str(record[CHECKSUM]) if version > 1 else "none before schema 2"),
        *(("unchecked", line) for line in unchecked_legend([result])),
        ("identity", result.identity or "none: the model has no digest"),
    ]
    fields = flatten_fields(result)
    metrics = {
        f"metrics.{name}": f"{shown(name, metric)}, n {metric.n:,}" + (" (primary)" if name == result.primary else "")
        for name, metric in result.metrics.items()
    }
    for field, value in fields.items():
        if field == "primary":
            rows += metrics.items()
        elif field != "warnings":
            rows.append((field, format_value(value)))
    rows += extreme_rows(result)
    rows += [("samples", samples_state(path, result)), *(("warning", warning) for warning in result.warnings)]
    return [(plain(field), plain(value)) for field, value in rows]


def samples_state(path: Path, result: Result) -> str:
    """Whether samples.parquet beside a RESULT.json is the file that it was written with, in words."""
    samples_path = path.parent / SAMPLES
    if not samples_path.is_file():
        return f"{samples_path} is missing"
    if file_digest(samples_path) != result.samples.sha256:
        return f"{samples_path} is not the file that {RESULT} was written with: truncated or altered"
    return f"{samples_path} is intact, {samples_path.stat().st_size:,} bytes"


def differences(first: Path, second: Path) -> tuple[list[tuple[str, ...]], int, int]:
    """Compare two results, or two folders of one model each, benchmark by benchmark.

    Returns:
        rows under DIFFERENCES; the number of benchmarks compared; and of those that have different numbers or are in
        one of the two only.
    """
    ours, theirs = read_model(first), read_model(second)
    if (
        len(ours) == len(theirs) == 1 and ours.keys() != theirs.keys()
    ):  # two single results are compared even if their benchmarks differ
        theirs = dict(zip(ours, theirs.values(), strict=True))
    rows: list[tuple[str, ...]] = []
    compared = different = 0
    for name in dict.fromkeys((*ours, *theirs)):
        if name not in ours or name not in theirs:
            where = first if name in ours else second
            rows.append(
                (name, "result", "", *(("there", NONE) if name in ours else (NONE, "there")), f"only in {where}")
            )
            different += 1
            continue
        compared += 1
        (_, before), (_, after) = ours[name], theirs[name]
        rows += [
            (name, change.kind, change.field, format_value(change.before), format_value(change.after), "")
            for change in changed_fields(before, after)
        ]
        changed = changed_metrics(before, after)
        different += bool(changed)
        for change in changed:
            values = (
                NONE if metric is None else shown(change.name, metric) for metric in (change.before, change.after)
            )
            rows.append(
                (
                    name,
                    "metric",
                    change.name,
                    *values,
                    NONE if change.delta is None else format_difference(change.name, change.delta),
                )
            )
    return [tuple(plain(cell) for cell in row) for row in rows], compared, different


def find_result_file(path: Path, beside: str | None = None) -> Path:
    """The RESULT.json at a path: itself, or the only one below a folder.

    Args:
        beside: a file that must lie beside it, where any result below the folder has one.

    Raises:
        RequestError: no result below the folder, or several.
    """
    if not path.is_dir():
        return path
    paths = list(result_paths(path))
    if beside is not None:
        paths = [path for path in paths if (path.parent / beside).is_file()] or paths
    if len(paths) == 1:
        return paths[0]
    if not paths:
        raise RequestError(f"no {RESULT} below {path}; give the path of one")
    raise RequestError(f"{len(paths)} results below {path}; give the path of one, such as {paths[0]}")


def shown(name: str, metric: Metric) -> str:
    """`value [low, high]`: percent with two decimals; ranks as they are."""
    scale = 1 if is_rank(name) else 100
    value, low, high = (f"{number * scale:.2f}" for number in (metric.value, metric.low, metric.high))
    return f"{value} [{low}, {high}]"


def format_difference(name: str, delta: float) -> str:
    """A difference with its sign, in points of percent (ranks: as they are); one that is too small for two decimals is
    shown by its order of magnitude."""
    delta *= 1 if is_rank(name) else 100
    return f"{delta:+.2f}" if abs(delta) >= 0.005 or not delta else f"{delta:+.0e}"


def plain(text: str) -> str:
    """Text without control characters, tabs and line ends, for one cell of a table."""
    return printable(text)


def format_value(value: Any) -> str:
    """A field's value as text."""
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
