"""Which command fetches data that are missing: part of the message that says so."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from cosmos_core.errors import RequestError
from cosmos_eval.protocol.benchmark import Benchmark


def advise_fetching(benchmarks: Sequence[Benchmark], data_root: Path | None) -> str:
    """The command that fetches what benchmarks lack, as the end of a sentence; empty where none does.

    Only benchmarks are named whose data are complete afterwards, without anything that a person has to do; those that
    need a person are named with the command that lists the steps.
    """
    from cosmos_eval.datasets.fetch.plan import make_fetch_plan
    from cosmos_eval.run.plan import DEFAULT_DATA_ROOT  # imports this module

    root = data_root or DEFAULT_DATA_ROOT
    try:
        plan = make_fetch_plan(benchmarks, root)
    except (RequestError, OSError):  # an unreadable folder, of which the message speaks already
        return ""
    by_hand = {name for step in plan.by_hand for name in step.benchmarks}
    where = "" if data_root is None else f" --data-root {shlex.quote(str(data_root))}"
    parts = []
    if complete := [_argument(benchmark) for benchmark in benchmarks if benchmark.name in plan.completed]:
        parts.append(f"fetch with `cosmos-eval data fetch {' '.join(complete)}{where}`")
    if steps := [_argument(benchmark) for benchmark in benchmarks if benchmark.name in by_hand]:
        parts.append(f"steps for a person: `cosmos-eval data fetch {' '.join(steps)} --dry-run{where}`")
    return "; ".join(parts)


def _argument(benchmark: Benchmark) -> str:
    """What a command takes for a benchmark: its name, or the path of a user's own definition."""
    return shlex.quote(str(benchmark.path or benchmark.name))
