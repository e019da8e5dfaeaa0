"""The quickstart's report: a Markdown page with its pictures beside it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cosmos_core.files import atomic_write_text
from cosmos_eval.report.curves import figure, loss_figure, save
from cosmos_eval.report.tables import headlines, render, short
from cosmos_eval.results.record import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCENES = 8


def write_page(
    out: Path,
    results: Sequence[Result],
    curves: Mapping[str, Path],
    verdict: Sequence[str],
    overlays: Mapping[str, Path] | None = None,
    maps: Mapping[str, Path] | None = None,
) -> Path:
    """Write report.md, with pictures of the world, of the losses and of the headline metrics; returns its path.

    Args:
        curves: the metrics.jsonl of each training, by its name; one that is absent is left out.
        verdict: lines that say which model is ahead.
        overlays: pictures of what was segmented, below `out`, by what they show.
        maps: pictures of where a model looks, likewise.
    """
    pictures = out / "pictures"
    save(scenes_figure(), pictures / "scenes.png")
    save(metrics_figure(results), pictures / "metrics.png")
    save(loss_figure(curves), pictures / "loss.png")
    table = render(results, "md").removeprefix("# Leaderboard\n")
    page = f"""# Quickstart report

Small models on toybox, a world of pictures and captions rendered from a seed. Every number was measured here.

![Headline metrics with 95 % intervals](pictures/metrics.png)

{bullets(verdict)}
{table}
## The world

Test scenes, each with one of its captions.

![Test scenes with captions](pictures/scenes.png)

{shown(out, overlays or {})}{looked(out, maps or {})}## Training

![Loss of each training](pictures/loss.png)

## Where it comes from

{provenance(results)}
"""
    path = out / "report.md"
    atomic_write_text(path, page)
    return path


def shown(out: Path, overlays: Mapping[str, Path]) -> str:
    """A section with pictures of what was segmented; nothing where there are none."""
    lines = [
        f"{what}: picture, truth, prediction, and where they differ.\n\n![{what}]({path.relative_to(out)})\n\n"
        for what, path in overlays.items()
    ]
    return "## What is seen\n\n" + "".join(lines) if lines else ""


def looked(out: Path, maps: Mapping[str, Path]) -> str:
    """A section with maps of attention and similarity; nothing where there are none."""
    said = (
        "where it looks, given a text. Cross-attention is what the poolers read: once trained, mostly what the text "
        "leaves out. Similarity is where patches agree with the text. A word's colour is what is read of it, given the "
        "picture."
    )
    lines = [f"{what}: {said}\n\n![{what}]({path.relative_to(out)})\n\n" for what, path in maps.items()]
    return "## Where it looks\n\n" + "".join(lines) if lines else ""


def bullets(lines: Sequence[str]) -> str:
    """A Markdown list."""
    return "".join(f"- {line}\n" for line in lines)


def provenance(results: Sequence[Result]) -> str:
    """Models by digest, and the environment of the measurement."""
    lines = []
    for result in {result.model["digest"]: result for result in results}.values():
        model = result.model
        lines.append(f"- {result.label}: {model['arch']}, {model['activation']}, weights {model['digest'][:12]}")
    environment = results[0].environment
    versions = ", ".join(f"{name} {version}" for name, version in environment["packages"].items())
    hardware = environment["hardware"]
    lines.append(f"- Python {environment['python']}, {versions}")
    lines.append(
        f"- {hardware['cpu']}, {hardware['threads']} threads" + (f", {hardware['gpu']}" if "gpu" in hardware else "")
    )
    return "\n".join(lines)


def metrics_figure(results: Sequence[Result]) -> "Figure":
    """One panel a headline metric: a bar a model, with its interval."""
    panels = [
        (result.benchmark["name"], metric)
        for result in {result.benchmark["name"]: result for result in results}.values()
        for metric in headlines(result.benchmark["task"], result.primary)
    ]
    drawn = figure(4 * len(panels), 2.6)
    axes = drawn.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axis, (name, metric) in zip(axes, panels, strict=True):
        rows = [result for result in results if result.benchmark["name"] == name][::-1]
        values = [100 * result.metrics[metric].value for result in rows]
        low = [value - 100 * result.metrics[metric].low for value, result in zip(values, rows, strict=True)]
        high = [100 * result.metrics[metric].high - value for value, result in zip(values, rows, strict=True)]
        labels = [result.label for result in rows]
        axis.barh(labels, values, xerr=[low, high], color="#4c78a8", error_kw={"capsize": 3})
        axis.set_title(f"{name}\n{short(metric)}, %", fontsize=10)
        axis.set_xlim(left=0)
    return drawn


def scenes_figure() -> "Figure":
    """A few test scenes with their first full caption."""
    import textwrap

    from cosmos_eval.datasets.toybox import captions, make_scene, render

    drawn = figure(12, 5.2)
    for axis, index in zip(drawn.subplots(2, SCENES // 2).flat, range(SCENES), strict=True):
        scene = make_scene(0, "test", index)
        axis.imshow(render(scene, 128))
        axis.set_title(textwrap.fill(captions(scene).full[0], 42), fontsize=7)
        axis.axis("off")
    return drawn
