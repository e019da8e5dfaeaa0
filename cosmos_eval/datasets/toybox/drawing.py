"""From a scene to pixels and masks, with numpy and Pillow alone.

An object's outline is drawn once, at `OVERSAMPLE` times the size, and averaged down to its coverage of each pixel.
Image and masks read the same coverage: a pixel belongs to an object where the object covers at least half of it.
"""

import math
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from cosmos_eval.datasets.toybox.dice import digest_number
from cosmos_eval.datasets.toybox.scenes import Background, Scene, Thing
from cosmos_eval.datasets.toybox.words import COLOURS, SHAPES

OVERSAMPLE = 4

OBJECT_RGB = {
    "red": (222, 36, 36),
    "yellow": (246, 214, 24),
    "green": (28, 160, 44),
    "aqua": (40, 222, 222),
    "blue": (36, 60, 222),
    "purple": (158, 40, 190),
    "white": (244, 244, 244),
    "black": (18, 18, 18),
}
# Stripes and dots are a darker shade of the object's own colour, lighter for black, so that its colour keeps its name.
MARK_RGB = {
    name: (110, 110, 110) if name == "black" else tuple(int(value * 0.52) for value in rgb)
    for name, rgb in OBJECT_RGB.items()
}
BACKGROUND_RGB = {
    "gray": (134, 134, 134),
    "brown": (136, 104, 76),
    "olive": (122, 128, 76),
    "slate": (94, 112, 142),
    "teal": (78, 132, 126),
    "rose": (176, 128, 136),
}
PERIOD = 0.083  # of stripes and dots, as a share of the side: 5.3 pixels of 64


def render(scene: Scene, size: int = 64) -> np.ndarray:
    """The scene as pixels (size, size, 3) uint8."""
    canvas = _background(scene.background, scene.key, size)
    for speck in scene.specks:
        _add_line(canvas, speck.x * size, speck.y * size, speck.length * size, speck.turn, 70.0 * speck.tone)
    for thing in scene.objects:
        coverage, top, left = _coverage(thing, size)
        window = canvas[top : top + coverage.shape[0], left : left + coverage.shape[1]]
        window += (_paint(thing, size, coverage.shape, top, left) - window) * coverage[..., None]
    return np.clip(np.rint(canvas), 0, 255).astype(np.uint8)


def mask(scene: Scene, size: int = 64) -> np.ndarray:
    """(size, size) uint8: 0 where the background is, else 1 + the shape's index in `words.SHAPES`."""
    return _index_map(scene, size, [1 + SHAPES.index(thing.shape) for thing in scene.objects])


def colour_mask(scene: Scene, size: int = 64) -> np.ndarray:
    """(size, size) uint8: 0 where the background is, else 1 + the colour's index in `words.COLOURS`."""
    return _index_map(scene, size, [1 + COLOURS.index(thing.colour) for thing in scene.objects])


def instances(scene: Scene, size: int = 64) -> np.ndarray:
    """(size, size) uint8: 0 where the background is, else 1 + the object's index in `scene.objects`."""
    return _index_map(scene, size, list(range(1, len(scene.objects) + 1)))


def _index_map(scene: Scene, size: int, values: list[int]) -> np.ndarray:
    out = np.zeros((size, size), np.uint8)
    for value, thing in zip(values, scene.objects, strict=True):
        coverage, top, left = _coverage(thing, size)
        out[top : top + coverage.shape[0], left : left + coverage.shape[1]][coverage >= 0.5] = value
    return out


def _coverage(thing: Thing, size: int) -> tuple[np.ndarray, int, int]:
    """The share of each pixel that an object covers, (h, w) float32, and the window's top and left in the image."""
    cx, cy, radius = thing.x * size, thing.y * size, thing.radius * size
    reach = radius * 1.05 + 1
    left, top = max(0, int(cx - reach)), max(0, int(cy - reach))
    right, bottom = min(size, int(cx + reach) + 1), min(size, int(cy + reach) + 1)
    fine = Image.new("L", ((right - left) * OVERSAMPLE, (bottom - top) * OVERSAMPLE))
    x, y, r = (cx - left) * OVERSAMPLE, (cy - top) * OVERSAMPLE, radius * OVERSAMPLE
    _draw_outline(ImageDraw.Draw(fine), thing.shape, x, y, r, thing.turn)
    return np.asarray(fine.reduce(OVERSAMPLE), np.float32) / 255, top, left


def _draw_outline(draw: ImageDraw.ImageDraw, shape: str, x: float, y: float, r: float, turn: float) -> None:
    if shape in ("circle", "ring"):
        r *= 0.94  # areas closer to those of the other shapes
        draw.ellipse((x - r, y - r, x + r, y + r), fill=255)
        if shape == "ring":
            hole = r * 0.48
            draw.ellipse((x - hole, y - hole, x + hole, y + hole), fill=0)
        return
    cos, sin = math.cos(turn) * r, math.sin(turn) * r
    draw.polygon([(x + cos * u - sin * v, y + sin * u + cos * v) for u, v in _corners(shape)], fill=255)


@lru_cache
def _corners(shape: str) -> tuple[tuple[float, float], ...]:
    """Corners of a shape around the origin, y down, at most 1.05 from it so that a turn stays in reach."""
    if shape == "square":
        return ((-0.74, -0.74), (0.74, -0.74), (0.74, 0.74), (-0.74, 0.74))
    if shape == "triangle":
        return ((0.0, -0.96), (0.9, 0.68), (-0.9, 0.68))
    if shape == "cross":
        a, b = 0.33, 0.98
        quarter = ((-a, -a), (-a, -b), (a, -b))
        turned = [(quarter, 1, 0), (quarter, 0, 1), (quarter, -1, 0), (quarter, 0, -1)]
        return tuple((c * u - s * v, s * u + c * v) for points, c, s in turned for u, v in points)
    # star: five points, the inner radius wide enough for a texture to show
    return tuple(
        (math.sin(math.pi * k / 5) * (1.04 if k % 2 == 0 else 0.46), -math.cos(math.pi * k / 5) * (1.04, 0.46)[k % 2])
        for k in range(10)
    )


def _paint(thing: Thing, size: int, shape: tuple[int, ...], top: int, left: int) -> np.ndarray:
    """The object's colour and texture in its window, (h, w, 3) float32 or (3,) where plain."""
    body = np.asarray(OBJECT_RGB[thing.colour], np.float32) * np.float32(1 + 0.06 * thing.shade)
    if thing.texture == "plain":
        return body
    ink = np.asarray(MARK_RGB[thing.colour], np.float32)
    v, u = np.ogrid[: shape[0], : shape[1]]
    u, v = (u + (0.5 + left - thing.x * size)), (v + (0.5 + top - thing.y * size))
    period = PERIOD * size
    # The texture leans by 45 degrees and turns with the object; marks are centred on the object's own centre.
    c, s = math.cos(thing.turn + math.pi / 4) / period, math.sin(thing.turn + math.pi / 4) / period
    along = c * u + s * v
    if thing.texture == "striped":
        distance = np.abs(along - np.rint(along))  # 0 in the middle of a stripe, 0.5 between two
        inside = 0.25 - distance
    else:
        across = c * v - s * u
        distance = np.hypot(along - np.rint(along), across - np.rint(across))
        inside = 0.33 - distance
    share = np.clip(inside * period + 0.5, 0, 1).astype(np.float32)[..., None]  # a pixel wide edge
    return body + (ink - body) * share


def _background(background: Background, key: str, size: int) -> np.ndarray:
    """(size, size, 3) float32, its own to write on."""
    base = np.asarray(BACKGROUND_RGB[background.colour], np.float32) + np.float32(6 * background.shade)
    canvas = np.empty((size, size, 3), np.float32)
    canvas[:] = base
    if background.pattern == "smooth":
        return canvas
    if background.pattern == "noisy":
        # random_raw is the part of numpy's generators whose stream is fixed for good
        raw = np.random.PCG64(digest_number("noise", key)).random_raw(-(-size * size // 8)).view(np.uint8)
        tone = (raw[: size * size].reshape(size, size).astype(np.float32) - 127.5) * np.float32(0.28)
    else:
        grid = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size)
        c, s = np.float32(math.cos(background.turn)), np.float32(math.sin(background.turn))
        u = c * grid[None, :] + s * grid[:, None]
        if background.pattern == "faded":
            tone = (u - np.float32(0.5 * (c + s))) * np.float32(64)
        elif background.pattern == "lined":
            tone = np.where(np.mod(u * 7, 1) < 0.5, np.float32(17), np.float32(-17))
        else:  # checked, upright, so that it differs from lined whatever the turn
            phase = np.float32(background.turn / 6.2831853)
            stripe = np.mod(grid * 4 + phase, 1) < 0.5
            tone = np.where(stripe[None, :] ^ stripe[:, None], np.float32(17), np.float32(-17))
    canvas += tone[..., None]
    return canvas


def _add_line(canvas: np.ndarray, x: float, y: float, length: float, turn: float, tone: float) -> None:
    """A line one pixel of 64 wide, soft at its edge, added to the canvas."""
    size = canvas.shape[0]
    width = size / 64
    reach = length / 2 + 2 * width
    left, top = max(0, int(x - reach)), max(0, int(y - reach))
    right, bottom = min(size, int(x + reach) + 1), min(size, int(y + reach) + 1)
    v, u = np.ogrid[top:bottom, left:right]
    u, v = u + (0.5 - x), v + (0.5 - y)
    c, s = math.cos(turn), math.sin(turn)
    beyond = np.maximum(np.abs(c * u + s * v) - length / 2, 0)
    distance = np.hypot(beyond, c * v - s * u)
    canvas[top:bottom, left:right] += np.clip(width + 0.5 - distance, 0, 1).astype(np.float32)[..., None] * np.float32(
        tone
    )
