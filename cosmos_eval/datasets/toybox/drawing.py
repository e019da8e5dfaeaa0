"""Render a scene to pixels and masks, with numpy and Pillow only.

The outline of an object is drawn at `OVERSAMPLE` times the size and averaged down to its coverage of each pixel. Image
and masks use the same coverage, so they agree at any size: a pixel belongs to an object that covers half of it or more.
"""

import math
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from cosmos_eval.datasets.toybox.random_stream import digest_number
from cosmos_eval.datasets.toybox.scenes import Background, Scene, SceneObject
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
# Stripes and dots are a darker shade of the object's colour (of black: a lighter one), so that its name stays true.
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
TEXTURE_PERIOD = 0.083
"""Distance between two stripes or dots, as a share of the side: 5.3 pixels of 64."""


def render(scene: Scene, size: int = 64) -> np.ndarray:
    """Render the scene as pixels (size, size, 3) uint8."""
    canvas = _background(scene.background, scene.key, size)
    for speck in scene.specks:
        _add_line(canvas, speck.x * size, speck.y * size, speck.length * size, speck.angle, 70.0 * speck.tone)
    for scene_object in scene.objects:
        coverage, top, left = _coverage(scene_object, size)
        window = canvas[top : top + coverage.shape[0], left : left + coverage.shape[1]]
        # a view of the canvas, changed in place: the old colour and the object's, mixed by coverage
        window += (_object_pixels(scene_object, size, coverage.shape, top, left) - window) * coverage[..., None]
    return np.clip(np.rint(canvas), 0, 255).astype(np.uint8)


def mask(scene: Scene, size: int = 64) -> np.ndarray:
    """Return labels (size, size) uint8: 0 for the background, else 1 + the index of the shape in `words.SHAPES`."""
    return _label_map(scene, size, [1 + SHAPES.index(o.shape) for o in scene.objects])


def colour_mask(scene: Scene, size: int = 64) -> np.ndarray:
    """Return labels (size, size) uint8: 0 for the background, else 1 + the index of the colour in `words.COLOURS`."""
    return _label_map(scene, size, [1 + COLOURS.index(o.colour) for o in scene.objects])


def instances(scene: Scene, size: int = 64) -> np.ndarray:
    """Return labels (size, size) uint8: 0 for the background, else 1 + the index of the object in `scene.objects`."""
    return _label_map(scene, size, list(range(1, len(scene.objects) + 1)))


def _label_map(scene: Scene, size: int, labels: list[int]) -> np.ndarray:
    """Return (size, size) uint8 with one of `labels` for each object of the scene, in their order."""
    label_map = np.zeros((size, size), np.uint8)
    for label, scene_object in zip(labels, scene.objects, strict=True):
        coverage, top, left = _coverage(scene_object, size)
        label_map[top : top + coverage.shape[0], left : left + coverage.shape[1]][coverage >= 0.5] = label
    return label_map


def _coverage(scene_object: SceneObject, size: int) -> tuple[np.ndarray, int, int]:
    """Return the share of each pixel that the object covers, in a window around it.

    Returns:
        (h, w) float32 from 0 to 1, and the top and left of the window in the image.
    """
    cx, cy, radius = scene_object.x * size, scene_object.y * size, scene_object.radius * size
    reach = radius * 1.05 + 1  # see `_corners`, and a pixel for the soft edge
    left, top = max(0, int(cx - reach)), max(0, int(cy - reach))
    right, bottom = min(size, int(cx + reach) + 1), min(size, int(cy + reach) + 1)
    oversampled = Image.new("L", ((right - left) * OVERSAMPLE, (bottom - top) * OVERSAMPLE))
    x, y, r = (cx - left) * OVERSAMPLE, (cy - top) * OVERSAMPLE, radius * OVERSAMPLE
    _draw_shape(ImageDraw.Draw(oversampled), scene_object.shape, x, y, r, scene_object.angle)
    return np.asarray(oversampled.reduce(OVERSAMPLE), np.float32) / 255, top, left


def _draw_shape(draw: ImageDraw.ImageDraw, shape: str, x: float, y: float, r: float, angle: float) -> None:
    """Fill the shape with 255; `x`, `y` and `r` are its centre and radius in pixels of the drawing."""
    if shape in ("circle", "ring"):
        r *= 0.94  # brings their areas closer to those of the other shapes
        draw.ellipse((x - r, y - r, x + r, y + r), fill=255)
        if shape == "ring":
            hole = r * 0.48
            draw.ellipse((x - hole, y - hole, x + hole, y + hole), fill=0)
        return
    cos, sin = math.cos(angle) * r, math.sin(angle) * r
    draw.polygon([(x + cos * u - sin * v, y + sin * u + cos * v) for u, v in _corners(shape)], fill=255)


@lru_cache
def _corners(shape: str) -> tuple[tuple[float, float], ...]:
    """Return the corners (x, y) of a shape of radius 1 around the origin, y down.

    No corner is farther than 1.05 from the origin, so that the window of `_coverage` holds the shape at any angle.
    """
    if shape == "square":
        return ((-0.74, -0.74), (0.74, -0.74), (0.74, 0.74), (-0.74, 0.74))
    if shape == "triangle":
        return ((0.0, -0.96), (0.9, 0.68), (-0.9, 0.68))
    if shape == "cross":
        a, b = 0.33, 0.98
        arm = ((-a, -a), (-a, -b), (a, -b))
        quarter_turns = ((1, 0), (0, 1), (-1, 0), (0, -1))  # cosine and sine
        return tuple((c * u - s * v, s * u + c * v) for c, s in quarter_turns for u, v in arm)
    # star: five tips; the inner radius is large enough for a texture to show
    return tuple(
        (math.sin(math.pi * k / 5) * (1.04 if k % 2 == 0 else 0.46), -math.cos(math.pi * k / 5) * (1.04, 0.46)[k % 2])
        for k in range(10)
    )


def _object_pixels(scene_object: SceneObject, size: int, shape: tuple[int, ...], top: int, left: int) -> np.ndarray:
    """Return the colour and texture of the object.

    Args:
        shape: (h, w) of the window, whose corner is at `top` and `left` of the image.

    Returns:
        (h, w, 3) float32, or (3,) for a plain object.
    """
    colour = np.asarray(OBJECT_RGB[scene_object.colour], np.float32) * np.float32(1 + 0.06 * scene_object.shade)
    if scene_object.texture == "plain":
        return colour
    mark_colour = np.asarray(MARK_RGB[scene_object.colour], np.float32)
    # u and v: distance of each pixel's centre from the object's centre, to the right and down
    v, u = np.ogrid[: shape[0], : shape[1]]
    u, v = (u + (0.5 + left - scene_object.x * size)), (v + (0.5 + top - scene_object.y * size))
    period = TEXTURE_PERIOD * size
    # The texture is rotated by 45 degrees against the object; a stripe, or a dot, is on the object's centre.
    angle = scene_object.angle + math.pi / 4
    c, s = math.cos(angle) / period, math.sin(angle) / period
    along = c * u + s * v  # in periods: whole numbers are the middles of stripes
    if scene_object.texture == "striped":
        distance = np.abs(along - np.rint(along))
        inside = 0.25 - distance
    else:
        across = c * v - s * u
        distance = np.hypot(along - np.rint(along), across - np.rint(across))
        inside = 0.33 - distance
    share = np.clip(inside * period + 0.5, 0, 1).astype(np.float32)[..., None]  # an edge of one pixel
    return colour + (mark_colour - colour) * share


def _background(background: Background, key: str, size: int) -> np.ndarray:
    """Return the pixels of the background (size, size, 3) float32, in a new array."""
    base = np.asarray(BACKGROUND_RGB[background.colour], np.float32) + np.float32(6 * background.shade)
    canvas = np.empty((size, size, 3), np.float32)
    canvas[:] = base
    if background.pattern == "smooth":
        return canvas
    if background.pattern == "noisy":
        # numpy promises not to change the stream of `random_raw`; it may change that of the distributions
        raw = np.random.PCG64(digest_number("noise", key)).random_raw(-(-size * size // 8)).view(np.uint8)
        tone = (raw[: size * size].reshape(size, size).astype(np.float32) - 127.5) * np.float32(0.28)
    else:
        grid = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size)
        c, s = np.float32(math.cos(background.angle)), np.float32(math.sin(background.angle))
        u = c * grid[None, :] + s * grid[:, None]
        if background.pattern == "faded":
            tone = (u - np.float32(0.5 * (c + s))) * np.float32(64)
        elif background.pattern == "lined":
            tone = np.where(np.mod(u * 7, 1) < 0.5, np.float32(17), np.float32(-17))
        else:  # checked: `angle` shifts the pattern and does not rotate it, so that it never looks like lined
            phase = np.float32(background.angle / 6.2831853)
            stripe = np.mod(grid * 4 + phase, 1) < 0.5
            tone = np.where(stripe[None, :] ^ stripe[:, None], np.float32(17), np.float32(-17))
    canvas += tone[..., None]
    return canvas


def _add_line(canvas: np.ndarray, x: float, y: float, length: float, angle: float, tone: float) -> None:
    """Add a line with soft edges to the canvas, in place.

    Args:
        x, y, length: centre and length in pixels; a length of 0 gives a dot.
        tone: added to every channel where the line is.
    """
    size = canvas.shape[0]
    width = size / 64
    reach = length / 2 + 2 * width
    left, top = max(0, int(x - reach)), max(0, int(y - reach))
    right, bottom = min(size, int(x + reach) + 1), min(size, int(y + reach) + 1)
    v, u = np.ogrid[top:bottom, left:right]
    u, v = u + (0.5 - x), v + (0.5 - y)
    c, s = math.cos(angle), math.sin(angle)
    past_end = np.maximum(np.abs(c * u + s * v) - length / 2, 0)
    distance = np.hypot(past_end, c * v - s * u)  # from the nearest point of the line
    canvas[top:bottom, left:right] += np.clip(width + 0.5 - distance, 0, 1).astype(np.float32)[..., None] * np.float32(
        tone
    )
