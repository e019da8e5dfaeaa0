"""CLASSES.json, beside RESULT.json: the metric of each class, class names and prompts, each stored once.

It is a file of its own, because a list of 1,000 classes is thirty times the size of everything else in RESULT.json, and
all tables and comparisons read RESULT.json only. RESULT.json is the same with and without it, so that versions of
cosmos-eval without class tables read new results, and this version old ones. It is JSON and not Parquet, because names
of classes and lists of templates are text that people read and compare, and because the HTML page and `results show`
then need no pandas.

    {"schema": 1, "metric": "recall", "samples": <sha256 of samples.parquet>, "templates": ["a photo of a {c}."],
     "classes": [{"name": "tench", "n": 50, "value": 0.98, "low": 0.9, "high": 1.0, "method": "mid-p"}, ...],
     "checksum": <as in RESULT.json>}
"""

import json
from pathlib import Path
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.files import atomic_write_text
from cosmos_core.json_text import read_json
from cosmos_eval.results.versions import CHECKSUM, DAMAGED, NewerSchema, checksum, with_checksum
from cosmos_eval.tasks.class_table import ClassEntry, ClassTable
from cosmos_eval.tasks.outcome import Metric

CLASSES = "CLASSES.json"
SCHEMA = 1
LARGEST = 2**28
"""Bytes at most; 1,000 classes with eighty templates take a tenth of a megabyte."""


def write_classes(folder: Path, table: ClassTable | None, samples: str) -> None:
    """Write CLASSES.json, a line for each class; without a table, remove that of an earlier result.

    Args:
        samples: SHA-256 of the samples.parquet of the same measurement.
    """
    path = folder / CLASSES
    if table is None:
        path.unlink(missing_ok=True)
        return
    record = with_checksum(
        {
            "schema": SCHEMA,
            "metric": table.metric,
            "samples": samples,
            "templates": list(table.templates),
            "classes": [_entry_record(entry) for entry in table.classes],
        }
    )
    # ASCII: a name may have a lone surrogate, as in a folder's name that is not UTF-8.
    lines = ",\n".join(f"  {json.dumps(entry, allow_nan=False)}" for entry in record.pop("classes"))
    ends = {"templates": record.pop("templates"), CHECKSUM: record.pop(CHECKSUM)}
    head = json.dumps(record)[:-1]
    templates, digest = (f"{json.dumps(name)}: {json.dumps(value, indent=1)}" for name, value in ends.items())
    atomic_write_text(path, f'{head},\n"classes": [\n{lines}\n],\n{templates},\n{digest}}}\n')


def read_classes(folder: Path, samples: str) -> ClassTable | None:
    """Read CLASSES.json; None if there is none, as beside older results and those of tasks without classes.

    Args:
        samples: SHA-256 of samples.parquet, as RESULT.json in the same folder records it.

    Raises:
        RequestError: damaged, edited, of a newer version, or of another measurement; names the file.
    """
    path = folder / CLASSES
    if not path.exists():
        return None
    record = read_json(path, finite=True, largest=LARGEST)
    schema = record.get("schema") if isinstance(record, dict) else None
    if isinstance(schema, int) and schema > SCHEMA:
        raise NewerSchema(f"{path} was written by a newer cosmos-eval (schema {str(schema)[:40]}); update cosmos-eval")
    advice = f"{DAMAGED} with --overwrite"
    try:
        is_intact = record[CHECKSUM] == checksum(record)
        table = ClassTable(
            metric=_text(record["metric"]),
            classes=tuple(map(_read_entry, record["classes"])),
            templates=tuple(map(_text, record["templates"])),
        )
        is_of_samples = _text(record["samples"]) == samples
    except (KeyError, TypeError, ValueError) as error:
        raise RequestError(f"{path} is not a valid table of classes: {error!r:.120}; {advice}") from error
    if not is_intact:
        raise RequestError(f"{path} was edited or damaged after it was written (its checksum differs); {advice}")
    if not is_of_samples:
        raise RequestError(
            f"{path} belongs to another measurement than the RESULT.json beside it; copy both again, or delete it"
        )
    return table


def _entry_record(entry: ClassEntry) -> dict[str, Any]:
    metric = {} if entry.metric is None else {**entry.metric.record()}
    metric.pop("n", None)
    own = {"templates": list(entry.templates), "words": list(entry.words)}
    return {"name": entry.name, "n": entry.n, **metric, **{key: value for key, value in own.items() if value}}


def _read_entry(record: dict[str, Any]) -> ClassEntry:
    name, n = _text(record["name"]), record["n"]
    if isinstance(n, bool) or not isinstance(n, int) or n < 0:
        raise ValueError(f"n of the class {name[:40]!r} is not a count")
    metric = None
    if "value" in record:
        value, low, high = (_fraction(record[key]) for key in ("value", "low", "high"))
        metric = Metric(value, low, high, n, _text(record.get("method", "")))
    own = (tuple(map(_text, record.get(key, []))) for key in ("templates", "words"))
    return ClassEntry(name, n, metric, *own)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is not a text")
    return value


def _fraction(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e-9 <= value <= 1 + 1e-9:
        raise ValueError(f"{value!r:.40} is not a fraction from 0 to 1")
    return float(value)
