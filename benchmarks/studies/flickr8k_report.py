"""Write the table and the curve of trainings on Flickr8k, from their logs."""

import json
from collections.abc import Sequence
from math import comb
from pathlib import Path
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.files import atomic_path, atomic_write_text
from cosmos_core.logs import METRICS, read_metrics
from cosmos_eval.report.evaluations import EVALUATIONS, read_evaluations

RECORD = "record.json"
CAPTIONS = 5
DIRECTIONS = {"image_to_text": "I→T", "text_to_image": "T→I"}
COLUMNS = {f"{direction}_recall@{k}": f"{arrow} R@{k}" for direction, arrow in DIRECTIONS.items() for k in (1, 5, 10)}
MARK = "<!-- below: written by hand, kept when the table is made again -->"
Training = dict[str, Any]
"""`record`, `log` (lines of metrics.jsonl) and `lines` (of evaluations.jsonl) of one training."""


def write_report(folders: Sequence[Path], results: Path, name: str = "flickr8k") -> dict[str, float]:
    """Write NAME.md and NAME.png; return the last recall@1 of each row.

    Raises:
        RequestError: a folder has no training, or one that was not evaluated.
    """
    runs = {}
    for folder in folders:
        if not (folder / RECORD).is_file():
            raise RequestError(f"no training in {folder}")
        runs[folder.name] = {
            "record": json.loads((folder / RECORD).read_text(encoding="utf-8")),
            "log": read_metrics(folder / METRICS),
            "lines": read_evaluations(folder / EVALUATIONS),
        }
        if not runs[folder.name]["log"] or not runs[folder.name]["lines"]:
            raise RequestError(f"the training in {folder} was not evaluated")
    path = results / f"{name}.md"
    findings = path.read_text(encoding="utf-8").partition(MARK)[2] if path.is_file() else "\n"
    parts = ["# Flickr8k from scratch", *intro(runs), f"![loss and recall at 1 while training]({name}.png)"]
    for row, run in runs.items():
        parts += [f"## Objective: {row}", about(run), curve_table(run)]
    atomic_write_text(path, "\n\n".join(parts) + f"\n\n{MARK}{findings}")
    draw(runs, results / f"{name}.png")
    return {
        f"{row}_{line['network']}_{direction}_recall@1": round(line["metrics"][f"{direction}_recall@1"]["value"], 4)
        for row, run in runs.items()
        for line in run["lines"]
        if line["step"] == run["lines"][-1]["step"]
        for direction in DIRECTIONS
    }


def intro(runs: dict[str, Training]) -> list[str]:
    record = next(iter(runs.values()))["record"]
    config, environment = record["config"], record["environment"]
    packages, hardware = environment["packages"], environment["hardware"]
    where = hardware.get("gpu") or f"{hardware['cpu']}, threads: {config['threads'] or hardware['threads']}"
    changes = "".join(f" --set {change}" for change in config["changes"] if not change.startswith("objective="))
    limit, images = config["eval_limit"], count_images(next(iter(runs.values())))
    limited = f" **Evaluated on {limit} images only, to test the script.**" if limit else ""
    return [
        f"Made by `python -m benchmarks.studies.flickr8k --rows {' '.join(runs)}{changes}` "
        f"at commit {record['commit']}. "
        f"{where}; Python {environment['python']}, {', '.join(f'{key} {value}' for key, value in packages.items())}.",
        "6,000 training images of 128 × 128 pixels with five captions each. The official test split (1,000 images of "
        "176 × 176, 5,000 captions) was evaluated during training. Both are copies that were squashed to a square, so "
        "the figures are not those of the original images. No setting was selected by these figures: all were fixed "
        "before the training, and the last step counts." + limited,
        "Chance: " + ", ".join(f"{title} {100 * chance(key, images):.1f} %" for key, title in COLUMNS.items()) + ".",
    ]


def chance(metric: str, images: int) -> float:
    """Return the recall of a random order; for an image, any of its five captions counts."""
    k = int(metric.split("@")[1])
    if metric.startswith("text_to_image"):
        return k / images
    return 1 - comb(CAPTIONS * (images - 1), k) / comb(CAPTIONS * images, k)


def count_images(run: Training) -> int:
    return run["record"]["config"]["eval_limit"] or 1000


def about(run: Training) -> str:
    config, log = run["record"]["config"], run["log"]
    first, last = log[0], log[-1]
    seen = last["step"] * config["batch_size"]
    names = [name for name in ("loss", "clip_loss", "distill_loss") if name in last]
    parts = ", ".join(f"{name.replace('_', ' ')} {first[name]:.2f} → {last[name]:.2f}" for name in names)
    return (
        f"{last['step']:,} steps of {config['batch_size']} ({seen / 6000:.1f} epochs) in "
        f"{last['seconds'] / 60:.1f} minutes of training, without evaluation; seed {config['seed']}. "
        f"From the first to the last logged step: {parts}."
    )


def curve_table(run: Training) -> str:
    """Return the table of recall by step and network, in percent with 95 % intervals over images."""
    lines = ["| step | network | " + " | ".join(COLUMNS.values()) + " | R@1 / chance |"]
    lines.append("|" + " --- |" * (len(COLUMNS) + 3))
    images = count_images(run)
    for line in run["lines"]:
        cells = [shown(line["metrics"][key]) for key in COLUMNS]
        recalls = {d: line["metrics"][f"{d}_recall@1"]["value"] for d in DIRECTIONS}
        ratio = ", ".join(f"{recall / chance(f'{d}_recall@1', images):.0f}" for d, recall in recalls.items())
        lines.append(f"| {line['step']:,} | {line['network']} | " + " | ".join(cells) + f" | {ratio} |")
    return "Percent, with 95 % intervals over test images.\n\n" + "\n".join(lines)


def shown(metric: dict[str, float]) -> str:
    return f"{100 * metric['value']:.1f} [{100 * metric['low']:.1f}, {100 * metric['high']:.1f}]"


def draw(runs: dict[str, Training], path: Path) -> None:
    """Plot loss and recall@1 by step, with one colour for each row."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, *right) = plt.subplots(1, 3, figsize=(11, 3.2), constrained_layout=True)
    for number, (row, run) in enumerate(runs.items()):
        steps = [line["step"] for line in run["log"]]
        left.plot(steps, [line["loss"] for line in run["log"]], color=f"C{number}", label=row, linewidth=1)
        for axis, direction in zip(right, DIRECTIONS, strict=True):
            for network, style in (("teacher", "-o"), ("student", "--s")):
                lines = [line for line in run["lines"] if line["network"] == network]
                metrics = [line["metrics"][f"{direction}_recall@1"] for line in lines]
                if not lines:
                    continue
                at = [line["step"] for line in lines]
                values = [100 * metric["value"] for metric in metrics]
                axis.plot(at, values, style, color=f"C{number}", markersize=3, linewidth=1, label=f"{row}, {network}")
                if network == "teacher":
                    low, high = ([100 * metric[end] for metric in metrics] for end in ("low", "high"))
                    axis.fill_between(at, low, high, color=f"C{number}", alpha=0.15, linewidth=0)
    left.set_title("loss", fontsize=10)
    left.legend(fontsize=8)
    for axis, direction in zip(right, DIRECTIONS, strict=True):
        level = 100 * chance(f"{direction}_recall@1", count_images(next(iter(runs.values()))))
        axis.axhline(level, color="k", linewidth=0.8, linestyle=":", label="chance")
        axis.set_title(COLUMNS[f"{direction}_recall@1"] + ", percent", fontsize=10)
        axis.set_ylim(bottom=0)
        axis.legend(fontsize=7)
    for axis in (left, *right):
        axis.set_xlabel("step", fontsize=8)
        axis.tick_params(labelsize=8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)
    plt.close(figure)
