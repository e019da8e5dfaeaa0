"""What the tasks share: metrics with intervals, the primary one, remarks on collapsed features, refusals."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_eval.engine.scores import Scores
from cosmos_eval.metrics import intervals
from cosmos_eval.metrics.rank_interval import mean_rank_interval, median_rank_interval
from cosmos_eval.metrics.share_interval import Evidence, evidence_of, share_intervals
from cosmos_eval.metrics.similarity import COLLAPSED, collapsed
from cosmos_eval.profiling import phase
from cosmos_eval.protocol.benchmark import Benchmark
from cosmos_eval.tasks.outcome import Metric

Finish = Callable[[tuple[float, float]], tuple[float, float, str]]
"""From a percentile interval to the interval and its method."""


@dataclass
class Measured:
    """Metrics as they are found; their intervals are made together, from the same resamples of the images."""

    images: int
    values: dict[str, tuple[float, int]] = field(default_factory=dict)
    estimators: dict[str, intervals.Estimator] = field(default_factory=dict)
    evidence: dict[str, Evidence] = field(default_factory=dict)
    finish: dict[str, Finish] = field(default_factory=dict)

    def share(self, name: str, value: float, n: int, estimator: intervals.Estimator, evidence: Evidence) -> None:
        """A weighted mean of outcomes in [0, 1], with what tells of its error beside the resamples."""
        self.values[name] = (value, n)
        self.estimators[name] = estimator
        self.evidence[name] = evidence

    def mean(self, name: str, values: np.ndarray, image: np.ndarray) -> None:
        """Mean of (N,) outcomes in [0, 1]; sample i hangs on image `image[i]`."""
        estimator = intervals.mean_of(values, image, self.images)
        self.share(name, float(values.mean()), len(values), estimator, evidence_of(values, image))

    def mean_per_class(self, name: str, values: np.ndarray, labels: np.ndarray, image: np.ndarray) -> None:
        """Unweighted mean over the classes that occur in (N,) `labels`."""
        estimator = intervals.mean_per_class_of(values, labels, image)
        evidence = evidence_of(values, image, classes=labels)
        self.share(name, estimator(np.ones(self.images)), len(values), estimator, evidence)

    def mean_rank(self, name: str, ranks: np.ndarray, image: np.ndarray, chance: float) -> None:
        """Mean of (N,) ranks; `chance` is that of a model that knows nothing."""
        self.values[name] = (float(ranks.mean()), len(ranks))
        self.estimators[name] = intervals.mean_of(ranks, image, self.images)
        self.finish[name] = partial(mean_rank_interval, ranks, image, chance)

    def median_rank(self, name: str, ranks: np.ndarray, image: np.ndarray, worst: int) -> None:
        """Median of (N,) ranks, of `worst` places."""
        self.values[name] = (float(np.median(ranks)), len(ranks))
        self.estimators[name] = intervals.median_of(ranks, image)
        self.finish[name] = partial(median_rank_interval, ranks, image, worst)

    def metrics(self, seed: int) -> dict[str, Metric]:
        with phase("intervals"):
            found = intervals.intervals(list(self.estimators.values()), self.images, seed=seed)
            resampled = dict(zip(self.estimators, found, strict=True))
            bounds = share_intervals(list(self.evidence.values()), [resampled[name] for name in self.evidence])
            made = {name: (*ends, self.evidence[name].method) for name, ends in zip(self.evidence, bounds, strict=True)}
            made |= {name: finish(resampled[name]) for name, finish in self.finish.items()}
        return {
            # A quantile of resamples may fall on the wrong side of the value by rounding, or where classes are missing.
            name: Metric(value, min(made[name][0], value), max(made[name][1], value), n, made[name][2])
            for name, (value, n) in self.values.items()
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


def collapse_warnings(features: Mapping[str, Tensor | None], except_for: Collection[str] = ()) -> tuple[str, ...]:
    """One remark for each set of features (name -> distinct inputs' rows) that all lie within rounding.

    Args:
        features: of any shape; None for a model that has none, since it scores pairs.
        except_for: names of sets that are one point for another reason, which is told elsewhere.
    """
    return tuple(
        f"collapsed: the features of all {len(rows):,} {name} lie within {COLLAPSED:g} of each other"
        for name, rows in features.items()
        if rows is not None and name not in except_for and collapsed(rows)
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


def refuse_widths(benchmark: Benchmark, images: int, texts: int, unit: str = "an image") -> None:
    """Refuse a model whose images (or patches) and texts have vectors of different lengths: an adapter that forgets
    its projection, say."""
    if images != texts:
        raise RequestError(
            f"{benchmark.name}: the model gives {images:,} numbers {unit} and {texts:,} a text; both must be in one "
            "space"
        )


def refuse_two_spaces(benchmark: Benchmark, scores: Scores) -> None:
    """Refuse a dot product of vectors of different lengths; a model with another score knows its own shapes."""
    images, texts = scores.image_features, scores.text_features
    if scores.averages_prompts and images is not None and texts is not None:
        refuse_widths(benchmark, images.shape[1], texts.shape[1])


def refuse_lengths(benchmark: Benchmark, **lengths: int) -> None:
    """Refuse lists that must be of one length and are not, or are empty."""
    if len(set(lengths.values())) > 1 or not all(lengths.values()):
        found = ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in lengths.items())
        raise RequestError(f"{benchmark.name}: needs as many of each and at least one, found {found}")
