"""Printing a leaderboard."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cosmos_eval.results.record import Result


def print_results(results: "Sequence[Result]", out: Path) -> None:
    """Print the tables of these results, their warnings, and where the results lie."""
    from cosmos_eval.report.frame import distinct_labels, results_frame
    from cosmos_eval.report.tables import markdown

    print(markdown(distinct_labels(results_frame(results))))
    for result in results:
        for warning in result.warnings:
            print(f"{result.label}, {result.benchmark['name']}: {warning}")
    print(f"Results: {out}. All of them in one table: cosmos-eval leaderboard {out}")
