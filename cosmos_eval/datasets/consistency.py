"""Checks that hold for the data of every reader: images, texts and labels belong together and can be used."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from cosmos_core.printable import list_counts, plural, printable
from cosmos_core.short_repr import short_name

if TYPE_CHECKING:
    from cosmos_eval.datasets.data.base import Data
    from cosmos_eval.datasets.image_sources import ImageSource

_SURROGATE = re.compile("[\ud800-\udfff]")
MAX_NAMES = 3
"""Most names that a message lists."""


def find_inconsistencies(data: "Data") -> list[str]:
    """Return every inconsistency in the data as the end of a sentence that begins with the benchmark's name."""
    problems = []
    keys = [image.key for image in data.images]
    if not keys:
        return ["has no images"]
    problems += find_broken_texts("image names", keys)
    repeated = [key for key, times in Counter(map(_normalize_key, keys)).items() if times > 1]
    if repeated:
        problems.append(f"has {plural(len(repeated), 'image')} twice: {format_names(repeated)}")
    return problems + data.problems()


def _normalize_key(key: str) -> str:
    """Return one spelling for each file: `./a.jpg` is a.jpg, and `b//c.jpg` is b/c.jpg."""
    return PurePosixPath(key).as_posix() if "./" in key or "//" in key else key


def find_repeated_images(images: Sequence["ImageSource"]) -> list[str]:
    """Return a remark on images whose content equals that of an earlier one; it reads all of them."""
    first_images: dict[str, str] = {}
    repeated = [image.key for image in images if first_images.setdefault(image.digest(), image.key) != image.key]
    if not repeated:
        return []
    verb = "equals" if len(repeated) == 1 else "equal"
    return [
        f"{len(repeated):,} of {plural(len(images), 'image')} {verb} an earlier one and tie: {format_names(repeated)}"
    ]


def find_undecidable_items(noun: str, choices: np.ndarray, contents: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return a remark about items with a wrong candidate that equals the right one: no model can be above chance there.

    Args:
        noun: what the candidates are, for the remark: `caption` or `image`.
        choices: (I, n) indices of each item's candidates, the right one first.
        contents: one string for each candidate; equal strings mean equal candidates.
        names: what the remark calls each candidate.
    """
    if not choices.size or choices.shape[1] < 2:
        return []
    undecidable = []
    for item, (right, *wrong) in enumerate(choices.tolist()):
        if contents[right] in {contents[candidate] for candidate in wrong}:
            undecidable.append(item)
    if not undecidable:
        return []
    verb = "has" if len(undecidable) == 1 else "have"
    shown = format_names(names[choices[item, 0]] for item in undecidable)
    return [
        f"{len(undecidable):,} of {plural(len(choices), 'item')} {verb} a wrong {noun} equal to the right one: {shown}"
    ]


def find_broken_texts(noun: str, texts: Sequence[str]) -> list[str]:
    """Return a problem if texts contain half of a surrogate pair, which tokenizers, files and terminals refuse.

    It comes from a caption that was cut inside an emoji, or from a file name that is not UTF-8 (`os.fsdecode`).

    Args:
        noun: what the texts are, in the plural, for the problem.
    """
    broken = [f"{text!r}" for text in texts if not text.isascii() and _SURROGATE.search(text)]
    return (
        [f"has {list_counts({noun: len(broken)})} with half a character: {format_names(broken)}; write them in UTF-8"]
        if broken
        else []
    )


def format_names(names: Iterable[str]) -> str:
    """Join the first few names, in printable form, and say how many more there are."""
    names = [short_name(printable(name)) for name in names]
    more = f" and {len(names) - MAX_NAMES:,} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more


def label_problem(problem: str) -> str:
    """Return `missing` for a problem with files that are not there, `problem` for any other."""
    return "missing" if "which is not there" in problem or "; missing: " in problem else "problem"
