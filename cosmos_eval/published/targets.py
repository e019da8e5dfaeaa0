"""What a reproduction consists of: published figures, what was measured for each, and the verdicts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from cosmos_core.errors import RequestError
from cosmos_eval.models.spec import model_kind, parse_spec
from cosmos_eval.protocol.known_differences import KnownDifference
from cosmos_eval.protocol.suite import Average, Suite
from cosmos_eval.report.exchange_open_clip import MEAN_OF

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
    def benchmarks(self) -> tuple[str, ...]:
        """The benchmarks that it is computed from."""
        return (self.benchmark,)

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
class AverageTarget(Target):
    """A published average over benchmarks of a suite. `benchmark` is the average's name, and `metric` is AVERAGE."""

    average: Average = field(kw_only=True)
    members: Mapping[str, tuple[str, ...]] = field(kw_only=True)
    """Benchmark -> metrics whose mean it contributes."""
    points: Decimal = field(kw_only=True)
    """Mean of the known differences of its benchmarks, as if all went the same way, in percentage points."""
    is_inferred: bool = field(kw_only=True)
    """Whether the source does not state the protocol of one of them."""

    @property
    def benchmarks(self) -> tuple[str, ...]:
        return tuple(self.members)

    @property
    def decides(self) -> bool:
        return super().decides and not self.is_inferred

    @property
    def tolerance(self) -> Decimal:
        return self.rounding + self.points


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
    incomplete: tuple[str, ...] = ()
    """Of an average, a line for each model that was measured on some of its benchmarks only."""
    unmeasured: tuple[str, ...] = ()
    """Of an average, the benchmarks that lack a float32 result of the weights that were measured on most of them."""

    @property
    def verdict(self) -> str:
        """The worst of the measurements that decide."""
        verdicts = {measurement.verdict for measurement in self.measured if measurement.decides}
        return next((verdict for verdict in (MISSED, WITHIN, REPRODUCED) if verdict in verdicts), NOT_RUN)

    @property
    def missing(self) -> tuple[str, ...]:
        """The benchmarks to measure for a verdict; empty if there is one."""
        if self.verdict != NOT_RUN:
            return ()
        return self.unmeasured if isinstance(self.target, AverageTarget) else self.target.benchmarks


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


def same_model(spec: str) -> str:
    """A name that is equal for all specs of the same published weights; the text itself where it is not a spec."""
    try:
        parsed = parse_spec(spec)
        return model_kind(parsed.kind).weights_name(parsed)
    except RequestError:
        return spec
