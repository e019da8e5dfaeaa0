"""Figures of classification: confusion matrix, most confused pairs, a bar for each class, and a gallery of images."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from cosmos_core.printable import plural
from cosmos_eval.datasets.image_sources import ImageSource
from cosmos_eval.report.curves import figure
from cosmos_eval.show.class_predictions import confused_pairs
from cosmos_eval.show.overlays import brief, end_of, plain
from cosmos_eval.tasks.class_table import ClassEntry, ClassTable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_IN_MATRIX = 60
"""Classes that a matrix can show with their names; of more classes the most confused pairs are drawn."""
PAIRS = 40
WORST, BEST = 40, 20
"""Bars of the worst and the best classes where there are more classes than both together."""
RIGHT, WRONG, NEUTRAL, BAR = "#2a8a3e", "#c0392b", "0.4", "#4c78a8"
LETTER = 0.062
"""Inches: width of a letter of 7 points, about the widest on average."""


def matrix_figure(confusion: np.ndarray, names: Sequence[str], title: str) -> "Figure":
    """Draw the confusion matrix: of each true class (a row) the percent of its images by predicted class.

    Args:
        confusion: (C, C) images, C at most MOST_IN_MATRIX.
        names: of the classes.
    """
    from matplotlib.colors import PowerNorm

    classes = len(names)
    n = confusion.sum(1)
    percent = 100 * np.divide(confusion, n[:, None], out=np.full(confusion.shape, np.nan), where=n[:, None] > 0)
    labels = [brief(name, 24) for name in names]
    longest = LETTER * max(map(len, labels))
    cell = 0.42 if classes <= 12 else 0.3 if classes <= 24 else 0.21
    drawn = figure(max(4.5, cell * classes + longest + 1.9), max(3.6, cell * classes + longest + 1.2))
    axis = drawn.subplots()
    # The square root lets single errors be seen beside a full diagonal; the bar has the percents.
    image = axis.imshow(percent, cmap="Blues", norm=PowerNorm(0.5, 0, 100), interpolation="nearest", aspect="auto")
    axis.set_facecolor("0.85")  # of a class without images
    size = 7 if classes <= 24 else 6
    axis.set_xticks(range(classes), labels, rotation=90, fontsize=size)
    counts = [f"{label} ({count:,.0f})" for label, count in zip(labels, n, strict=True)]
    axis.set_yticks(range(classes), counts, fontsize=size)
    axis.set_xticks(np.arange(-0.5, classes), minor=True)
    axis.set_yticks(np.arange(-0.5, classes), minor=True)
    axis.grid(which="minor", color="0.9", linewidth=0.4)
    axis.tick_params(which="minor", length=0)
    for i, j in zip(*np.nonzero(np.nan_to_num(percent) >= 0.5), strict=True):
        colour = "white" if percent[i, j] > 40 else "black"
        number = axis.text(j, i, f"{percent[i, j]:.0f}", ha="center", va="center", fontsize=size - 1.5, color=colour)
        number.set_in_layout(False)  # it lies in its cell: thousands of them would make the layout slow
    axis.set_xlabel("predicted class", fontsize=8)
    axis.set_ylabel("true class (images)", fontsize=8)
    bar = drawn.colorbar(image, ax=axis, fraction=0.03, pad=0.02, ticks=[0, 1, 5, 10, 25, 50, 100])
    bar.ax.tick_params(labelsize=7)
    bar.set_label("percent of the images of the true class", fontsize=7)
    _set_title(drawn, title)
    return drawn


def pairs_figure(confusion: np.ndarray, names: Sequence[str], title: str) -> "Figure":
    """Draw a bar for each of the most confused pairs: how many images of the true class get the predicted one."""
    from matplotlib.ticker import MaxNLocator

    pairs = confused_pairs(confusion, PAIRS)
    n = confusion.sum(1)
    labels = [f"{brief(names[i], 30)} → {brief(names[j], 30)}" for i, j, _ in pairs]
    values = np.array([images for *_, images in pairs])
    drawn = figure(3.6 + LETTER * max(map(len, labels), default=0) * 1.1, 1.2 + 0.17 * max(4, len(pairs)))
    axis = drawn.subplots()
    axis.barh(range(len(pairs)), values, height=0.75, color=BAR)
    for k, (i, _, images) in enumerate(pairs):
        text = f"{images:,.4g} of {n[i]:,.0f} ({100 * images / n[i]:.0f} %)"
        axis.annotate(text, (images, k), xytext=(3, 0), textcoords="offset points", va="center", fontsize=6)
    axis.set_yticks(range(len(pairs)), labels, fontsize=7)
    axis.set_ylim(max(len(pairs), 4) - 0.4, -0.6)
    axis.set_xlim(0, 1.35 * max(values.max(initial=0), 1e-9))  # room for the text behind the longest bar
    axis.xaxis.set_major_locator(MaxNLocator(integer=bool(values.max(initial=0) >= 1)))
    axis.tick_params(axis="x", labelsize=7)
    errors = confusion.sum() - np.trace(confusion)
    share = f"{100 * values.sum() / errors:.0f} % of the {errors:,.0f} errors" if errors else "there are no errors"
    axis.set_xlabel(f"images: true class → predicted class; {share}", fontsize=8)
    _set_title(drawn, title)
    return drawn


def bars_figure(table: ClassTable, title: str) -> "Figure":
    """Draw the metric of each class with its interval, the best on top, and their mean as a line.

    Of more than WORST + BEST classes, these numbers of the worst and the best ones are drawn.
    """
    ranked = sorted(table.from_worst(), key=lambda entry: -entry.metric.value if entry.metric else 0)
    without = len(table.classes) - len(ranked)
    values = np.array([100 * entry.metric.value for entry in ranked if entry.metric])
    hidden = max(0, len(ranked) - WORST - BEST)
    rows: list[ClassEntry | None] = [*ranked]
    if hidden:
        rows = [*ranked[:BEST], None, *ranked[len(ranked) - WORST :]]
    more = f"⋮ {plural(hidden, 'more class', 'more classes')}"
    names = [f"{brief(row.name, 32)} ({row.n:,})" if row else more for row in rows]
    drawn = figure(4.5 + LETTER * max(map(len, names), default=0), 1.3 + 0.16 * max(4, len(rows)))
    axis = drawn.subplots()
    drawn_rows = [(k, row.metric) for k, row in enumerate(rows) if row and row.metric]
    positions = [k for k, _ in drawn_rows]
    value, low, high = (
        100 * np.array([getattr(metric, bound) for _, metric in drawn_rows]) for bound in ("value", "low", "high")
    )
    axis.barh(positions, value, height=0.75, color=BAR)
    reach = np.clip([value - low, high - value], 0, None)
    axis.errorbar(value, positions, xerr=reach, fmt="none", ecolor="0.25", elinewidth=0.8, capsize=1.5)
    for k, number, end in zip(positions, value, np.maximum(value, high), strict=True):
        axis.annotate(
            f"{number:.1f}", (end, k), xytext=(3, 0), textcoords="offset points", va="center", fontsize=6,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},  # the line of the mean may pass there
        )  # fmt: skip
    if len(values):
        axis.axvline(float(values.mean()), color="0.3", linewidth=0.8, linestyle="--")
    axis.set_yticks(range(len(rows)), names, fontsize=7)
    axis.set_ylim(max(len(rows), 4) - 0.4, -0.6)
    axis.set_xlim(0, 109)
    axis.set_xticks(range(0, 101, 20))
    axis.tick_params(axis="x", labelsize=7, top=len(rows) > 40, labeltop=len(rows) > 40)
    mean = f"dashed: their mean, {values.mean():.1f}" if len(values) else "no class has a sample"
    none = f";\n{without:,} without images {'is' if without == 1 else 'are'} left out" if without else ""
    name = {"iou": "IoU"}.get(table.metric, table.metric.replace("_", " "))
    axis.set_xlabel(f"{name}, %, with 95 % interval; {mean}{none}", fontsize=8)
    _set_title(drawn, title)
    return drawn


def _set_title(drawn: "Figure", title: str) -> None:
    """A title in as many lines as the width of the figure needs."""
    letters = int(drawn.get_figwidth() / (LETTER * 1.25))
    drawn.suptitle(plain("\n".join(textwrap.wrap(title, max(20, letters)))), fontsize=9)


@dataclass(frozen=True)
class Card:
    """One image of a gallery with the lines below it."""

    image: ImageSource
    heading: str
    lines: tuple[tuple[str, bool | None], ...]
    """Text, and whether it is right: green, red, or grey where it is neither."""
    is_right: bool


SIDE, COLUMNS = 256, 4
"""Pixels of the longer side of a drawn image, and images in a row."""
WIDTH, HEIGHT, GAP, LINE = 2.1, 1.9, 0.2, 0.135
"""Inches: width of a card, height of its image, between cards, a line of text."""
LETTERS = 36
"""Letters in a line of a card."""


def gallery_figure(cards: Sequence[Card], title: str) -> "Figure":
    """Draw cards in rows of four: an image in a green or red frame, and its lines below it."""
    wrapped = [_wrap(card) for card in cards]
    columns = min(COLUMNS, len(cards))
    rows = [list(range(start, min(start + COLUMNS, len(cards)))) for start in range(0, len(cards), COLUMNS)]
    heights = [HEIGHT + LINE * (1.2 + max(sum(len(text) for text, _ in wrapped[i]) for i in row)) + GAP for row in rows]
    width = columns * WIDTH + (columns + 1) * GAP
    heading = textwrap.wrap(title, max(30, int((width - 2 * GAP) / (LETTER * 1.25))))
    height = sum(heights) + GAP + 0.2 * len(heading)
    drawn = figure(width, height)
    drawn.set_layout_engine("none")
    drawn.text(GAP / width, 1 - 0.06 / height, plain("\n".join(heading)), fontsize=9, va="top")
    top = height - 0.2 * len(heading) - 0.1
    for row, row_height in zip(rows, heights, strict=True):
        for place, i in enumerate(row):
            left = GAP + place * (WIDTH + GAP)
            _draw_card(drawn, cards[i], wrapped[i], left, top, (width, height))
        top -= row_height
    return drawn


def _wrap(card: Card) -> list[tuple[list[str], bool | None]]:
    return [
        (textwrap.wrap(text, LETTERS, max_lines=3, placeholder=" …", subsequent_indent="  ") or [""], right)
        for text, right in card.lines
    ]


def _draw_card(
    drawn: "Figure",
    card: Card,
    lines: Sequence[tuple[list[str], bool | None]],
    left: float,
    top: float,
    size: tuple[float, float],
) -> None:
    width, height = size
    drawn.text(left / width, top / height, end_of(card.heading, LETTERS), fontsize=7, color=NEUTRAL, va="top")
    bottom = top - LINE - HEIGHT
    axis = drawn.add_axes((left / width, bottom / height, WIDTH / width, (HEIGHT - 0.05) / height))
    pixels = card.image.load()
    pixels.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC)
    axis.imshow(np.asarray(pixels.convert("RGB")))
    axis.set_anchor("NW")
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set(color=RIGHT if card.is_right else WRONG, linewidth=2.5)
    y = bottom - 0.05
    for wrapped, right in lines:
        colour = NEUTRAL if right is None else RIGHT if right else WRONG
        drawn.text(left / width, y / height, plain("\n".join(wrapped)), fontsize=7, color=colour, va="top",
                   linespacing=1.15)  # fmt: skip
        y -= LINE * len(wrapped)
