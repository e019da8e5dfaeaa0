"""Figure of attention maps: patch weights over the image, and words in the colour of their weight."""

import io
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from cosmos_core.files import atomic_path
from cosmos_core.printable import plural
from cosmos_eval.report.curves import figure
from cosmos_eval.show.attention import Maps, PatchMap, ShownWord, TextMaps
from cosmos_eval.show.overlays import brief, end_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = "inferno"
"""matplotlib's name of the colours of a map: dark is low, light is high."""
IMAGE_SHARE = 0.45
"""Weight of the grey image in a drawn map; the rest is the colour of the map."""
LONGEST = 320
"""Pixels of a drawn map's longer side."""
BANDS = (("low", "#d4e3f3"), ("middle", "#fbd38d"), ("high", "#ef6a4c"))
"""Thirds of [0, 1], and the colour of a word in each."""

PANEL, GAP, MARGIN, TITLE, LABEL = 1.8, 0.12, 0.12, 0.22, 0.27
"""Inches: a panel's side, between panels, around the figure, a line of text, the two lines above a panel."""
LETTER, LINE = 0.085, 0.36
"""Inches: a letter of a word, a line of words with their values."""


def band(shown: float) -> int:
    """0 low, 1 middle, 2 high: the third of [0, 1] that holds a value."""
    return min(2, int(3 * shown))


def overlay(pixels: np.ndarray, shown: np.ndarray, longest: int = LONGEST) -> np.ndarray:
    """(H, W, 3) uint8 pixels and an (h, w) map in [0, 1] -> (H', W', 3) uint8: the map's colours over the grey image.

    The map is interpolated between the centres of its patches and covers the whole image.
    """
    from matplotlib import colormaps

    height, width = pixels.shape[:2]
    scale = longest / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    grey = np.asarray(Image.fromarray(pixels).convert("L").resize(size, Image.Resampling.BICUBIC), np.float64) / 255
    heat = Image.fromarray(shown.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
    colour = colormaps[COLOURS](np.clip(np.asarray(heat), 0, 1))[..., :3]
    mixed = IMAGE_SHARE * grey[..., None] + (1 - IMAGE_SHARE) * colour
    return np.rint(255 * np.clip(mixed, 0, 1)).astype(np.uint8)


def span(patch_map: PatchMap) -> str:
    """Smallest and largest raw value: what the colours 0 and 1 mean."""
    return f"{patch_map.values.min():.3f} to {patch_map.values.max():.3f}"


def words_note(text: TextMaps) -> str:
    """Return a line about the shares of words and of other tokens in the attention over a text."""
    unread = sum(word.weight is None for word in text.words)
    cut = f"; {plural(unread, 'word')} beyond the model's context not read" if unread else ""
    share = f"{100 * text.on_words:.0f} % of the attention"
    return f"words, given the image: {share}; the rest is on start, end and padding tokens{cut}"


def maps_figure(maps: Maps) -> "Figure":
    """Draw a row for each text: the image, its maps, and below them the words in the colours of their weights."""
    columns = 1 + max(len(text.maps) for text in maps.texts)
    inside = columns * PANEL + (columns - 1) * GAP
    tall = PANEL * maps.pixels.shape[0] / maps.pixels.shape[1]
    flows = [list(wrap_words(text.words, inside)) for text in maps.texts]
    heights = [
        TITLE + LABEL + tall + (TITLE + LINE * (1 + lines[-1][0]) if lines else 0) + MARGIN for lines in flows
    ]  # the text, titles of panels, panels, the note on words, words
    width, height = inside + 2 * MARGIN + 0.75, sum(heights) + TITLE + 2 * MARGIN
    drawn = figure(width, height)
    drawn.set_layout_engine("none")
    top = height - MARGIN
    drawn.text(
        MARGIN / width,
        1 - MARGIN / height,
        f"{end_of(maps.model, 60)}, {brief(maps.image, 40)}",
        fontsize=9,
        va="top",
    )
    top -= TITLE
    for text, lines, tallness in zip(maps.texts, flows, heights, strict=True):
        drawn.text(
            MARGIN / width, (top - 0.02) / height, f"“{brief(text.text, round(inside / LETTER * 1.2))}”", fontsize=9,
            va="top", fontweight="bold",
        )  # fmt: skip
        bottom = top - TITLE - LABEL - tall
        titles = ["input of the model", *(f"{patch_map.name}\n{span(patch_map)}" for patch_map in text.maps)]
        panels = [maps.pixels, *(overlay(maps.pixels, patch_map.shown) for patch_map in text.maps)]
        for i, (title, pixels) in enumerate(zip(titles, panels, strict=True)):
            left = MARGIN + i * (PANEL + GAP)
            axis = drawn.add_axes((left / width, bottom / height, PANEL / width, tall / height))
            axis.imshow(pixels, interpolation="antialiased", aspect="auto")
            axis.set_title(title, fontsize=7, loc="left", pad=2, linespacing=1.1)
            axis.axis("off")
        bar_left = (MARGIN + inside + 0.1) / width
        draw_colour_bar(drawn.add_axes((bar_left, bottom / height, 0.1 / width, tall / height)))
        if lines:
            high = LINE * (1 + lines[-1][0])
            base = bottom - TITLE - high
            drawn.text(MARGIN / width, (bottom - 0.06) / height, words_note(text), fontsize=7, va="top")
            axis = drawn.add_axes((MARGIN / width, base / height, inside / width, high / height))
            draw_words(axis, text.words, lines, inside, high)
            for i, (name, colour) in enumerate(reversed(BANDS)):
                patch = {"facecolor": colour, "linewidth": 0, "pad": 1.2}
                low = bottom - 0.21 - 0.16 * i
                drawn.text(bar_left, low / height, f" {name} ", fontsize=6, va="center", bbox=patch)
        top -= tallness
    return drawn


def save_maps(drawn: "Figure", path: Path) -> None:
    """Write a figure as PNG, atomically and in few bytes: smooth maps compress badly."""
    from matplotlib.text import Text

    for text in drawn.findobj(Text):
        text.set_parse_math(False)  # a `$` in a text is not a formula
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # glyphs that the font lacks are boxes
        drawn.savefig(content, format="png", dpi=100)
    with Image.open(content) as image, atomic_path(path) as temporary:
        image.convert("RGB").save(temporary, format="PNG", optimize=True)


def draw_colour_bar(axis: "Axes") -> None:
    """Draw the colours of 0 to 1 as they look over a middle grey."""
    ramp = np.linspace(1, 0, 128)[:, None]
    axis.imshow(overlay(np.full((128, 1, 3), 128, np.uint8), ramp, 128), aspect="auto", extent=(0, 1, 0, 1))
    axis.set_xticks([])
    axis.yaxis.tick_right()
    axis.set_yticks([0, 0.5, 1], ["0 lowest", "0.5", "1 highest"], fontsize=6)


def count_columns(text: str) -> int:
    """Width of a text in characters; wide characters (East Asian) count twice."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def wrap_words(words: Sequence[ShownWord], inside: float) -> Iterator[tuple[int, float, float]]:
    """Line, left edge and width of each word, in inches, so that no line is wider than `inside`."""
    line, left = 0, 0.0
    for word in words:
        wide = min(inside, LETTER * (max(3, count_columns(word.text)) + 1))
        if left and left + wide > inside:
            line, left = line + 1, 0.0
        yield line, left, wide
        left += wide + 0.04


def draw_words(
    axis: "Axes", words: Sequence[ShownWord], boxes: Sequence[tuple[int, float, float]], wide: float, high: float
) -> None:
    """Draw words in boxes of the colour of their band, with the value in [0, 1] below."""
    from matplotlib.patches import Rectangle

    axis.set_xlim(0, wide)
    axis.set_ylim(high, 0)
    axis.axis("off")
    for word, (line, left, width) in zip(words, boxes, strict=True):
        read = word.weight is not None
        y = line * LINE
        colour = BANDS[band(word.shown)][1] if read else "none"
        axis.add_patch(Rectangle((left, y), width, 0.2, facecolor=colour, edgecolor="none"))
        label = brief(word.text, max(1, int(width / LETTER) - 1))
        middle = left + width / 2
        axis.text(
            middle, y + 0.1, label, fontsize=8, family="monospace", ha="center", va="center",
            color="black" if read else "0.6",
        )  # fmt: skip
        if read:
            axis.text(middle, y + 0.27, f"{word.shown:.2f}", fontsize=6, ha="center", va="center", color="0.3")
