"""What the tasks share: metrics with intervals, the primary one, remarks on collapsed features, refusals."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_eval.metric_names import CUTOFFS
from cosmos_eval.metrics import intervals
from cosmos_eval.metrics.similarity import COLLAPSED, collapsed
from cosmos_eval.profiling import phase
from cosmos_eval.protocol import Benchmark
from cosmos_eval.tasks.outcome import Metric


@dataclass
class Measured:
    """Metrics as they are found; their intervals are made together, from the same resamples of the pictures."""

    pictures: int
    values: dict[str, tuple[float, int]] = field(default_factory=dict)
    estimators: dict[str, intervals.Estimator] = field(default_factory=dict)

    def add(self, name: str, value: float, n: int, estimator: intervals.Estimator) -> None:
        self.values[name] = (value, n)
        self.estimators[name] = estimator

    def mean(self, name: str, values: np.ndarray, picture: np.ndarray) -> None:
        """Mean of (N,) values; sample i hangs on picture `picture[i]`."""
        self.add(name, float(values.mean()), len(values), intervals.mean_of(values, picture, self.pictures))

    def median(self, name: str, values: np.ndarray, picture: np.ndarray) -> None:
        self.add(name, float(np.median(values)), len(values), intervals.median_of(values, picture))

    def mean_per_class(self, name: str, values: np.ndarray, labels: np.ndarray, picture: np.ndarray) -> None:
        """Unweighted mean over the classes that occur in (N,) `labels`."""
        estimator = intervals.mean_per_class_of(values, labels, picture)
        self.add(name, estimator(np.ones(self.pictures)), len(values), estimator)

    def metrics(self, seed: int) -> dict[str, Metric]:
        with phase("intervals"):
            found = intervals.intervals(list(self.estimators.values()), self.pictures, seed=seed)
        return {
            # A quantile of resamples may fall on the wrong side of the value by rounding, or where classes are missing.
            name: Metric(value, min(low, value), max(high, value), n)
            for (name, (value, n)), (low, high) in zip(self.values.items(), found, strict=True)
        }


def primary_metric(benchmark: Benchmark, names: Iterable[str], default: str) -> str:
    """The protocol's primary metric, which must be among `names`.

    Raises:
        RequestError: it is not; lists the names.
    """
    names = list(names)
    primary = str(benchmark.metrics.get("primary", default))
    if primary not in names:
        raise RequestError(f"{benchmark.name}: no metric {primary!r} here; metrics.primary may be {', '.join(names)}")
    return primary


def cutoffs(benchmark: Benchmark) -> list[int]:
    """The k of a protocol, ascending."""
    found = sorted({int(k) for k in benchmark.metrics.get("k", CUTOFFS)})
    if not found or found[0] < 1:
        raise RequestError(f"{benchmark.name}: metrics.k must be whole numbers from 1 on, got {found}")
    return found


def collapse_warnings(features: Mapping[str, Tensor], except_for: Collection[str] = ()) -> tuple[str, ...]:
    """One remark for each set of features (name -> distinct inputs' rows) that all lie within rounding.

    Args:
        except_for: names of sets that are one point for another reason, which is told elsewhere.
    """
    return tuple(
        f"collapsed: the features of all {len(rows):,} {name} lie within {COLLAPSED:g} of each other"
        for name, rows in features.items()
        if name not in except_for and collapsed(rows)
    )


def refuse_index(benchmark: Benchmark, index: np.ndarray, size: int, what: str, of: str) -> None:
    """Refuse the first entry of `index` outside [0, size): "`what` i points at `of` j"."""
    wrong = np.flatnonzero((index < 0) | (index >= size))
    if len(wrong):
        where = f"{what} {wrong[0]} points at {of} {index[wrong[0]]}"
        raise RequestError(f"{benchmark.name}: {where}, there are {size:,}; mend the annotations")


def refuse_unused(benchmark: Benchmark, index: np.ndarray, names: list[str], what: str, lacks: str) -> None:
    """Refuse when some of `names` never occur in `index`; says how many and names the first three."""
    unused = np.flatnonzero(np.bincount(index, minlength=len(names)) == 0)
    if len(unused):
        some = ", ".join(names[i] for i in unused[:3]) + (", ..." if len(unused) > 3 else "")
        raise RequestError(
            f"{benchmark.name}: {len(unused):,} of {len(names):,} {what} have no {lacks}: {some}; mend the annotations"
        )


def refuse_widths(benchmark: Benchmark, images: int, texts: int, what: str = "picture") -> None:
    """Refuse a model whose pictures (or patches) and texts have vectors of different lengths: an adapter that forgets
    its projection, say."""
    if images != texts:
        raise RequestError(
            f"{benchmark.name}: the model gives {images:,} numbers a {what} and {texts:,} a text; both must be in one "
            "space"
        )


def refuse_lengths(benchmark: Benchmark, **lengths: int) -> None:
    """Refuse lists that must be of one length and are not, or are empty."""
    if len(set(lengths.values())) > 1 or not all(lengths.values()):
        found = ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in lengths.items())
        raise RequestError(f"{benchmark.name}: needs as many of each and at least one, found {found}")
