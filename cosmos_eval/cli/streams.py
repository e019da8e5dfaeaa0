"""Standard output and standard error of commands: they take any text, and a closed pipe does not end the work."""

import codecs
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from cosmos_core.printable import printable, without_controls

SUBSTITUTES = {
    "→": "->", "←": "<-", "–": "-", "—": "-", "−": "-", "‑": "-", "×": "x", "±": "+/-", "…": "...", "≥": ">=",
    "≤": "<=", "≠": "!=", "‘": "'", "’": "'", "“": '"', "”": '"', "•": "*", "·": "*", "µ": "u", "μ": "u", "\xa0": " ",
    "\u202f": " ", "━": "-", "─": "-", "╸": "-", "╺": "-", "│": "|",
}  # fmt: skip
"""Characters of our own tables and messages, for encodings that lack them."""
READABLE = "cosmos_eval.readable"
"""The name of `readable` among the error handlers of codecs."""


def readable(error: UnicodeError) -> tuple[str, int]:
    """Error handler of codecs: replace characters that the encoding lacks by similar ASCII signs, or else escapes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    signs = (
        SUBSTITUTES.get(character) or character.encode("ascii", "backslashreplace").decode() for character in lacking
    )
    return "".join(signs), error.end


codecs.register_error(READABLE, readable)


class Stream:
    """A text stream that takes any text.

    Characters that its encoding lacks are replaced. After the reader has closed the pipe (`| head`), the
    rest is dropped, so that the work goes on to its end and has its own exit code.

    Args:
        inner: the stream to write to.
        escape: whether control characters become escapes; False where we draw with them, as progress bars do.
        optional: whether the work goes on where nothing can be written, for example on a full disk: true of messages.
    """

    def __init__(self, inner: TextIO, *, escape: bool, optional: bool) -> None:
        self.inner = inner
        self.escape = escape
        self.optional = optional
        self.dropping = False

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() takes text, got {type(text).__name__}")
        if not self.dropping:
            shown = without_controls(text) if self.escape else text
            encoding = self.inner.encoding
            if encoding:  # a stream in memory has none
                shown = shown.encode(encoding, READABLE).decode(encoding)
            self._try(self.inner.write, shown)
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        if not self.dropping:
            self._try(self.inner.flush)

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":  # writing bytes would bypass this class
            raise AttributeError(name)
        return getattr(self.inner, name)

    def _try(self, action: Any, *arguments: str) -> None:
        try:
            action(*arguments)
        except OSError as error:
            self.drop()
            if not self.optional and not isinstance(error, BrokenPipeError):
                raise

    def drop(self) -> None:
        """Write nothing more; buffered text is discarded, since Python would otherwise try to write it at exit."""
        self.dropping = True
        with suppress(OSError, ValueError):  # a stream in memory has no descriptor
            descriptor = os.open(os.devnull, os.O_WRONLY)
            os.dup2(descriptor, self.inner.fileno())
            os.close(descriptor)


@contextmanager
def safe_streams() -> Iterator[None]:
    """Inside, `sys.stdout` and `sys.stderr` are a `Stream`, even if the shell has closed them (`>&-`)."""
    before = sys.stdout, sys.stderr
    _open_closed_descriptors()
    out, err = (open(os.devnull, "w", encoding="utf-8") if stream is None else stream for stream in before)  # noqa: PTH123, SIM115
    # ANSI of progress bars, our own and those of downloads, goes to standard error
    sys.stdout = Stream(out, escape=True, optional=False)
    sys.stderr = Stream(err, escape=False, optional=True)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def print_line(text: str) -> None:
    """Print one line; control characters in names from data are escaped."""
    print(printable(text))


def drawing_stream() -> TextIO:
    """Standard output for what draws with control characters of its own; data in it must be `printable`."""
    stream = sys.stdout
    return Stream(stream.inner, escape=False, optional=False) if isinstance(stream, Stream) else stream  # type: ignore[return-value]


def _open_closed_descriptors() -> None:
    """Open /dev/null where 0, 1 or 2 is closed: else the next file gets that number, and what C code prints."""
    if sys.stdout is None or sys.stderr is None:
        for descriptor in range(3):
            try:
                os.fstat(descriptor)
            except OSError:
                os.open(os.devnull, os.O_RDWR)
