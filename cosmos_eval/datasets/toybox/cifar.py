"""toybox's classes in CIFAR-100's Python layout (Krizhevsky, 2009), which torchvision reads: three pickles.

The original files were written by Python 2: their keys and pixels are its byte strings, which Python 3 reads as text or
as bytes, as the reader chooses. Readers rely on that (torchvision asks for "latin1"), and Python 3's own pickler cannot
write such strings. So the opcodes are written here.
"""

import pickle
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from cosmos_eval.datasets.toybox.drawing import render
from cosmos_eval.datasets.toybox.scenes import Scene
from cosmos_eval.datasets.toybox.words import CLASSES, SHAPES

SIZE = 32
"""Pixels of a side, CIFAR's."""


def write_cifar100(folder: Path, splits: dict[str, Sequence[tuple[int, Scene]]], done: Callable[[int], None]) -> int:
    """`cifar-100-python/train`, `test` and `meta`; fine labels are toybox's 48 classes, coarse ones the six shapes.

    Args:
        splits: "train" and "test", each a list of (label, scene).

    Returns:
        The number of files.
    """
    root = folder / "cifar-100-python"
    root.mkdir(parents=True)
    for split, labelled in splits.items():
        data = np.empty((len(labelled), 3 * SIZE * SIZE), np.uint8)
        for i, (_, scene) in enumerate(labelled):
            data[i] = render(scene, SIZE).transpose(2, 0, 1).reshape(-1)  # the red plane, then green, then blue
            done(1)
        labels = [label for label, _ in labelled]
        content = {
            b"filenames": [f"{scene.key}.png".encode() for _, scene in labelled],
            b"batch_label": b"toybox " + split.encode(),
            b"fine_labels": labels,
            b"coarse_labels": [label * len(SHAPES) // len(CLASSES) for label in labels],
            b"data": data,
        }
        _write_pickle(root / split, content)
    names = {
        b"fine_label_names": [name.encode() for name in CLASSES],
        b"coarse_label_names": [name.encode() for name in SHAPES],
    }
    _write_pickle(root / "meta", names)
    return len(splits) + 1


def _write_pickle(path: Path, value: Any) -> None:
    with path.open("wb") as file:
        file.write(pickle.PROTO + b"\x02")
        _emit(value, file)
        file.write(pickle.STOP)


def _emit(value: Any, file: IO[bytes]) -> None:
    """Write the opcodes that build a value of dicts, lists, tuples, byte strings, numbers and arrays of bytes."""
    if isinstance(value, dict):
        file.write(pickle.EMPTY_DICT + pickle.MARK)
        for pair in value.items():
            for part in pair:
                _emit(part, file)
        file.write(pickle.SETITEMS)
    elif isinstance(value, list):
        file.write(pickle.EMPTY_LIST + pickle.MARK)
        for item in value:
            _emit(item, file)
        file.write(pickle.APPENDS)
    elif isinstance(value, tuple):
        file.write(pickle.MARK)
        for item in value:
            _emit(item, file)
        file.write(pickle.TUPLE)
    elif isinstance(value, bytes) and len(value) < 256:
        file.write(pickle.SHORT_BINSTRING + struct.pack("<B", len(value)) + value)
    elif isinstance(value, bytes):
        file.write(pickle.BINSTRING + struct.pack("<i", len(value)) + value)
    elif value is None or value is False:
        file.write(pickle.NONE if value is None else pickle.NEWFALSE)
    elif isinstance(value, int):
        file.write(pickle.BININT + struct.pack("<i", value))
    else:
        _emit_array(value, file)


def _emit_array(array: np.ndarray, file: IO[bytes]) -> None:
    """An array (N, M) uint8 as numpy takes it apart: an empty array, then its state."""
    file.write(pickle.GLOBAL + b"numpy.core.multiarray\n_reconstruct\n" + pickle.MARK)
    file.write(pickle.GLOBAL + b"numpy\nndarray\n")
    _emit((0,), file)
    _emit(b"b", file)
    file.write(pickle.TUPLE + pickle.REDUCE + pickle.MARK)
    _emit(1, file)  # version of the state
    _emit(array.shape, file)
    file.write(pickle.GLOBAL + b"numpy\ndtype\n")
    _emit((b"u1", 0, 1), file)
    file.write(pickle.REDUCE)
    _emit((3, b"|", None, None, None, -1, -1, 0), file)
    file.write(pickle.BUILD)
    _emit(False, file)  # rows first
    _emit(array.tobytes(), file)
    file.write(pickle.TUPLE + pickle.BUILD)
