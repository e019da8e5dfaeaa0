"""Measured beside published: for each printed figure of a suite whether it was reproduced, and how far off it is.

A figure is reproduced where the measured one rounds to it, within where it differs by no more than the rounding and the
known differences that the benchmark's definition gives in points, and missed beyond. The reference is float32: another
precision decides only where no float32 result of the same weights stands.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.released import RELEASED
from cosmos_eval.models.spec import MODELS, QUICK, parse_spec
from cosmos_eval.protocol.benchmark import Benchmark, list_suites, read_suite
from cosmos_eval.protocol.differences import Difference
from cosmos_eval.protocol.suite import Suite
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
    """The percentage as it stands in the source."""
    secondary: bool
    """Told by a third party: shown when asked for, and never decides."""
    as_printed: str
    source: str
    differences: tuple[Difference, ...]
    """Those of the benchmark's definition that are about it."""

    @property
    def rounding(self) -> Decimal:
        """Half of the last printed digit, in percentage points."""
        return Decimal(5).scaleb(-len(self.printed.partition(".")[2]) - 1)

    @property
    def tolerance(self) -> Decimal:
        """Rounding and known differences together, in percentage points."""
        return self.rounding + sum((Decimal(str(one.points)) for one in self.differences), Decimal(0))

    def verdict(self, difference: Decimal) -> str:
        """Of a measured minus the printed percentage; both edges belong to the better side."""
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
    """Results that are there and cannot be compared, each with its reason."""

    @property
    def verdict(self) -> str:
        """The worst of the measurements that decide."""
        found = {one.verdict for one in self.measured if one.decides}
        return next((verdict for verdict in (MISSED, WITHIN, REPRODUCED) if verdict in found), NOT_RUN)


@dataclass(frozen=True)
class Reproduction:
    """A suite's published figures, each with its verdict."""

    suite: Suite
    cells: tuple[Cell, ...]
    nameless: int = 0
    """Figures of the same tables whose model no spec names."""
    hearsay: int = 0
    """Secondary figures that were not asked for."""
    measured_as: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Specs to measure in place of a published one, by `same_model` of that."""

    def count(self, verdict: str, secondary: bool = False) -> int:
        """Of the figures that are secondary or not, those with this verdict."""
        return sum(cell.verdict == verdict for cell in self.cells if cell.target.secondary == secondary)

    @property
    def missed(self) -> bool:
        """Whether a figure was missed that is not secondary."""
        return self.count(MISSED) > 0


def reproduce(
    suite: str, results: Sequence[Result], models: Sequence[str] = (), secondary: bool = False
) -> Reproduction:
    """Compare results with what was published of a suite.

    Args:
        suite: its name.
        results: of any models and benchmarks; what the suite's tables lack is passed over.
        models: only these published models, each a spec or `PUBLISHED=SPEC`, which takes the results of SPEC (a copy
            of the weights elsewhere) for those of PUBLISHED.
        secondary: also figures that a third party tells; they never decide.

    Raises:
        RequestError: no such suite, one without published figures, a model that its tables lack, or nothing but
            results of limited runs.
    """
    found = read_suite(suite)
    if not found.published:
        others = ", ".join(name for name in list_suites() if read_suite(name).published)
        raise RequestError(f"no published figures are known for the suite {suite}; there are for {others}")
    targets, nameless, hearsay = find_targets(found, secondary)
    chosen = _choose(models, targets, suite)
    if chosen:
        targets = [target for target in targets if same_model(target.spec) in chosen]
    fingerprints = {benchmark.name: benchmark.fingerprint for benchmark in found.benchmarks}
    by_model = _by_model([one for one in results if one.benchmark["name"] in fingerprints], chosen)
    cells = tuple(_cell(target, by_model, fingerprints[target.benchmark]) for target in targets)
    limited = [line for cell in cells for line in cell.refused if "--limit" in line]
    if limited and not any(cell.measured for cell in cells):
        raise RequestError(f"{limited[0]}; nothing else here can be compared with {suite}")
    return Reproduction(found, cells, nameless, hearsay, {key: specs for key, specs in chosen.items() if specs})


def find_targets(suite: Suite, secondary: bool) -> tuple[list[Target], int, int]:
    """What the suite's papers print of its benchmarks, in the order of models and benchmarks; how many figures are of
    models without a spec, and how many secondary ones were left out."""
    from cosmos_eval.published.figures import published

    frame = published(secondary=True)
    order = {benchmark.name: i for i, benchmark in enumerate(suite.benchmarks)}
    frame = frame[frame["benchmark"].isin(order) & frame["paper"].str.startswith(suite.published)]
    named = frame[frame["spec"] != ""]
    rows = named if secondary else named[~named["secondary"]]
    models = {spec: i for i, spec in enumerate(dict.fromkeys(rows["spec"]))}
    targets = [_target(row, suite.benchmarks[order[row["benchmark"]]]) for row in rows.to_dict("records")]
    targets.sort(key=lambda target: (models[target.spec], order[target.benchmark]))
    nameless = frame[(frame["spec"] == "") & ~frame["secondary"]]
    return targets, len(nameless), len(named) - len(rows)


def _target(row: dict[Any, Any], benchmark: Benchmark) -> Target:
    concerned = tuple(one for one in benchmark.published if one.concerns(row["paper"], row["metric"]))
    names = ("paper", "model", "spec", "benchmark", "metric", "printed", "as_printed", "source")
    return Target(**{name: row[name] for name in names}, secondary=bool(row["secondary"]), differences=concerned)


def same_model(spec: str) -> str:
    """A name that specs of the same published weights share.

    A released COSMOS checkpoint is known by its file's name too; a tag of open_clip's registry decides the activation,
    whether or not the architecture says `-quickgelu`.
    """
    try:
        parsed = parse_spec(spec)
    except RequestError:
        return spec
    if parsed.kind == "cosmos":
        files = {released.file: name for name, released in RELEASED.items()}
        return f"cosmos:{files.get(Path(parsed.name).name, parsed.name)}#{parsed.selector}"
    if parsed.kind == "open_clip":
        return f"open_clip:{parsed.name.removesuffix(QUICK)}/{parsed.rest}"
    return spec


def _choose(models: Iterable[str], targets: Iterable[Target], suite: str) -> dict[str, list[str]]:
    """`same_model` of each published spec that is named -> the specs that it is measured as, none for itself."""
    known = {same_model(target.spec): target.spec for target in targets}
    chosen: dict[str, list[str]] = {}
    kinds = "|".join(map(re.escape, MODELS.names()))
    for model in models:
        match = re.fullmatch(rf"(?P<ours>.+?)=(?P<measured>(?:{kinds}):.+)", model, re.DOTALL)
        ours, measured = (match["ours"], [match["measured"]]) if match else (model, [])
        before, written, after = ours.partition("=")
        if written and same_model(before) in known:
            raise RequestError(
                f"{model}: {after or 'nothing'} after = is no model spec; write {before}=KIND:NAME-OR-PATH"
            )
        parse_spec(ours)
        if same_model(ours) not in known:
            raise RequestError(
                f"no published figures of {ours} in {suite}; there are of {', '.join(known.values()) or 'nothing'}. "
                "Weights that lie elsewhere are written PUBLISHED=SPEC"
            )
        chosen.setdefault(same_model(ours), []).extend(measured)
    return chosen


def _by_model(results: Iterable[Result], chosen: Mapping[str, Sequence[str]]) -> dict[tuple[str, str], list[Result]]:
    """Results by the published model that they are of and their benchmark; of equal measurements the newest."""
    found: dict[tuple[str, str], dict[object, Result]] = {}
    for result in results:
        spec = result.model["spec"]
        models = [key for key, specs in chosen.items() if spec in specs]
        if not chosen.get(same_model(spec)):  # unless other results were named for it
            models.append(same_model(spec))
        identity = result.identity or id(result)  # weights that cannot be identified are never the same
        for key in models:
            own = found.setdefault((key, result.benchmark["name"]), {})
            before = own.get(identity)
            if before is None or before.timing["started"] <= result.timing["started"]:
                own[identity] = result
    return {key: list(own.values()) for key, own in found.items()}


def _cell(target: Target, by_model: dict[tuple[str, str], list[Result]], fingerprint: str) -> Cell:
    kept, refused = [], []
    for result in by_model.get((same_model(target.spec), target.benchmark), ()):
        why = _refused(result, target, fingerprint)
        if why:
            refused.append(f"{result.model['spec']} on {target.benchmark}: {why}")
        else:
            kept.append(result)
    kept.sort(key=lambda result: (result.model["digest"], result.precision != REFERENCE, result.precision))
    reference = {result.model["digest"] for result in kept if result.precision == REFERENCE}
    name = same_model(target.spec)
    of_name = [one for (model, _), some in by_model.items() if model == name for one in some if one.limit is None]
    weights = len({one.model["digest"] or id(one) for one in of_name})
    measured = []
    for result in kept:
        decides = result.precision == REFERENCE or result.model["digest"] not in reference
        notes = _notes(target, result, decides, weights, len({one.dataset["fingerprint"] for one in kept}))
        measured.append(_measure(target, result, decides, notes))
    return Cell(target, tuple(measured), tuple(refused))


def _refused(result: Result, target: Target, fingerprint: str) -> str:
    """Why a result cannot be compared; empty where it can."""
    if result.limit is not None:
        return f"made with --limit {result.limit}, and so not compared; run it without"
    if result.benchmark["fingerprint"] != fingerprint:
        was = f"version {result.benchmark['version']} ({result.benchmark['fingerprint'][:8]})"
        return f"made with {was} of the protocol, which is {fingerprint[:8]} now; run it again"
    return "" if target.metric in result.metrics else f"has no {target.metric}; run it again"


def _notes(target: Target, result: Result, decides: bool, weights: int, datasets: int) -> list[str]:
    """What a reader must know of one result, where so many weights have its name in the suite, and so many data sets
    were measured for its figure."""
    notes = []
    if result.precision != REFERENCE:
        what = "run it with --precision fp32 before you conclude" if decides else "the float32 result decides"
        notes.append(f"{result.precision}: {what}")
    spec, digest = result.model["spec"], result.model["digest"]
    if weights > 1:
        these = f"these are {digest[:8]}" if digest else "these cannot be identified"
        notes.append(f"{weights} different weights answer to this name; {these}")
    if datasets > 1:
        notes.append(f"on the data {result.dataset['fingerprint'][:8]}; there are results on other data")
    if spec != target.spec:
        notes.append(f"measured as {spec}")
    n, expected = result.dataset["n"], result.dataset["n_expected"]
    notes += [f"on {n[what]:,} of {full:,} {what}" for what, full in expected.items() if n.get(what, full) != full]
    if n.get("left_out"):
        notes.append(f"{n['left_out']:,} items left out")
    return notes


def _measure(target: Target, result: Result, decides: bool, notes: Sequence[str]) -> Measurement:
    metric = result.metrics[target.metric]
    # a mean of thousands carries an error in its last bits, which must not push it over an edge
    difference = round(Decimal(repr(metric.value)) * 100 - Decimal(target.printed), 9)
    return Measurement(
        label=result.label,
        spec=result.model["spec"],
        digest=result.model["digest"],
        precision=result.precision,
        value=metric.value,
        low=metric.low,
        high=metric.high,
        difference=difference,
        verdict=target.verdict(difference),
        decides=decides,
        notes=tuple(notes),
    )
