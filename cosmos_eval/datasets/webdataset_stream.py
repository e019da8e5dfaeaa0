"""WebDataset shards that come and go, for `cosmos_eval.datasets.stream`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cosmos_eval.datasets.data import Data
from cosmos_eval.datasets.data.multilabel import ABSENT, PRESENT, UNDECIDED
from cosmos_eval.datasets.dataset_checks import DatasetChecker, require_inside_data_root
from cosmos_eval.datasets.image_sources import ImageSource
from cosmos_eval.datasets.reader import ALLOW
from cosmos_eval.datasets.stream.reading import Samples
from cosmos_eval.datasets.webdataset import (
    CLASS_NAMES,
    SHARD_COUNT,
    TEMPLATES,
    WebDataset,
    read_shard_count,
)
from cosmos_eval.datasets.webdataset_shards import ROW_SUFFIX, ShardSamples

MOST_SHARDS = 100_000
"""More than any published dataset has; a larger number in nshards.txt is a mistake."""


class StreamedWebDataset:
    """A `cosmos_eval.datasets.stream.reading.StreamedReading`."""

    def __init__(self, benchmark: Any, folder: Path) -> None:
        self._benchmark, self._folder = benchmark, folder
        dataset = self._dataset(DatasetChecker(benchmark, folder))
        require_inside_data_root(dataset.split, benchmark.name)
        self._split, self._label_suffix = dataset.split, dataset.label_suffix
        self.identity = f"webdataset {self._label_suffix}" + (" with metadata" if dataset.metadata else "")
        self.count_file = f"{self._split}/{SHARD_COUNT}"
        self.small_files: Sequence[str] = (CLASS_NAMES, TEMPLATES) if dataset.has_classes else ()

    def shard_paths(self) -> list[str]:
        checker = DatasetChecker(self._benchmark, self._folder)
        number = read_shard_count(self._folder / self.count_file, checker)
        if number > MOST_SHARDS:
            checker.add_problem(f"has {number:,} in {SHARD_COUNT}, more than the {MOST_SHARDS:,} shards that are read")
        self._dataset(checker).require_class_files()
        return [f"{self._split}/{i}.tar" for i in range(number)]

    def read_shard(self, path: Path) -> Samples:
        return self._dataset(DatasetChecker(self._benchmark, self._folder)).read_shard(path)

    def build(self, shards: Mapping[str, Samples], partial: bool) -> Data:
        checker = DatasetChecker(self._benchmark, self._folder)
        if partial:
            checker.options = {**checker.options, "candidates_without_images": ALLOW}
            checker.expected = {}
        parts = {Path(path).name: samples for path, samples in shards.items()}
        data = self._dataset(checker).build(parts)  # type: ignore[arg-type]
        # what is unusual about a part, such as classes without an image, says nothing about the dataset
        return data.replaced(remarks=tuple(checker.remarks)) if partial else data

    def samples(self, images: Sequence[ImageSource], labels: Sequence[Any], lone_block: int | None) -> Samples:
        return ShardSamples(images, labels, lone_block)

    def store_label(self, label: Any) -> Any:
        return label.tolist() if self._label_suffix == ROW_SUFFIX else label

    def restore_label(self, value: Any) -> Any:
        if self._label_suffix != ROW_SUFFIX:
            if not isinstance(value, str):
                raise ValueError("a label that is not a text")
            return value
        if not isinstance(value, list) or not all(type(entry) is int for entry in value):
            raise ValueError("a row of labels that is not a list of integers")
        if not value or not set(value) <= {PRESENT, ABSENT, UNDECIDED}:
            raise ValueError("a row of other labels")
        return np.array(value, dtype=np.int8)

    def _dataset(self, checker: DatasetChecker) -> WebDataset:
        return WebDataset(self._benchmark, self._folder, checker)
