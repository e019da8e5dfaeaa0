"""The quickstart's report: a Markdown page with its images beside it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cosmos_core.files import atomic_write_text
from cosmos_core.printable import plural
from cosmos_eval.report.curves import figure, loss_figure, save
from cosmos_eval.report.tables import headlines, render, short
from cosmos_eval.results.record import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCENES = 8
IMAGES = "images"
"""Folder of the figures, below the report."""


def write_page(
    out: Path,
    results: Sequence[Result],
    curves: Mapping[str, Path],
    verdict: Sequence[str],
    overlays: Mapping[str, Path] | None = None,
    maps: Mapping[str, Path] | None = None,
) -> Path:
    """Write report.md with figures of the dataset, the losses and the headline metrics; returns its path.

    Args:
        curves: name of each training -> its metrics.jsonl; absent ones are left out.
        verdict: lines that say which model is ahead.
        overlays: title -> figure of segmentations, below `out`.
        maps: title -> figure of attention maps, likewise.
    """
    images = out / IMAGES
    save(scenes_figure(), images / "scenes.png")
    save(metrics_figure(results), images / "metrics.png")
    save(loss_figure(curves), images / "loss.png")
    table = render(results, "md").removeprefix("# Leaderboard\n")
    page = f"""# Quickstart report

Small models on toybox, a dataset of images and captions rendered from a seed. Every number was measured here.

![Headline metrics with 95 % intervals]({IMAGES}/metrics.png)

{bullets(verdict)}
{table}
## The dataset

Test scenes, each with one of its captions.

![Test scenes with captions]({IMAGES}/scenes.png)

{segmentation_section(out, overlays or {})}{attention_section(out, maps or {})}## Training

![Loss of each training]({IMAGES}/loss.png)

## Models and environment

{provenance(results)}
"""
    path = out / "report.md"
    atomic_write_text(path, page)
    return path


def segmentation_section(out: Path, overlays: Mapping[str, Path]) -> str:
    """A section with figures of segmentations; empty where there are none."""
    lines = [
        f"{title}: image, ground truth, prediction, and where they differ.\n\n![{title}]({path.relative_to(out)})\n\n"
        for title, path in overlays.items()
    ]
    return "## Segmentation\n\n" + "".join(lines) if lines else ""


def attention_section(out: Path, maps: Mapping[str, Path]) -> str:
    """A section with maps of attention and similarity; empty where there are none."""
    explanation = (
        "where it looks, given a text. Cross-attention: the weights of the poolers, which after training are mostly on "
        "what the text leaves out. Similarity: the cosine of each patch and the text. The colour of a word is its "
        "weight, given the image."
    )
    lines = [f"{title}: {explanation}\n\n![{title}]({path.relative_to(out)})\n\n" for title, path in maps.items()]
    return "## Attention\n\n" + "".join(lines) if lines else ""


def bullets(lines: Sequence[str]) -> str:
    """A Markdown list."""
    return "".join(f"- {line}\n" for line in lines)


def provenance(results: Sequence[Result]) -> str:
    """List models by digest, and the environment of the measurement."""
    lines = []
    for result in {result.model.digest: result for result in results}.values():
        model = result.model
        lines.append(f"- {result.label}: {model.arch}, {model.activation}, weights {model.digest[:12]}")
    environment = results[0].environment
    versions = ", ".join(f"{name} {version}" for name, version in environment.packages.items())
    hardware = environment.hardware
    lines.append(f"- Python {environment.python}, {versions}")
    lines.append(
        f"- {hardware['cpu']}, "
        f"{plural(hardware['threads'], 'thread')}" + (f", {hardware['gpu']}" if "gpu" in hardware else "")
    )
    return "\n".join(lines)


def metrics_figure(results: Sequence[Result]) -> "Figure":
    """Draw a panel for each headline metric, with a bar and its interval for each model."""
    panels = [
        (result.benchmark_name, metric)
        for result in {result.benchmark_name: result for result in results}.values()
        for metric in headlines(result.benchmark.task, result.primary)
    ]
    drawn = figure(4 * len(panels), 2.6)
    axes = drawn.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axis, (name, metric) in zip(axes, panels, strict=True):
        of_benchmark = [result for result in results if result.benchmark_name == name][::-1]
        values = [100 * result.metrics[metric].value for result in of_benchmark]
        low = [value - 100 * result.metrics[metric].low for value, result in zip(values, of_benchmark, strict=True)]
        high = [100 * result.metrics[metric].high - value for value, result in zip(values, of_benchmark, strict=True)]
        labels = [result.label for result in of_benchmark]
        axis.barh(labels, values, xerr=[low, high], color="#4c78a8", error_kw={"capsize": 3})
        axis.set_title(f"{name}\n{short(metric)}, %", fontsize=10)
        axis.set_xlim(left=0)
    return drawn


def scenes_figure() -> "Figure":
    """Draw a few test scenes with their first full caption."""
    import textwrap

    from cosmos_eval.datasets.toybox import captions, make_scene, render

    drawn = figure(12, 5.2)
    for axis, index in zip(drawn.subplots(2, SCENES // 2).flat, range(SCENES), strict=True):
        scene = make_scene(0, "test", index)
        axis.imshow(render(scene, 128))
        axis.set_title(textwrap.fill(captions(scene).full[0], 42), fontsize=7)
        axis.axis("off")
    return drawn
