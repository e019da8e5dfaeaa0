"""Quoting values of a user's file in messages: never longer than a line, however large the value is."""

import reprlib
from collections.abc import Sequence
from typing import Any

LONGEST = 80


class _Short(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxdict, self.maxlist, self.maxtuple, self.maxset = 3, 4, 4, 4, 4
        self.maxstring = self.maxlong = self.maxother = LONGEST

    def repr_int(self, value: int, level: int) -> str:
        # Python refuses to print an integer of more than 4,300 digits
        if value.bit_length() > 1024:
            return f"a whole number of {value.bit_length():,} bits"
        return super().repr_int(value, level)


_SHORT = _Short()


def short_repr(value: Any, longest: int = LONGEST) -> str:
    """`repr(value)`, shortened in the middle if it is long; containers show their first few members.

    Its time does not grow with the value: a list that YAML aliases expand a billion times takes no longer.
    """
    text = _SHORT.repr(value)
    if len(text) <= longest:
        return text
    half = (longest - 3) // 2
    return f"{text[:half]}...{text[-half:]}"


def short_name(text: str, longest: int = 2 * LONGEST) -> str:
    """A name, shortened in the middle if it is long."""
    half = (longest - 3) // 2
    return text if len(text) <= longest else f"{text[:half]}...{text[-half:]}"


def short_list(names: Sequence[str], most: int = 40) -> str:
    """Names joined by commas, each shortened, and the number of further ones."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(short_name(name, LONGEST // 2) for name in names[:most]) + more
