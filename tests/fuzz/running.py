"""One mutated file through one reader: what came of it, within a bound of time and of memory."""

import random
import resource
import shutil
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cosmos_core.errors import RequestError
from tests.fuzz.mutations import mutate

REFUSED, SAME, OTHER = "refused", "same", "other"
"""Refused in one line; read, with the content of the whole file; read, with other content."""
CHANGED, RAISED, HUNG, HEAVY, TOLD = "changed", "raised", "hung", "heavy", "told badly"
"""Faults: other content where the format has a checksum; an exception that is not a refusal; more seconds or bytes than
the bound; a refusal that is not a line, or a page."""
FAULTS = (CHANGED, RAISED, HUNG, HEAVY, TOLD)
SECONDS = 15
"""Of the processor; of the clock it may be twenty times as many, since a busy machine is no fault of a reader."""
MEBIBYTES = 1024
LONGEST_LINE = 2000
_TEXTS = (".json", ".jsonl", ".yaml", ".txt", ".csv", ".tsv")


@dataclass(frozen=True)
class Target:
    """A reader, and a folder of valid files for it."""

    name: str
    make: Callable[[Path], Sequence[Path]]
    """Writes valid files below a folder and gives those that are mutated."""
    load: Callable[[Path], Any]
    """Reads the folder as the program does; what it gives is compared by ==."""
    checked: bool = False
    """Whether the format has a checksum, so that other content must not come through."""
    weight: int = 1
    """How many times as many files as the lightest target it gets."""
    quick: int = 15
    """Files in CI."""


class Hung(BaseException):
    """Not an Exception, so that no reader takes it for damage."""


@dataclass
class Tally:
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    slowest: dict[str, float] = field(default_factory=dict)


def fuzz(targets: Sequence[Target], files: int, seed: int, folder: Path) -> Tally:
    """Give `files` mutated files to the targets by their weights; the same ones for the same seed."""
    tally = Tally()
    whole = sum(target.weight for target in targets)
    for target in targets:
        home = folder / target.name
        home.mkdir(parents=True)
        _fuzz_one(target, max(1, round(files * target.weight / whole)), seed, home, tally)
        shutil.rmtree(home, ignore_errors=True)
    return tally


def _fuzz_one(target: Target, files: int, seed: int, home: Path, tally: Tally) -> None:
    paths = list(target.make(home))
    originals = {path: path.read_bytes() for path in paths}
    expected = target.load(home)
    counts = tally.counts.setdefault(target.name, Counter())
    for number in range(files):
        rng = random.Random(f"{seed} {target.name} {number}")
        path = rng.choice(paths)
        how, content = mutate(originals[path], rng, path.suffix in _TEXTS)
        path.write_bytes(content)
        start = time.perf_counter()
        outcome, said = outcome_of(target, home, expected)
        tally.slowest[target.name] = max(tally.slowest.get(target.name, 0.0), time.perf_counter() - start)
        path.write_bytes(originals[path])
        counts[outcome] += 1
        if outcome in FAULTS:
            tally.faults.append(f"{target.name} {number} ({how} in {path.relative_to(home)}): {outcome}: {said}")


def outcome_of(target: Target, home: Path, expected: Any) -> tuple[str, str]:
    """What came of loading a folder, and more about a fault."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        with _alarm(SECONDS), _memory(4 * MEBIBYTES):
            found = target.load(home)
    except RequestError as error:
        if _is_out_of_memory(error):
            return HEAVY, f"more than {4 * MEBIBYTES:,} MiB, refused as: {str(error)[:200]}"
        said = str(error)
        return (REFUSED, "") if "\n" not in said and len(said) <= LONGEST_LINE else (TOLD, said[:200])
    except Hung:
        return HUNG, f"more than {SECONDS} s"
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        return RAISED, f"{type(error).__name__}: {str(error)[:200]} ({last.filename}:{last.lineno})"
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    if grown > MEBIBYTES:
        return HEAVY, f"{grown:,} MiB more"
    if found == expected:
        return SAME, ""
    return (CHANGED, "accepted") if target.checked else (OTHER, "")


@contextmanager
def _alarm(seconds: int) -> Iterator[None]:
    def end(*_: Any) -> None:
        raise Hung

    timers = ((signal.ITIMER_PROF, signal.SIGPROF, seconds), (signal.ITIMER_REAL, signal.SIGALRM, 20 * seconds))
    before = {number: signal.signal(number, end) for _, number, _ in timers}
    try:
        for timer, _, limit in timers:
            signal.setitimer(timer, limit)
        yield
    finally:
        for timer, number, _ in timers:
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])


@contextmanager
def _memory(mebibytes: int) -> Iterator[None]:
    """Bound what is mapped, so that C code that fills memory fails: no alarm ends it, and it would take the machine."""
    sizes = Path("/proc/self/statm")
    if not sizes.exists():  # no Linux
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_AS)
    mapped = int(sizes.read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + (mebibytes << 20), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _is_out_of_memory(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, MemoryError):
            return True
        error = error.__cause__ or error.__context__
    return False


def table(tally: Tally) -> str:
    """Counts of outcomes by target, and the slowest file of each in seconds."""
    outcomes = (REFUSED, SAME, OTHER, *FAULTS)
    lines = [f"{'target':28}" + "".join(f"{name:>11}" for name in (*outcomes, "slowest"))]
    total: Counter[str] = Counter()
    for name, counts in tally.counts.items():
        total += counts
        lines.append(
            f"{name:28}" + "".join(f"{counts[one]:>11,}" for one in outcomes) + f"{tally.slowest[name]:>11.2f}"
        )
    lines.append(f"{'all':28}" + "".join(f"{total[one]:>11,}" for one in outcomes))
    return "\n".join(lines)
