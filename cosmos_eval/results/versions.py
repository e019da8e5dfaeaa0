"""Versions of RESULT.json and samples.parquet: files of older versions are read as the newest, in memory, or
refused."""

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from cosmos_core.errors import RequestError
from cosmos_core.json_text import JsonError, load_json

SCHEMA = 3
CHECKSUM = "checksum"
DAMAGED = "copy it again from where it was written, or delete it and run again"


class NewerSchema(RequestError):
    """A newer cosmos-eval wrote the record: it may be intact, so it is never treated as damaged."""


class Parsed(NamedTuple):
    """A RESULT.json, brought to version SCHEMA in memory."""

    record: dict[str, Any]
    """With the checksum that the file has (version 1: a new one); it covers the record as written in the file."""
    version: int
    """Of the file."""
    is_intact: bool
    """Whether the checksum in the file is that of the record in the file; always true for version 1, which has none."""


def parse(text: str, where: object) -> Parsed:
    """Parse the text of a RESULT.json and bring the record to version SCHEMA.

    Only the version is checked here; `cosmos_eval.results.record` checks the fields and refuses a wrong checksum.

    Args:
        where: how an error names the file.

    Raises:
        RequestError: not JSON, or an unknown version (NewerSchema: a later one).
    """
    try:
        record = load_json(text, finite=True)
    except JsonError as error:
        raise RequestError(f"{where} is not a result: {error}; {DAMAGED}") from error
    if not isinstance(record, dict):
        raise RequestError(f"{where} is not a result: not a JSON object; {DAMAGED}")
    version = record.get("schema")
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise RequestError(
            f"{where} is not a valid result: schema: {str(version)[:40]} is not a schema version; {DAMAGED}"
        )
    if version > SCHEMA:
        raise NewerSchema(
            f"{where} was written by a newer cosmos-eval (schema {str(version)[:40]}; this one reads 1 to {SCHEMA}); "
            "update cosmos-eval"
        )
    is_intact = version == 1 or _has_its_checksum(record)
    try:
        for step in range(version, SCHEMA):
            record = MIGRATIONS[step](record)
    except (ValueError, RecursionError, TypeError, AttributeError) as error:
        raise RequestError(f"{where} is not a valid result: {error}; {DAMAGED}") from error
    return Parsed(record, version, is_intact)


def _has_its_checksum(record: dict[str, Any]) -> bool:
    try:
        return bool(record.get(CHECKSUM) == checksum(record))
    except (
        ValueError,
        RecursionError,
        TypeError,
    ):  # a field of a type that no result has; the check of the fields reports it
        return False


def rename_old_columns(columns: Sequence[str], version: int) -> dict[str, str]:
    """Columns of the samples.parquet of a result of `version` that have another name in version SCHEMA: old -> new."""
    renamed: dict[str, str] = {}
    for step in range(version, SCHEMA):
        renamed |= {old: new for old, new in RENAMED_COLUMNS.get(step, {}).items() if old in columns}
    return {old: new for old, new in renamed.items() if new not in columns}


def with_checksum(record: dict[str, Any]) -> dict[str, Any]:
    """The record with the digest of all of its other fields."""
    return {**record, CHECKSUM: checksum(record)}


def checksum(record: dict[str, Any]) -> str:
    """SHA-256 of the record without its checksum as canonical JSON: keys sorted, no spaces, UTF-8, only the escapes
    that JSON requires, and each number in the shortest form that reads back as the same number (as Python prints it).

    Raises:
        ValueError: a number that is not finite.
    """
    content = {key: value for key, value in record.items() if key != CHECKSUM}
    # through JSON first, so that a record in memory (tuples, numbers as keys) and the one read back are equal
    plain = json.loads(json.dumps(content, allow_nan=False))
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _to_2(record: dict[str, Any]) -> dict[str, Any]:
    """Version 2 has a checksum. Edits of version 1 cannot be detected: its record gets a new one."""
    if CHECKSUM in record:
        raise ValueError("schema: it says schema 1 and has a checksum, which came with schema 2")
    later = _later_fields(record)
    if later:
        raise ValueError(f"it says schema 1 and has {later}, which came with schema 2: its checksum was taken out")
    return with_checksum({**record, "schema": 2})


def _to_3(record: dict[str, Any]) -> dict[str, Any]:
    """Version 3 renames a column of samples.parquet (RENAMED_COLUMNS); the record itself is the same."""
    return {**record, "schema": 3}


FIELDS_OF_1 = {
    "": {
        "schema", "benchmark", "dataset", "model", "metrics", "primary", "precision", "limit", "environment", "timing",
        "samples", "warnings",
    },
    "benchmark": {"name", "version", "task", "fingerprint"},
    "dataset": {"fingerprint", "n", "n_expected"},
    "timing": {"seconds", "started", "batch_size", "workers", "seed"},
    "samples": {"file", "rows", "sha256"},
}  # fmt: skip
"""Fields that the releases before the checksum wrote; adapters add fields of their own to `model`."""
LATER_ENVIRONMENT = {"decoder", "resized", "compiled", "memory_format", "weights", "fetched"}
METRIC_OF_1 = {"value", "low", "high", "n"}
PRECISIONS_OF_1 = ("fp32", "bf16", "fp16")


def _later_fields(record: dict[str, Any]) -> str:
    """The first field that came after version 1, or empty: a record with one was written with a checksum."""
    for part, fields in FIELDS_OF_1.items():
        inside = record.get(part) if part else record
        later = sorted(inside.keys() - fields) if isinstance(inside, dict) else []
        if later:
            return f"{part}.{later[0]}"[-60:] if part else later[0][:60]
    environment = record.get("environment")
    later = sorted(LATER_ENVIRONMENT & environment.keys()) if isinstance(environment, dict) else []
    if later:
        return f"environment.{later[0]}"
    for metric in (record.get("metrics") or {}).values():
        if isinstance(metric, dict) and metric.keys() - METRIC_OF_1:
            return f"metrics.*.{min(metric.keys() - METRIC_OF_1)[:40]}"
    if isinstance(record.get("precision"), str) and record["precision"] not in PRECISIONS_OF_1:
        return f"precision {record['precision'][:40]}"
    return ""


MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _to_2, 2: _to_3}
"""From a version to the next one."""
RENAMED_COLUMNS = {2: {"picture": "image"}}
"""From a version to the next one: columns of samples.parquet, old name -> new name."""
