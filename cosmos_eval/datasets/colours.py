"""Colours in definitions: how they are written, and the default colours of classes."""

import re
from collections.abc import Iterable
from typing import Any

from cosmos_core.short_repr import short_repr

Colour = tuple[int, int, int]
"""Red, green, blue, each 0 to 255."""
FORMS = "'#804080', 128 64 128 or [128, 64, 128]"
"""How a colour may be written, for messages and docs. A key of a map cannot be a list."""
_HEX = re.compile(r"#([0-9a-fA-F]{6})")
_NUMBERS = re.compile(r"(\d{1,3})(?:\s*,\s*|\s+)(\d{1,3})(?:\s*,\s*|\s+)(\d{1,3})")


def parse_colour(value: Any) -> Colour:
    """Return a colour that is written in one of the `FORMS`.

    Raises:
        ValueError: it is none; the text says what is wrong.
    """
    channels: Any = value
    if isinstance(value, str):
        text = value.strip()
        if matched_hex := _HEX.fullmatch(text):
            channels = list(bytes.fromhex(matched_hex[1]))
        elif matched_numbers := _NUMBERS.fullmatch(text):
            channels = [int(number) for number in matched_numbers.groups()]
    is_triple = isinstance(channels, list | tuple) and len(channels) == 3
    if not is_triple or not all(type(channel) is int and 0 <= channel <= 255 for channel in channels):
        advice = " (in YAML, a # without quotes begins a comment)" if value is None else ""
        raise ValueError(f"{short_repr(value)} is not a colour; write it as {FORMS}{advice}")
    red, green, blue = channels
    return red, green, blue


def format_colour(colour: Iterable[int]) -> str:
    """Return a colour as `#804080`."""
    return "#" + "".join(f"{channel:02x}" for channel in colour)


def default_palette(n: int) -> list[Colour]:
    """Return n different colours: the colour map of PASCAL VOC, in which class 0 is black.

    The bits of a class's number are dealt to the highest bits of the three channels, as in the VOC devkit's
    VOClabelcolormap.m.
    """
    palette = []
    for number in range(n):
        channels = [0, 0, 0]
        rest, bit = number, 7
        while rest:
            for channel in range(3):
                channels[channel] |= (rest >> channel & 1) << bit
            rest, bit = rest >> 3, bit - 1
        palette.append((channels[0], channels[1], channels[2]))
    return palette
