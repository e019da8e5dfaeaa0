"""Labels of an image in multi-label shards of clip-benchmark: a numpy row with a number for each class."""

import io

import numpy as np

from cosmos_core.printable import plural
from cosmos_eval.datasets.data.multilabel import ABSENT, PRESENT, UNDECIDED
from cosmos_eval.datasets.dataset_checks import DatasetChecker

LABEL_VALUES = (ABSENT, PRESENT, UNDECIDED)


def parse_label_row(content: bytes, place: str, checker: DatasetChecker) -> np.ndarray:
    """Return (C,) int8 labels from the bytes of a .npy file. Nothing is unpickled.

    Args:
        content: the file.
        place: what messages call it.
        checker: raises what is wrong.

    Raises:
        DataProblems: no numpy array, or not a row of 0, 1 and -1.
    """
    row = _parse_array(content, place, checker)
    if row.ndim != 1 or not row.size or not np.isin(row, LABEL_VALUES).all():
        shape = " x ".join(map(str, row.shape))
        checker.refuse(
            f"cannot use {place}: it needs a row with 1, 0 or -1 (undecided) for each class, and has {shape} "
            f"numbers of type {row.dtype}; pack the shard again"
        )
    return row.astype(np.int8)


def parse_metadata_row(content: bytes, place: str, checker: DatasetChecker) -> list[int]:
    """Return the numbers of a row of metadata, as DataComp's shards of WILDS have it; fractions are cut off.

    Args:
        content: the .npy file.
        place: what messages call it.
        checker: raises what is wrong.

    Raises:
        DataProblems: no numpy array, or not a row of finite numbers.
    """
    row = _parse_array(content, place, checker)
    if row.ndim != 1 or not row.size or not np.isfinite(row).all():
        checker.refuse(f"cannot use {place}: it needs a row of numbers; pack the shard again")
    return [int(value) for value in row.tolist()]


def stack_label_rows(rows: list[np.ndarray], names: list[str], class_count: int, checker: DatasetChecker) -> np.ndarray:
    """Return (N, C) int8 labels from the rows of all images.

    Args:
        rows: of each image.
        names: of each image, for messages.
        class_count: number C of class names.
        checker: raises what is wrong.

    Raises:
        DataProblems: a row has another number of classes.
    """
    for row, name in zip(rows, names, strict=True):
        if len(row) != class_count:
            checker.refuse(
                f"has {plural(len(row), 'label')} of {name} for {plural(class_count, 'class name')}; correct the "
                "class names"
            )
    return np.stack(rows) if rows else np.zeros((0, class_count), dtype=np.int8)


def _parse_array(content: bytes, place: str, checker: DatasetChecker) -> np.ndarray:
    """Read an array; DataProblems where it is none."""
    try:
        return _read_array(content)
    except (ValueError, OSError, SyntaxError, TypeError, OverflowError, MemoryError, RecursionError, EOFError) as error:
        reason = str(error).partition("\n")[0]
        checker.refuse(f"cannot read {place}: it is not a numpy array of numbers ({reason:.80}); fetch the shard again")


def _read_array(content: bytes) -> np.ndarray:
    """Read an array by its header, whose size is compared with the bytes there are before anything is allocated."""
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version} of the format")
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(stream)
    if dtype.kind not in "biuf":
        raise ValueError(f"elements of type {dtype}")
    rest = content[stream.tell() :]
    size = dtype.itemsize
    for length in shape:
        size *= length
    if size != len(rest):
        raise ValueError(f"{len(rest):,} bytes for {' x '.join(map(str, shape))} elements")
    return np.frombuffer(rest, dtype=dtype).reshape(shape)
