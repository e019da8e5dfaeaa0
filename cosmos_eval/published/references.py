"""Published values for the reference rows of a leaderboard: those in the package, or from files."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from cosmos_core.errors import RequestError
from cosmos_core.file_checks import user_path
from cosmos_core.text_files import read_text
from cosmos_eval.protocol.suite import Suite
from cosmos_eval.report.board_columns import AVERAGE
from cosmos_eval.report.board_references import COLUMNS
from cosmos_eval.report.exchange_clip_benchmark import read_clip_benchmark
from cosmos_eval.report.exchange_open_clip import is_open_clip, read_open_clip

PAPER = "paper"


def read_references(names: Sequence[str], *, secondary: bool = False, suite: Suite | None = None) -> pd.DataFrame:
    """(values, `board_references.COLUMNS`) of `paper` (the published figures in the package) and of files.

    A file is a JSON of clip-benchmark, a folder of them, the CSV of its build command, or one of open_clip's tables.

    Args:
        secondary: of `paper`, also figures that only third parties report.
        suite: of `paper`, also the averages of this suite that tables print.

    Raises:
        RequestError: a file that is absent or of another format.
    """
    frames = [_paper(secondary, suite) if name == PAPER else read_file(user_path(name)) for name in names]
    return pd.concat([frame.reindex(columns=list(COLUMNS)) for frame in frames], ignore_index=True)


def _paper(secondary: bool, suite: Suite | None) -> pd.DataFrame:
    from cosmos_eval.published.averages import average_rows
    from cosmos_eval.published.figures import published

    frame = published(secondary=secondary)
    if suite is not None:
        every = published(secondary=secondary, unmapped=True)
        printed = [
            rows.assign(benchmark=average.name, metric=AVERAGE)
            for average, rows in average_rows(suite, every)
            if len(rows)
        ]
        frame = pd.concat([frame, *printed], ignore_index=True)
    marked = "secondary: " + frame["source"]
    return frame.assign(source=frame["source"].where(~frame["secondary"], marked))


def read_file(path: Path) -> pd.DataFrame:
    """References from a file or folder, whose format is recognised by its content."""
    if not path.exists():
        raise RequestError(
            f"no reference {str(path)!r}: give {PAPER}, or a file with results of clip-benchmark or open_clip"
        )
    if path.is_file() and path.suffix == ".csv":
        try:
            header = next(csv.reader(io.StringIO(read_text(path), newline="")), [])
        except csv.Error as error:
            raise RequestError(f"cannot read {path}: {error}") from error
        if is_open_clip(header):
            return read_open_clip(path)
    return read_clip_benchmark(path)
