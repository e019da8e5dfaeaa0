"""Masks made from what publishers give: a PNG of one byte a pixel for each source, either whole or absent."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_core.files import atomic_path
from cosmos_core.image_files import Impostor, open_image
from cosmos_eval.progress import Reporter

WORKERS = 4
"""Threads; decoding and compressing PNGs release Python's lock."""
VOID = 255
Source = TypeVar("Source")


@dataclass(frozen=True)
class Made:
    """What was done: `made` masks anew, `kept` were there already, in `folder`, from `source` (in words)."""

    made: int
    kept: int
    folder: Path
    source: str


def make_masks(
    jobs: Iterable[tuple[Source, Path]],
    labels_of: Callable[[Source], np.ndarray],
    folder: Path,
    source: str,
    reporter: Reporter,
) -> Made:
    """Write the mask of every job (source, target) that is not there yet.

    Interrupted work goes on where it stopped: each file is written beside its place and moved in when it is whole.

    Raises:
        RequestError: a source that cannot be read or has labels that nobody knows; names it. What was made stays.
    """
    jobs = list(jobs)
    waiting = [(one, target) for one, target in jobs if not target.is_file()]

    def make(job: tuple[Source, Path]) -> None:
        one, target = job
        labels = labels_of(one)
        try:
            with atomic_path(target) as temporary:
                Image.fromarray(labels).save(temporary, format="PNG")
        except OSError as error:
            raise RequestError(f"cannot write {target}: {error.strerror or error}") from error

    with reporter.task("making masks", len(waiting), "masks") as advance:
        pool = ThreadPoolExecutor(WORKERS)
        try:
            for _ in pool.map(make, waiting):
                advance(1)
        finally:
            pool.shutdown(cancel_futures=True)  # a broken source or Ctrl-C must not wait for the other thousands
    return Made(len(waiting), len(jobs) - len(waiting), folder, source)


def first_folder(data_root: Path, places: Sequence[str], holding: str) -> Path | None:
    """The first of the folders below `data_root` that has a file of that pattern."""
    for place in places:
        if next((data_root / place).glob(holding), None) is not None:
            return data_root / place
    return None


def labels_in(path: Path) -> np.ndarray:
    """(H, W) uint8 as a PNG has them.

    Raises:
        RequestError: unreadable, or colours in place of labels; names it.
    """
    try:
        with open_image(path) as image:
            mode, labels = image.mode, np.array(image)
    except Impostor as error:
        raise RequestError(f"cannot read {path}: {error}") from error
    except Exception as error:  # decoders raise whatever a broken file makes them stumble over
        raise RequestError(f"cannot read {path}: {' '.join(str(error).split())}; unpack it again") from error
    if mode.startswith("I") or mode == "F":
        raise RequestError(f"{path} has more than 8 bits a pixel ({mode}); save its labels as a PNG of 8 bits")
    if mode not in ("L", "P"):
        raise RequestError(f"{path} has colours ({mode}) where one label a pixel is wanted; unpack it again")
    return labels


def translate(labels: np.ndarray, table: np.ndarray, path: Path) -> np.ndarray:
    """The labels by a table of 256 new ones, -1 for those that nobody knows.

    Raises:
        RequestError: a label without a translation; names file and label.
    """
    translated = table[labels]
    if (translated < 0).any():
        wrong = sorted(set(labels[translated < 0].tolist()))
        raise RequestError(f"{path} has the label {wrong[0]}, which the dataset does not define; unpack it again")
    return translated.astype(np.uint8)
