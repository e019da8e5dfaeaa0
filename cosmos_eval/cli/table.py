"""Printing the results of a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cosmos_eval.cli.streams import print_line

if TYPE_CHECKING:
    from cosmos_eval.results.record import Result


def print_results(results: "Sequence[Result]", out: Path) -> None:
    """Print the headline metrics of these results, and the commands that show the rest of what is in their folder."""
    from cosmos_eval.report.run_summary import summary_lines
    from cosmos_eval.run.result_folders import folder_of_model

    for line in summary_lines(results):
        print_line(line)
    model = results[0].model
    first = out / folder_of_model(model.spec, model.digest) / results[0].benchmark.name
    folder = quoted(out)
    print_line(f"Results are in {out}.")
    if any(result.limit is None for result in results):
        print_line(f"  table:               cosmos-eval leaderboard {folder}")
        print_line(f"  page:                cosmos-eval report {folder}")
    else:  # made with --limit: tables and pages rank none of them
        print_line(f"  all of them:         cosmos-eval results list {folder}")
    print_line(f"  all metrics of one:  cosmos-eval results show {quoted(first)}")


def quoted(path: Path) -> str:
    """A path as a shell reads it."""
    import shlex

    return shlex.quote(str(path))
