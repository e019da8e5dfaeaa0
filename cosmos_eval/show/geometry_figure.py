"""The figure of `show geometry`: similarities, singular values, reliability, and scores out of distribution."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cosmos_eval.metrics.bootstrap import Interval
from cosmos_eval.metrics.calibration import Reliability
from cosmos_eval.report.curves import figure
from cosmos_eval.show.geometry_intervals import as_text
from cosmos_eval.show.overlays import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, RED, GREY = "#4c78a8", "#c0392b", "0.6"
WriteFigure = Callable[..., str]
"""(name, decimals, scale) -> the figure with its interval."""
SLOTS = 60
"""Bars of a histogram."""


@dataclass(frozen=True)
class Drawn:
    """What the panels show."""

    matching: np.ndarray
    """(P,) similarity of images and texts that belong together."""
    others: np.ndarray
    """(Q,) similarity of images and texts that do not."""
    shares: Mapping[str, np.ndarray]
    """Modality -> singular values as shares of their sum."""
    bins: Reliability | None
    bin_intervals: np.ndarray
    """(B, 2) interval of the accuracy in each bin."""
    outside: tuple[np.ndarray, np.ndarray] | None
    """Highest score of each image of the benchmark, and of each image out of distribution."""
    outside_name: str


def geometry_figure(
    drawn: Drawn, figures: Mapping[str, float], intervals: Mapping[str, Interval], title: str
) -> "Figure":
    """Draw the panels that there is something for, beside each other.

    Args:
        figures: values that the titles of the panels give, by name.
        intervals: their intervals; a figure may have none.
    """

    def text(name: str, decimals: int, scale: float = 1.0) -> str:
        return as_text(figures[name], intervals.get(name), decimals, scale)

    panels = [_draw_similarities, _draw_shares]
    panels += [_draw_reliability] if drawn.bins is not None else []
    panels += [_draw_outside] if drawn.outside is not None else []
    picture = figure(3.4 * len(panels), 3.6)
    for axis, draw in zip(picture.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        draw(axis, drawn, text)
        axis.tick_params(labelsize=7)
    picture.suptitle(plain(title), fontsize=9)
    return picture


def _draw_similarities(axis: "Axes", drawn: Drawn, text: WriteFigure) -> None:
    _draw_histograms(axis, {"belong together": drawn.matching, "others": drawn.others})
    axis.set_xlabel("similarity of image and text", fontsize=8)
    axis.set_title(f"modality gap {text('modality_gap', 3)}\nalignment {text('alignment', 3)}", fontsize=8)


def _draw_shares(axis: "Axes", drawn: Drawn, text: WriteFigure) -> None:
    for (name, shares), colour in zip(drawn.shares.items(), (BLUE, RED), strict=True):
        positive = shares[shares > 0]
        label = f"{name}: effective rank\n{text(f'effective_rank_{name}', 1)}"
        axis.plot(np.arange(1, len(positive) + 1), positive, color=colour, label=label)
    if any(shares.any() for shares in drawn.shares.values()):
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter("{x:g}")  # the usual one writes formulas, which are not drawn here
        axis.yaxis.set_minor_formatter("")
    axis.set_xlabel("singular value", fontsize=8)
    axis.set_ylabel("share of the sum", fontsize=8)
    uniform = "\n".join(f"uniformity of {name} {text(f'uniformity_{name}', 2)}" for name in drawn.shares)
    axis.set_title(uniform, fontsize=8)
    axis.legend(fontsize=7)


def _draw_reliability(axis: "Axes", drawn: Drawn, text: WriteFigure) -> None:
    bins = drawn.bins
    assert bins is not None
    width = 1 / len(bins.count)
    left = np.arange(len(bins.count)) * width
    axis.bar(left, np.nan_to_num(bins.accuracy), width, align="edge", color=BLUE, edgecolor="white", label="accuracy")
    axis.bar(left, bins.count / bins.count.sum(), width, align="edge", color=GREY, alpha=0.5, label="share of queries")
    has_queries = bins.count > 0
    accuracy = bins.accuracy[has_queries]
    lengths = np.abs(drawn.bin_intervals[has_queries].T - accuracy)
    axis.errorbar((left + width / 2)[has_queries], accuracy, lengths, fmt="none", ecolor="black", elinewidth=0.8)
    axis.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle="--")
    axis.set(xlim=(0, 1), ylim=(0, 1))
    axis.set_xlabel("confidence", fontsize=8)
    error, scale = text("expected_calibration_error", 1, 100), text("logit_scale", 1)
    axis.set_title(f"ECE, % {error}\nat logit scale {scale}", fontsize=8)
    axis.legend(fontsize=7, loc="upper left")


def _draw_outside(axis: "Axes", drawn: Drawn, text: WriteFigure) -> None:
    assert drawn.outside is not None
    inside, outside = drawn.outside
    _draw_histograms(axis, {"benchmark": inside, drawn.outside_name: outside})
    axis.set_xlabel("highest score with any text", fontsize=8)
    axis.set_title(
        f"AUROC, % {text('ood_auroc_score', 1, 100)}\nFPR95, % {text('ood_fpr95_score', 1, 100)}", fontsize=8
    )


def _draw_histograms(axis: "Axes", values: Mapping[str, np.ndarray]) -> None:
    """Two histograms on the same bars, each with the area 1."""
    parts = [part for part in values.values() if len(part)]
    low, high = min(part.min() for part in parts), max(part.max() for part in parts)
    edges = np.linspace(low, high if high > low else low + 1e-3, SLOTS)
    for (name, part), colour in zip(values.items(), (BLUE, RED), strict=True):
        if len(part):
            axis.hist(part, edges.tolist(), density=True, color=colour, alpha=0.55, label=name)
    axis.set_yticks([])
    axis.legend(fontsize=7)
