"""Whether pictures, texts and labels belong together, whichever reader made them."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

import numpy as np

from cosmos_core.printable import printable
from cosmos_core.short_repr import short_name
from cosmos_eval.datasets.base import ClassificationData, Data, PerceptionData, RetrievalData, SegmentationData

_HALF = re.compile("[\ud800-\udfff]")
FIRST = 3
"""How many names an error shows."""


def counts_of(data: Data) -> dict[str, int]:
    """How many pictures, texts, classes or items there are; `left_out` only where items were."""
    if isinstance(data, RetrievalData):
        return {"images": len(data.pictures), "texts": len(data.texts)}
    if isinstance(data, ClassificationData | SegmentationData):
        return {"images": len(data.pictures), "classes": len(data.class_names)}
    counts = {"images": len(data.pictures), "items": len(data.item_images)}
    return {**counts, "left_out": len(data.left_out)} if data.left_out else counts


def inconsistencies(data: Data) -> list[str]:
    """What in the data does not belong together, whichever reader made them; empty when all is well."""
    problems = []
    keys = [picture.key for picture in data.pictures]
    if not keys:
        return ["has no pictures"]
    problems += _broken_texts("picture names", keys)
    twice = [key for key, times in Counter(map(_one_spelling, keys)).items() if times > 1]
    if twice:
        problems.append(f"has {len(twice):,} pictures twice: {first(twice)}")
    if isinstance(data, RetrievalData):
        if len(data.texts) != len(data.text_picture):
            problems.append(f"has {len(data.texts):,} texts but {len(data.text_picture):,} pictures named for them")
        wrong = [repr(data.texts[j]) for j, i in enumerate(data.text_picture) if not 0 <= i < len(keys)]
        if wrong:
            problems.append(f"has {len(wrong):,} captions that belong to no picture: {first(wrong)}")
        problems += _broken_texts("texts", data.texts)
        without = sorted(set(range(len(keys))) - set(data.text_picture.tolist()))
        if without:
            problems.append(f"has {len(without):,} pictures without a caption: {first(keys[i] for i in without)}")
    elif isinstance(data, ClassificationData):
        problems += _label_problems(data, keys)
    elif isinstance(data, PerceptionData):
        lengths = {len(data.subsets), len(data.item_images), len(data.item_texts), *map(len, data.groups.values())}
        if len(lengths) > 1:
            problems.append("has items of unequal parts (pictures, texts, subset)")
        problems += _broken_texts("texts", data.texts)
        problems += _broken_texts("subsets", list(dict.fromkeys(data.subsets)))
        problems += _broken_texts(
            "parts", list(dict.fromkeys(part for parts in data.groups.values() for part in parts))
        )
        problems += _broken_texts("origins", [data.origin])
        for what, places, count in (
            ("picture", data.item_images, len(keys)),
            ("text", data.item_texts, len(data.texts)),
        ):
            if places.size and not (places.min() >= 0 and places.max() < count):
                problems.append(f"has items that belong to no {what}")
    elif isinstance(data, SegmentationData):
        problems += _broken_texts("class names", data.class_names)
        if [mask.key for mask in data.masks] != keys:
            problems.append(f"has {len(keys):,} pictures and masks of {len(data.masks):,} that are not theirs")
        if len(data.palette) != len(data.class_names):
            problems.append(f"has {len(data.class_names):,} classes and {len(data.palette):,} colours")
    return problems


def _one_spelling(key: str) -> str:
    """`./a.jpg` and `b//c.jpg` are the files a.jpg and b/c.jpg."""
    return PurePosixPath(key).as_posix() if "./" in key or "//" in key else key


def remarks_on(data: Data) -> list[str]:
    """What is right and must be told all the same: captions that say nothing, classes that nothing can be right for."""
    if isinstance(data, RetrievalData):
        empty = [
            data.pictures[i].key for i, text in zip(data.text_picture, data.texts, strict=True) if not text.strip()
        ]
        if empty:
            verb = "is" if len(empty) == 1 else "are"
            return [f"{len(empty):,} of {len(data.texts):,} captions {verb} empty, of {first(empty)}"]
    remarks = []
    if isinstance(data, ClassificationData) and data.empty_classes_allowed:
        empty = [data.class_names[c] for c in sorted(set(range(len(data.class_names))) - set(data.labels.tolist()))]
        if empty:
            verb = "has" if len(empty) == 1 else "have"
            remarks.append(f"{len(empty):,} of {len(data.class_names):,} classes {verb} no image: {first(empty)}")
    if isinstance(data, ClassificationData):
        names = [" ".join(name.split()) for name in data.class_names]
        shared = sorted(name for name, times in Counter(names).items() if times > 1)
        if shared:
            remarks.append(f"several classes have the same name and tie: {first(shared)}")
        if len(names) == 1:
            remarks.append(f"there is no class but {first(names)}, so that every image counts as right")
    if isinstance(data, PerceptionData):
        texts = [" ".join(text.split()) for text in data.texts]
        remarks += _undecidable("caption", data.item_texts, texts, texts)
    return remarks


def equal_images(data: Data) -> list[str]:
    """Items whose wrong image is the right one, by content: hosts show one placeholder for all that they have removed.

    Needs the digest of every image, which the fingerprint has taken.
    """
    if not isinstance(data, PerceptionData) or data.item_images.shape[1] < 2:
        return []
    digests = [picture.digest() for picture in data.pictures]
    return _undecidable("image", data.item_images, digests, [picture.key for picture in data.pictures])


def _undecidable(what: str, rows: np.ndarray, contents: Sequence[str], names: Sequence[str]) -> list[str]:
    """Items that ask for a choice between two things that are the same: no model can be right by more than chance.

    Args:
        rows: (I, n) places of what each item chooses from, the right one first.
        contents: equal where two things are the same.
    """
    if not rows.size or rows.shape[1] < 2:
        return []
    same = [
        i for i, (right, *others) in enumerate(rows.tolist()) if contents[right] in {contents[one] for one in others}
    ]
    if not same:
        return []
    verb = "has" if len(same) == 1 else "have"
    shown = first(names[rows[i, 0]] for i in same)
    return [f"{len(same):,} of {len(rows):,} items {verb} a wrong {what} equal to the right one: {shown}"]


def _broken_texts(what: str, texts: Sequence[str]) -> list[str]:
    """Half of a surrogate pair is no text: tokenizers fail on it in mid-run, and no file or terminal takes it.

    It comes from a caption cut inside an emoji, or from a file name that is not UTF-8 (as `os.fsdecode` gives it).
    """
    broken = [f"{text!r}" for text in texts if not text.isascii() and _HALF.search(text)]
    return [f"has {len(broken):,} {what} with half a character: {first(broken)}; write them in UTF-8"] if broken else []


def _label_problems(data: ClassificationData, keys: list[str]) -> list[str]:
    classes = len(data.class_names)
    problems = _broken_texts("class names", data.class_names)
    shared = [own for own in data.templates if isinstance(own, str)]
    problems += _broken_texts("prompts", shared or [one for own in data.templates for one in own])
    if len(data.labels) != len(keys):
        return [f"has {len(keys):,} pictures but {len(data.labels):,} labels"]
    wrong = [f"{keys[i]} ({label})" for i, label in enumerate(data.labels) if not 0 <= label < classes]
    if wrong:
        problems.append(f"has {len(wrong):,} labels outside 0 to {classes - 1}: {first(wrong)}")
    if not data.empty_classes_allowed:
        empty = sorted(set(range(classes)) - set(data.labels.tolist()))
        if empty:
            problems.append(
                f"has {len(empty):,} classes without a picture: {first(data.class_names[c] for c in empty)}; where "
                "they only compete, write candidates_without_images: allow in dataset"
            )
    per_class = data.templates and not isinstance(data.templates[0], str)
    if not data.templates:
        problems.append("has no prompt templates")
    elif per_class and len(data.templates) != classes:
        problems.append(f"has prompts for {len(data.templates):,} classes, but {classes:,} classes")
    return problems


def first(names: Iterable[str]) -> str:
    """The first few names, printable, and how many more there are."""
    names = [short_name(printable(name)) for name in names]
    more = f" and {len(names) - FIRST:,} more" if len(names) > FIRST else ""
    return ", ".join(names[:FIRST]) + more


def word_for(problem: str) -> str:
    """`missing` for a problem of files that are not there, `problem` for any other."""
    return "missing" if "which is not there" in problem or "; missing: " in problem else "problem"
