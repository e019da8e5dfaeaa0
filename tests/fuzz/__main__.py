"""`python -m tests.fuzz --files 10000 --seed 0`: a table of outcomes; exit 1 where there was a fault."""

import argparse
import faulthandler
import tempfile
import warnings
from pathlib import Path

from tests.fuzz.running import SECONDS, fuzz, table
from tests.fuzz.targets import TARGETS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", action="append", help="only these; repeatable", choices=sorted(TARGETS))
    parser.add_argument("--stuck", type=int, default=3600, help="seconds after which C code that hangs is ended")
    given = parser.parse_args()
    # an alarm cannot end C code that never comes back to Python
    faulthandler.dump_traceback_later(max(given.stuck, 2 * SECONDS), exit=True)
    warnings.simplefilter("ignore")
    targets = [TARGETS[name] for name in given.target or TARGETS]
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        tally = fuzz(targets, given.files, given.seed, Path(folder))
    print(table(tally))
    for fault in tally.faults:
        print(fault)
    return 1 if tally.faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
