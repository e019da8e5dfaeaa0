"""The record of one model on one benchmark, and its identity."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar

from cosmos_core.errors import RequestError
from cosmos_core.printable import plural
from cosmos_core.short_repr import short_repr
from cosmos_eval.metrics.names import is_rank
from cosmos_eval.protocol.feature_transforms import NONE as NO_TRANSFORMS
from cosmos_eval.protocol.feature_transforms import FeatureTransforms
from cosmos_eval.protocol.task_registry import find_task
from cosmos_eval.results.class_file import read_classes
from cosmos_eval.results.portable import portable_spec
from cosmos_eval.results.sections import (
    BenchmarkSection,
    DatasetSection,
    EnvironmentSection,
    ModelSection,
    SamplesSection,
    TimingSection,
)
from cosmos_eval.results.versions import DAMAGED, SCHEMA, checksum, parse, with_checksum
from cosmos_eval.tasks.class_table import ClassTable, class_table
from cosmos_eval.tasks.outcome import Metric

UNCHECKED = "unchecked"
ROUNDING = 1e-9
"""Tolerance of rounding at the bounds of a metric."""
MOST = 10**12
"""Upper bound of counts and ranks: more than any dataset has."""


@dataclass(frozen=True, repr=False)
class Result:
    """The content of RESULT.json: an outcome and how it was measured. Metrics are fractions.

    `from_json` and `to_json` are the only places that know the keys of the file; the sections in it are typed objects
    (`cosmos_eval.results.sections`).
    """

    benchmark: BenchmarkSection
    dataset: DatasetSection
    model: ModelSection
    metrics: dict[str, Metric]
    primary: str
    precision: str
    limit: int | None
    environment: EnvironmentSection
    timing: TimingSection
    samples: SamplesSection
    warnings: tuple[str, ...] = field(default=())
    transforms: FeatureTransforms = NO_TRANSFORMS
    """What was done to the embeddings after the fact; false if nothing."""

    file_version: ClassVar[int] = SCHEMA
    """Schema version of the file that it was read from, which decides how its samples.parquet is read. No field: equal
    measurements are equal whichever file they come from."""
    class_source: ClassVar[ClassTable | Path | None] = None
    """The table of classes, or the folder that holds it; None: neither. No field, as `file_version`."""

    @property
    def folder(self) -> Path | None:
        """The folder that it was read from, with its samples; None for a result that was made in this process."""
        return self.class_source if isinstance(self.class_source, Path) else None

    @property
    def classes(self) -> ClassTable | None:
        """The metric of each class (recall, average precision, IoU), with support, intervals and prompts.

        Older results of tasks whose metrics name the classes have a table without prompts, and the number of samples of
        each metric as support. None for tasks without classes, and for older results of classification.

        Raises:
            RequestError: CLASSES.json beside the result is damaged or belongs to another one.
        """
        source = self.class_source
        if isinstance(source, Path):
            source = read_classes(source, self.samples.sha256)
        return source or self._classes_of_metrics()

    def _classes_of_metrics(self) -> ClassTable | None:
        task = find_task(self.benchmark.task)
        if task is None or not task.class_metric:
            return None
        ending = f"/{task.class_metric}"
        named = {name.removesuffix(ending): metric for name, metric in self.metrics.items() if name.endswith(ending)}
        names, metrics = list(named), list(named.values())
        return class_table(task.class_metric, names, [metric.n for metric in metrics], metrics, ()) if named else None

    def __repr__(self) -> str:
        metric = self.metrics[self.primary]
        scale, unit = (1, "") if is_rank(self.primary) else (100, " %")
        low, high = (f"{scale * bound:.2f}" for bound in (metric.low, metric.high))
        images = self.dataset.n.get("images", 0)
        limit = f", limit {self.limit:,}" if self.limit is not None else ""
        return (
            f"Result({self.label} on {self.benchmark_name}: {self.primary} {scale * metric.value:.2f}{unit} [{low}, "
            f"{high}], {plural(images, 'image')}, {self.precision}{limit})"
        )

    @property
    def unchecked(self) -> bool:
        """Whether its file has no checksum (schema 1), so that an edit goes unseen."""
        return self.file_version == 1

    @property
    def identity(self) -> str:
        """Digest of what decides the numbers: two results with the same identity are the same measurement."""
        return identity(
            self.model.digest,
            self.benchmark.fingerprint,
            self.dataset.fingerprint,
            self.precision,
            self.limit,
            self.benchmark.scoring_version,
            self.benchmark.plugins,
            self.transforms,
        )

    @property
    def benchmark_name(self) -> str:
        """Name of the benchmark in tables: with what was done to the embeddings, so that no table mixes the numbers."""
        return self.transforms.name_of(self.benchmark.name)

    @property
    def label(self) -> str:
        """Name of the model in tables; marked where the file has no checksum."""
        name = self.model.label or portable_spec(self.model.spec)
        return f"{name} ({UNCHECKED})" if self.unchecked else name

    @property
    def checksum(self) -> str:
        """SHA-256 of the record, as in RESULT.json (`cosmos_eval.results.versions.checksum`)."""
        return checksum(self.record())

    def to_json(self) -> str:
        """The text of RESULT.json: every number reads back as the same number."""
        text = json.dumps(with_checksum(self.record()), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        try:
            text.encode()
        except UnicodeEncodeError:  # a lone surrogate, as in a file name that is not UTF-8: JSON can escape it
            text = json.dumps(json.loads(text), indent=2, ensure_ascii=True, allow_nan=False) + "\n"
        return text

    def record(self) -> dict[str, Any]:
        """The JSON object of RESULT.json, in the order in which it is written, without `checksum`."""
        return {
            "schema": SCHEMA,
            "benchmark": self.benchmark.record(),
            "dataset": self.dataset.record(),
            "model": self.model.record(),
            "metrics": {name: metric.record() for name, metric in self.metrics.items()},
            "primary": self.primary,
            "precision": self.precision,
            "limit": self.limit,
            "environment": self.environment.record(),
            "timing": self.timing.record(),
            "samples": self.samples.record(),
            "warnings": list(self.warnings),
            **({"transforms": self.transforms.record()} if self.transforms else {}),
        }

    @classmethod
    def from_json(cls, text: str, where: object) -> "Result":
        """Read and validate; `where` is how an error names the file. Older versions are migrated to the newest.

        Raises:
            RequestError: not JSON, an unknown version, a field that is missing or wrong, or a checksum that is not that
                of the content; names the file and the field.
        """
        record, version, is_intact = parse(text, where)
        fault = first_fault(record)
        if fault:
            raise RequestError(f"{where} is not a valid result: {fault}; {DAMAGED}")
        if not is_intact:
            raise RequestError(f"{where} was edited or damaged after it was written (its checksum differs); {DAMAGED}")
        result = cls(
            benchmark=BenchmarkSection.from_record(record["benchmark"]),
            dataset=DatasetSection.from_record(record["dataset"]),
            model=ModelSection.from_record(record["model"]),
            metrics={name: Metric(**value) for name, value in record["metrics"].items()},
            primary=record["primary"],
            precision=record["precision"],
            limit=record["limit"],
            environment=EnvironmentSection.from_record(record["environment"]),
            timing=TimingSection.from_record(record["timing"]),
            samples=SamplesSection.from_record(record["samples"]),
            warnings=tuple(record["warnings"]),
            transforms=FeatureTransforms(**record.get("transforms", {})),
        )
        object.__setattr__(result, "file_version", version)  # the dataclass is frozen
        return result


def renamed(result: Result, label: str) -> Result:
    """The result under another label; it still knows the version of its file and its classes."""
    other = replace(result, model=replace(result.model, label=label))
    object.__setattr__(other, "file_version", result.file_version)
    return with_classes(other, result.class_source)


def with_classes(result: Result, source: ClassTable | Path | None) -> Result:
    """The same result, which knows its classes from now on, or the folder that holds them."""
    object.__setattr__(result, "class_source", source)
    return result


def unchecked_legend(results: Iterable["Result"]) -> list[str]:
    """A line that explains the mark in a label; empty where no result has it."""
    if not any(result.unchecked for result in results):
        return []
    return [f"{UNCHECKED}: its file has no checksum (schema 1), so an edit would go unseen"]


def refuse_unchecked(results: Iterable["Result"], allowed: bool) -> None:
    """RequestError where a result has no checksum and that is not allowed."""
    unchecked = list(
        dict.fromkeys(f"{result.label} on {result.benchmark.name}" for result in results if result.unchecked)
    )
    if unchecked and not allowed:
        more = f" and {len(unchecked) - 3} more" if len(unchecked) > 3 else ""
        raise RequestError(
            f"no checksum in the files of {', '.join(unchecked[:3])}{more} (schema 1), so an edit would go unseen; "
            "run these again with --overwrite, or accept them with --allow-unchecked"
        )


def identity(
    model_digest: str,
    benchmark: str,
    dataset: str,
    precision: str,
    limit: int | None,
    scoring_version: int = 1,
    plugins: Mapping[str, str] | None = None,
    transforms: FeatureTransforms = NO_TRANSFORMS,
) -> str:
    """Digest of model, protocol and dataset fingerprints, precision, limit, and of the code that scores; empty for a
    model without a digest.

    A model whose weights cannot be identified never equals itself: it is measured again each time.

    Args:
        scoring_version: of the task (`TaskInfo.scoring_version`). Version 1 adds nothing, so that results from
            before there were versions keep their identity.
        plugins: task or reader -> distribution and version, of those that another package brings.
        transforms: what is done to the embeddings; without any, nothing is added: older results keep their identity.
    """
    if not model_digest:
        return ""
    parts: list[Any] = [model_digest, benchmark, dataset, precision, limit]
    if scoring_version != 1:
        parts.append({"scoring_version": scoring_version})
    if plugins:
        parts.append({"plugins": dict(sorted(plugins.items()))})
    if transforms:
        parts.append({"transforms": transforms.record()})
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@cache
def _validator() -> Any:
    import jsonschema

    schema = json.loads(resources.files(__package__).joinpath("schema.json").read_text(encoding="utf-8"))
    return jsonschema.Draft202012Validator(schema)


def first_fault(record: Any) -> str:
    """Return the first fault of a record of the newest version, as text; empty if the record is valid."""
    errors = sorted(_validator().iter_errors(record), key=lambda error: [str(step) for step in error.absolute_path])
    if errors:
        field_path = ".".join(str(step) for step in errors[0].absolute_path)
        message = (f"{field_path}: " if field_path else "") + errors[0].message
        return " ".join(message.split())[:200]
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
            return f"{name[:80]}: {short_repr(count)} is impossibly large"
    try:
        checksum(record)
    except (ValueError, RecursionError) as error:  # a non-finite number in another field; nesting that is too deep
        return str(error)
    return ""


def _fault_of_metric(name: str, metric: dict[str, Any]) -> str:
    """Return why the numbers of a metric are impossible; empty if they are possible."""
    value, low, high = (metric[key] for key in ("value", "low", "high"))
    if not all(_finite(number) for number in (value, low, high)):
        return "not finite"
    if not low - ROUNDING <= value <= high + ROUNDING:
        return f"the value {value:g} lies outside its interval [{low:g}, {high:g}]"
    lowest, highest, expected = (1, MOST, "a rank from 1") if is_rank(name) else (0, 1, "a fraction from 0 to 1")
    if not lowest - ROUNDING <= value <= highest + ROUNDING:
        return f"{value:g} [{low:g}, {high:g}] is not {expected}"
    return f"n: {short_repr(metric['n'])} is impossibly large" if metric["n"] > MOST else ""


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond the range of floats
        return False
