"""How long `cosmos-eval --help` and a run with nothing left to do take, as a person waits for them.

    python benchmarks/startup.py [--quick]

Whole processes, timed from outside; the median of seven (three with --quick) after one that is not counted. Prints one
JSON line last.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cosmos_eval.results.environment import environment

COMMAND = [sys.executable, "-m", "cosmos_eval"]


def seconds(arguments: list[str], times: int) -> float:
    """Median wall time of a command; the first, which fills the file cache, is not counted."""
    found = []
    for _ in range(times + 1):
        start = time.perf_counter()
        subprocess.run([*COMMAND, *arguments], check=True, capture_output=True)
        found.append(time.perf_counter() - start)
    return statistics.median(found[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three repetitions instead of seven")
    times = 3 if parser.parse_args().quick else 7
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "out")
        figures = {
            "help_seconds": round(seconds(["--help"], times), 3),
            "noop_seconds": round(
                seconds(
                    ["run", "--model", "cosmos:untrained-toybox", "--benchmark", "toybox-classification", "--out", out],
                    times,
                ),
                3,
            ),
        }
    for name, value in figures.items():
        print(f"{name}: {value}")
    print(json.dumps({"name": "startup", "ratios": {}, "figures": figures, "environment": environment()}))


if __name__ == "__main__":
    main()
