"""Galleries: queries with their candidates, and items with their scores, written as PNG; behind `cosmos-eval show`."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_eval import datasets
from cosmos_eval.datasets.base import Picture
from cosmos_eval.datasets.data import Data, PerceptionData, RetrievalData
from cosmos_eval.engine import Engine, resolve_device, resolve_precision
from cosmos_eval.models import load_model
from cosmos_eval.models.preflight import require_models
from cosmos_eval.progress import Reporter, Silent
from cosmos_eval.protocol.benchmark import Benchmark, load_benchmark
from cosmos_eval.report.curves import figure, save
from cosmos_eval.results.portable import portable_spec
from cosmos_eval.run.plan import make_plan
from cosmos_eval.show.cases import SHOWN, Item, Query, perception_cases, retrieval_cases
from cosmos_eval.show.overlays import end_of, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CASES = 4
"""Shown of each kind where nobody says how many."""
SIDE = 256
"""Pixels of a drawn picture's longer side."""
RIGHT, WRONG, NEUTRAL = "#2a8a3e", "#c0392b", "0.5"
PANEL, LINE, BETWEEN = 2.0, 0.14, 0.09
"""Inches: a picture's panel, a line of text, between two texts."""
MOST_LINES = 12
"""Of one text."""


@dataclass(frozen=True)
class Gallery:
    """What was written: files by what they show, and in a line what each holds."""

    files: dict[str, Path]
    counts: dict[str, int]


@dataclass(frozen=True)
class Options:
    """How features are made, as `cosmos_eval.evaluate` takes it."""

    device: str = "auto"
    precision: str = "auto"
    batch_size: int = 64
    workers: int = 0


def show_retrieval(
    spec: str,
    benchmark: str | Path,
    out: Path,
    data_root: Path | None = None,
    count: int = CASES,
    options: Options | None = None,
    reporter: Reporter | None = None,
) -> Gallery:
    """Write the best, worst and most confused queries of both directions, one picture each.

    Raises:
        RequestError: no retrieval benchmark, data that is missing, or a model that cannot be loaded.
    """
    require_models([spec], fetch=True)
    definition, data = _read(benchmark, "retrieval", data_root, reporter)
    assert isinstance(data, RetrievalData)
    engine = _engine(spec, options or Options(), reporter)
    files, counts = {}, {}
    for kind, queries in retrieval_cases(data, engine, count).items():
        path = out / f"{kind.replace(',', '').replace(' ', '-')}.png"
        save(query_figure(queries, data, f"{portable_spec(spec)} on {definition.name}: {kind}"), path)
        files[kind], counts[kind] = path, len(queries)
    return Gallery(files, counts)


def show_perception(
    specs: Sequence[str],
    benchmark: str | Path,
    out: Path,
    data_root: Path | None = None,
    count: int = CASES,
    options: Options | None = None,
    reporter: Reporter | None = None,
) -> Gallery:
    """Write the items that one model has right and wrong by most, or that two models disagree on; one picture each.

    A kind of which there is no item gets no file.

    Raises:
        RequestError: not one or two models, no perception benchmark, or data that is missing.
    """
    if not 1 <= len(specs) <= 2:
        raise RequestError(f"{len(specs)} models; show perception takes one, or two to compare")
    require_models(specs, fetch=True)
    definition, data = _read(benchmark, "perception", data_root, reporter)
    assert isinstance(data, PerceptionData)
    engines = [_engine(spec, options or Options(), reporter) for spec in specs]
    reading, chosen = perception_cases(data, engines, count, str(definition.metrics.get("primary", "")))
    files, counts = {}, {}
    for kind, items in chosen.items():
        counts[kind] = len(items)
        if items:
            files[kind] = out / f"{kind.replace(',', '').replace(' ', '-')}.png"
            save(
                item_figure(items, data, [*map(portable_spec, specs)], f"{definition.name}, {reading}: {kind}"),
                files[kind],
            )
    return Gallery(files, counts)


def _read(
    benchmark: str | Path, task: str, data_root: Path | None, reporter: Reporter | None
) -> tuple[Benchmark, Data]:
    definition = load_benchmark(benchmark)
    if definition.task != task:
        raise RequestError(f"{definition.name} is {definition.task}; show {task} needs a {task} benchmark")
    (planned,) = make_plan([definition], data_root, reporter=reporter)
    return planned.benchmark, datasets.read(planned.benchmark, planned.data_root, reporter)


def _engine(spec: str, options: Options, reporter: Reporter | None) -> Engine:
    place = str(resolve_device(options.device))
    resolve_precision(options.precision, place)
    model = load_model(spec, device=place)
    return Engine(
        model,
        batch_size=options.batch_size,
        workers=options.workers,
        precision=options.precision,
        reporter=reporter or Silent(),
    )


def query_figure(queries: Sequence[Query], data: RetrievalData, title: str) -> "Figure":
    """A row a query: the query, then its candidates with their scores, the right ones in green."""
    pictures = queries[0].picture
    if pictures:
        texts = [_wrapped([(data.texts[i], score, right) for i, score, right in one.candidates], 78) for one in queries]
    else:
        texts = [_wrapped([(data.texts[one.index], None, None)], 30) for one in queries]
    rows = _Rows(PANEL * (4.2 if pictures else 1 + SHOWN), [1, 3.2] if pictures else [1.2, *[1] * SHOWN], texts)
    for row, query, text in zip(rows.axes, queries, texts, strict=True):
        if pictures:
            picture = data.pictures[query.index]
            _picture(row[0], picture, f"{end_of(picture.key, 24)}, rank {query.rank:,}", NEUTRAL)
            _lines(row[1], text)
            continue
        _lines(row[0], text, note=f"rank {query.rank:,}")
        for axis, (i, score, right) in zip(row[1:], query.candidates, strict=False):
            _picture(axis, data.pictures[i], f"{score:.3f}", RIGHT if right else WRONG)
    return rows.entitled(title)


def item_figure(items: Sequence[Item], data: PerceptionData, specs: Sequence[str], title: str) -> "Figure":
    """A row an item: its pictures, and its texts with the scores of every model."""
    shown = data.item_images.shape[1]
    texts = [_wrapped(_said(item, data, specs), 88) for item in items]
    rows = _Rows(PANEL * (shown + 3.4), [*[1] * shown, 3.4], texts)
    for row, item, text in zip(rows.axes, items, texts, strict=True):
        for k, place in enumerate(data.item_images[item.index].tolist()):
            right = shown == 1 or data.item_texts.shape[1] > 1 or k == 0
            picture = data.pictures[place]
            _picture(row[k], picture, end_of(picture.key, 24), RIGHT if right else WRONG)
        _lines(row[-1], text, note=f"{data.subsets[item.index]}, item {item.index:,}")
    return rows.entitled(title)


Line = tuple[str, float | None, bool | None]
"""A text, its score, and whether it is right: green, red, or black where there is no right and wrong."""


def _said(item: Item, data: PerceptionData, specs: Sequence[str]) -> list[Line]:
    """An item's texts, and what every model makes of them."""
    shown = data.item_images.shape[1]
    words = [data.texts[j] for j in data.item_texts[item.index].tolist()]
    square = shown > 1 and len(words) > 1
    lines: list[Line] = []
    for j, text in enumerate(words):
        lines.append((f"{text} (picture {j + 1})" if square else text, None, shown > 1 or j == 0))
    for spec, scores, margin, correct in zip(specs, item.scores, item.margins, item.correct, strict=True):
        of_each = [" / ".join(f"{value:.3f}" for value in row) for row in np.asarray(scores)]
        values = [f"picture {k + 1} {row}" for k, row in enumerate(of_each)] if square else [" / ".join(of_each)]
        lines.append((f"{spec}: {', '.join(values)}, margin {margin:+.3f}", None, correct))
    return lines


def _wrapped(lines: Sequence[Line], width: int) -> list[tuple[list[str], str]]:
    """Each text on lines of so many letters, with its colour; what is longer than a few lines ends with dots."""
    found = []
    for text, score, right in lines:
        said = text if score is None else f"{score:.3f}  {text}"
        colour = "black" if right is None else RIGHT if right else WRONG
        found.append((textwrap.wrap(said, width, max_lines=MOST_LINES, placeholder=" …") or [""], colour))
    return found


class _Rows:
    """A figure of rows, each as tall as its texts are and no less than a picture."""

    def __init__(self, width: float, ratios: Sequence[float], texts: Sequence[list[tuple[list[str], str]]]) -> None:
        heights = [max(PANEL + 0.35, 0.4 + sum(LINE * len(lines) + BETWEEN for lines, _ in own)) for own in texts]
        self.figure = figure(width, sum(heights) + 0.4)
        self.axes = self.figure.subplots(
            len(texts), len(ratios), squeeze=False, width_ratios=ratios, height_ratios=heights
        )
        for axis in self.axes.flat:
            axis.axis("off")

    def entitled(self, title: str) -> "Figure":
        self.figure.suptitle(plain(title), fontsize=10)
        return self.figure


def _picture(axis: "Axes", picture: Picture, title: str, colour: str) -> None:
    image = picture.load()
    image.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC)
    axis.imshow(np.asarray(image))
    axis.set_anchor("N")
    axis.axis("on")
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set(color=colour, linewidth=2.5)
    axis.set_title(plain(title), fontsize=7)


def _lines(axis: "Axes", lines: Sequence[tuple[list[str], str]], note: str = "") -> None:
    """Wrapped texts below each other from the top of the axis down, below a grey note."""
    from matplotlib.transforms import ScaledTranslation

    assert axis.figure is not None
    down = 0.0
    for wrapped, colour, size in [*([([note], NEUTRAL, 7)] if note else []), *((*one, 8) for one in lines)]:
        place = axis.transAxes + ScaledTranslation(0, -down, axis.figure.dpi_scale_trans)
        axis.text(0, 1, plain("\n".join(wrapped)), fontsize=size, color=colour, va="top", transform=place)
        down += LINE * len(wrapped) + BETWEEN
