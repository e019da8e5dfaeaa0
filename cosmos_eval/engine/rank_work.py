"""The share of one rank in some work, and the reports about it that the rank sends to rank 0."""

import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_eval.progress import Silent


@dataclass(frozen=True)
class RankFailure:
    """The error that ended a rank's work, as it is sent to rank 0."""

    piece: int
    """Number of the piece that failed. If several ranks fail, the failure with the lowest number is raised: a single
    process would have met it first."""
    line: str
    traceback: str = ""
    """Of an unexpected exception (a bug); empty for a RequestError."""


@dataclass(frozen=True)
class RankReport:
    """What a rank has done since its last report."""

    values: list[Any]
    notes: list[str]
    failure: RankFailure | None


class NoteCollector(Silent):
    """The reporter of a rank other than 0: it shows nothing and keeps notes for the rank's next report."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, line: str) -> None:
        self.lines.append(line)

    def take(self) -> list[str]:
        """Return the notes since the last call."""
        lines, self.lines = self.lines, []
        return lines


@dataclass
class RankShare:
    """This rank's pieces of some work, and which of them are left."""

    values: Iterator[Any]
    """The value of each piece, in order; taking one does the work."""
    pieces: range
    """Numbers of the pieces that are left."""
    notes: NoteCollector
    error: Exception | None = None
    """The exception behind the failure in the last report."""

    def do_rounds(self, rounds: int) -> RankReport:
        """Do the next pieces, one for each round as long as there are any, and return the report about them.

        An exception does not leave this function: it goes into the report.
        """
        values: list[Any] = []
        failure = None
        current_pieces, self.pieces = self.pieces[:rounds], self.pieces[rounds:]
        try:
            for _ in current_pieces:
                values.append(next(self.values))
            if not self.pieces:
                # All values are taken. Run the generator to its end, so that it closes what it has opened.
                for _ in self.values:
                    raise RuntimeError("more values than pieces")
        except Exception as error:
            self.error = error
            if len(values) < len(current_pieces):
                failed_piece = current_pieces[len(values)]
            else:  # the end of the generator failed
                failed_piece = current_pieces[-1] if current_pieces else 0
            if isinstance(error, RequestError):
                failure = RankFailure(failed_piece, str(error))
            else:
                line = f"{type(error).__name__}: {error}"
                failure = RankFailure(failed_piece, line, "".join(traceback.format_exception(error)))
        return RankReport(values, self.notes.take(), failure)
