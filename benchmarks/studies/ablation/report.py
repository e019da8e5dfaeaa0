"""The tables of an ablation as Markdown and CSV. What a person found out stands below a mark and is kept."""

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.studies.ablation.collect import METRICS, Leg, finished_legs, outcomes
from benchmarks.studies.ablation.rows import LADDER, OBJECTIVES, row
from benchmarks.studies.ablation.statistics import Estimate, estimate, over_seeds
from benchmarks.studies.ablation.testing import TITLES, Examiner
from cosmos_core.errors import RequestError
from cosmos_core.files import atomic_write_text

MARK = "<!-- findings: written by hand, kept when the tables are made again -->"
Legs = dict[str, dict[int, Leg]]


def write_report(out: Path, folder: Path, name: str = "ablation") -> dict[str, Any]:
    """Write NAME.md, NAME.csv and NAME.png from the finished legs below `out`; returns the figures.

    Only seeds that every row has count: rows are compared on equal terms, and a table of whole seeds can be read.
    """
    from benchmarks.studies.ablation.plot import draw

    legs = finished_legs(out)
    seeds = whole_seeds(legs)
    rows = list(legs)
    data = {name: {metric.name: outcomes(legs[name], metric, seeds) for metric in METRICS} for name in rows}
    means = {name: {key: estimate(one) for key, one in found.items()} for name, found in data.items()}
    pairs = {
        "steps": list(zip(LADDER[1:], LADDER, strict=False)),
        "first": [(name, LADDER[0]) for name in LADDER[2:]],
        "objectives": [*(("cosmos", name) for name in OBJECTIVES[:-1]), ("silc", "image_views")],
    }
    pairs = {where: [pair for pair in some if set(pair) <= set(rows)] for where, some in pairs.items()}
    gaps = {
        (a, b): {metric.name: estimate(data[a][metric.name].minus(data[b][metric.name])) for metric in METRICS}
        for some in pairs.values()
        for a, b in some
    }
    examiner = Examiner(limit_of(legs))
    shapes = {name: {seed: examiner.geometry(legs[name][seed].folder) for seed in seeds} for name in rows}
    text = "\n\n".join(
        [
            f"# {name}: from CLIP to COSMOS on toybox, {len(seeds)} seed" + "s" * (len(seeds) > 1),
            intro(legs, seeds),
            "## The ladder\n\n" + score_table([name for name in LADDER if name in rows], means),
            f"![every seed of every row]({name}.png)",
            "## What each step of the ladder adds\n\n" + HOW + "\n\n" + gap_table(gaps, pairs["steps"]),
            "And every row against the first:\n\n" + gap_table(gaps, pairs["first"]),
            "## The objectives side by side\n\n" + score_table([name for name in OBJECTIVES if name in rows], means),
            gap_table(gaps, pairs["objectives"]),
            "## Alignment and uniformity\n\n" + shape_text(rows, shapes),
            "## What a step costs\n\n" + cost_text(legs, rows, seeds),
        ]
    )
    path = folder / f"{name}.md"
    below = path.read_text(encoding="utf-8").partition(MARK)[2] if path.is_file() else "\n"
    atomic_write_text(path, f"{text}\n\n{MARK}{below}")
    atomic_write_text(folder / f"{name}.csv", csv(means, gaps, shapes, seeds))
    draw(means, folder / f"{name}.png")
    return {f"{one}_{metric.name}": round(means[one][metric.name].mean, 4) for one in rows for metric in METRICS} | {
        "seeds": len(seeds)
    }


def whole_seeds(legs: Legs) -> list[int]:
    """Seeds that every row has which has any.

    Raises:
        RequestError: there is none.
    """
    seeds = sorted(set.intersection(*(set(found) for found in legs.values())))
    if not seeds:
        raise RequestError("no seed is finished in every row; run the ablation on")
    return seeds


def limit_of(legs: Legs) -> int | None:
    return next(iter(next(iter(legs.values())).values())).record.get("limit")


HOW = (
    "Points, row minus the row above it: same seeds, same test samples. In brackets the 95 % t-interval over seeds; in "
    "parentheses the 95 % bootstrap interval over test images, trainings as they are. **Bold**: both leave zero out."
)


def intro(legs: Legs, seeds: Sequence[int]) -> str:
    some = next(iter(legs.values()))[seeds[0]]
    config, environment = some.record["config"], some.record["environment"]
    commits = sorted({leg.record["commit"] for found in legs.values() for leg in found.values()} - {""})
    hardware, packages = environment["hardware"], environment["packages"]
    digests = {
        seed: {legs[name][seed].record["samples_digest"] for name in legs if seed in legs[name]} for seed in seeds
    }
    same = all(len(found) == 1 for found in digests.values())
    limit = some.record.get("limit")
    lines = [
        f"Made by `python -m benchmarks.studies.ablation --seeds {' '.join(map(str, seeds))}`"
        + (f" at commit {', '.join(commits)}" if commits else "")
        + f". {hardware['cpu']}, one process a training, threads: {config['threads'] or 'as torch likes'}; "
        + f"Python {environment['python']}, "
        + ", ".join(f"{key} {packages[key]}" for key in packages)
        + ".",
        f"Every row: the toybox preset with batch {config['batch_size']}, {config['steps']} steps, "
        f"{config['batch_size'] * config['steps']:,} images; a seed decides initial weights, scenes, order, crops "
        "and captions, the same for every row"
        + (
            " (the order in which images were read is the same in all rows of a seed: digests are equal)."
            if same
            else ". **The order of images differs between rows: digests are not equal.**"
        ),
        "Evaluated is the averaged model (`#teacher`, momentum "
        f"{config['momentum_teacher']}) of every row, also where the loss does not use it, on the test split, whose "
        "images no seed trains on. Perception is the mean over the seven subsets. Chance: 0.1 %, 0.1 %, 2.1 %, 50 %.",
    ]
    if limit is not None:
        lines.append(f"**Evaluated on {limit} images only: no finding.**")
    return "\n\n".join(lines)


def table(header: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    rows = [header, ["---"] * len(header), *body]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


def percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.1f}"


def points(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:+.1f}"


def score_table(rows: Sequence[str], means: dict[str, dict[str, Estimate]]) -> str:
    """Means over seeds in percent with both intervals."""
    head = "Percent: mean over seeds, [95 % t-interval over seeds], (95 % bootstrap over test images)."
    body = [[row(name).title, *(cell(means[name][m.name], percent) for m in METRICS)] for name in rows]
    return head + "\n\n" + table(["row", *(metric.title for metric in METRICS)], body)


def gap_table(gaps: dict[tuple[str, str], dict[str, Estimate]], pairs: Sequence[tuple[str, str]]) -> str:
    body = []
    for ours, theirs in pairs:
        cells = [(gaps[ours, theirs][m.name], cell(gaps[ours, theirs][m.name], points)) for m in METRICS]
        body.append([f"{ours} − {theirs}", *(f"**{text}**" if one.clear else text for one, text in cells)])
    return table(["difference", *(metric.title for metric in METRICS)], body)


def cell(one: Estimate, form: Callable[[float], str]) -> str:
    seeds = f"[{form(one.seed_low)}, {form(one.seed_high)}]"
    return f"{form(one.mean)} {seeds} ({form(one.image_low)}, {form(one.image_high)})"


def shape_text(rows: Sequence[str], shapes: dict[str, dict[int, dict[str, float]]]) -> str:
    body = []
    for name in rows:
        cells = []
        for key in TITLES:
            values = [found[key] for found in shapes[name].values()]
            low, high = over_seeds(values)
            cells.append(f"{sum(values) / len(values):.2f} [{low:.2f}, {high:.2f}]".replace("[nan, nan]", "[–]"))
        body.append([row(name).title, *cells])
    return (
        "Wang & Isola (2020) on the 1,000 test scenes: alignment is the mean squared distance of unit rows (lower: "
        "closer; unrelated rows: 2), uniformity the logarithm of the mean of exp(−2 d²) over pairs (lower: more evenly "
        "spread; a collapsed model: 0), the gap the distance between the mean image and the mean text. Mean over "
        "seeds, [95 % t-interval].\n\n" + table(["row", *TITLES.values()], body)
    )


def cost_text(legs: Legs, rows: Sequence[str], seeds: Sequence[int]) -> str:
    """What the networks were given in a step, as seen at their doors, and what it took."""
    base = mean_cost(legs, rows[0], seeds)
    body = []
    for name in rows:
        given = legs[name][seeds[0]].record["given"]
        student, teacher = given["student"], given["teacher"]
        batch = student["images"][0][0]
        cost = mean_cost(legs, name, seeds)
        wall = [legs[name][seed].record["seconds"] for seed in seeds]
        body.append(
            [
                row(name).title,
                views(student),
                str(student["texts"][0] // batch),
                f"{views(teacher)}; {teacher['texts'][0] // batch}" if teacher else "not asked",
                "yes" if student["cross_features"] else "no",
                f"{cost:.3f}",
                f"{cost / base:.2f}",
                f"{sum(wall) / len(wall):.0f}",
            ]
        )
    head = ["row", "student: images a sample", "texts", "teacher: images; texts", "cross-attention"]
    head += ["CPU s a step", f"times {rows[0]}", "s a training"]
    return (
        "Equal images and steps are not equal work: rows further down look at more views of each image. Median "
        "processor seconds of a step on one thread, rendering and views included, mean over seeds; taken while other "
        "work ran on the second core, so good to compare rows, not machines.\n\n" + table(head, body)
    )


def views(given: dict[str, Any]) -> str:
    sizes = [shape[-1] for shape in given["images"]]
    return " + ".join(f"{sizes.count(size)} of {size} px" for size in dict.fromkeys(sizes))


def mean_cost(legs: Legs, name: str, seeds: Sequence[int]) -> float:
    return sum(legs[name][seed].record["step_cpu_seconds"] or math.nan for seed in seeds) / len(seeds)


def csv(
    means: dict[str, dict[str, Estimate]],
    gaps: dict[tuple[str, str], dict[str, Estimate]],
    shapes: dict[str, dict[int, dict[str, float]]],
    seeds: Sequence[int],
) -> str:
    """Every figure of the tables, fractions, one a line, with each seed's own value."""
    bounds = ["seed_low", "seed_high", "image_low", "image_high"]
    lines = [["what", "metric", "mean", *bounds, *(f"seed{seed}" for seed in seeds)]]

    def add(what: str, found: dict[str, Estimate]) -> None:
        for metric, e in found.items():
            numbers = [e.mean, e.seed_low, e.seed_high, e.image_low, e.image_high, *e.seeds]
            lines.append([what, metric, *(f"{number:.6g}" for number in numbers)])

    for name, found in means.items():
        add(name, found)
    for (ours, theirs), found in gaps.items():
        add(f"{ours} minus {theirs}", found)
    for name, by_seed in shapes.items():
        for key in TITLES:
            values = [by_seed[seed][key] for seed in seeds]
            numbers = [sum(values) / len(values), *over_seeds(values), math.nan, math.nan, *values]
            lines.append([name, key, *(f"{number:.6g}" for number in numbers)])
    return "\n".join(",".join(line) for line in lines) + "\n"
