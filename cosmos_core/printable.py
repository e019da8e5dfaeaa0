"""Making text from data (names of files, classes, models) safe for one line of a message, a terminal or a table."""

import re
from collections.abc import Mapping
from pathlib import Path

UNSAFE_CHARACTERS = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # C0 (new lines, tabs, ESC of ANSI and OSC sequences), DEL, C1 (CSI and OSC as one character)
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # change the direction of the text around them
    "\u200b\u2060-\u2064\u206a-\u206f\ufeff\ufff9-\ufffb"  # without width: two names would look alike
    "\u2028\u2029"  # line and paragraph separators
    "\ud800-\udfff]"  # lone surrogates: bytes of a file name that are not UTF-8
)
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
SHORT_ESCAPES = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def printable(text: str | Path) -> str:
    """The text in one line; characters that a terminal would interpret or not show are written as escapes.

    A new line becomes `\\n`, ESC `\\x1b`, a bidi override `\\u202e`, and a byte that is not UTF-8 `\\udcff`. Joiners
    (U+200C, U+200D) stay: scripts and emoji need them.
    """
    return UNSAFE_CHARACTERS.sub(_escape, str(text))


def one_line(value: object, max_length: int = 300) -> str:
    """A text or an exception's message (its type if it has none) as part of one line."""
    text = printable(" ".join(str(value).split()).removesuffix(":"))
    return text[:max_length] + "..." if len(text) > max_length else text or type(value).__name__


def without_controls(text: str) -> str:
    """Lines of output, with all control characters but new lines and tabs as escapes."""
    return CONTROLS.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    code = ord(character)
    return SHORT_ESCAPES.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def plural(count: int, noun: str, nouns: str = "") -> str:
    """A number with its noun: `1 image`, `1,000 images`; `nouns` where the plural is not the noun and an s."""
    return f"{count:,} {noun if count == 1 else nouns or f'{noun}s'}"


def list_counts(counts: Mapping[str, int]) -> str:
    """Counts whose keys are nouns in the plural, as data have them: `{"images": 1_000, "classes": 1}` is
    `1,000 images, 1 class`."""
    return ", ".join(
        plural(count, _singular(nouns.replace("_", " ")), nouns.replace("_", " ")) for nouns, count in counts.items()
    )


def _singular(nouns: str) -> str:
    """The first plural among the words: of "train images" the second, of "candidates without images" the first."""
    words = nouns.split(" ")
    at = next((i for i, word in enumerate(words) if word.endswith("s") and not word.endswith("ss")), 0)
    word = words[at]
    if word.endswith("ies"):
        words[at] = word.removesuffix("ies") + "y"
    else:
        words[at] = word.removesuffix("es") if word.endswith(("sses", "xes")) else word.removesuffix("s")
    return " ".join(words)
