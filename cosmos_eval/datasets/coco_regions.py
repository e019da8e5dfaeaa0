"""Regions of COCO's format: polygons and run lengths, with every bound checked before anything is drawn.

pycocotools draws polygons only, with coordinates near the image: it trusts its input, and takes as much memory as a
coordinate asks for. Run lengths are read here, where their sum can be compared with the image's size.
"""

import math
from typing import Any

import numpy as np

from cosmos_core.printable import plural

LOWEST_CODE, HIGHEST_CODE = 48, 111
"""Characters of compressed run lengths: six bits each, the highest of which says that another one follows."""
FEWEST_COORDINATES = 6
"""Three corners. pycocotools would take a list of four numbers for a box."""


class ShapeError(ValueError):
    """What is wrong with a region, without the annotation's name."""


def read_runs(segmentation: Any, height: int, width: int) -> np.ndarray:
    """Return the run lengths of a region: pixels outside, inside, outside, ..., in columns from the left.

    Args:
        segmentation: as in COCO's JSON: a list of polygons, or a map with `size` and `counts` (a list, or the
            compressed text of pycocotools).
        height, width: of the image.

    Returns:
        (R,) int64, whose sum is height x width.

    Raises:
        ShapeError: it is not a region of an image of this size.
    """
    if isinstance(segmentation, dict):
        size, counts = segmentation.get("size"), segmentation.get("counts")
        if size != [height, width]:
            raise ShapeError(f"its size is {size!r:.40}, the image's is [{height}, {width}]")
        if isinstance(counts, str):
            counts = _decompress(counts, height * width)
        return _check_runs(counts, height * width)
    return _draw_polygons(segmentation, height, width)


def draw_runs(runs: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the region (H, W) bool of run lengths."""
    is_inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(is_inside, runs).reshape(width, height).T


def area_of(runs: np.ndarray) -> int:
    """Return the number of pixels inside."""
    return int(runs[1::2].sum())


def _check_runs(counts: Any, pixels: int) -> np.ndarray:
    if not isinstance(counts, list) or not counts:
        raise ShapeError("its counts are neither a list of run lengths nor a compressed text")
    if len(counts) > pixels + 2 or not all(type(count) is int and 0 <= count <= pixels for count in counts):
        raise ShapeError(f"its run lengths are not whole numbers from 0 to {pixels:,}")
    if sum(counts) != pixels:
        raise ShapeError(f"its run lengths are for {plural(sum(counts), 'pixel')}, the image has {pixels:,}")
    return np.array(counts, dtype=np.int64)


def _decompress(text: str, pixels: int) -> list[int]:
    """Return the run lengths in pycocotools' text: groups of five bits, and differences to the last but one length."""
    counts: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character)
        if not LOWEST_CODE <= code <= HIGHEST_CODE or shift > 60 or len(counts) > pixels + 2:
            raise ShapeError("its counts are not compressed run lengths")
        bits = code - LOWEST_CODE
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift  # the highest bit is the sign
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    if shift:
        raise ShapeError("its counts break off")
    return counts


def _draw_polygons(polygons: Any, height: int, width: int) -> np.ndarray:
    """Return the run lengths of the union of polygons, as pycocotools draws them."""
    from pycocotools import mask as coco_mask

    if not isinstance(polygons, list) or not polygons or not all(isinstance(polygon, list) for polygon in polygons):
        raise ShapeError("its segmentation is neither a list of polygons, [[x, y, x, y, ...]], nor run lengths")
    reach = max(height, width)  # what is outside is not drawn, but takes memory in pycocotools
    for polygon in polygons:
        if len(polygon) < FEWEST_COORDINATES or len(polygon) % 2:
            raise ShapeError(
                f"a polygon has {plural(len(polygon), 'number')}; it needs x and y of three corners or more"
            )
        for coordinate in polygon:
            if isinstance(coordinate, bool) or not isinstance(coordinate, int | float):
                raise ShapeError(f"a polygon has {coordinate!r:.40} in place of a number")
            if not math.isfinite(coordinate) or not -reach <= coordinate <= 2 * reach:
                raise ShapeError(f"a polygon has the coordinate {coordinate:g} in an image of {width} x {height}")
    merged = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
    return _check_runs(_decompress(merged["counts"].decode("ascii"), height * width), height * width)
