"""The random numbers of an image view, drawn before any pixel is read, so that they are equal wherever it is made."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CROP_TRIES = 10
CHANGES = ("brightness", "contrast", "saturation", "hue")
"""The parts of colour jitter, in the order in which their strengths are drawn."""
COLUMNS = 11
"""Of a table of changes; see `changes_table`."""


@dataclass(frozen=True)
class DrawnView:
    """One view of an image: where it is cut out and how it is changed, in the order of the fields."""

    size: int
    """Pixels on a side of the view."""
    box: tuple[int, int, int, int]
    """Left, top, right and bottom of the crop, in pixels of the image."""
    flip: bool
    """Whether it is mirrored."""
    jitter: tuple[tuple[str, float], ...]
    """Names of `CHANGES` and their strengths, in the order in which they are applied."""
    gray: bool
    blur: float | None
    """Standard deviation in pixels; None: no blur."""
    solarise: bool


def changes_table(drawn: Sequence[DrawnView]) -> np.ndarray:
    """(V, 11) float32: the changes of each view as numbers, without its crop and flip.

    Columns 0 to 3 are the strengths of `CHANGES`, 4 to 7 their positions in the order (-1: not applied), 8 grayscale,
    9 the standard deviation of the blur (-1: none), 10 solarisation.
    """
    table = np.full((len(drawn), COLUMNS), -1, np.float32)
    for row, view in zip(table, drawn, strict=True):
        for position, (name, strength) in enumerate(view.jitter):
            column = CHANGES.index(name)
            row[column], row[4 + column] = strength, position
        row[8:] = view.gray, -1 if view.blur is None else view.blur, view.solarise
    return table


def flip_coin(probability: float, draw: random.Random) -> bool:
    """True with `probability`; probabilities of 0 and 1 draw no random number."""
    return probability >= 1 or (probability > 0 and draw.random() < probability)


def random_box(
    size: tuple[int, int], shares: tuple[float, float], ratio: tuple[float, float], draw: random.Random
) -> tuple[int, int, int, int]:
    """A box (left, top, right, bottom) with area uniform in `shares` of the image and log-uniform aspect ratio.

    After ten boxes that do not fit it is the largest centred box whose aspect ratio is within `ratio`, as
    torchvision's RandomResizedCrop does.
    """
    width, height = size
    for _ in range(CROP_TRIES):
        area = width * height * draw.uniform(*shares)
        aspect = math.exp(draw.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = draw.randint(0, width - w), draw.randint(0, height - h)
            return left, top, left + w, top + h
    aspect = min(max(width / height, ratio[0]), ratio[1])
    w, h = min(width, round(height * aspect)), min(height, round(width / aspect))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h
