"""Whether images, texts and labels belong together, whichever reader made them."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from cosmos_core.printable import printable
from cosmos_core.short_repr import short_name

if TYPE_CHECKING:
    from cosmos_eval.datasets.data.base import Data

_HALF = re.compile("[\ud800-\udfff]")
FIRST = 3
"""How many names an error shows."""


def inconsistencies(data: "Data") -> list[str]:
    """What in the data does not belong together, whichever reader made them; empty when all is well."""
    problems = []
    keys = [image.key for image in data.images]
    if not keys:
        return ["has no images"]
    problems += broken_texts("image names", keys)
    twice = [key for key, times in Counter(map(_one_spelling, keys)).items() if times > 1]
    if twice:
        problems.append(f"has {len(twice):,} images twice: {first(twice)}")
    return problems + data.problems()


def _one_spelling(key: str) -> str:
    """`./a.jpg` and `b//c.jpg` are the files a.jpg and b/c.jpg."""
    return PurePosixPath(key).as_posix() if "./" in key or "//" in key else key


def undecidable(what: str, choices: np.ndarray, contents: Sequence[str], names: Sequence[str]) -> list[str]:
    """Items that ask for a choice between two things that are the same: no model can be right by more than chance.

    Args:
        choices: (I, n) indices of what each item chooses from, the right one first.
        contents: equal where two things are the same.
    """
    if not choices.size or choices.shape[1] < 2:
        return []
    same = [
        i for i, (right, *others) in enumerate(choices.tolist()) if contents[right] in {contents[j] for j in others}
    ]
    if not same:
        return []
    verb = "has" if len(same) == 1 else "have"
    shown = first(names[choices[i, 0]] for i in same)
    return [f"{len(same):,} of {len(choices):,} items {verb} a wrong {what} equal to the right one: {shown}"]


def broken_texts(what: str, texts: Sequence[str]) -> list[str]:
    """Half of a surrogate pair is no text: tokenizers fail on it in mid-run, and no file or terminal takes it.

    It comes from a caption cut inside an emoji, or from a file name that is not UTF-8 (as `os.fsdecode` gives it).
    """
    broken = [f"{text!r}" for text in texts if not text.isascii() and _HALF.search(text)]
    return [f"has {len(broken):,} {what} with half a character: {first(broken)}; write them in UTF-8"] if broken else []


def first(names: Iterable[str]) -> str:
    """The first few names, printable, and how many more there are."""
    names = [short_name(printable(name)) for name in names]
    more = f" and {len(names) - FIRST:,} more" if len(names) > FIRST else ""
    return ", ".join(names[:FIRST]) + more


def word_for(problem: str) -> str:
    """`missing` for a problem of files that are not there, `problem` for any other."""
    return "missing" if "which is not there" in problem or "; missing: " in problem else "problem"
