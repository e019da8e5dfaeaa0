"""The column `content` of samples.parquet: which samples of different benchmarks show the same image.

Intervals and tests of suite averages resample images, and benchmarks share images: one copy of COCO serves retrieval,
segmentation and perception. Keys do not show it: each reader has its own, and every dataset in shards numbers its
samples.
"""

from typing import TYPE_CHECKING

from cosmos_eval.datasets.data import Data
from cosmos_eval.metrics.paired_samples import CONTENT

if TYPE_CHECKING:
    import pandas as pd

DIGITS = 16
"""Hexadecimal digits of the digest that are stored. Two of a million different images share them once in 40 million
cases; then the two are resampled together."""
UNIT_COLUMNS = ("whole", "image")
"""Columns of samples with the key of the image that is resampled; of an image cut from another, that is the other."""


def with_contents(samples: "pd.DataFrame", data: Data) -> "pd.DataFrame":
    """Return samples with the start of the digest of the image that each belongs to; empty where it is not known.

    Args:
        samples: of one outcome; without a column with keys of images (of a plug-in) they stay as they are.
        data: what was measured.
    """
    unit = unit_column(samples)
    if not unit or CONTENT in samples:
        return samples
    digests = {image.parent_key: image.parent_digest()[:DIGITS] for image in data.evaluated.images}
    return samples.assign(**{CONTENT: [digests.get(key, "") for key in samples[unit]]})


def unit_column(samples: "pd.DataFrame") -> str:
    """Return the column with the key of the image that is resampled; empty if there is none."""
    return next((name for name in UNIT_COLUMNS if name in samples), "")
