"""Curves over training steps: metrics of checkpoints with their intervals; losses and speed from the log."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from cosmos_core.files import atomic_path, atomic_write_text
from cosmos_eval.report.data_files import csv_text
from cosmos_eval.report.evaluations import Line, headlines, shown
from cosmos_eval.report.tables import MISSING, escape, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS = (
    ("loss", ("loss", "clip_loss", "distill_loss")),
    ("learning rate", ("lr",)),
    ("gradient norm", ("grad_norm",)),
    ("logit scale (logarithm)", ("logit_scale", "distill_logit_scale")),
    ("alignment", ("alignment",)),
    ("uniformity (0: collapsed)", ("uniformity_image", "uniformity_text")),
    ("samples/s", ("samples_per_second",)),
    ("share of waiting for data", ("data_wait",)),
)
"""Panels of the training figure: title, and keys of metrics.jsonl."""
Curve = list[tuple[int, str, dict[str, float]]]
"""Step, the metric's name, and its value, low and high, by step."""


def write_curve(lines: Sequence[Line], folder: Path, name: str = "curve") -> list[Path]:
    """Write NAME.png, NAME.md (headline metrics by step) and NAME.csv (every metric); returns their paths.

    Args:
        lines: of `evaluations.jsonl`, or made by `cosmos_eval.report.evaluations.line_of`; at least one.
    """
    plot, table, data = (folder / f"{name}.{ending}" for ending in ("png", "md", "csv"))
    frame = curve_frame(lines)
    atomic_write_text(data, csv_text(frame))
    atomic_write_text(table, curve_table(lines))
    save(curve_figure(lines), plot)
    return [plot, table, data]


def curve_frame(lines: Sequence[Line]) -> pd.DataFrame:
    """A row for each step, network, benchmark and metric; values are fractions, or ranks for `*_rank`."""
    identity_keys = ("digest", "fingerprint", "dataset", "precision", "limit")
    rows = [
        {
            "step": line["step"],
            "network": line["network"],
            "benchmark": line["benchmark"],
            "metric": name,
            **{key: metric[key] for key in ("value", "low", "high", "n")},
            "headline": name in headlines(line),
            **{key: line[key] for key in identity_keys},
        }
        for line in lines
        for name, metric in line["metrics"].items()
    ]
    frame = pd.DataFrame(rows)
    frame["limit"] = frame["limit"].astype("Int64")
    return frame


def curves_of(lines: Sequence[Line]) -> dict[str, dict[str, Curve]]:
    """Title of a panel -> network -> curve. Another protocol, dataset, precision or limit has a panel of its own."""
    protocols: dict[str, set[tuple[str, ...]]] = {}
    for line in lines:
        protocols.setdefault(line["benchmark"], set()).add(measurement_conditions(line))
    panels: dict[str, dict[str, Curve]] = {}
    for line in sorted(lines, key=lambda line: line["step"]):
        title = line["benchmark"]
        if len(protocols[title]) > 1:
            title += f" ({', '.join(measurement_conditions(line))})"
        elif line["limit"]:
            title += f" (first {line['limit']})"
        for name in headlines(line):
            curve = panels.setdefault(f"{title} {short(name)}", {}).setdefault(line["network"], [])
            curve.append((line["step"], name, line["metrics"][name]))
    return panels


def measurement_conditions(line: Line) -> tuple[str, ...]:
    """What two comparable numbers of one benchmark have in common, in short."""
    limit = (f"first {line['limit']}",) if line["limit"] else ()
    return (f"{line['fingerprint'][:8]}/{line['dataset'][:8]}", line["precision"], *limit)


def curve_table(lines: Sequence[Line]) -> str:
    """Markdown: steps as rows, headline metrics of every network as columns; the best of a column in bold."""
    panels = curves_of(lines)
    columns: dict[str, dict[int, str]] = {}
    names = {name for curves in panels.values() for name in curves}
    for title, curves in panels.items():
        for name, curve in curves.items():
            values = [metric["value"] for _, _, metric in curve]
            best = min(values) if curve[0][1].endswith("_rank") else max(values)
            head = f"{title}, {name}" if len(names) > 1 else title
            columns[escape(head)] = {step: cell(key, metric, best) for step, key, metric in curve}
    table = pd.DataFrame(columns).sort_index().fillna(MISSING)
    table.index.name = "step"
    precisions = ", ".join(sorted({line["precision"] for line in lines}))
    note = " Column heads say where only a part was measured." if any(line["limit"] for line in lines) else ""
    text = table.to_markdown(tablefmt="github", disable_numparse=True)
    return f"# By step\n\nPercent, with 95 % intervals in brackets; {precisions}.{note}\n\n{text}\n"


def cell(name: str, metric: Mapping[str, float], best: float) -> str:
    value = shown(name, metric["value"])
    value = f"**{value}**" if metric["value"] == best else value
    return f"{value} [{shown(name, metric['low'])}, {shown(name, metric['high'])}]"


def curve_figure(lines: Sequence[Line]) -> "Figure":
    """A panel for each headline metric: a curve for each network, with its 95 % interval as a band."""
    panels = curves_of(lines)
    several = len({name for curves in panels.values() for name in curves}) > 1
    drawn, axes = grid(len(panels))
    for axis, (title, curves) in zip(axes, panels.items(), strict=True):
        is_rank = any(key.endswith("_rank") for curve in curves.values() for _, key, _ in curve)
        scale = 1 if is_rank else 100
        for name, curve in curves.items():
            steps = [step for step, _, _ in curve]
            value, low, high = ([scale * metric[key] for _, _, metric in curve] for key in ("value", "low", "high"))
            (line,) = axis.plot(steps, value, marker="o", markersize=3, label=legend_name(name))
            axis.fill_between(steps, low, high, alpha=0.2, color=line.get_color(), linewidth=0)
        axis.set_title(title if is_rank else f"{title}, %", fontsize=9)
        label_steps(axis)
    if several:
        name_curves(drawn, axes)
    return drawn


def training_figure(rows: Sequence[Mapping[str, Any]]) -> "Figure":
    """Draw the log of a run by step: losses, learning rate, gradient, scales, alignment, uniformity, speed.

    Args:
        rows: as `cosmos_core.logs.read_metrics` returns them; curves without any value are left out.
    """
    panels = {title: {key: curve for key in keys if (curve := pairs(rows, key))} for title, keys in PANELS}
    panels = {title: curves for title, curves in panels.items() if curves}
    drawn, axes = grid(len(panels))
    for axis, (title, curves) in zip(axes, panels.items(), strict=True):
        for key, curve in curves.items():
            axis.plot(*zip(*curve, strict=True), label=key)
        axis.set_title(title, fontsize=9)
        label_steps(axis)
        if len(curves) > 1:
            axis.legend(fontsize=8)
    return drawn


def loss_figure(curves: Mapping[str, Path]) -> "Figure":
    """Draw the loss of each training by step, from its metrics.jsonl; absent ones are left out."""
    from cosmos_core.logs import read_metrics

    drawn = figure(6, 3)
    axis = drawn.subplots()
    for name, path in curves.items():
        curve = pairs(read_metrics(path), "loss")
        if curve:
            axis.plot(*zip(*curve, strict=True), label=name)
    label_steps(axis)
    axis.set_ylabel("loss (each objective's own)")
    if axis.lines:
        name_curves(drawn, [axis])
    return drawn


def legend_name(name: str) -> str:
    """A name as a legend shows it: matplotlib leaves those out that begin with an underscore."""
    return f" {name}" if name.startswith("_") else name


def name_curves(drawn: "Figure", axes: "Sequence[Axes]") -> None:
    """A legend below all panels, where it covers no curve and no text; one entry a name."""
    named = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    long = max(map(len, named), default=0) > 20
    drawn.legend(named.values(), named.keys(), loc="outside lower center", fontsize=8, ncols=1 if long else 4)


def pairs(rows: Sequence[Mapping[str, Any]], key: str) -> list[tuple[int, float]]:
    """(step, value) of the rows that have a number under `key`."""
    return [(row["step"], row[key]) for row in rows if isinstance(row.get(key), int | float)]


def label_steps(axis: "Axes") -> None:
    """Steps along the bottom: whole numbers."""
    from matplotlib.ticker import MaxNLocator

    axis.set_xlabel("step")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))


def grid(panels: int) -> "tuple[Figure, list[Axes]]":
    """A figure with this number of panels, up to three in a row."""
    columns = max(1, min(3, panels))
    rows = max(1, -(-panels // columns))
    drawn = figure(4 * columns, 2.8 * rows)
    axes = list(drawn.subplots(rows, columns, squeeze=False).flat)
    for axis in axes[panels:]:
        axis.axis("off")
    return drawn, axes[:panels]


def figure(width: float, height: float) -> "Figure":
    """A figure that needs no display and leaves matplotlib's global state alone."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(drawn)
    return drawn


def save(drawn: "Figure", path: Path) -> None:
    """Write a figure as PNG, atomically; a `$` in names is not a formula."""
    from matplotlib.text import Text

    for text in drawn.findobj(Text):
        text.set_parse_math(False)
    with atomic_path(path) as temporary:
        drawn.savefig(temporary, format="png", dpi=110)
