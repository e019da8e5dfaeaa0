"""Runs the legs, one process each, and writes the tables. See the package's docstring."""

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
    if options.leg:
        name, seed = options.leg
        do_legs(options, [(rows.row(name), int(seed))], changes)
        return
    options.seeds = options.seeds or ([0, 1] if options.quick else [0, 1, 2])
    wanted = [(rows.row(name), seed) for seed in options.seeds for name in options.rows]
    if options.quick and not options.report:
        do_legs(options, wanted, changes)
    elif not options.report:
        run_legs(options, wanted, changes)
    from benchmarks.studies.ablation.report import write_report
    from cosmos_eval.results.environment import environment

    results = options.results or (options.out if options.quick else HERE / "results")
    figures = write_report(options.out, results)
    print(f"tables: {results / 'ablation.md'}")
    print(json.dumps({"name": "ablation", "ratios": {}, "figures": figures, "environment": environment()}))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    names = [one.name for one in rows.ROWS]
    parser = argparse.ArgumentParser(
        "python -m benchmarks.studies.ablation",
        description=ablation.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="8 steps and 100 test images: the machinery, no finding")
    parser.add_argument("--seeds", type=int, nargs="+", help="default: 0 1 2; --quick: 0 1")
    parser.add_argument("--rows", nargs="+", choices=names, default=names)
    parser.add_argument("--jobs", type=int, default=1, help="legs at a time; each is a process with one thread")
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"), help="folder for the legs")
    parser.add_argument("--results", type=Path, help="folder for the tables (default: results/; --quick: --out)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting of every row")
    parser.add_argument("--commit", default="", help="what the record calls this code; default: git's HEAD")
    parser.add_argument("--report", action="store_true", help="tables of what is finished, no training")
    parser.add_argument("--leg", nargs=2, metavar=("ROW", "SEED"), help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def do_legs(options: argparse.Namespace, wanted: list[tuple[rows.Row, int]], changes: list[str]) -> None:
    """Legs in this process, one after the other; test sets are rendered once for all of them."""
    from benchmarks.studies.ablation.leg import do_leg, folder_of
    from benchmarks.studies.ablation.testing import Examiner

    examiner = Examiner(QUICK_IMAGES if options.quick else None)
    for one, seed in wanted:
        config = rows.settings(one, seed, changes)
        do_leg(config, folder_of(options.out, one, seed), examiner, options.commit or head())


def run_legs(options: argparse.Namespace, wanted: list[tuple[rows.Row, int]], changes: list[str]) -> None:
    """Every leg that is not finished, in order, `jobs` at a time; the first fault stops what has not begun."""
    from benchmarks.studies.ablation.leg import folder_of, is_finished

    commit = options.commit or head()
    todo = []
    for one, seed in wanted:
        if is_finished(folder_of(options.out, one, seed), rows.settings(one, seed, changes)):
            print(f"{one.name}, seed {seed}: finished, kept", flush=True)
        else:
            todo.append((one, seed))
    base = [sys.executable, "-m", "benchmarks.studies.ablation", "--out", str(options.out), "--commit", commit]
    base += [part for change in options.set for part in ("--set", change)]

    def work(leg: tuple[rows.Row, int]) -> None:
        one, seed = leg
        print(f"{one.name}, seed {seed}: begins", flush=True)
        subprocess.run([*base, "--leg", one.name, str(seed)], check=True)

    with ThreadPoolExecutor(options.jobs) as pool:
        try:
            list(pool.map(work, todo))
        except subprocess.CalledProcessError as error:
            pool.shutdown(cancel_futures=True)
            raise RequestError(f"a leg failed with {error.returncode}; what it said stands above") from error


def head() -> str:
    """The commit of this code, with a mark where files differ from it; empty outside git."""
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude=*"], cwd=HERE, capture_output=True, text=True
    )
    return found.stdout.strip()


if __name__ == "__main__":
    try:
        main()
    except RequestError as error:
        sys.exit(f"ablation: {error}")
