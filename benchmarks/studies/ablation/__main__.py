"""Run the trials, one process each, and write the tables. See the docstring of the package."""

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.studies import ablation
from benchmarks.studies.ablation import rows
from cosmos_core.errors import RequestError

HERE = Path(__file__).parents[3]
QUICK_IMAGES = 100


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    changes = [*(rows.QUICK if options.quick else rows.FULL), *options.set]
    if options.trial:
        name, seed = options.trial
        run_here(options, [(rows.row(name), int(seed))], changes)
        return
    options.seeds = options.seeds or ([0, 1] if options.quick else [0, 1, 2])
    trials = [(rows.row(name), seed) for seed in options.seeds for name in options.rows]
    if options.quick and not options.report:
        run_here(options, trials, changes)
    elif not options.report:
        run_in_processes(options, trials, changes)
    from benchmarks.studies.ablation.report import write_report
    from cosmos_eval.results.environment import environment

    results = options.results or (options.out if options.quick else HERE / "results")
    figures = write_report(options.out, results)
    print(f"tables: {results / 'ablation.md'}")
    print(json.dumps({"name": "ablation", "ratios": {}, "figures": figures, "environment": environment()}))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    names = [row.name for row in rows.ROWS]
    parser = argparse.ArgumentParser(
        "python -m benchmarks.studies.ablation",
        description=ablation.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="8 steps and 100 test images, to test the script")
    parser.add_argument("--seeds", type=int, nargs="+", help="default: 0 1 2; --quick: 0 1")
    parser.add_argument("--rows", nargs="+", choices=names, default=names)
    parser.add_argument("--jobs", type=int, default=1, help="trials at a time; each is a process with one thread")
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"), help="folder for the trials")
    parser.add_argument("--results", type=Path, help="folder for the tables (default: results/; --quick: --out)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting of every row")
    parser.add_argument("--commit", default="", help="commit to write to the records (default: git's HEAD)")
    parser.add_argument("--report", action="store_true", help="only write the tables of the finished trials")
    parser.add_argument("--trial", nargs=2, metavar=("ROW", "SEED"), help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def run_here(options: argparse.Namespace, trials: list[tuple[rows.Row, int]], changes: list[str]) -> None:
    """Run trials in this process, one after the other; the test sets are rendered only once."""
    from benchmarks.studies.ablation.evaluation import TrialEvaluator
    from benchmarks.studies.ablation.trial import folder_of, run_trial

    evaluator = TrialEvaluator(QUICK_IMAGES if options.quick else None)
    for row, seed in trials:
        config = rows.settings(row, seed, changes)
        run_trial(config, folder_of(options.out, row, seed), evaluator, options.commit or head())


def run_in_processes(options: argparse.Namespace, trials: list[tuple[rows.Row, int]], changes: list[str]) -> None:
    """Run the trials that are not finished, in order, `jobs` at a time; after a failure, no further trial starts."""
    from benchmarks.studies.ablation.trial import folder_of, is_finished

    commit = options.commit or head()
    unfinished = []
    for row, seed in trials:
        if is_finished(folder_of(options.out, row, seed), rows.settings(row, seed, changes)):
            print(f"{row.name}, seed {seed}: finished, kept", flush=True)
        else:
            unfinished.append((row, seed))
    base = [sys.executable, "-m", "benchmarks.studies.ablation", "--out", str(options.out), "--commit", commit]
    base += [part for change in options.set for part in ("--set", change)]

    def run_one(trial: tuple[rows.Row, int]) -> None:
        row, seed = trial
        print(f"{row.name}, seed {seed}: started", flush=True)
        subprocess.run([*base, "--trial", row.name, str(seed)], check=True)

    with ThreadPoolExecutor(options.jobs) as pool:
        try:
            list(pool.map(run_one, unfinished))
        except subprocess.CalledProcessError as error:
            pool.shutdown(cancel_futures=True)
            raise RequestError(
                f"a trial failed with exit code {error.returncode}; its error message is above"
            ) from error


def head() -> str:
    """Return the commit of this code, with `-dirty` if files differ from it; empty outside of git."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude=*"], cwd=HERE, capture_output=True, text=True
    )
    return described.stdout.strip()


if __name__ == "__main__":
    try:
        main()
    except RequestError as error:
        sys.exit(f"ablation: {error}")
