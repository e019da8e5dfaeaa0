"""What tasks with several languages share: a metric for each language, the mean over languages, and truncated texts."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from cosmos_eval.engine.truncation import MANY
from cosmos_eval.metrics.proportion import estimate_proportion
from cosmos_eval.tasks.common import Measured

SHOWN = 5
"""Most languages that the warning names."""


def add_languages(
    measured: Measured, name: str, values: np.ndarray, language: np.ndarray, image: np.ndarray, codes: Sequence[str]
) -> None:
    """Add `name`, the mean over languages with equal weight, and `<code>/name` for each language.

    Args:
        measured: where the metrics are added.
        values: (N,) outcomes in [0, 1].
        language: (N,) int64, the language of each sample, an index of `codes`; each occurs.
        image: (N,) int64, the image of each sample, the unit of intervals.
    """
    means = LanguageMeans(values, language, image, len(codes), measured.images)
    proportion = estimate_proportion(values, image, classes=language)
    measured.share(name, means.mean(np.ones(measured.images)), len(values), means.mean, proportion)
    for number, code in enumerate(codes):
        samples = np.flatnonzero(language == number)
        outcomes, images = values[samples], image[samples]
        estimator = partial(means.of_language, number)
        measured.share(
            f"{code}/{name}", float(outcomes.mean()), len(samples), estimator, estimate_proportion(outcomes, images)
        )


class LanguageMeans:
    """The mean outcome of each language, and their mean, in a bootstrap resample of the images.

    Equal to `mean_estimator` and `mean_per_class_estimator` up to rounding. All languages are computed at once for a
    resample: with 200 languages of 1,000 images this takes seconds instead of a minute.

    Args:
        values: (N,) outcomes in [0, 1].
        language: (N,) integers from 0 to `languages` - 1.
        image: (N,) integers from 0 to `images` - 1.
    """

    def __init__(
        self, values: np.ndarray, language: np.ndarray, image: np.ndarray, languages: int, images: int
    ) -> None:
        cell = language * images + image
        size, shape = languages * images, (languages, images)
        self._sums = np.bincount(cell, weights=values, minlength=size).reshape(shape)
        self._counts = np.bincount(cell, minlength=size).astype(np.float64).reshape(shape)
        self._drawn: np.ndarray | None = None
        self._means = np.empty(0)

    def __call__(self, drawn: np.ndarray) -> np.ndarray:
        """Return (L,) the mean of each language; NaN where it has no sample.

        Args:
            drawn: (U,) float64, how often each image was drawn. The result is kept for the next call with this array.
        """
        if drawn is not self._drawn:
            # Not a matrix product: BLAS adds up in an order that depends on the number of threads.
            n, total = (self._counts * drawn).sum(1), (self._sums * drawn).sum(1)
            self._means = np.divide(total, n, out=np.full(len(n), np.nan), where=n > 0)
            self._drawn = drawn
        return self._means

    def of_language(self, number: int, drawn: np.ndarray) -> float:
        """Return the mean of one language in a resample."""
        return float(self(drawn)[number])

    def mean(self, drawn: np.ndarray) -> float:
        """Return the mean over the languages that have a sample in a resample."""
        means = self(drawn)
        present = ~np.isnan(means)
        return float(means[present].mean()) if present.any() else np.nan


class TruncatedByLanguage:
    """Counts which share of the texts of each language the model truncates.

    Args:
        engine: whose `text_counts` are read; an engine without them counts nothing.
    """

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.shares: dict[str, float] = {}
        self._before = self._counts()

    def finish(self, language: str) -> None:
        """Take all texts that were read since the last call as those of one language."""
        read, truncated = self._counts()
        if read > self._before[0]:
            self.shares[language] = (truncated - self._before[1]) / (read - self._before[0])
        self._before = read, truncated

    def _counts(self) -> tuple[int, int]:
        counts = getattr(self.engine, "text_counts", None)
        return (0, 0) if counts is None else (counts.read, counts.truncated or 0)

    def warnings(self) -> tuple[str, ...]:
        """Return one warning that names the languages of which more than a tenth of the texts were truncated."""
        cut = sorted(
            ((share, code) for code, share in self.shares.items() if share > MANY),
            key=lambda one: (-one[0], one[1]),
        )
        if not cut:
            return ()
        named = ", ".join(f"{code} {100 * share:.0f} %" for share, code in cut[:SHOWN])
        more = f" and {len(cut) - SHOWN} more" if len(cut) > SHOWN else ""
        return (f"texts that were cut, by language: {named}{more}",)
