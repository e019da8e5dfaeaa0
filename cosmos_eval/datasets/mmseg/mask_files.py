"""Writing masks that are made from a publisher's files: one 8-bit PNG for each source, either complete or absent."""

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
"""Threads; decoding and compressing PNGs release Python's global lock."""
VOID = 255
"""Label of pixels that are not evaluated."""
Source = TypeVar("Source")


@dataclass(frozen=True)
class PreparedMasks:
    """The outcome of preparing masks."""

    written: int
    """Masks that were written now."""
    existing: int
    """Masks that existed before."""
    folder: Path
    source: str
    """What the masks were made from, in words."""


def write_masks(
    jobs: Iterable[tuple[Source, Path]],
    read_labels: Callable[[Source], np.ndarray],
    folder: Path,
    source: str,
    reporter: Reporter,
) -> PreparedMasks:
    """Write the masks that do not exist yet; interrupted work continues where it stopped.

    Args:
        jobs: the source and the path of each mask.
        read_labels: makes labels (H, W) uint8 from a source.
        folder, source: for the result.

    Raises:
        RequestError: a source that cannot be read or has undefined labels; names it. Masks written before stay.
    """
    jobs = list(jobs)
    missing = [(job_source, mask_path) for job_source, mask_path in jobs if not mask_path.is_file()]

    def write_mask(job: tuple[Source, Path]) -> None:
        job_source, mask_path = job
        labels = read_labels(job_source)
        try:
            with atomic_path(mask_path) as temporary:
                Image.fromarray(labels).save(temporary, format="PNG")
        except OSError as error:
            raise RequestError(f"cannot write {mask_path}: {error.strerror or error}") from error

    with reporter.task("making masks", len(missing), "masks") as advance:
        pool = ThreadPoolExecutor(WORKERS)
        try:
            for _ in pool.map(write_mask, missing):
                advance(1)
        finally:
            pool.shutdown(cancel_futures=True)  # after a damaged source or Ctrl-C, do not make the remaining thousands
    return PreparedMasks(len(missing), len(jobs) - len(missing), folder, source)


def find_folder(data_root: Path, candidates: Sequence[str], pattern: str) -> Path | None:
    """Return the first of the candidate folders below `data_root` that has a file of the pattern; None if none has."""
    for candidate in candidates:
        if next((data_root / candidate).glob(pattern), None) is not None:
            return data_root / candidate
    return None


def read_label_png(path: Path) -> np.ndarray:
    """Read the labels (H, W) uint8 of a PNG.

    Raises:
        RequestError: unreadable, or with colours instead of labels; names the file.
    """
    try:
        with open_image(path) as image:
            mode, labels = image.mode, np.array(image)
    except Impostor as error:
        raise RequestError(f"cannot read {path}: {error}") from error
    except Exception as error:  # decoders raise anything for damaged files
        raise RequestError(f"cannot read {path}: {' '.join(str(error).split())}; unpack it again") from error
    if mode.startswith("I") or mode == "F":
        raise RequestError(f"{path} has more than 8 bits per pixel ({mode}); save its labels as an 8-bit PNG")
    if mode not in ("L", "P"):
        raise RequestError(f"{path} has colours ({mode}) instead of one label per pixel; unpack it again")
    return labels


def map_labels(labels: np.ndarray, table: np.ndarray, path: Path) -> np.ndarray:
    """Map published labels to classes.

    Args:
        labels: (H, W) uint8.
        table: (256,) the class of each label, -1 for an undefined label.
        path: the file of the labels, for the error.

    Returns:
        (H, W) uint8.

    Raises:
        RequestError: a label that is undefined; names file and label.
    """
    mapped = table[labels]
    if (mapped < 0).any():
        undefined = sorted(set(labels[mapped < 0].tolist()))
        raise RequestError(f"{path} has the label {undefined[0]}, which the dataset does not define; unpack it again")
    return mapped.astype(np.uint8)
