"""Measure how long the whole search of a linear probe takes, compared with clip-benchmark and scikit-learn.

    python benchmarks/probe.py [--quick | --moderate] [--device cuda] [--out results/speed.md]

Generated features of unit length: 50,000 x 512 of 1,000 classes (4,000 x 256 of 100 with --moderate, 1,000 x 128 of 20
with --quick). The time goes from features to the test accuracy: the search of the regularisation on validation
features, and the last fit of train and validation features together. Every side searches 97 strengths in the way of the
CLIP paper, with 7 strengths first and then two more in each of 4 rounds, on the same splits: clip-benchmark with AdamW
and its own defaults, where it fits the best strength of each round again; scikit-learn with L-BFGS. Its search would
take many hours at the full size: there it makes the last fit only, at the strength that cosmos-eval has chosen, and is
compared with our last fit, both without a start from the search, in a table of its own. If the test accuracy of
cosmos-eval is lower than that of a peer by more than one standard error, the exit code is 1. The ratio `probe` is the
time of clip-benchmark divided by ours, for the same number of fits: its repeated ones are taken off at the mean time of
its fits. `probe_whole_command` is the ratio with them. The last line printed is JSON.

Which side is more accurate depends on the generated data. By default, classes differ most in the directions of the
largest variance. With `--signal 1 --noise 3` they differ in all directions alike after whitening: there AdamW, stopped
after 10 epochs, was more accurate than L2-regularised logistic regression, ours and scikit-learn's (600 train features:
0.839, 0.797 and 0.804), and the exit code is 1.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.output import last_line, ratio, row
from benchmarks.processes import run_in_processes
from benchmarks.speed_page import print_and_write
from benchmarks.timing import Times
from cosmos_core.errors import RequestError

if TYPE_CHECKING:
    from benchmarks.probe_cases import ProbePlan

NAMES = {"peer": "clip-benchmark", "scikit-learn": "scikit-learn", "ours": "cosmos-eval"}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="1,000 x 128 x 20: about a minute")
    size.add_argument("--moderate", action="store_true", help="4,000 x 256 x 100: some minutes")
    parser.add_argument("--without-sklearn", action="store_true", help="leave scikit-learn out, which is the slowest")
    parser.add_argument("--signal", type=int, choices=(1, 2), help="power of the spectrum for the means of the classes")
    parser.add_argument("--noise", type=float, help="spread of the images of a class")
    parser.add_argument("--device", default="cpu", help="cpu or cuda; scikit-learn always uses the CPU")
    parser.add_argument("--threads", type=int, default=0, help="0: as many as the machine has cores")
    parser.add_argument("--out", type=Path, help="also write a section of this page")
    options = parser.parse_args(arguments)
    plan = plan_of(options)
    load = os.getloadavg()[0]
    try:
        measured = run_in_processes([1], "benchmarks.probe_cases:measure", plan, threads=options.threads)[1]
    except RequestError as error:
        print(f"probe: {error}", file=sys.stderr)
        return 2
    if behind := sides_ahead(measured["accuracy"], plan.test):
        print(f"probe: the accuracy is lower than that of {', '.join(behind)}: {measured['accuracy']}", file=sys.stderr)
        return 1
    title = "Linear probe with the search of its regularisation"
    print_and_write(title, table(measured, plan), record(measured, plan, load), options.out, arguments)
    return 0


def plan_of(options: argparse.Namespace) -> "ProbePlan":
    from benchmarks.probe_cases import FULL, MODERATE, QUICK

    plan = QUICK if options.quick else MODERATE if options.moderate else FULL
    plan = replace(plan, device=options.device, with_sklearn=not options.without_sklearn)
    changes = {"signal": options.signal, "noise": options.noise}
    return replace(plan, **{name: value for name, value in changes.items() if value is not None})


def sides_ahead(accuracy: dict[str, float], images: int) -> list[str]:
    """Return the peers with a higher test accuracy than ours, by more than its standard error."""
    ours = accuracy["ours"]
    error = (ours * (1 - ours) / images) ** 0.5
    return [NAMES[side] for side, value in accuracy.items() if value > ours + error]


def table(measured: dict[str, Any], plan: "ProbePlan") -> list[str]:
    """Return the lines of the Markdown text."""
    times = Times(measured["seconds"])
    peer, fair = measured["chosen"]["peer"], equal_seconds(measured)
    lines = [
        f"{plan.train:,} train, {plan.val:,} validation and {plan.test:,} test features of {plan.dimensions:,} "
        f"dimensions and {plan.classes:,} classes on {plan.device}; the search of the strength and the last fit.",
        "",
        row(["", "seconds", "ratio to cosmos-eval", "test top-1", "fits of the search"]),
        row(["---"] * 5),
    ]
    for side in times.seconds:
        cells = [NAMES[side], f"{times.median(side):.2f}", ratio(times, side)]
        lines.append(row([*cells, f"{measured['accuracy'][side]:.4f}", str(measured["chosen"][side]["trials"])]))
    lines += [
        "",
        f"{NAMES['peer']} makes {peer['repeated']} of its {peer['trials']} fits again. Without these, at the mean time "
        f"of its fits, it takes {fair:.2f} s: ratio {fair / times.median('ours'):.2f}.",
    ]
    return lines + (last_fit_table(measured["last_fit"]) if measured["last_fit"] else [])


def equal_seconds(measured: dict[str, Any]) -> float:
    """Return the seconds of clip-benchmark without the fits that it repeats, at the mean time of its fits."""
    peer = measured["chosen"]["peer"]
    fits = peer["trials"] + 1  # and the last one
    return Times(measured["seconds"]).median("peer") * (1 - peer["repeated"] / fits)


def last_fit_table(last_fit: dict[str, Any]) -> list[str]:
    """Return the lines of the Markdown text on the last fit only."""
    lines = [
        "",
        f"Last fit only, of train and validation features together at strength {last_fit['strength']:.3g}, without a "
        f"start from the search. The coefficients, up to {last_fit['largest']:.3g}, differ by at most "
        f"{last_fit['difference']:.2g}.",
        "",
        row(["last fit only", "seconds", "ratio to cosmos-eval", "test top-1", "objective", "iterations"]),
        row(["---"] * 6),
    ]
    for side in ("scikit-learn", "ours"):
        of_side = last_fit[side]
        cells = [NAMES[side], f"{of_side['seconds']:.2f}", f"{of_side['seconds'] / last_fit['ours']['seconds']:.2f}"]
        cells += [f"{of_side['accuracy']:.4f}", f"{of_side['objective']:.7f}", str(of_side["iterations"])]
        lines.append(row(cells))
    return lines


def record(measured: dict[str, Any], plan: "ProbePlan", load: float) -> dict[str, Any]:
    """Return the record of the last line; `load` is the load average of the machine before the start."""
    times = Times(measured["seconds"])
    figures: dict[str, Any] = {
        **{key: getattr(plan, key) for key in ("train", "val", "test", "dimensions", "classes", "signal", "noise")},
        **{f"{side.replace('-', '_')}_seconds": times.median(side) for side in times.seconds},
        "accuracy": measured["accuracy"],
        "chosen": measured["chosen"],
    }
    ratios = {
        "probe": equal_seconds(measured) / times.median("ours"),
        "probe_whole_command": times.ratio("peer", "ours"),
    }
    if last_fit := measured["last_fit"]:
        figures["last_fit_only"] = last_fit
        ratios["probe_scikit_learn_last_fit"] = last_fit["scikit-learn"]["seconds"] / last_fit["ours"]["seconds"]
    if "scikit-learn" in times.seconds:
        ratios["probe_scikit_learn"] = times.ratio("scikit-learn", "ours")
    return last_line("probe", ratios, figures, plan.device, measured["threads"], load)


if __name__ == "__main__":
    sys.exit(main())
