"""Text from data (names of files, classes, models) as it may stand in one line of a message, a terminal or a table."""

import re
from pathlib import Path

NOT_SHOWN = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # C0 (new lines, tabs, ESC of ANSI and OSC sequences), DEL, C1 (CSI and OSC as one character)
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # what turns the direction of the text around it
    "\u200b\u2060-\u2064\u206a-\u206f\ufeff\ufff9-\ufffb"  # no width: two names that look alike
    "\u2028\u2029"  # line and paragraph separators
    "\ud800-\udfff]"  # lone surrogates: bytes of a file name that are not UTF-8
)
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def printable(text: str | Path) -> str:
    """The text in one line, with each character that a terminal would obey or not show as an escape that can be read.

    A new line becomes `\\n`, ESC `\\x1b`, a bidi override `\\u202e`, and a byte that is not UTF-8 `\\udcff`. Joiners
    (U+200C, U+200D) stay: scripts and emoji need them.
    """
    return NOT_SHOWN.sub(_escape, str(text))


def one_line(value: object, longest: int = 300) -> str:
    """Text, or what an exception of somebody else's says (its type, where it says nothing), as part of one line."""
    text = printable(" ".join(str(value).split()).removesuffix(":"))
    return text[:longest] + "..." if len(text) > longest else text or type(value).__name__


def without_controls(text: str) -> str:
    """Lines of output with their new lines and tabs, and all other control characters as escapes."""
    return CONTROLS.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    code = ord(character)
    return SHORT.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
