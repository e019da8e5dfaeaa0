"""Versions of RESULT.json: what is on disk becomes a record of the newest version, or is refused."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.json_text import JsonError, load_json

SCHEMA = 2
CHECKSUM = "checksum"
DAMAGED = "copy it again from where it was written, or delete it and run again"


class NewerSchema(RequestError):
    """A record that a newer cosmos-eval wrote: it may be whole, so that nobody takes it for a broken one."""


def parse(text: str, where: object) -> tuple[dict[str, Any], int]:
    """The record in the text of a RESULT.json, brought to version SCHEMA in memory, and the version that it has.

    Only its version is checked here; `cosmos_eval.results.record` checks its fields and its checksum.

    Raises:
        RequestError: not JSON, or no version that we know; names `where`, which is what an error calls the file.
    """
    try:
        record = load_json(text, finite=True)
    except JsonError as error:
        raise RequestError(f"{where} is not a result: {error}; {DAMAGED}") from error
    if not isinstance(record, dict):
        raise RequestError(f"{where} is not a result: it holds no record; {DAMAGED}")
    version = record.get("schema")
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise RequestError(f"{where} is not a valid result: schema: {str(version)[:40]} is no version of it; {DAMAGED}")
    if version > SCHEMA:
        raise NewerSchema(
            f"{where} was written by a newer cosmos-eval (schema {str(version)[:40]}; this one reads 1 to {SCHEMA}); "
            "update cosmos-eval"
        )
    try:
        for step in range(version, SCHEMA):
            record = MIGRATIONS[step](record)
    except (ValueError, RecursionError, TypeError, AttributeError) as error:
        raise RequestError(f"{where} is not a valid result: {error}; {DAMAGED}") from error
    return record, version


def with_checksum(record: dict[str, Any]) -> dict[str, Any]:
    """The record with the digest of all of its other fields."""
    return {**record, CHECKSUM: checksum(record)}


def checksum(record: dict[str, Any]) -> str:
    """SHA-256 of the record without its checksum as canonical JSON: keys sorted, no spaces, UTF-8, no escapes but those
    that JSON asks for, and each number in the shortest form that reads back as the same number (as Python prints it).

    Raises:
        ValueError: a number that is not finite.
    """
    content = {key: value for key, value in record.items() if key != CHECKSUM}
    # once through JSON, so that the record in memory (tuples, numbers as keys) and the one read back are the same
    plain = json.loads(json.dumps(content, allow_nan=False))
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _to_2(record: dict[str, Any]) -> dict[str, Any]:
    """Version 2 has a checksum. A record of version 1 cannot be told from an edited one: it gets its own."""
    if CHECKSUM in record:
        return record  # no record of version 1 has one: its fields are refused as they stand
    later = _later_fields(record)
    if later:
        raise ValueError(f"it says schema 1 and has {later}, which came with schema 2: its checksum was taken out")
    return with_checksum({**record, "schema": 2})


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
"""What the releases before the checksum wrote; adapters add fields of their own to `model`."""
LATER_ENVIRONMENT = {"decoder", "resized", "compiled", "memory_format"}
METRIC_OF_1 = {"value", "low", "high", "n"}
PRECISIONS_OF_1 = ("fp32", "bf16", "fp16")


def _later_fields(record: dict[str, Any]) -> str:
    """The first field that no record of version 1 has, or empty: whoever has one was written with a checksum."""
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


MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _to_2}
"""From a version to the next one."""
