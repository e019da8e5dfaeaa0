"""The labels of a dataset's masks, read and checked beside their images, in the processes that decode these."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_eval.datasets.data import SegmentationData
from cosmos_eval.datasets.masks import Mask
from cosmos_eval.metrics.iou import IGNORED
from cosmos_eval.protocol.benchmark import Benchmark


@dataclass(frozen=True)
class TrueLabels:
    """Reads the mask of an image; a `cosmos_eval.engine.image_loading.ReadTarget`."""

    benchmark: str
    """Name of the benchmark, for messages."""
    masks: Sequence[Mask]
    class_count: int

    @classmethod
    def of(cls, benchmark: Benchmark, data: SegmentationData) -> "TrueLabels":
        return cls(benchmark.name, data.masks, len(data.class_names))

    def __call__(self, index: int, size: tuple[int, int]) -> Tensor:
        """Return the (H, W) labels of one image's mask; 255 for ignored pixels.

        Args:
            size: height and width of the image.

        Raises:
            RequestError: the mask cannot be read, has another size, or a label that is neither a class nor 255.
        """
        mask = self.masks[index]
        labels = mask.verified_labels()
        if tuple(labels.shape) != tuple(size):
            raise RequestError(
                f"{self.benchmark}: the mask of {mask.key} has {_format_size(labels.shape)} pixels and its image "
                f"{_format_size(size)}; correct the files"
            )
        counted = labels[labels != IGNORED]
        if counted.size and not (counted.min() >= 0 and counted.max() < self.class_count):
            wrong_label = int(counted[(counted < 0) | (counted >= self.class_count)][0])
            raise RequestError(
                f"{self.benchmark}: the mask of {mask.key} has the label {wrong_label}, but classes are 0 to "
                f"{self.class_count - 1} and {IGNORED} is for ignored pixels; correct the file, or prepare the masks "
                "again"
            )
        # All labels are 0 to 255 now; a byte each is quick to send and to count.
        return torch.from_numpy(np.array(labels, dtype=np.uint8))


def _format_size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
