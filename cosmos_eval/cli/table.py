"""Printing the results of a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cosmos_eval.cli.streams import print_line

if TYPE_CHECKING:
    from cosmos_eval.results.record import Result


def print_results(results: "Sequence[Result]", out: Path, suite: str = "") -> None:
    """Print the headline metrics of these results, and the commands that show the rest of what is in their folder.

    Whole results are printed as tables, with models as rows. Results of `--limit`, which no table may hold, are printed
    as lines that say so.

    Args:
        suite: the suite that was run, if it was one; its tables have averages.
    """
    from cosmos_eval.report.board import make_board
    from cosmos_eval.report.markdown import headline_tables
    from cosmos_eval.report.run_summary import summary_lines
    from cosmos_eval.report.tables import warnings_of
    from cosmos_eval.run.result_folders import folder_of_model

    whole = [result for result in results if result.limit is None]
    if whole:
        for line in [
            "Percent, with 95 % intervals in brackets.",
            "",
            *headline_tables(make_board(whole)).splitlines(),
            *warnings_of(whole),
        ]:
            print_line(line)
    for line in summary_lines([result for result in results if result.limit is not None]):
        print_line(line)
    model = results[0].model
    benchmark_folder = f"{results[0].benchmark.name}{results[0].transforms.folder_suffix}"
    first = out / folder_of_model(model.spec, model.digest) / benchmark_folder
    folder = quoted(out)
    print_line(f"Results are in {out}.")
    if whole:
        of_suite = f" --suite {quoted(suite)}" if suite else ""
        print_line(f"  table:               cosmos-eval leaderboard {folder}{of_suite}")
        print_line(f"  page:                cosmos-eval report {folder}{of_suite}")
    else:
        print_line(f"  all of them:         cosmos-eval results list {folder}")
    print_line(f"  all metrics of one:  cosmos-eval results show {quoted(first)}")


def quoted(path: Path | str) -> str:
    """A path as a shell reads it."""
    import shlex

    return shlex.quote(str(path))
