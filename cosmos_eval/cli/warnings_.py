"""Prints warnings of libraries as single lines, each once and without positions in their source."""

import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from cosmos_core.printable import printable
from cosmos_eval.rank_environment import is_main_process

MOST = 300
"""Characters of a warning that are shown."""
_PACKAGE = re.compile(r"(?:site|dist)-packages[/\\]([A-Za-z0-9_]+)")

_TORCH_SOURCE = re.compile(r"\(?Triggered internally at [^\s)]+\)?")
"""Where in its own source torch found a reason to warn."""


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Inside, and in processes forked there, each warning is one line on standard error, once for each text; of several
    ranks the first one says it."""
    before = warnings.showwarning
    shown_texts: set[str] = set()

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        text = " ".join(_TORCH_SOURCE.sub("", str(message)).split())
        if text in shown_texts or not is_main_process():
            return
        shown_texts.add(text)
        package = _PACKAGE.search(filename)
        source = f" of {package[1]}" if package else ""
        shown = text if len(text) <= MOST else f"{text[:MOST]}..."
        print(f"cosmos-eval: a warning{source}: {printable(shown)}", file=file or sys.stderr, flush=True)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before
