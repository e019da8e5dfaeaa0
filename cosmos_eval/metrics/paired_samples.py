"""Samples of two models for one metric, paired: what a task hands to the tests of `regress`.

For a metric that is a weighted mean over samples, a task returns `Hits`.
For another one, such as a mean IoU, it returns a `PairedBootstrap`: `PairedPixelCounts`, `PairedLabelScores`.

The unit is the one that the metric's interval resamples: the image. Captions and items that share an image belong to
one unit. The unit of an image that was cut out of another is the image that it was cut from, and that of an item of
several images is the first one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from cosmos_core.errors import RequestError
from cosmos_eval.metrics.bootstrap_drop import BootstrapDrop
from cosmos_eval.metrics.iou import PixelCounts
from cosmos_eval.metrics.paired_drop import PairedDifferences, sum_differences
from cosmos_eval.metrics.paired_iou import bootstrap_iou_drop
from cosmos_eval.metrics.resampled_metric import ResampledMetric, UnitSums, mean_of_ratios

if TYPE_CHECKING:
    import pandas as pd

CONTENT = "content"
"""Column of samples with the start of the digest of the image that the sample belongs to."""
UNKNOWN = "?"
"""Begins the name of a unit whose content is not recorded."""


@dataclass(frozen=True)
class Hits:
    """Outcomes of both models for the same N samples, whose weighted mean is the metric."""

    baseline: np.ndarray
    """(N,) outcomes in [0, 1], such as top-1 accuracy; fractions where tied candidates share a position."""
    candidate: np.ndarray
    """(N,) outcomes of the candidate for the same samples."""
    unit: np.ndarray
    """(N,) int64 independent unit (image) of each sample."""
    weights: np.ndarray | None = None
    """(N,) weight of each sample in the metric, not negative; None: equal weights."""
    unit_names: np.ndarray | None = None
    """(N,) name of the unit of each sample, as `name_units` gives it; None: no other benchmark has these units."""
    classes: np.ndarray | None = None
    """(N,) int64 classes, if the metric is the mean over them of their weighted means; None: one weighted mean. Tests
    take the share of each class in the metric as given, and have it in the weights already."""

    def of_model(self, number: int) -> ResampledMetric:
        """Return the metric of one model (0 the baseline, 1 the candidate) under random weights of the units."""
        outcomes = (self.baseline, self.candidate)[number].astype(np.float64)
        names = self.unit_names
        if names is None:
            names = np.array([f"{id(self)} {unit}" for unit in self.unit.tolist()], dtype=object)
        weights = np.ones(len(outcomes)) if self.weights is None else np.asarray(self.weights, np.float64)
        classes = np.zeros(len(outcomes), np.int64) if self.classes is None else self.classes
        samples = np.arange(len(outcomes))
        return UnitSums.build(
            names,
            np.concatenate([samples, samples]),
            np.concatenate([classes, classes + int(classes.max()) + 1]),
            np.concatenate([weights * outcomes, weights]),
            mean_of_ratios,
        )

    def differences(self) -> PairedDifferences:
        """Return the differences by unit, which the paired test takes."""
        return sum_differences(self.baseline, self.candidate, self.unit, self.weights)

    def against_worst_candidate(self) -> PairedDifferences:
        """Return the differences to the worst possible candidate, which has no sample right."""
        return sum_differences(self.baseline, np.zeros(len(self.baseline)), self.unit, self.weights)

    def values(self) -> tuple[float, float]:
        """Return the metric of the baseline and of the candidate."""
        baseline, candidate = (np.average(hits, weights=self.weights) for hits in (self.baseline, self.candidate))
        return float(baseline), float(candidate)


class BootstrappedDrop(Protocol):
    """Samples of both models whose drop is bootstrapped, as the metric is not a mean over samples."""

    @property
    def images(self) -> int:
        """Number of images, the units of the bootstrap."""
        ...

    def swapped(self) -> "BootstrappedDrop":
        """Return the same with baseline and candidate swapped, for a test of a gain."""
        ...

    def bootstrap_drop(self, resamples: int, seed: int) -> BootstrapDrop:
        """Bootstrap the drop of the metric."""
        ...


class PairedBootstrap(BootstrappedDrop, Protocol):
    """What both models did on the same images, for a metric that can be part of a suite's average."""

    def swapped(self) -> "PairedBootstrap": ...

    def of_model(self, number: int) -> ResampledMetric:
        """Return the metric of one model (0 the baseline, 1 the candidate), for intervals of suite averages."""
        ...


@dataclass(frozen=True)
class PairedPixelCounts:
    """Pixel counts of both models for the same images, whose mean IoU is the metric."""

    baseline: PixelCounts
    candidate: PixelCounts
    images: int
    """Number of images."""
    labels: tuple[int, ...] | None = None
    """Classes of which the mean is taken; None: all that occur."""
    image_names: np.ndarray | None = None
    """(images,) name of each image, as `name_units` gives it; None: no other benchmark has these images."""

    def of_model(self, number: int) -> ResampledMetric:
        """Return the mean IoU of one model (0 the baseline, 1 the candidate) under random weights of the images."""
        entries = (self.baseline, self.candidate)[number]
        intersection, predicted, labelled = entries.counts.T.astype(np.float64)
        used = np.flatnonzero(predicted + labelled)
        if self.labels is not None:
            used = used[np.isin(entries.label[used], self.labels)]
        names = self.image_names
        if names is None:
            names = np.array([f"{id(self)} {image}" for image in range(self.images)], dtype=object)
        label, image = number_labels(entries.label[used]), entries.image[used]
        union = (predicted + labelled - intersection)[used]
        return UnitSums.build(
            names,
            np.concatenate([image, image]),
            np.concatenate([label, label + int(label.max(initial=0)) + 1]),
            np.concatenate([intersection[used], union]),
            mean_of_ratios,
        )

    def swapped(self) -> "PairedPixelCounts":
        """Return the pixel counts with baseline and candidate swapped, for a test of a gain."""
        return PairedPixelCounts(self.candidate, self.baseline, self.images, self.labels, self.image_names)

    def bootstrap_drop(self, resamples: int, seed: int) -> BootstrapDrop:
        """Bootstrap the drop of the mean IoU; see `bootstrap_iou_drop`."""
        return bootstrap_iou_drop(self.baseline, self.candidate, self.images, self.labels, resamples, seed)


def name_units(samples: "pd.DataFrame", key_column: str) -> np.ndarray:
    """Name the image of each sample by its content, so that benchmarks that share it can be resampled together.

    Args:
        samples: of one model.
        key_column: the column with the key of the image that is resampled.

    Returns:
        (N,) texts. Where the content is not recorded (older versions, plug-ins), UNKNOWN and the key, which is only
        good inside one dataset.
    """
    keys = samples[key_column].to_numpy()
    contents = samples[CONTENT].to_numpy() if CONTENT in samples else np.full(len(keys), "", dtype=object)
    return np.array([content or UNKNOWN + str(key) for content, key in zip(contents, keys, strict=True)], dtype=object)


def require_column(column: str, *frames: "pd.DataFrame") -> None:
    """Check that the samples of all models have a column.

    Raises:
        RequestError: a table lacks it; says how to get it.
    """
    if any(column not in frame for frame in frames):
        raise RequestError(
            f"samples.parquet has no column {column!r}: an older version wrote it; measure both models again with "
            "run --overwrite"
        )


def number_labels(labels: np.ndarray | Sequence[str]) -> np.ndarray:
    """Number labels from 0 in the order of their first appearance.

    Args:
        labels: (N,) of any type that can be compared.

    Returns:
        (N,) int64, equal for equal labels.
    """
    import pandas as pd

    return pd.factorize(np.asarray(labels))[0].astype(np.int64)
