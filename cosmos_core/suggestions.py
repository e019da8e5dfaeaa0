"""What to say of a word that is not known: the nearest known ones."""

from difflib import get_close_matches
from typing import Any


def close(word: str, known: Any) -> str:
    """`; did you mean ...?` where a known word is close, else nothing."""
    found = get_close_matches(str(word), [str(name) for name in known], n=3, cutoff=0.6)
    return "; did you mean " + " or ".join(found) + "?" if found else ""


def near(word: str, known: Any) -> str:
    """`; did you mean ...?` where a known word is close, else the list of known ones."""
    known = [str(name) for name in known]
    if found := close(word, known):
        return found
    return "; known: " + ", ".join(known) if len(known) <= 12 else ""
