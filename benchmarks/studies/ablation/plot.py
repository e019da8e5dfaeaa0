"""Plot every seed of every row as a point and the mean as a line, which shows the spread over seeds."""

from pathlib import Path

from benchmarks.studies.ablation.collect import METRICS
from benchmarks.studies.ablation.rows import STEPS
from benchmarks.studies.ablation.statistics import Estimate
from cosmos_core.files import atomic_path

CHANCE = {"image_to_text_recall@1": 0.1, "text_to_image_recall@1": 0.1, "top1": 100 / 48, "macro_accuracy": 50.0}


def draw(means: dict[str, dict[str, Estimate]], path: Path) -> None:
    """Draw one panel for each metric, in percent."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(METRICS), figsize=(11, 3), constrained_layout=True)
    for axis, metric in zip(axes, METRICS, strict=True):
        for x, (name, estimates) in enumerate(means.items()):
            estimate = estimates[metric.name]
            colour = "C0" if name in STEPS else "C7"
            axis.plot([x - 0.3, x + 0.3], [100 * estimate.mean] * 2, color=colour, linewidth=2)
            values = [100 * value for value in estimate.seeds]
            axis.plot([x] * len(values), values, "o", color=colour, alpha=0.6, ms=4)
        axis.axhline(CHANCE[metric.name], color="k", linewidth=0.6, linestyle=":")
        axis.set_title(metric.title, fontsize=10)
        axis.set_xticks(range(len(means)), list(means), rotation=60, ha="right", fontsize=8)
        axis.tick_params(axis="y", labelsize=8)
    axes[0].set_ylabel("percent (dotted: chance)", fontsize=8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)
    plt.close(figure)
