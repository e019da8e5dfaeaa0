"""Galleries as PNG: queries with their candidates, and items with their scores (`cosmos-eval show`)."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_eval.datasets.data import PerceptionData, RetrievalData
from cosmos_eval.datasets.image_sources import ImageSource
from cosmos_eval.datasets.kinds import PERCEPTION, RETRIEVAL
from cosmos_eval.models.preflight import require_models
from cosmos_eval.progress import Reporter
from cosmos_eval.report.curves import figure, save
from cosmos_eval.results.portable import portable_spec
from cosmos_eval.run.options import RunOptions
from cosmos_eval.show.cases import SHOWN, Item, Query, perception_cases, retrieval_cases
from cosmos_eval.show.opening import CacheChoice, describe_cache, open_engine, read_data
from cosmos_eval.show.overlays import end_of, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CASES = 4
"""Cases of each kind by default."""
SIDE = 256
"""Pixels of the longer side of a drawn image."""
RIGHT, WRONG, NEUTRAL = "#2a8a3e", "#c0392b", "0.5"
PANEL, LINE, BETWEEN = 2.0, 0.14, 0.09
"""Inches: the panel of an image, a line of text, the gap between two texts."""
MOST_LINES = 12
"""Lines of one text."""


@dataclass(frozen=True)
class Gallery:
    """What was written, by kind of case: files, and numbers of cases."""

    files: dict[str, Path]
    counts: dict[str, int]
    cache: str = ""
    """A line about the features that came from the cache; empty without one."""


def show_retrieval(
    spec: str,
    benchmark: str | Path,
    out: Path,
    data_root: Path | None = None,
    count: int = CASES,
    options: RunOptions | None = None,
    reporter: Reporter | None = None,
    cache: CacheChoice | None = None,
) -> Gallery:
    """Write the best, worst and most confused queries of both directions, a PNG for each kind.

    Args:
        cache: the feature cache that is used; none by default.

    Raises:
        RequestError: no retrieval benchmark, data that is missing, or a model that cannot be loaded.
    """
    require_models([spec], fetch=True)
    definition, data = read_data(benchmark, (RETRIEVAL,), data_root, reporter)
    assert isinstance(data, RetrievalData)
    cache = cache or CacheChoice(None)
    engine = open_engine(spec, options or RunOptions(), cache, reporter)
    engine.start_benchmark(definition.name)
    files, counts = {}, {}
    for kind, queries in retrieval_cases(data, engine, count).items():
        path = out / f"{kind.replace(',', '').replace(' ', '-')}.png"
        save(query_figure(queries, data, f"{portable_spec(spec)} on {definition.name}: {kind}"), path)
        files[kind], counts[kind] = path, len(queries)
    return Gallery(files, counts, describe_cache(cache, engine))


def show_perception(
    specs: Sequence[str],
    benchmark: str | Path,
    out: Path,
    data_root: Path | None = None,
    count: int = CASES,
    options: RunOptions | None = None,
    reporter: Reporter | None = None,
    cache: CacheChoice | None = None,
) -> Gallery:
    """Write the items that one model answers right and wrong by the largest margin, or that two models disagree on.

    Each kind is one PNG; a kind without items gets none.

    Args:
        cache: the feature cache that is used; none by default.

    Raises:
        RequestError: not one or two models, no perception benchmark, or data that is missing.
    """
    if not 1 <= len(specs) <= 2:
        raise RequestError(f"{len(specs)} models; show perception takes one, or two to compare")
    require_models(specs, fetch=True)
    definition, data = read_data(benchmark, (PERCEPTION,), data_root, reporter)
    assert isinstance(data, PerceptionData)
    cache = cache or CacheChoice(None)
    engines = [open_engine(spec, options or RunOptions(), cache, reporter) for spec in specs]
    for engine in engines:
        engine.start_benchmark(definition.name)
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
    return Gallery(files, counts, describe_cache(cache, *engines))


def query_figure(queries: Sequence[Query], data: RetrievalData, title: str) -> "Figure":
    """Draw a row for each query: the query, then its candidates with their scores, right ones in green."""
    is_image = queries[0].is_image
    if is_image:
        texts = [
            _wrapped([(data.texts[i], score, right) for i, score, right in query.candidates], 78) for query in queries
        ]
    else:
        texts = [_wrapped([(data.texts[query.index], None, None)], 30) for query in queries]
    rows = _Rows(PANEL * (4.2 if is_image else 1 + SHOWN), [1, 3.2] if is_image else [1.2, *[1] * SHOWN], texts)
    for row, query, text in zip(rows.axes, queries, texts, strict=True):
        if is_image:
            image = data.images[query.index]
            _draw_image(row[0], image, f"{end_of(image.key, 24)}, rank {query.rank:,}", NEUTRAL)
            _draw_lines(row[1], text)
            continue
        _draw_lines(row[0], text, note=f"rank {query.rank:,}")
        for axis, (i, score, right) in zip(row[1:], query.candidates, strict=False):
            _draw_image(axis, data.images[i], f"{score:.3f}", RIGHT if right else WRONG)
    return rows.with_title(title)


def item_figure(items: Sequence[Item], data: PerceptionData, specs: Sequence[str], title: str) -> "Figure":
    """Draw a row for each item: its images, and its texts with the scores of every model."""
    image_count = data.item_images.shape[1]
    texts = [_wrapped(_lines_of_item(item, data, specs), 88) for item in items]
    rows = _Rows(PANEL * (image_count + 3.4), [*[1] * image_count, 3.4], texts)
    for row, item, text in zip(rows.axes, items, texts, strict=True):
        for k, i in enumerate(data.item_images[item.index].tolist()):
            right = image_count == 1 or data.item_texts.shape[1] > 1 or k == 0
            image = data.images[i]
            _draw_image(row[k], image, end_of(image.key, 24), RIGHT if right else WRONG)
        _draw_lines(row[-1], text, note=f"{data.subsets[item.index]}, item {item.index:,}")
    return rows.with_title(title)


Line = tuple[str, float | None, bool | None]
"""A text, its score, and whether it is right: green, red, or black where there is no right and wrong."""


def _lines_of_item(item: Item, data: PerceptionData, specs: Sequence[str]) -> list[Line]:
    """The texts of an item, with the scores of every model."""
    image_count = data.item_images.shape[1]
    texts = [data.texts[j] for j in data.item_texts[item.index].tolist()]
    square = image_count > 1 and len(texts) > 1
    lines: list[Line] = []
    for j, text in enumerate(texts):
        is_right = image_count > 1 or j < data.right_texts
        lines.append((f"{text} (image {j + 1})" if square else text, None, is_right))
    for spec, scores, margin, correct in zip(specs, item.scores, item.margins, item.correct, strict=True):
        of_each = [" / ".join(f"{value:.3f}" for value in row) for row in np.asarray(scores)]
        values = [f"image {k + 1} {row}" for k, row in enumerate(of_each)] if square else [" / ".join(of_each)]
        lines.append((f"{spec}: {', '.join(values)}, margin {margin:+.3f}", None, correct))
    return lines


def _wrapped(lines: Sequence[Line], width: int) -> list[tuple[list[str], str]]:
    """Wrap each text to lines of `width` characters, with its colour; longer texts end with dots."""
    wrapped = []
    for text, score, right in lines:
        labelled = text if score is None else f"{score:.3f}  {text}"
        colour = "black" if right is None else RIGHT if right else WRONG
        wrapped.append((textwrap.wrap(labelled, width, max_lines=MOST_LINES, placeholder=" …") or [""], colour))
    return wrapped


class _Rows:
    """A figure of rows, each as tall as its texts and at least as tall as an image."""

    def __init__(self, width: float, ratios: Sequence[float], texts: Sequence[list[tuple[list[str], str]]]) -> None:
        heights = [max(PANEL + 0.35, 0.4 + sum(LINE * len(lines) + BETWEEN for lines, _ in row)) for row in texts]
        self.figure = figure(width, sum(heights) + 0.4)
        self.axes = self.figure.subplots(
            len(texts), len(ratios), squeeze=False, width_ratios=ratios, height_ratios=heights
        )
        for axis in self.axes.flat:
            axis.axis("off")

    def with_title(self, title: str) -> "Figure":
        self.figure.suptitle(plain(title), fontsize=10)
        return self.figure


def _draw_image(axis: "Axes", image: ImageSource, title: str, colour: str) -> None:
    pixels = image.load()
    pixels.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC)
    axis.imshow(np.asarray(pixels))
    axis.set_anchor("N")
    axis.axis("on")
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set(color=colour, linewidth=2.5)
    axis.set_title(plain(title), fontsize=7)


def _draw_lines(axis: "Axes", lines: Sequence[tuple[list[str], str]], note: str = "") -> None:
    """Draw a grey note, and wrapped texts below it from the top of the axis down."""
    from matplotlib.transforms import ScaledTranslation

    assert axis.figure is not None
    down = 0.0
    for wrapped, colour, size in [*([([note], NEUTRAL, 7)] if note else []), *((*line, 8) for line in lines)]:
        transform = axis.transAxes + ScaledTranslation(0, -down, axis.figure.dpi_scale_trans)
        axis.text(0, 1, plain("\n".join(wrapped)), fontsize=size, color=colour, va="top", transform=transform)
        down += LINE * len(wrapped) + BETWEEN
