"""Write toybox's classes in CIFAR-100's Python layout (Krizhevsky, 2009), which torchvision reads: three pickles.

The original files were written by Python 2. Their keys and pixels are Python 2 byte strings, which a reader in Python 3
gets as text or as bytes, depending on the `encoding` it gives to `pickle.load`. Readers rely on that (torchvision gives
"latin1"), but the pickler of Python 3 cannot write such strings. So the opcodes are written here one by one.
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
"""Side of CIFAR's images in pixels."""


def write_cifar100(folder: Path, splits: dict[str, Sequence[tuple[int, Scene]]], advance: Callable[[int], None]) -> int:
    """Write `cifar-100-python/train`, `test` and `meta`; fine labels are the 48 classes, coarse labels the six shapes.

    Args:
        splits: "train" and "test", each a list of (label, scene).
        advance: called with the number of images written since the last call.

    Returns:
        The number of files.
    """
    root = folder / "cifar-100-python"
    root.mkdir(parents=True)
    for split, labelled in splits.items():
        data = np.empty((len(labelled), 3 * SIZE * SIZE), np.uint8)
        for i, (_, scene) in enumerate(labelled):
            data[i] = render(scene, SIZE).transpose(2, 0, 1).reshape(-1)  # all red values, then green, then blue
            advance(1)
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
        _write_value(value, file)
        file.write(pickle.STOP)


def _write_value(value: Any, file: IO[bytes]) -> None:
    """Write the opcodes that build a value: dicts, lists, tuples, byte strings, integers, booleans, arrays of uint8."""
    if isinstance(value, dict):
        file.write(pickle.EMPTY_DICT + pickle.MARK)
        for key, item in value.items():
            _write_value(key, file)
            _write_value(item, file)
        file.write(pickle.SETITEMS)
    elif isinstance(value, list):
        file.write(pickle.EMPTY_LIST + pickle.MARK)
        for item in value:
            _write_value(item, file)
        file.write(pickle.APPENDS)
    elif isinstance(value, tuple):
        file.write(pickle.MARK)
        for item in value:
            _write_value(item, file)
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
        _write_array(value, file)


def _write_array(array: np.ndarray, file: IO[bytes]) -> None:
    """Write an array (N, M) uint8 as numpy pickles it: build an empty array, then set its state."""
    file.write(pickle.GLOBAL + b"numpy.core.multiarray\n_reconstruct\n" + pickle.MARK)
    file.write(pickle.GLOBAL + b"numpy\nndarray\n")
    _write_value((0,), file)
    _write_value(b"b", file)
    file.write(pickle.TUPLE + pickle.REDUCE + pickle.MARK)
    _write_value(1, file)  # version of the state's format
    _write_value(array.shape, file)
    file.write(pickle.GLOBAL + b"numpy\ndtype\n")
    _write_value((b"u1", 0, 1), file)
    file.write(pickle.REDUCE)
    _write_value((3, b"|", None, None, None, -1, -1, 0), file)
    file.write(pickle.BUILD)
    _write_value(False, file)  # not in Fortran order
    _write_value(array.tobytes(), file)
    file.write(pickle.TUPLE + pickle.BUILD)
