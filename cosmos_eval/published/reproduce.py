"""Compares measured with published figures: whether each figure of a suite was reproduced, and the difference.

A figure is reproduced where the measured one rounds to it, within where it differs by no more than the rounding and the
known differences that the benchmark's definition gives in points, and missed beyond. The reference is float32: another
precision decides only where there is no float32 result of the same weights.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.printable import plural
from cosmos_eval.models.spec import MODELS, model_kind, parse_spec
from cosmos_eval.protocol.benchmark import Benchmark, list_suites, read_suite
from cosmos_eval.protocol.known_differences import KnownDifference
from cosmos_eval.protocol.suite import Suite
from cosmos_eval.report.exchange_open_clip import MEAN_OF
from cosmos_eval.results.record import Result

REPRODUCED, WITHIN, MISSED, NOT_RUN = "reproduced", "within", "missed", "not run"
VERDICTS = (REPRODUCED, WITHIN, MISSED, NOT_RUN)
REFERENCE = "fp32"


@dataclass(frozen=True)
class Target:
    """One published figure that a suite is compared with."""

    paper: str
    model: str
    spec: str
    benchmark: str
    metric: str
    printed: str
    """The percentage as printed in the source."""
    secondary: bool
    """Reported by third parties only: shown on request, never decides."""
    as_printed: str
    source: str
    differences: tuple[KnownDifference, ...]
    """Known differences of the benchmark's definition that apply to this figure."""

    @property
    def decides(self) -> bool:
        """Whether it may change the exit code: it is not secondary, and its source states the protocol."""
        return not self.secondary and not any(known.inferred for known in self.differences)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics whose mean is printed; mostly one."""
        return tuple(self.metric.split(MEAN_OF))

    @property
    def rounding(self) -> Decimal:
        """Half of the last printed digit, in percentage points."""
        return Decimal(5).scaleb(-len(self.printed.partition(".")[2]) - 1)

    @property
    def tolerance(self) -> Decimal:
        """Rounding and known differences together, in percentage points."""
        return self.rounding + sum((Decimal(str(known.points)) for known in self.differences), Decimal(0))

    def verdict(self, difference: Decimal) -> str:
        """The verdict of a difference (measured minus printed); one equal to a bound gets the better verdict."""
        if abs(difference) <= self.rounding:
            return REPRODUCED
        return WITHIN if abs(difference) <= self.tolerance else MISSED


@dataclass(frozen=True)
class Measurement:
    """One result beside a published figure."""

    label: str
    spec: str
    digest: str
    precision: str
    value: float
    low: float
    high: float
    difference: Decimal
    """Measured minus published, in percentage points."""
    verdict: str
    decides: bool
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Cell:
    """A published figure with everything that was measured for it."""

    target: Target
    measured: tuple[Measurement, ...] = ()
    refused: tuple[str, ...] = ()
    """Results that cannot be compared, each with its reason."""

    @property
    def verdict(self) -> str:
        """The worst of the measurements that decide."""
        verdicts = {measurement.verdict for measurement in self.measured if measurement.decides}
        return next((verdict for verdict in (MISSED, WITHIN, REPRODUCED) if verdict in verdicts), NOT_RUN)


@dataclass(frozen=True)
class Reproduction:
    """A suite's published figures, each with its verdict."""

    suite: Suite
    cells: tuple[Cell, ...]
    without_spec: int = 0
    """Figures of the same tables whose model has no spec."""
    secondary_left_out: int = 0
    """Secondary figures that were not requested."""
    measured_as: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """`same_model` of a published spec -> specs to measure in its place."""

    def count(self, verdict: str, deciding: bool = True) -> int:
        """Of the figures that decide, or of the others, those with this verdict."""
        return sum(cell.verdict == verdict for cell in self.cells if cell.target.decides == deciding)

    @property
    def missed(self) -> bool:
        """Whether a figure was missed that decides."""
        return self.count(MISSED) > 0


def reproduce(
    suite: str, results: Sequence[Result], models: Sequence[str] = (), secondary: bool = False
) -> Reproduction:
    """Compare results with the published figures of a suite.

    Args:
        suite: its name.
        results: of any models and benchmarks; those without published figures are ignored.
        models: only these published models, each a spec or `PUBLISHED=SPEC`, which takes the results of SPEC (a copy
            of the weights) as those of PUBLISHED.
        secondary: also figures that only third parties report; they never decide.

    Raises:
        RequestError: an unknown suite, one without published figures, a model without published figures, or
            results of limited runs only.
    """
    definition = read_suite(suite)
    if not definition.published:
        published_suites = ", ".join(name for name in list_suites() if read_suite(name).published)
        raise RequestError(f"the suite {suite} has no published figures; these have: {published_suites}")
    targets, without_spec, secondary_left_out = find_targets(definition, secondary)
    chosen = _choose(models, targets, suite)
    if chosen:
        targets = [target for target in targets if same_model(target.spec) in chosen]
    fingerprints = {benchmark.name: benchmark.fingerprint for benchmark in definition.benchmarks}
    by_model = _by_model([result for result in results if result.benchmark.name in fingerprints], chosen)
    cells = tuple(_cell(target, by_model, fingerprints[target.benchmark]) for target in targets)
    limited = [line for cell in cells for line in cell.refused if "--limit" in line]
    if limited and not any(cell.measured for cell in cells):
        raise RequestError(f"{limited[0]}; no other result can be compared with {suite}")
    measured_as = {key: specs for key, specs in chosen.items() if specs}
    return Reproduction(definition, cells, without_spec, secondary_left_out, measured_as)


def find_targets(suite: Suite, secondary: bool) -> tuple[list[Target], int, int]:
    """The figures that papers print for a suite, ordered by model and benchmark; the number of figures of models
    without a spec; and the number of secondary ones left out."""
    from cosmos_eval.published.figures import published

    frame = published(secondary=True)
    order = {benchmark.name: i for i, benchmark in enumerate(suite.benchmarks)}
    frame = frame[frame["benchmark"].isin(order) & frame["paper"].str.startswith(suite.published)]
    named = frame[frame["spec"] != ""]
    selected = named if secondary else named[~named["secondary"]]
    models = {spec: i for i, spec in enumerate(dict.fromkeys(selected["spec"]))}
    targets = [_target(row, suite.benchmarks[order[row["benchmark"]]]) for row in selected.to_dict("records")]
    targets.sort(key=lambda target: (models[target.spec], order[target.benchmark]))
    without_spec = frame[(frame["spec"] == "") & ~frame["secondary"]]
    return targets, len(without_spec), len(named) - len(selected)


def _target(row: dict[Any, Any], benchmark: Benchmark) -> Target:
    differences = tuple(
        difference for difference in benchmark.published if difference.applies_to(row["paper"], row["metric"])
    )
    names = ("paper", "model", "spec", "benchmark", "metric", "printed", "as_printed", "source")
    return Target(**{name: row[name] for name in names}, secondary=bool(row["secondary"]), differences=differences)


def same_model(spec: str) -> str:
    """A name that is equal for all specs of the same published weights; the text itself where it is not a spec."""
    try:
        parsed = parse_spec(spec)
        return model_kind(parsed.kind).weights_name(parsed)
    except RequestError:
        return spec


def _choose(models: Iterable[str], targets: Iterable[Target], suite: str) -> dict[str, list[str]]:
    """`same_model` of each requested published spec -> the specs measured in its place; empty: the spec itself."""
    spec_by_name = {same_model(target.spec): target.spec for target in targets}
    chosen: dict[str, list[str]] = {}
    kinds = "|".join(map(re.escape, MODELS.names()))
    for model in models:
        match = re.fullmatch(rf"(?P<ours>.+?)=(?P<measured>(?:{kinds}):.+)", model, re.DOTALL)
        published_spec, measured = (match["ours"], [match["measured"]]) if match else (model, [])
        before, has_sign, after = published_spec.partition("=")
        if has_sign and same_model(before) in spec_by_name:
            raise RequestError(
                f"{model}: {after or 'nothing'} after = is not a model spec; write {before}=KIND:NAME-OR-PATH"
            )
        parse_spec(published_spec)
        if same_model(published_spec) not in spec_by_name:
            raise RequestError(
                f"no published figures of {published_spec} in {suite}; "
                f"they are known of {', '.join(spec_by_name.values()) or 'none'}. "
                "For a copy of the weights write PUBLISHED=SPEC"
            )
        chosen.setdefault(same_model(published_spec), []).extend(measured)
    return chosen


def _by_model(results: Iterable[Result], chosen: Mapping[str, Sequence[str]]) -> dict[tuple[str, str], list[Result]]:
    """Results by published model and benchmark; of repeated measurements the newest."""
    newest: dict[tuple[str, str], dict[object, Result]] = {}
    for result in results:
        spec = result.model.spec
        models = [key for key, specs in chosen.items() if spec in specs]
        if not chosen.get(same_model(spec)):  # unless the user named other results for it
            models.append(same_model(spec))
        identity = result.identity or id(result)  # a model without a digest equals no other
        for key in models:
            of_model = newest.setdefault((key, result.benchmark.name), {})
            before = of_model.get(identity)
            if before is None or before.timing.started <= result.timing.started:
                of_model[identity] = result
    return {key: list(of_model.values()) for key, of_model in newest.items()}


def _cell(target: Target, by_model: dict[tuple[str, str], list[Result]], fingerprint: str) -> Cell:
    comparable, refused = [], []
    for result in by_model.get((same_model(target.spec), target.benchmark), ()):
        reason = _explain_refusal(result, target, fingerprint)
        if reason:
            refused.append(f"{result.model.spec} on {target.benchmark}: {reason}")
        else:
            comparable.append(result)
    comparable.sort(key=lambda result: (result.model.digest, result.precision != REFERENCE, result.precision))
    has_reference = {result.model.digest for result in comparable if result.precision == REFERENCE}
    name = same_model(target.spec)
    of_name = [
        result for (model, _), listed in by_model.items() if model == name for result in listed if result.limit is None
    ]
    weights = len({result.model.digest or id(result) for result in of_name})
    measured = []
    for result in comparable:
        decides = result.precision == REFERENCE or result.model.digest not in has_reference
        notes = _notes(target, result, decides, weights, len({other.dataset.fingerprint for other in comparable}))
        measured.append(_measure(target, result, decides, notes))
    return Cell(target, tuple(measured), tuple(refused))


def _explain_refusal(result: Result, target: Target, fingerprint: str) -> str:
    """Return why a result cannot be compared; empty if it can."""
    if result.limit is not None:
        return f"made with --limit {result.limit}, so not compared; run it without"
    if result.transforms:
        return f"its embeddings were transformed ({result.transforms.title}), so not compared; run it without"
    if result.benchmark.fingerprint != fingerprint:
        old = f"version {result.benchmark.version} ({result.benchmark.fingerprint[:8]})"
        return f"made with {old} of the protocol, which is now {fingerprint[:8]}; run it again"
    missing = [metric for metric in target.metrics if metric not in result.metrics]
    return f"has no {missing[0]}; run it again" if missing else ""


def _notes(target: Target, result: Result, decides: bool, weights: int, datasets: int) -> list[str]:
    """Notes on one result.

    Args:
        weights: number of different weights with the name of this model in the suite.
        datasets: number of different datasets measured for this figure.
    """
    notes = []
    if result.precision != REFERENCE:
        advice = "run it with --precision fp32 before you conclude" if decides else "the float32 result decides"
        notes.append(f"{result.precision}: {advice}")
    spec, digest = result.model.spec, result.model.digest
    if weights > 1:
        which = f"these are {digest[:8]}" if digest else "these have no digest"
        notes.append(f"{weights} different weights have this name; {which}")
    if datasets > 1:
        notes.append(f"on the data {result.dataset.fingerprint[:8]}; there are results on other data")
    if spec != target.spec:
        notes.append(f"measured as {spec}")
    n, expected = result.dataset.n, result.dataset.n_expected
    notes += [f"on {n[unit]:,} of {full:,} {unit}" for unit, full in expected.items() if n.get(unit, full) != full]
    if n.get("left_out"):
        notes.append(f"{plural(n['left_out'], 'item')} left out")
    return notes


def _measure(target: Target, result: Result, decides: bool, notes: Sequence[str]) -> Measurement:
    metrics = [result.metrics[name] for name in target.metrics]
    value, low, high = (
        sum(getattr(metric, name) for metric in metrics) / len(metrics) for name in ("value", "low", "high")
    )  # of a mean, bounds as if all erred together: they are of the same images
    # rounding errors in the last bits of a mean must not change the verdict
    difference = round(Decimal(repr(value)) * 100 - Decimal(target.printed), 9)
    return Measurement(
        label=result.label,
        spec=result.model.spec,
        digest=result.model.digest,
        precision=result.precision,
        value=value,
        low=low,
        high=high,
        difference=difference,
        verdict=target.verdict(difference),
        decides=decides,
        notes=tuple(notes),
    )
