"""The record of one model on one benchmark, and its identity."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from importlib import resources
from typing import Any, ClassVar

from cosmos_core.errors import RequestError
from cosmos_eval.results.portable import portable_spec
from cosmos_core.short_repr import short_repr
from cosmos_eval.metrics.names import is_rank
from cosmos_eval.results.versions import DAMAGED, SCHEMA, checksum, parse, with_checksum
from cosmos_eval.tasks.outcome import Metric

UNCHECKED = "unchecked"
ROUNDING = 1e-9
"""What sums of floats may be beyond the edges of a metric."""
MOST = 10**12
"""Samples, images or places: more than any dataset has."""


@dataclass(frozen=True)
class Result:
    """What is written to RESULT.json: an outcome and where it comes from. Metrics are fractions.

    `benchmark`, `dataset`, `model`, `environment`, `timing` and `samples` hold what results/schema.json names.
    """

    benchmark: dict[str, Any]
    dataset: dict[str, Any]
    model: dict[str, Any]
    metrics: dict[str, Metric]
    primary: str
    precision: str
    limit: int | None
    environment: dict[str, Any]
    timing: dict[str, Any]
    samples: dict[str, Any]
    warnings: tuple[str, ...] = field(default=())

    unchecked: ClassVar[bool] = False
    """Whether it was read from a file without a checksum (schema 1), so that an edit cannot be told. No field: it is
    the file's, and equal measurements are equal whichever file they come from."""

    @property
    def identity(self) -> str:
        """Digest of what decides the numbers: two results with the same identity are the same measurement."""
        return identity(
            self.model["digest"],
            self.benchmark["fingerprint"],
            self.dataset["fingerprint"],
            self.precision,
            self.limit,
            self.benchmark.get("scoring_version", 1),
            self.benchmark.get("plugins", {}),
        )

    @property
    def label(self) -> str:
        """How a table calls the model; marked where the file has no checksum."""
        name = self.model.get("label") or portable_spec(self.model["spec"])
        return f"{name} ({UNCHECKED})" if self.unchecked else name

    @property
    def checksum(self) -> str:
        """SHA-256 of the whole record, as it stands in RESULT.json (`cosmos_eval.results.versions.checksum`)."""
        return checksum(self._record())

    def to_json(self) -> str:
        """The text of RESULT.json: every number reads back as the same number."""
        text = json.dumps(with_checksum(self._record()), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        try:
            text.encode()
        except UnicodeEncodeError:  # half a surrogate pair, as in the name of a file that is no UTF-8: JSON can say it
            text = json.dumps(json.loads(text), indent=2, ensure_ascii=True, allow_nan=False) + "\n"
        return text

    def _record(self) -> dict[str, Any]:
        metrics = {name: metric.record() for name, metric in self.metrics.items()}
        return {"schema": SCHEMA, **asdict(self), "metrics": metrics, "warnings": list(self.warnings)}

    @classmethod
    def from_json(cls, text: str, where: object) -> "Result":
        """Read and validate; `where` is what an error calls the file. Older versions are brought to the newest one.

        Raises:
            RequestError: not JSON, a version that is not known, a field that is missing or wrong, or content that is
                not the one that was written (its checksum); names the file and the field.
        """
        record, version = parse(text, where)
        fault = first_fault(record)
        if fault:
            raise RequestError(f"{where} is not a valid result: {fault}; {DAMAGED}")
        if record.pop("checksum") != checksum(record):
            raise RequestError(f"{where} was edited or damaged after it was written (its checksum differs); {DAMAGED}")
        record.pop("schema")
        record["metrics"] = {name: Metric(**value) for name, value in record["metrics"].items()}
        record["warnings"] = tuple(record["warnings"])
        result = cls(**record)
        if version == 1:
            object.__setattr__(result, "unchecked", True)  # frozen for everybody else
        return result


def renamed(result: Result, label: str) -> Result:
    """The result under another label; what has no checksum stays marked."""
    other = replace(result, model={**result.model, "label": label})
    object.__setattr__(other, "unchecked", result.unchecked)
    return other


def unchecked_legend(results: Iterable["Result"]) -> list[str]:
    """What the mark in a label means, in one line; none where no result has it."""
    if not any(result.unchecked for result in results):
        return []
    return [f"{UNCHECKED}: its file has no checksum (schema 1), so that nobody can tell whether it was edited"]


def refuse_unchecked(results: Iterable["Result"], allowed: bool) -> None:
    """RequestError where a result has no checksum and that is not allowed."""
    some = list(dict.fromkeys(f"{one.label} on {one.benchmark['name']}" for one in results if one.unchecked))
    if some and not allowed:
        more = f" and {len(some) - 3} more" if len(some) > 3 else ""
        raise RequestError(
            f"no checksum in the files of {', '.join(some[:3])}{more} (schema 1), so that an edit cannot be told; "
            "run these again with --overwrite, or take them as they are with --allow-unchecked"
        )


def identity(
    model_digest: str,
    benchmark: str,
    dataset: str,
    precision: str,
    limit: int | None,
    scoring_version: int = 1,
    plugins: Mapping[str, str] | None = None,
) -> str:
    """Digest of model, protocol and dataset fingerprints, precision, limit, and of the code that scores; empty for a
    model without a digest.

    A model whose weights cannot be identified never equals itself: it is measured anew each time.

    Args:
        scoring_version: of the task (`TaskInfo.scoring_version`). Version 1 adds nothing, so that results of before
            there were versions keep their identity.
        plugins: task or reader -> distribution and version, of those that another package brings.
    """
    if not model_digest:
        return ""
    parts: list[Any] = [model_digest, benchmark, dataset, precision, limit]
    if scoring_version != 1:
        parts.append({"scoring_version": scoring_version})
    if plugins:
        parts.append({"plugins": dict(sorted(plugins.items()))})
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@cache
def _validator() -> Any:
    import jsonschema

    schema = json.loads(resources.files(__package__).joinpath("schema.json").read_text(encoding="utf-8"))
    return jsonschema.Draft202012Validator(schema)


def first_fault(record: Any) -> str:
    """The first thing wrong with a record of the newest version, in words; empty when it is valid."""
    errors = sorted(_validator().iter_errors(record), key=lambda error: [str(step) for step in error.absolute_path])
    if errors:
        place = ".".join(str(step) for step in errors[0].absolute_path)
        said = (f"{place}: " if place else "") + errors[0].message
        return " ".join(said.split())[:200]
    if record["primary"] not in record["metrics"]:
        return f"primary: {record['primary']!r} is not among the metrics"
    for name, metric in record["metrics"].items():
        fault = _fault_of_metric(name, metric)
        if fault:
            return f"metrics.{name[:80]}: {fault}"
    counts = {f"dataset.{part}.{key}": n for part in ("n", "n_expected") for key, n in record["dataset"][part].items()}
    counts |= {"samples.rows": record["samples"]["rows"], "benchmark.version": record["benchmark"]["version"]}
    counts["limit"] = record["limit"] or 0
    for name, count in counts.items():
        if count > MOST:
            return f"{name[:80]}: {short_repr(count)} is beyond reason"
    try:
        checksum(record)
    except (ValueError, RecursionError) as error:  # a number that is not finite elsewhere; nested beyond reason
        return str(error)
    return ""


def _fault_of_metric(name: str, metric: dict[str, Any]) -> str:
    """Why no measurement gives such a metric, in words; empty where one may."""
    value, low, high = (metric[key] for key in ("value", "low", "high"))
    if not all(_finite(number) for number in (value, low, high)):
        return "not finite"
    if not low - ROUNDING <= value <= high + ROUNDING:
        return f"the value {value:g} lies outside its interval [{low:g}, {high:g}]"
    least, most, what = (1, MOST, "a rank from 1") if is_rank(name) else (0, 1, "a fraction from 0 to 1")
    if not least - ROUNDING <= value <= most + ROUNDING:
        return f"{value:g} [{low:g}, {high:g}] is not {what}"
    return f"n: {short_repr(metric['n'])} is beyond reason" if metric["n"] > MOST else ""


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float can hold
        return False
