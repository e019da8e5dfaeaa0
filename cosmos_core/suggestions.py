"""Suggestions for an unknown word: the closest known ones."""

from difflib import get_close_matches
from typing import Any


def close(word: str, known: Any) -> str:
    """`; did you mean ...?` if a known word is close, else empty."""
    matches = get_close_matches(str(word), [str(name) for name in known], n=3, cutoff=0.6)
    return "; did you mean " + " or ".join(matches) + "?" if matches else ""


def near(word: str, known: Any) -> str:
    """`; did you mean ...?` if a known word is close, else the list of known words (if it is short)."""
    known = [str(name) for name in known]
    if suggestion := close(word, known):
        return suggestion
    return "; known: " + ", ".join(known) if len(known) <= 12 else ""
