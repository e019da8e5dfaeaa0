"""The quickstart: pretrains a COSMOS and its CLIP baseline on toybox, evaluates them, writes tables and a report."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cosmos_core.errors import RequestError
from cosmos_core.text_files import read_text
from cosmos_eval.progress import Reporter, Silent
from cosmos_eval.results.record import Result
from cosmos_eval.tasks.outcome import Metric

if TYPE_CHECKING:
    from cosmos_core.config import TrainConfig

SUITE = "toybox"
SHOWN = "toybox-segmentation-csa"
"""The benchmark whose predictions the report shows."""
ATTENTION_SHOWN = (3, "purple ring", "a white ring and a green star")
"""Test scene and texts of the attention maps in the report."""
KINDS, CHANCE = ("replace", "swap", "add"), 0.5
"""Kinds of wrong captions; chance: one of two captions is right."""
OBJECTIVES = ("cosmos", "clip")
SETTINGS = "config.yaml"
"""File beside a training with its configuration."""


@dataclass(frozen=True)
class Quickstart:
    """What a quickstart wrote."""

    results: list[Result]
    leaderboard: Path
    report: Path
    """The page of tables, charts and images."""
    regress: str
    """A command to try: is COSMOS worse than its baseline?"""
    verdict: list[str]
    """Where COSMOS is ahead of its baseline and where it is not, and which kinds of wrong captions it recognises."""


def quickstart(
    out: Path, *, seed: int = 0, changes: Sequence[str] = (), overwrite: bool = False, reporter: Reporter | None = None
) -> Quickstart:
    """Train with the toybox preset under both objectives, evaluate the toybox suite, write tables and report to `out`.

    Every number is measured here: the two models just trained on equal images and steps, one with random weights,
    and the checkpoint that ships with the package (the same preset, trained for longer). A training that is finished
    under the same configuration is kept, and so are finished results.

    Args:
        seed: of weights, scenes, views and captions; one seed gives the same bits on one machine.
        changes: `key=value` changes of the training preset, for a shorter trial.
    """
    from cosmos_core.config import load_preset
    from cosmos_eval.models import load_model
    from cosmos_eval.page.page import IMAGES, write_page
    from cosmos_eval.page.report import write_report
    from cosmos_eval.report.tables import write_leaderboard
    from cosmos_eval.run.options import RunOptions
    from cosmos_eval.run.plan import make_plan
    from cosmos_eval.run.result_folders import model_folder
    from cosmos_eval.run.session import Session
    from cosmos_eval.show.attention import show_attention
    from cosmos_eval.show.segmentation import show_segmentation

    reporter = reporter or Silent()
    folders = {}
    for objective in OBJECTIVES:
        folders[objective] = out / "train" / objective
        config = load_preset("toybox", [f"seed={seed}", *changes, f"objective={objective}"])
        train_once(config, folders[objective], overwrite=overwrite, reporter=reporter)
    ours, baseline = f"COSMOS, {config.steps} steps", f"CLIP loss, {config.steps} steps"
    models = {
        "cosmos:toybox": "COSMOS, shipped checkpoint (trained longer)",
        f"cosmos:{folders['cosmos'] / 'last.pt'}#teacher": ours,
        f"cosmos:{folders['clip'] / 'last.pt'}#teacher": baseline,
        f"cosmos:untrained-toybox?seed={seed}": "untrained",
    }
    session = Session(out / "results", RunOptions(seed=seed, overwrite=overwrite), reporter)
    plan = make_plan([SUITE])
    results, model_folders = [], {}
    for spec, label in models.items():
        model = load_model(spec, device=session.device)
        model_folders[label] = out / "results" / model_folder(model)
        results += session.evaluate_model(model, plan, label=label)
    findings = [*verdict(results, ours, baseline), *against_chance(results, ours, "untrained")]
    leaderboard, *_ = write_leaderboard(results, out)
    best = next(spec for spec, label in models.items() if label == ours)
    shown = show_segmentation(best, SHOWN, out / IMAGES / "segmentation", results=out / "results")
    scene, *texts = ATTENTION_SHOWN
    looked = show_attention(
        best, out / IMAGES / "attention", scene=scene, texts=texts, kinds=("attention", "similarity"), size=128
    )
    curves = {name: folder / "metrics.jsonl" for name, folder in folders.items()}
    write_page(out, results, curves, findings, {f"{ours}, {SHOWN}": shown.overlays[0]}, {ours: looked.png})
    # The folder may have results of an earlier training, too; the page shows only these.
    page = write_report(
        out, title="Quickstart: small models on toybox", lead=findings, within=list(model_folders.values())
    )
    compare = shlex.join(["cosmos-eval", "regress", str(model_folders[baseline]), str(model_folders[ours])])
    return Quickstart(results, leaderboard, page.path, compare, findings)


def train_once(config: "TrainConfig", folder: Path, *, overwrite: bool, reporter: Reporter) -> None:
    """Train into a folder unless it has the same training, finished; one that was stopped is resumed."""
    import dataclasses

    import yaml

    from cosmos_core.files import atomic_write_text
    from cosmos_core.run_lock import locked
    from cosmos_core.snapshot_checks import is_finished
    from cosmos_eval.training.callback import train_from
    from cosmos_eval.training.plan import require_settings

    # Without the folder, so that a quickstart that was moved is still recognised.
    record = yaml.safe_dump({**config.to_dict(), "out": ""}, sort_keys=False)
    settings_path = folder / SETTINGS
    exists = settings_path.is_file() and not overwrite
    if exists and read_text(settings_path) != record:
        raise RequestError(f"{folder} holds another training; give another --out, or --overwrite")
    if exists and is_finished(folder, config):
        reporter.note(f"{config.objective}: already trained, kept")
        return
    require_settings(config, 1)  # first: a folder that holds a record refuses other settings
    if not exists:
        with locked(folder):  # not while another quickstart trains there
            atomic_write_text(settings_path, record)
    train_from(dataclasses.replace(config, out=str(folder)), reporter, overwrite=not exists)


def times_chance(result: Result) -> dict[str, float]:
    """How many times chance the headline metrics are. Chance: one of N images, one of C classes, one of two texts."""
    from cosmos_eval.protocol.task_registry import task_info

    info = task_info(result.benchmark.task)
    if info.choices is None:
        return {}
    candidates = info.choices(result.dataset.n)
    return {name: result.metrics[name].value * candidates for name in info.headlines(result.primary)}


def verdict(results: Sequence[Result], ours: str, other: str) -> list[str]:
    """A line for each headline metric: whether the model labelled `ours` is ahead of `other`, and by how much."""
    from cosmos_eval.report.tables import headlines, short

    by_key = {(result.label, result.benchmark.name): result for result in results}
    lines = []
    for (label, name), result in by_key.items():
        if label != ours or (other, name) not in by_key:
            continue
        for metric in headlines(result.benchmark.task, result.primary):
            mine, theirs = result.metrics[metric], by_key[other, name].metrics[metric]
            difference = 100 * (mine.value - theirs.value)
            word = "ahead of" if difference > 0 else "behind" if difference < 0 else "level with"
            intervals = "intervals apart" if mine.low > theirs.high or mine.high < theirs.low else "intervals overlap"
            lines.append(f"{name} {short(metric)}: {ours} is {word} {other} ({difference:+.1f} points, {intervals})")
    return lines


def against_chance(results: Sequence[Result], ours: str, other: str) -> list[str]:
    """A line for each kind of wrong caption: the accuracy of `ours`, beside that of the model labelled `other`.

    An untrained model may prefer shorter captions and then is above chance where words are added; so its figure is
    given, too.
    """
    by_key = {(result.label, result.benchmark.name): result for result in results}
    lines = []
    for (label, name), result in by_key.items():
        if label != ours or not any(f"{kind}/accuracy" in result.metrics for kind in KINDS):
            continue
        for kind in KINDS:
            mine = result.metrics.get(f"{kind}/accuracy")
            if mine is None:
                continue
            word = "above" if mine.low > CHANCE else "below" if mine.high < CHANCE else "not distinct from"
            theirs = by_key[other, name].metrics[f"{kind}/accuracy"] if (other, name) in by_key else None
            beside = f"; {other} has {percent(theirs)}" if theirs is not None else ""
            lines.append(f"{name} {kind}: {ours} has {percent(mine)}, {word} chance ({100 * CHANCE:.0f}){beside}")
    return lines


def percent(metric: Metric) -> str:
    """A metric with its interval, as tables write it."""
    return f"{100 * metric.value:.1f} [{100 * metric.low:.1f}, {100 * metric.high:.1f}]"
