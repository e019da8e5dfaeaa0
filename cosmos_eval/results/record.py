"""The record of one model on one benchmark, and its identity."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import resources
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_eval.portable import portable_spec
from cosmos_eval.results.versions import DAMAGED, SCHEMA, checksum, parse, with_checksum
from cosmos_eval.tasks.outcome import Metric


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

    @property
    def identity(self) -> str:
        """Digest of what decides the numbers: two results with the same identity are the same measurement."""
        return identity(
            self.model["digest"],
            self.benchmark["fingerprint"],
            self.dataset["fingerprint"],
            self.precision,
            self.limit,
        )

    @property
    def label(self) -> str:
        """How a table calls the model."""
        return self.model.get("label") or portable_spec(self.model["spec"])

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
        return {"schema": SCHEMA, **asdict(self), "warnings": list(self.warnings)}

    @classmethod
    def from_json(cls, text: str, where: object) -> "Result":
        """Read and validate; `where` is what an error calls the file. Older versions are brought to the newest one.

        Raises:
            RequestError: not JSON, a version that is not known, a field that is missing or wrong, or content that is
                not the one that was written (its checksum); names the file and the field.
        """
        record, _ = parse(text, where)
        fault = first_fault(record)
        if fault:
            raise RequestError(f"{where} is not a valid result: {fault}; {DAMAGED}")
        if record.pop("checksum") != checksum(record):
            raise RequestError(f"{where} was edited or damaged after it was written (its checksum differs); {DAMAGED}")
        record.pop("schema")
        record["metrics"] = {name: Metric(**value) for name, value in record["metrics"].items()}
        record["warnings"] = tuple(record["warnings"])
        return cls(**record)


def identity(model_digest: str, benchmark: str, dataset: str, precision: str, limit: int | None) -> str:
    """Digest of model, protocol and dataset fingerprints, precision and limit; empty for a model without a digest.

    A model whose weights cannot be identified never equals itself: it is measured anew each time.
    """
    if not model_digest:
        return ""
    parts = json.dumps([model_digest, benchmark, dataset, precision, limit])
    return hashlib.sha256(parts.encode()).hexdigest()


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
        if not all(_finite(metric[key]) for key in ("value", "low", "high")):
            return f"metrics.{name}: not finite"
    try:
        checksum(record)
    except (ValueError, RecursionError) as error:  # a number that is not finite elsewhere; nested beyond reason
        return str(error)
    return ""


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float can hold
        return False
