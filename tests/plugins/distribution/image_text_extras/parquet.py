"""A dataset reader: images with one label each in a Parquet file, as `datasets` writes them."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow
import pyarrow.parquet
from PIL import Image

from cosmos_eval.datasets.data import ClassificationData
from cosmos_eval.datasets.dataset_checks import DatasetChecker
from cosmos_eval.datasets.image_sources import ImageSource, decode
from cosmos_eval.datasets.reader import PATH, TEXT


@dataclass(frozen=True)
class ParquetImage(ImageSource):
    """An encoded image in one row of a Parquet file."""

    key: str
    path: Path
    column: str
    group: int
    row: int

    def content(self) -> bytes:
        value = _images_of(self.path, self.column, self.group)[self.row].as_py()
        return value["bytes"] if isinstance(value, dict) else value

    def encoded(self, content: bytes) -> bytes:
        return content

    def load(self) -> Image.Image:
        return decode(self.verified_content(), self.key)


class Parquet:
    """Images and labels in a Parquet file. Images are encoded bytes, or the struct that `datasets` makes of them."""

    kinds = ("classification",)
    required: ClassVar = {"path": PATH}
    optional: ClassVar = {"image_column": TEXT, "label_column": TEXT}

    def load(self, benchmark: Any, data_root: Path) -> ClassificationData:
        checker = DatasetChecker(benchmark, data_root)
        (path,) = checker.require(checker.find_path("path", "file"))
        image, label = (checker.options.get(f"{what}_column", what) for what in ("image", "label"))
        try:
            file = pyarrow.parquet.ParquetFile(path)
            missing = [name for name in (image, label) if name not in file.schema_arrow.names]
            if missing:
                checker.refuse(f"finds no column {', '.join(missing)} in {path}; name it in dataset")
            names = file.read([label])[label].to_pylist()
        except pyarrow.ArrowInvalid as error:
            checker.refuse(f"cannot read {path}: {error}; write it again")
        images: list[ImageSource] = []
        for group in range(file.num_row_groups):
            for row in range(file.metadata.row_group(group).num_rows):
                images.append(ParquetImage(f"{len(images):06d}", path, image, group, row))
        words = benchmark.resolve_prompts()
        classes = list(words.class_names or sorted(set(map(str, names))))
        places = {name: place for place, name in enumerate(classes)}
        labels = [places.get(str(name), -1) for name in names]
        return checker.finish(
            ClassificationData(images, np.array(labels, dtype=np.int64), classes, list(words.templates or []))
        )


@lru_cache(maxsize=2)
def _images_of(path: Path, column: str, group: int) -> Any:
    return pyarrow.parquet.ParquetFile(path).read_row_group(group, [column])[column]
