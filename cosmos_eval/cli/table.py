"""Printing a leaderboard."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cosmos_eval.results.record import Result


def print_results(results: "Sequence[Result]", out: Path) -> None:
    """Print the tables of these results, and the folder of the results."""
    from cosmos_eval.report.tables import render

    print(render(results, "md"))
    print(f"Results: {out}. All of them in one table: cosmos-eval leaderboard {out}")
