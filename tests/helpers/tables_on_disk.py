"""Parquet files as `datasets`, the hub and pandas write them."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from PIL import Image


def encode_image(seed: int, size: int = 8) -> bytes:
    """A PNG of noise."""
    stream = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def structs(count: int, start: int = 0) -> list[dict[str, Any]]:
    """Images as `datasets` writes them."""
    return [{"bytes": encode_image(start + i), "path": f"{start + i}.png"} for i in range(count)]


def write_table(
    path: Path, columns: dict[str, Any], group: int = 4, class_names: Sequence[str] = (), label: str = "label"
) -> Path:
    """A Parquet file with `group` rows in a row group.

    Args:
        columns: name -> values, or an array of pyarrow.
        class_names: written as the features of `datasets` for the column `label`.
    """
    table = pa.table(columns)
    if class_names:
        features = {label: {"names": list(class_names), "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(table, path, row_group_size=group)
    return path
