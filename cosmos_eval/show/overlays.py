"""Figures of segmentation: label maps in the dataset's own colours beside their image, and the IoU of each class."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_eval.metrics.iou import IGNORED, class_iou, segmentation_metrics
from cosmos_eval.report.curves import figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

Palette = Sequence[tuple[int, int, int]]
"""One (r, g, b) for each class."""

LONGEST = 640
"""Pixels of the longer side of a drawn panel: more than a figure shows, and few enough for memory."""
LIGHT, DARK, STRIPE = 208, 144, 4
"""Ignored pixels: diagonal stripes of two greys, each this many pixels wide (thinner in a small image)."""
WRONG = (214, 39, 40)
PANELS = ("image", "ground truth", "prediction", "where they differ")
IN_COLUMN, COLUMNS = 22, 2
"""Classes in a column of the legend of an image, and columns at most."""


@dataclass(frozen=True)
class Row:
    """One image with its label maps, small enough to draw; areas are those of the image at full size."""

    key: str
    pixels: np.ndarray
    """(h, w, 3) uint8"""
    truth: np.ndarray
    """(h, w) classes, or 255 where a pixel is ignored."""
    predicted: np.ndarray
    """(h, w) classes"""
    areas: np.ndarray
    """(3, C) int64: intersection, prediction, label; see `cosmos_eval.metrics.iou`."""
    counts: np.ndarray
    """(C,) int64: pixels of a class in either map; predictions at ignored pixels count."""


def make_row(key: str, image: Image.Image, truth: np.ndarray, predicted: np.ndarray, areas: np.ndarray) -> Row:
    """Make a row from an image and its (H, W) maps of the same size, reduced to what a figure can show.

    Raises:
        ValueError: sizes differ.
    """
    size = (image.height, image.width)
    if truth.shape != size or predicted.shape != size:
        raise ValueError(f"{key}: maps of {truth.shape} and {predicted.shape} for an image of {size}")
    classes = areas.shape[1]
    counts = sum(np.bincount(labels[labels != IGNORED], minlength=classes) for labels in (truth, predicted))
    height, width = (max(1, round(side * min(1, LONGEST / max(size)))) for side in size)
    # Labels are picked, never averaged: a mean of two classes is not a class.
    down, right = (((np.arange(n) + 0.5) * of / n).astype(np.int64) for n, of in ((height, size[0]), (width, size[1])))
    small = image if (height, width) == size else image.resize((width, height), Image.Resampling.BILINEAR)
    picked = np.ix_(down, right)
    pixels = np.asarray(small.convert("RGB"))
    return Row(key, pixels, truth[picked], predicted[picked], areas, np.asarray(counts, np.int64))


def overlay_figure(rows: Sequence[Row], class_names: Sequence[str], palette: Palette, title: str = "") -> "Figure":
    """For each image: itself, ground truth, prediction, and in red where they differ, with a legend of its classes.

    Ignored pixels are striped in grey. A legend names the classes that occur in the image or are predicted there,
    largest first, with their IoU there in percent; the mIoU of an image is the mean over these.

    Args:
        rows: at least one; see `make_row`.
        class_names, palette: of all C classes.
    """
    from matplotlib.gridspec import GridSpec

    width = 2.7
    columns = max(legend_columns(row) for row in rows)
    heights = [max(width * max(row.truth.shape[0] / row.truth.shape[1], 0.4), legend_height(row)) for row in rows]
    drawn = figure(width * len(PANELS) + 1.7 * columns, sum(heights) + 0.45 * len(rows) + (0.3 if title else 0))
    grid = GridSpec(
        len(rows), len(PANELS) + 1, figure=drawn, width_ratios=[width] * len(PANELS) + [1.7 * columns],
        height_ratios=heights,
    )  # fmt: skip
    for i, row in enumerate(rows):
        painted = (
            row.pixels,
            paint(row.truth, palette),
            paint(row.predicted, palette),
            differences(row.pixels, row.truth, row.predicted),
        )
        titles = (end_of(row.key), PANELS[1], f"{PANELS[2]}, {quality(row)}", f"{PANELS[3]}{wrong_share(row)}")
        for j, (pixels, title_text) in enumerate(zip(painted, titles, strict=True)):
            axis = drawn.add_subplot(grid[i, j])
            axis.imshow(pixels, interpolation="antialiased" if j == 0 else "nearest")
            axis.set_title(title_text, fontsize=8, loc="left")
            axis.set_anchor("NW")
            axis.axis("off")
        draw_legend(drawn.add_subplot(grid[i, len(PANELS)]), row, class_names, palette)
    if title:
        drawn.suptitle(plain(title), fontsize=10)
    return drawn


def paint(labels: np.ndarray, palette: Palette) -> np.ndarray:
    """(h, w, 3) uint8: every class in its colour, ignored pixels in diagonal stripes of grey."""
    colours = np.zeros((max(len(palette), IGNORED + 1), 3), np.uint8)
    colours[: len(palette)] = palette
    painted = colours[labels]
    ignored = labels == IGNORED
    painted[ignored] = stripes(*labels.shape)[ignored, None]
    return painted


def differences(pixels: np.ndarray, truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """(h, w, 3) uint8: the image in pale grey, red where prediction and truth differ, stripes where ignored."""
    grey = pixels @ np.array([0.299, 0.587, 0.114])
    shown = np.repeat((128 + grey / 2)[..., None], 3, axis=2).astype(np.uint8)
    ignored = truth == IGNORED
    shown[(predicted != truth) & ~ignored] = WRONG
    shown[ignored] = stripes(*truth.shape)[ignored, None]
    return shown


def stripes(height: int, width: int) -> np.ndarray:
    """(height, width) uint8 of two greys in diagonal stripes."""
    thick = max(1, min(STRIPE, max(height, width) // 32))
    diagonal = (np.arange(height)[:, None] + np.arange(width)[None, :]) // thick
    return np.where(diagonal % 2 == 0, LIGHT, DARK).astype(np.uint8)


def present(row: Row) -> list[int]:
    """Classes that occur in an image or are predicted there, largest first."""
    order = np.argsort(-row.counts, kind="stable")
    return [int(c) for c in order if row.counts[c]]


def quality(row: Row) -> str:
    """mIoU of one image, over the classes that occur in it or are predicted there."""
    miou = segmentation_metrics(row.areas)["miou"]
    return "all ignored" if np.isnan(miou) else f"mIoU {100 * miou:.1f}"


def wrong_share(row: Row) -> str:
    right, _, counted = row.areas.sum(axis=1)
    return f", {100 * (1 - right / counted):.1f} % of pixels" if counted else ""


def legend_columns(row: Row) -> int:
    return 1 if len(present(row)) < IN_COLUMN else COLUMNS


def legend_height(row: Row) -> float:
    """Height of the legend of an image, in inches."""
    lines = min(IN_COLUMN * COLUMNS, len(present(row)) + 1)
    return 0.15 * (1 + -(-lines // legend_columns(row))) + 0.1


def draw_legend(axis: "Axes", row: Row, class_names: Sequence[str], palette: Palette) -> None:
    """Draw colours, names and IoU of the classes of one image."""
    from matplotlib.patches import Patch

    iou = class_iou(row.areas)
    classes = present(row)
    ignored = bool((row.truth == IGNORED).any())
    room = IN_COLUMN * COLUMNS - ignored
    named = classes if len(classes) <= room else classes[: room - 1]
    patches = [swatch(palette[c], entry(class_names[c], iou[c])) for c in named]
    if len(named) < len(classes):
        patches.append(Patch(facecolor="none", edgecolor="none", label=f"and {len(classes) - len(named)} smaller ones"))
    if ignored:
        striped = swatch((LIGHT,) * 3, "ignored")
        striped.set_hatch("//////")
        patches.append(striped)
    axis.legend(
        handles=patches, loc="upper left", title="class, IoU in %", title_fontsize=7, alignment="left", fontsize=7,
        ncols=legend_columns(row), frameon=False, borderaxespad=0,
        handlelength=1.4, handleheight=1.0, columnspacing=0.8, labelspacing=0.25,
    )  # fmt: skip
    axis.axis("off")


def swatch(colour: tuple[int, int, int], label: str) -> "Patch":
    """An entry of a legend: its colour with a thin grey edge, so that white and black are visible."""
    from matplotlib.patches import Patch

    red, green, blue = (value / 255 for value in colour)
    return Patch(facecolor=(red, green, blue), edgecolor="0.4", linewidth=0.4, label=label)


def entry(name: str, iou: float) -> str:
    return f"{brief(name, 22)}  {'–' if np.isnan(iou) else f'{100 * iou:.0f}'}"


def brief(text: str, most: int) -> str:
    """The text shortened to `most` characters; `$` is escaped, since it would begin a formula."""
    return plain(text if len(text) <= most else text[: most - 1] + "…")


def end_of(key: str, most: int = 40) -> str:
    """A key shortened to `most` characters, its end kept: that is where keys of one folder differ."""
    return plain(key if len(key) <= most else "…" + key[1 - most :])


def plain(text: str) -> str:
    """Return the text escaped, so that matplotlib draws it unchanged."""
    return text.replace("$", r"\$")


def iou_bars(
    names: Sequence[str],
    values: Sequence[float] | np.ndarray,
    intervals: Sequence[tuple[float, float]] | None = None,
    title: str = "",
) -> "Figure":
    """Draw a bar for the IoU of each class, the best on top, and their mean as a line.

    Args:
        names, values: of C classes; IoU are fractions, NaN for a class that occurs in no image; it is left out.
        intervals: (low, high) of each class.
    """
    all_iou = np.asarray(values, np.float64)
    order = [int(c) for c in np.argsort(-all_iou, kind="stable") if not np.isnan(all_iou[c])]
    shown = 100 * all_iou[order]
    drawn = figure(7.5, 1.1 + 0.16 * max(4, len(order)))
    axis = drawn.subplots()
    positions = np.arange(len(order))
    bars = axis.barh(positions, shown, height=0.75, color="#4c78a8")
    right = shown
    if intervals is not None and order:
        bounds = 100 * np.asarray(intervals, np.float64)[order]
        reach = np.clip([shown - bounds[:, 0], bounds[:, 1] - shown], 0, None)
        axis.errorbar(shown, positions, xerr=reach, fmt="none", ecolor="0.25", elinewidth=0.8, capsize=1.5)
        right = np.maximum(shown, bounds[:, 1])
    for bar, value, end in zip(bars, shown, right, strict=True):
        middle = bar.get_y() + bar.get_height() / 2
        axis.annotate(f"{value:.1f}", (end, middle), xytext=(3, 0), textcoords="offset points", va="center", fontsize=6)
    if order:
        axis.axvline(float(shown.mean()), color="0.3", linewidth=0.8, linestyle="--")
    axis.set_yticks(positions, [brief(names[c], 32) for c in order], fontsize=7)
    axis.set_ylim(len(order) - 0.4, -0.6)
    axis.set_xlim(0, 1.08 * max([1.0, *right]))
    axis.tick_params(axis="x", labelsize=7, top=len(order) > 40, labeltop=len(order) > 40)
    left_out = len(all_iou) - len(order)
    nowhere = f"; classes left out, since they occur nowhere: {left_out}" if left_out else ""
    axis.set_xlabel(f"IoU, %; dashed: their mean{nowhere}", fontsize=8)
    if title:
        axis.set_title(plain(title), fontsize=9)
    return drawn


def encode_palette_png(labels: np.ndarray, palette: Palette) -> bytes:
    """A PNG of (H, W) labels with the dataset's palette: a pixel's index is its class, 255 stays 255 (ignored).

    Raises:
        RequestError: more classes than a palette holds beside the ignored one.
        ValueError: a label that is not a class.
    """
    if len(palette) > IGNORED:
        raise RequestError(f"{len(palette)} classes: a paletted PNG holds {IGNORED} and the ignored pixels")
    wrong = (labels != IGNORED) & ((labels < 0) | (labels >= len(palette)))
    if wrong.any():
        raise ValueError(f"a label of {labels[wrong][0]} among {len(palette)} classes")
    colours = np.zeros((IGNORED + 1, 3), np.uint8)
    colours[: len(palette)] = palette
    colours[IGNORED] = (LIGHT + DARK) // 2
    image = Image.fromarray(labels.astype(np.uint8))
    image.putpalette(colours.tobytes())
    content = io.BytesIO()
    image.save(content, format="PNG")
    return content.getvalue()
