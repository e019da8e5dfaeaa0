"""Kill evaluations and trainings, resume them, and check that the results equal those of an uninterrupted run.

    python benchmarks/kills.py [--quick] [--kills 50] [--limit 200] [--points 0] [--chains 100] [--seed 0]

First part, 50 SIGKILLs at random moments: The suite `toybox` without segmentation (whose patches are not cached) is
evaluated with the shipped checkpoint. Each start is a separate process, forked from one that has already done the
imports. Two of three kills come after the first batch of their start, the third at any time. When a run is complete, a
round is over, and the next round begins in an empty folder, until all kills are done. Cached embeddings are written
every 0.05 s instead of every five seconds, so that kills hit many writes. Results must be bit-identical to those of an
uninterrupted run, and nothing that was cached may be computed again.

Second part, kills at file operations (`crash_points.py`, `crash_chains.py`): For each file operation (open, write,
flush, rename, link, remove, mkdir, truncate) a command is killed at this operation and then started again until it is
complete. Further chains have two to five kills. In the end, all files must be bit-identical to those of an
uninterrupted command, without additional files; and `last.pt` must never be older than another checkpoint.

The last line printed is JSON. The exit code is 1 if anything differed.
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
from functools import partial
from pathlib import Path
from typing import Any

SECONDS_BETWEEN_SHARDS = 0.05
SERVER = multiprocessing.get_context("forkserver")
PRELOADED = "cosmos_eval.run.evaluate cosmos_eval.cli.main open_clip pandas pyarrow.parquet jsonschema"
SERVER.set_forkserver_preload(PRELOADED.split())


def child(log: Path, arguments: Sequence[str]) -> None:
    """Run the command in a process that may be killed, and log the key of every image and text that is encoded."""
    import torch

    from cosmos_eval.cache import feature_cache
    from cosmos_eval.cache.cached_features import CachedFeatures, EncodedBatches
    from cosmos_eval.cli.main import run_command

    torch.set_num_threads(1)
    sys.stdout = sys.stderr = log.with_suffix(".output").open("w", buffering=1)
    feature_cache.WRITE_INTERVAL = SECONDS_BETWEEN_SHARDS
    original = CachedFeatures.get_or_encode

    def logged(self: CachedFeatures, keys: Sequence[str], encode: Any) -> Any:
        def encode_and_log(new: list[int]) -> EncodedBatches:
            for members, rows in encode(new):
                with log.open("a") as file:
                    file.write("".join(f"{keys[new[i]]}\n" for i in members))
                yield members, rows

        return original(self, keys, encode_and_log)

    CachedFeatures.get_or_encode = logged  # type: ignore[method-assign]
    sys.exit(run_command(arguments))


def start(out: Path, log: Path, limit: int) -> Any:
    """Start the evaluation in a new process and return this process."""
    from cosmos_eval.protocol.benchmark import load_suite

    suite = [benchmark.name for benchmark in load_suite("toybox") if benchmark.task != "segmentation"]
    arguments = [word for name in suite for word in ("--benchmark", name)]
    arguments += ["--limit", str(limit), "--out", str(out), "--batch-size", "4"]
    process = SERVER.Process(target=child, args=(log, ["run", *arguments]))
    process.start()
    return process


def wait_until(condition: Callable[[], bool], seconds: float = math.inf) -> None:
    """Wait until a condition holds, or for some seconds."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)


def has_begun(log: Path, process: Any) -> bool:
    """Return whether a process has encoded its first batch, or has ended."""
    return log.exists() or not process.is_alive()


def cached_keys(out: Path) -> set[str]:
    """Return the keys of all embeddings in the cache."""
    from cosmos_eval.cache.shard import read_shard

    shards = (read_shard(path, path.parent.name) for path in out.glob(".embeddings/*/*.safetensors"))
    return {bytes(key).hex() for shard in shards for key in shard.keys}


def outcome(out: Path) -> dict[str, Any]:
    """Return everything in the results, except times."""
    from cosmos_eval.results.store import read_results

    content = {}
    for result in read_results(out):
        samples = next(out.rglob(f"{result.benchmark.name}/samples.parquet")).read_bytes()
        content[result.benchmark.name] = result.metrics, result.warnings, result.dataset, result.identity, samples
    return content


def encoded(log: Path) -> Counter:
    """Count how often each key was encoded."""
    return Counter(log.read_text().split()) if log.exists() else Counter()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="five kills, 60 images per benchmark; 5 file operations")
    parser.add_argument("--kills", type=int, help="number of random kills (default: 50)")
    parser.add_argument("--limit", type=int, help="images per benchmark (default: 200)")
    parser.add_argument("--points", type=int, help="file operations per scenario (default: 0, all of them)")
    parser.add_argument("--chains", type=int, help="chains of several kills per scenario (default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random moments")
    options = parser.parse_args()
    kills = options.kills or (5 if options.quick else 50)
    limit = options.limit or (60 if options.quick else 200)
    rng = random.Random(options.seed)

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        start(root / "first", root / "first.log", 8).join()  # now the server has done its imports
        clock = time.monotonic()
        log = root / "whole.log"
        process = start(root / "whole", log, limit)
        wait_until(partial(has_begun, log, process))
        before = time.monotonic() - clock  # time until the first batch
        process.join()
        if process.exitcode != 0:
            print((root / "whole.output").read_text(), file=sys.stderr)
            return 1
        length = time.monotonic() - clock
        expected = outcome(root / "whole")
        inputs = encoded(root / "whole.log")
        print(f"{len(expected)} benchmarks, {len(inputs):,} inputs, {length:.1f} s without kills")

        killed = rounds = starts = 0
        again = lost = differing = 0  # inputs encoded again although cached; not yet cached; results that differ
        while killed < kills:
            rounds += 1
            out = root / f"round-{rounds}"
            total: Counter = Counter()
            finished = False
            while not finished:
                starts += 1
                cached = cached_keys(out)
                log = root / f"start-{starts}.log"
                process = start(out, log, limit)
                if killed < kills:
                    moment = rng.uniform(0, length)
                    if rng.random() < 2 / 3:
                        wait_until(partial(has_begun, log, process))
                        moment = rng.uniform(0, length - before)
                    process.join(moment)
                    process.kill()  # no effect on one that has ended
                process.join()
                finished = process.exitcode == 0
                killed += process.exitcode == -signal.SIGKILL
                if process.exitcode not in (0, -signal.SIGKILL):
                    print(log.with_suffix(".output").read_text(), file=sys.stderr)
                    return 1
                counts = encoded(log)
                again += sum(count for key, count in counts.items() if key in cached)
                total += counts
            lost += total.total() - len(total)
            results = outcome(out)
            differing += sum(results.get(name) != value for name, value in expected.items())
            print(
                f"round {rounds}: {killed} of {kills} kills, {total.total():,} inputs encoded, {len(inputs):,} needed"
            )

    from cosmos_eval.results.environment import environment

    most = options.points if options.points is not None else (5 if options.quick else 0)
    several = options.chains if options.chains is not None else (2 if options.quick else 100)
    at_points, faults = kills_at_points(most, several, options.seed)
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
    """Return the figures of each scenario, and a list of everything that went wrong."""
    import torch

    from benchmarks import crash_evaluation, crash_training
    from benchmarks.crash_chains import kill_at_points

    for module in ("cosmos_core.train", *PRELOADED.split()):
        importlib.import_module(module)
    torch.set_num_threads(1)  # before the processes are forked
    crash_training.import_training()
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
