"""What a rank does of some work, and what it reports to rank 0."""

import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_eval.progress import Silent


@dataclass(frozen=True)
class Failure:
    """What ended a rank's work, as rank 0 is told."""

    piece: int
    """The number of the piece that failed: the first of several failures is the one that a single process meets."""
    line: str
    traceback: str = ""
    """Of a fault of ours; empty for a request that cannot be carried out."""


@dataclass(frozen=True)
class Report:
    """What a rank has done since its last report."""

    values: list[Any]
    notes: list[str]
    failure: Failure | None


class Notes(Silent):
    """Keeps what is noted on a rank that nobody watches, for its next report."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, line: str) -> None:
        self.lines.append(line)

    def taken(self) -> list[str]:
        lines, self.lines = self.lines, []
        return lines


@dataclass
class Share:
    """This rank's pieces of some work, and how far it has come."""

    values: Iterator[Any]
    pieces: range
    """Their numbers."""
    notes: Notes
    error: Exception | None = None

    def take(self, rounds: int) -> Report:
        """Do the next pieces, one a round while there are any; an error goes into the report."""
        found = []
        failure = None
        mine, self.pieces = self.pieces[:rounds], self.pieces[rounds:]
        try:
            for _ in mine:
                found.append(next(self.values))
            if not self.pieces:
                for _ in self.values:  # lets it end what it has opened
                    raise RuntimeError("more values than pieces")
        except Exception as error:
            self.error = error
            piece = mine[len(found)] if len(found) < len(mine) else mine[-1] if mine else 0
            known = isinstance(error, RequestError)
            line = str(error) if known else f"{type(error).__name__}: {error}"
            failure = Failure(piece, line, "" if known else "".join(traceback.format_exception(error)))
        return Report(found, self.notes.taken(), failure)
