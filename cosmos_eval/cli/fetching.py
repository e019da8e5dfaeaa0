"""What `data fetch`, `run --fetch` and `watch --fetch` share: show the plan, ask once, fetch."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cosmos_eval.cli.streams import print_line

if TYPE_CHECKING:
    from cosmos_eval.datasets.fetch.plan import FetchPlan
    from cosmos_eval.progress import Reporter
    from cosmos_eval.protocol.benchmark import Benchmark


def fetch_missing(
    names: "Sequence[str | Path | Benchmark]",
    data_root: Path | None,
    reporter: "Reporter",
    fetch: bool,
    yes: bool,
    *,
    dry_run: bool = False,
    keep_going: bool = False,
) -> tuple[Path | None, tuple[str, ...]]:
    """Fetch what benchmarks lack, for commands that then read it. Their standard output is for results.

    Args:
        fetch: whether the user asked for it; otherwise nothing is done.
        yes: whether it is not asked again.
        keep_going: whether what cannot be fetched is only noted.

    Returns:
        The data root to read from: where data were fetched to, also for a user's own definitions, which are otherwise
        read from their own folder where none is given. And the benchmarks whose data the plan completes.

    Raises:
        RequestError: `yes` without `fetch`, no terminal to ask on, or something could not be fetched.
    """
    from cosmos_core.errors import RequestError
    from cosmos_eval.datasets.fetch.plan import make_fetch_plan
    from cosmos_eval.run.plan import DEFAULT_DATA_ROOT, resolve_benchmarks

    if not fetch:
        if yes:
            raise RequestError("--yes answers the question of --fetch; add --fetch, or leave --yes out")
        return data_root, ()
    data_root = data_root or DEFAULT_DATA_ROOT
    plan = make_fetch_plan(resolve_benchmarks(names), data_root)
    failed = fetch_planned(plan, reporter.note, reporter, ask=not yes, dry_run=dry_run)
    if failed and not keep_going:
        raise RequestError(f"not everything was fetched: {'; '.join(failed)}; the same command goes on from here")
    for line in failed:
        reporter.note(f"not fetched: {line}")
    return data_root, plan.completed


def fetch_planned(
    plan: "FetchPlan",
    show: Callable[[str], None],
    reporter: "Reporter",
    *,
    ask: bool,
    dry_run: bool,
    keep_archives: bool = False,
) -> tuple[str, ...]:
    """Show a plan and carry it out; one line for each part that failed.

    Raises:
        RequestError: no terminal to ask on, or the disk is full.
        typer.Exit: the answer was no; exit code 1.
    """
    from cosmos_eval.datasets.fetch.plan_text import describe_plan

    if not dry_run and plan.fetched and (not ask or sys.stdin.isatty()):
        from cosmos_eval.datasets.fetch.hub_sizes import ask_for_sizes

        plan = ask_for_sizes(plan)
    for line in describe_plan(plan):
        show(line)
    if dry_run or not (plan.fetched or plan.prepare):
        return ()
    if ask and plan.fetched:
        require_consent()
    from cosmos_eval.datasets.fetch.fetching import fetch

    return fetch(plan, reporter, keep_archives=keep_archives).failed


def require_consent() -> None:
    """Ask once whether to fetch.

    Raises:
        RequestError: standard input is not a terminal.
        typer.Exit: the answer was no; exit code 1.
    """
    from cosmos_core.errors import RequestError

    if not sys.stdin.isatty():
        raise RequestError(
            "nothing was fetched: there is no terminal to ask on; add --yes to fetch what is shown above"
        )
    if not typer.confirm("Fetch this?", err=True):
        raise typer.Exit(1)


def print_fetchable(names: Sequence[str]) -> None:
    """Print how the data of each benchmark (of these, or all) are fetched, their size and terms."""
    from cosmos_eval.datasets.fetch.listing import list_sources
    from cosmos_eval.datasets.fetch.table import load_table
    from cosmos_eval.run.plan import resolve_benchmarks

    wanted = {benchmark.name for benchmark in resolve_benchmarks(names)} if names else None
    for row in list_sources(load_table()):
        benchmarks = [name for name in row.benchmarks if wanted is None or name in wanted]
        if benchmarks and row.recipe.artifacts:
            print_line(f"{row.recipe.how:9}  {', '.join(benchmarks)}: {row.size}; {', '.join(row.terms)}")
