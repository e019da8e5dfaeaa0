"""Fifty SIGKILLs at random moments of a suite: do its results end as those of a run that nobody disturbed, to the bit,
and is nothing computed again that was safely stored? Then kills at every file operation of trainings and evaluations.

    python benchmarks/kills.py [--quick] [--kills 50] [--limit 200] [--points 0] [--chains 100] [--seed 0]

The second part (`crash_points.py`, `crash_chains.py`) has one chain for each file operation (open, write, flush,
rename, link, remove, make, truncate): a start is killed there, and the next ones go on until they come to their end.
More chains have two to five kills each. What stands in the end must be, to the bit, what a start that nobody disturbed
leaves, without another file beside it, and after no kill may `last.pt` be older than another checkpoint.

The first part:

The suite `toybox` without segmentation, whose patches are not stored, with the checkpoint that ships with us; each
start is a process of its own, forked from one that has the imports behind it. Two kills of three fall after the first
batch of their start, one at any time since it began. A round is over when its run is; then the next one begins in an
empty folder, until the kills are done. Shards are written every 0.05 s, and not every five as usual, so that kills fall
among many of them. Prints one JSON line last; ends with 1 if anything differed.
"""

import argparse
import importlib
import json
import math
import multiprocessing
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

SECONDS_BETWEEN_SHARDS = 0.05
SERVER = multiprocessing.get_context("forkserver")
READY = "cosmos_eval.run.evaluate cosmos_eval.cli.main open_clip pandas pyarrow.parquet jsonschema"
SERVER.set_forkserver_preload(READY.split())


def child(log: Path, arguments: Sequence[str]) -> None:
    """In a process that may be killed: the command, with a line in `log` for every item that passed the model."""
    import torch

    from cosmos_eval.cache import store
    from cosmos_eval.cache.known_features import Batches, KnownRows
    from cosmos_eval.cli.main import run_command

    torch.set_num_threads(1)
    sys.stdout = sys.stderr = log.with_suffix(".said").open("w", buffering=1)
    store.SECONDS = SECONDS_BETWEEN_SHARDS
    complete = KnownRows.complete

    def logged(self: KnownRows, keys: Sequence[str], encode: Any) -> Any:
        def noted(new: list[int]) -> Batches:
            for members, rows in encode(new):
                with log.open("a") as file:
                    file.write("".join(f"{keys[new[i]]}\n" for i in members))
                yield members, rows

        return complete(self, keys, noted)

    KnownRows.complete = logged  # type: ignore[method-assign]
    sys.exit(run_command(arguments))


def start(out: Path, log: Path, limit: int) -> Any:
    from cosmos_eval.protocol.benchmark import load_suite

    suite = [benchmark.name for benchmark in load_suite("toybox") if benchmark.task != "segmentation"]
    arguments = [word for name in suite for word in ("--benchmark", name)]
    arguments += ["--limit", str(limit), "--out", str(out), "--batch-size", "4"]
    process = SERVER.Process(target=child, args=(log, ["run", *arguments]))
    process.start()
    return process


def until(condition: Callable[[], bool], seconds: float = math.inf) -> None:
    """Wait for a condition, or some seconds."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)


def stored(out: Path) -> set[str]:
    """Keys of all rows that are whole on disk."""
    from cosmos_eval.cache.shard import read_shard

    shards = (read_shard(path, path.parent.name) for path in out.glob(".embeddings/*/*.safetensors"))
    return {bytes(key).hex() for shard in shards for key in shard.keys}


def outcome(out: Path) -> dict[str, Any]:
    """Everything that the results say but the time they took."""
    from cosmos_eval.results.store import read_results

    found = {}
    for result in read_results(out):
        samples = next(out.rglob(f"{result.benchmark.name}/samples.parquet")).read_bytes()
        found[result.benchmark.name] = result.metrics, result.warnings, result.dataset, result.identity, samples
    return found


def encoded(log: Path) -> Counter:
    return Counter(log.read_text().split()) if log.exists() else Counter()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="five kills, 60 images a benchmark; 5 file operations")
    parser.add_argument("--kills", type=int, help="how many (default: 50)")
    parser.add_argument("--limit", type=int, help="images of a benchmark (default: 200)")
    parser.add_argument("--points", type=int, help="file operations of each scenario (default: 0, all of them)")
    parser.add_argument("--chains", type=int, help="chains of several kills in each scenario (default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    given = parser.parse_args()
    kills = given.kills or (5 if given.quick else 50)
    limit = given.limit or (60 if given.quick else 200)
    draw = random.Random(given.seed)

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        start(root / "first", root / "first.log", 8).join()  # the server has its imports then
        clock = time.monotonic()
        log = root / "whole.log"
        process = start(root / "whole", log, limit)
        until(lambda: log.exists() or not process.is_alive())
        before = time.monotonic() - clock  # the first batch
        process.join()
        if process.exitcode != 0:
            print((root / "whole.said").read_text(), file=sys.stderr)
            return 1
        length = time.monotonic() - clock
        expected = outcome(root / "whole")
        inputs = encoded(root / "whole.log")
        print(f"{len(expected)} benchmarks, {len(inputs):,} inputs, {length:.1f} s undisturbed")

        killed = rounds = starts = 0
        again = lost = differing = 0  # inputs made again though stored; made again, not stored yet; results
        while killed < kills:
            rounds += 1
            out = root / f"round-{rounds}"
            made: Counter = Counter()
            finished = False
            while not finished:
                starts += 1
                safe = stored(out)
                log = root / f"start-{starts}.log"
                process = start(out, log, limit)
                if killed < kills:
                    moment = draw.uniform(0, length)
                    if draw.random() < 2 / 3:
                        until(lambda log=log, process=process: log.exists() or not process.is_alive())
                        moment = draw.uniform(0, length - before)
                    process.join(moment)
                    process.kill()  # no effect on one that has ended
                process.join()
                finished = process.exitcode == 0
                killed += process.exitcode == -signal.SIGKILL
                if process.exitcode not in (0, -signal.SIGKILL):
                    print(log.with_suffix(".said").read_text(), file=sys.stderr)
                    return 1
                own = encoded(log)
                again += sum(count for key, count in own.items() if key in safe)
                made += own
            lost += made.total() - len(made)
            own_outcome = outcome(out)
            differing += sum(own_outcome.get(name) != value for name, value in expected.items())
            print(f"round {rounds}: {killed} of {kills} kills, {made.total():,} inputs for {len(inputs):,}")

    from cosmos_eval.results.environment import environment

    most = given.points if given.points is not None else (5 if given.quick else 0)
    several = given.chains if given.chains is not None else (2 if given.quick else 100)
    at_points, faults = kills_at_points(most, several, given.seed)
    figures = {
        "kills": killed,
        "rounds": rounds,
        "results_that_differ": differing,
        "inputs_of_a_round": len(inputs),
        "stored_inputs_computed_again": again,
        "inputs_computed_again_before_they_were_stored": lost,
        "seconds_undisturbed": round(length, 1),
        "seconds_before_the_first_batch": round(before, 1),
        "at_file_operations": at_points,
    }
    for name, value in figures.items():
        print(f"{name}: {value}")
    print(json.dumps({"name": "kills", "ratios": {}, "figures": figures, "environment": environment()}))
    return 1 if differing or again or faults else 0


def kills_at_points(most: int, several: int, seed: int) -> tuple[dict[str, Any], list[str]]:
    """Figures of each scenario, and everything that went wrong."""
    import torch

    from benchmarks import crash_evaluation, crash_training
    from benchmarks.crash_chains import kill_at_points

    for module in ("cosmos_core.train", *READY.split()):
        importlib.import_module(module)
    torch.set_num_threads(1)  # before the processes are forked
    crash_training.warm_up()
    figures, faults = {}, []
    for scenario in (*crash_training.SCENARIOS, *crash_evaluation.SCENARIOS):
        with tempfile.TemporaryDirectory() as folder:
            tally = kill_at_points(scenario, Path(folder), most=most, several=several, seed=seed)
        figures[scenario.name] = tally.figures()
        faults += tally.faults()
        print(f"{scenario.name}: {tally.figures()}", *tally.faults(), sep="\n", flush=True)
    return figures, faults


if __name__ == "__main__":
    sys.exit(main())
