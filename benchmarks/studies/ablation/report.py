"""Write the tables of an ablation as Markdown and CSV. Text below a mark is written by hand and is kept."""

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.studies.ablation.collect import METRICS, Trial, finished_trials, outcomes
from benchmarks.studies.ablation.evaluation import TITLES, TrialEvaluator
from benchmarks.studies.ablation.rows import OBJECTIVES, STEPS, row
from benchmarks.studies.ablation.statistics import Estimate, estimate, over_seeds
from cosmos_core.errors import RequestError
from cosmos_core.files import atomic_write_text

MARK = "<!-- findings: written by hand, kept when the tables are made again -->"
Trials = dict[str, dict[int, Trial]]
"""Row -> seed -> trial."""


def write_report(out: Path, folder: Path, name: str = "ablation") -> dict[str, Any]:
    """Write NAME.md, NAME.csv and NAME.png from the finished trials below `out`; return the figures.

    Only seeds that all rows have are used, so that all rows are compared on the same seeds.
    """
    from benchmarks.studies.ablation.plot import draw

    trials = finished_trials(out)
    seeds = common_seeds(trials)
    rows = list(trials)
    data = {name: {metric.name: outcomes(trials[name], metric, seeds) for metric in METRICS} for name in rows}
    means = {name: {key: estimate(values) for key, values in of_row.items()} for name, of_row in data.items()}
    pairs = {
        "steps": list(zip(STEPS[1:], STEPS, strict=False)),
        "first": [(name, STEPS[0]) for name in STEPS[2:]],
        "objectives": [*(("cosmos", name) for name in OBJECTIVES[:-1]), ("silc", "image_views")],
    }
    pairs = {table: [pair for pair in all_pairs if set(pair) <= set(rows)] for table, all_pairs in pairs.items()}
    differences = {
        (a, b): {metric.name: estimate(data[a][metric.name].minus(data[b][metric.name])) for metric in METRICS}
        for table_pairs in pairs.values()
        for a, b in table_pairs
    }
    evaluator = TrialEvaluator(limit_of(trials))
    geometry = {name: {seed: evaluator.geometry(trials[name][seed].folder) for seed in seeds} for name in rows}
    text = "\n\n".join(
        [
            f"# {name}: from CLIP to COSMOS on toybox, {len(seeds)} seed" + "s" * (len(seeds) > 1),
            intro(trials, seeds),
            "## From CLIP to COSMOS\n\n" + score_table([name for name in STEPS if name in rows], means),
            f"![every seed of every row]({name}.png)",
            "## What each component adds\n\n" + EXPLANATION + "\n\n" + difference_table(differences, pairs["steps"]),
            "Each row compared with the first:\n\n" + difference_table(differences, pairs["first"]),
            "## Comparison of objectives\n\n" + score_table([name for name in OBJECTIVES if name in rows], means),
            difference_table(differences, pairs["objectives"]),
            "## Alignment and uniformity\n\n" + geometry_text(rows, geometry),
            "## Cost of a step\n\n" + cost_text(trials, rows, seeds),
        ]
    )
    path = folder / f"{name}.md"
    findings = path.read_text(encoding="utf-8").partition(MARK)[2] if path.is_file() else "\n"
    atomic_write_text(path, f"{text}\n\n{MARK}{findings}")
    atomic_write_text(folder / f"{name}.csv", csv(means, differences, geometry, seeds))
    draw(means, folder / f"{name}.png")
    figures = {f"{name}_{metric.name}": means[name][metric.name].mean for name in rows for metric in METRICS}
    return {**{key: round(mean, 4) for key, mean in figures.items()}, "seeds": len(seeds)}


def common_seeds(trials: Trials) -> list[int]:
    """Return the seeds that are finished in all rows that have trials.

    Raises:
        RequestError: there is no such seed.
    """
    seeds = sorted(set.intersection(*(set(by_seed) for by_seed in trials.values())))
    if not seeds:
        raise RequestError("no seed is finished in all rows; start the ablation again to continue it")
    return seeds


def limit_of(trials: Trials) -> int | None:
    """Return the number of test images of the trials; None: all."""
    return next(iter(next(iter(trials.values())).values())).record.get("limit")


EXPLANATION = (
    "Points, each row minus the row above it, with the same seeds and the same test samples. In brackets: 95 % "
    "t-interval over seeds. In parentheses: 95 % bootstrap interval over test images, with the trainings fixed. "
    "**Bold**: both intervals exclude zero."
)


def intro(trials: Trials, seeds: Sequence[int]) -> str:
    """Return the command, the machine and versions, and what the rows have in common."""
    record = next(iter(trials.values()))[seeds[0]].record
    config, environment = record["config"], record["environment"]
    commits = sorted({trial.record["commit"] for by_seed in trials.values() for trial in by_seed.values()} - {""})
    hardware, packages = environment["hardware"], environment["packages"]
    digests = {
        seed: {by_seed[seed].record["samples_digest"] for by_seed in trials.values() if seed in by_seed}
        for seed in seeds
    }
    is_same_order = all(len(of_seed) == 1 for of_seed in digests.values())
    limit = record.get("limit")
    lines = [
        f"Made by `python -m benchmarks.studies.ablation --seeds {' '.join(map(str, seeds))}`"
        + (f" at commit {', '.join(commits)}" if commits else "")
        + f". {hardware['cpu']}, one process per training, threads: {config['threads'] or 'default of torch'}; "
        + f"Python {environment['python']}, "
        + ", ".join(f"{key} {packages[key]}" for key in packages)
        + ".",
        f"Every row: the toybox preset with batch {config['batch_size']}, {config['steps']} steps, "
        f"{config['batch_size'] * config['steps']:,} images. The seed determines initial weights, scenes, order, crops "
        "and captions, which are the same for every row"
        + (
            " (digests confirm that all rows of a seed read the images in the same order)."
            if is_same_order
            else ". **Digests differ: not all rows of a seed read the images in the same order.**"
        ),
        f"The evaluated model is the EMA model (`#teacher`, momentum {config['momentum_teacher']}) of every row, even "
        "if the loss does not use it. The test split has no images of any training. Perception is the mean over the "
        "seven subsets. Chance: 0.1 %, 0.1 %, 2.1 %, 50 %.",
    ]
    if limit is not None:
        lines.append(f"**Evaluated on {limit} images only, to test the script.**")
    return "\n\n".join(lines)


def table(header: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """Format a Markdown table."""
    rows = [header, ["---"] * len(header), *body]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


def percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.1f}"


def points(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:+.1f}"


def score_table(rows: Sequence[str], means: dict[str, dict[str, Estimate]]) -> str:
    """Return the table of means over seeds, in percent with both intervals."""
    head = "Percent: mean over seeds, [95 % t-interval over seeds], (95 % bootstrap over test images)."
    body = [[row(name).title, *(cell(means[name][m.name], percent) for m in METRICS)] for name in rows]
    return head + "\n\n" + table(["row", *(metric.title for metric in METRICS)], body)


def difference_table(differences: dict[tuple[str, str], dict[str, Estimate]], pairs: Sequence[tuple[str, str]]) -> str:
    """Return the table of differences of two rows, in points with both intervals."""
    body = []
    for first, second in pairs:
        estimates = [differences[first, second][metric.name] for metric in METRICS]
        cells = [f"**{cell(value, points)}**" if value.clear else cell(value, points) for value in estimates]
        body.append([f"{first} − {second}", *cells])
    return table(["difference", *(metric.title for metric in METRICS)], body)


def cell(value: Estimate, form: Callable[[float], str]) -> str:
    """Format an estimate with both intervals."""
    seeds = f"[{form(value.seed_low)}, {form(value.seed_high)}]"
    return f"{form(value.mean)} {seeds} ({form(value.image_low)}, {form(value.image_high)})"


def geometry_text(rows: Sequence[str], geometry: dict[str, dict[int, dict[str, float]]]) -> str:
    """Return the explanation and the table of alignment and uniformity."""
    body = []
    for name in rows:
        cells = []
        for key in TITLES:
            values = [of_seed[key] for of_seed in geometry[name].values()]
            low, high = over_seeds(values)
            cells.append(f"{sum(values) / len(values):.2f} [{low:.2f}, {high:.2f}]".replace("[nan, nan]", "[–]"))
        body.append([row(name).title, *cells])
    return (
        "As defined by Wang & Isola (2020), on the 1,000 test scenes. Alignment is the mean squared distance of unit "
        "embeddings (lower: closer; unrelated embeddings: 2). Uniformity is the logarithm of the mean of exp(−2 d²) "
        "over pairs (lower: more evenly distributed; a collapsed model: 0). The gap is the distance between the mean "
        "image embedding and the mean text embedding. Mean over seeds, [95 % t-interval].\n\n"
        + table(["row", *TITLES.values()], body)
    )


def cost_text(trials: Trials, rows: Sequence[str], seeds: Sequence[int]) -> str:
    """Return the explanation and the table of the networks' inputs in a step and of the time of a step."""
    base = mean_cost(trials, rows[0], seeds)
    body = []
    for name in rows:
        inputs = trials[name][seeds[0]].record["given"]
        student, teacher = inputs["student"], inputs["teacher"]
        batch = student["images"][0][0]
        cost = mean_cost(trials, name, seeds)
        wall = [trials[name][seed].record["seconds"] for seed in seeds]
        body.append(
            [
                row(name).title,
                views(student),
                str(student["texts"][0] // batch),
                f"{views(teacher)}; {teacher['texts'][0] // batch}" if teacher else "not used",
                "yes" if student["cross_features"] else "no",
                f"{cost:.3f}",
                f"{cost / base:.2f}",
                f"{sum(wall) / len(wall):.0f}",
            ]
        )
    head = ["row", "student: images per sample", "texts", "teacher: images; texts", "cross-attention"]
    head += ["CPU s per step", f"relative to {rows[0]}", "s per training"]
    return (
        "All rows have the same images and steps, but not the same computation: later rows use more views of each "
        "image. The times are medians of the CPU seconds of a step with one thread, including rendering and views, "
        "averaged over seeds. Other work ran on the second core, so they compare rows, not machines.\n\n"
        + table(head, body)
    )


def views(inputs: dict[str, Any]) -> str:
    """Describe the image views of a network, as "2 of 64 px + 2 of 32 px"."""
    sizes = [shape[-1] for shape in inputs["images"]]
    return " + ".join(f"{sizes.count(size)} of {size} px" for size in dict.fromkeys(sizes))


def mean_cost(trials: Trials, name: str, seeds: Sequence[int]) -> float:
    """Return the CPU seconds of a step, averaged over seeds."""
    return sum(trials[name][seed].record["step_cpu_seconds"] or math.nan for seed in seeds) / len(seeds)


def csv(
    means: dict[str, dict[str, Estimate]],
    differences: dict[tuple[str, str], dict[str, Estimate]],
    geometry: dict[str, dict[int, dict[str, float]]],
    seeds: Sequence[int],
) -> str:
    """Return every figure of the tables as a fraction, one per line, with the value of each seed."""
    names = ["seed_low", "seed_high", "image_low", "image_high"]
    lines = [["row", "metric", "mean", *names, *(f"seed{seed}" for seed in seeds)]]

    def add(name: str, estimates: dict[str, Estimate]) -> None:
        for metric, value in estimates.items():
            bounds = [value.seed_low, value.seed_high, value.image_low, value.image_high]
            numbers = [value.mean, *bounds, *value.seeds]
            lines.append([name, metric, *(f"{number:.6g}" for number in numbers)])

    for name, estimates in means.items():
        add(name, estimates)
    for (first, second), estimates in differences.items():
        add(f"{first} minus {second}", estimates)
    for name, by_seed in geometry.items():
        for key in TITLES:
            values = [by_seed[seed][key] for seed in seeds]
            numbers = [sum(values) / len(values), *over_seeds(values), math.nan, math.nan, *values]
            lines.append([name, key, *(f"{number:.6g}" for number in numbers)])
    return "\n".join(",".join(line) for line in lines) + "\n"
