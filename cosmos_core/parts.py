"""Parts of a COSMOS by name: which parameters are frozen, and how deep in its tower each one is."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from cosmos_core.errors import RequestError
from cosmos_core.objectives.base import CROSS_ATTENTION
from cosmos_core.short_repr import short_repr

TOWERS = ("image", "text")
ROLES = ("embeddings", "head")
ALONE = ("poolers", "temperatures")
PART = re.compile(r"(image|text)(?:\.(embeddings|head|blocks\.(\d{1,4})(?:-(\d{1,4}))?))?")
IMAGE_EMBEDDINGS = ("conv1.", "class_embedding", "positional_embedding", "ln_pre.")
TEXT_EMBEDDINGS = ("token_embedding.", "positional_embedding")
BLOCK = re.compile(r"transformer\.resblocks\.(\d+)\.")


@dataclass(frozen=True)
class Place:
    """Where a parameter is."""

    owner: str
    """`image`, `text`, `poolers` or `temperatures`."""
    role: str = ""
    """In a tower: `embeddings`, `blocks` or `head` (final norm and projection)."""
    block: int = 0
    """Number of the block from the input, from 0."""


@dataclass(frozen=True)
class Part:
    """A part that a configuration names: a tower, one role of it, a range of its blocks, poolers or temperatures."""

    text: str
    owner: str
    role: str = ""
    first: int = 0
    last: int = 0

    def holds(self, place: Place) -> bool:
        if place.owner != self.owner or (self.role and place.role != self.role):
            return False
        return self.role != "blocks" or self.first <= place.block <= self.last


def parse_parts(text: str) -> list[Part]:
    """The parts that `freeze` names, separated by commas; RequestError for a word that names none."""
    parts = []
    for word in filter(None, map(str.strip, text.split(","))):
        if word in ALONE:
            parts.append(Part(word, word))
            continue
        match = PART.fullmatch(word)
        if match is None:
            raise RequestError(
                f"freeze: {short_repr(word)} names no part of a model; parts are image, text, image.embeddings, "
                f"image.blocks.0-5, image.head (and the same of text), {', '.join(ALONE)}"
            )
        tower, role, first, last = match.groups()
        if first is None:
            parts.append(Part(word, tower, role or ""))
            continue
        numbers = int(first), int(last or first)
        if numbers[1] < numbers[0]:
            raise RequestError(f"freeze: {word} ends before it begins; write {tower}.blocks.{last}-{first}")
        parts.append(Part(word, tower, "blocks", *numbers))
    return parts


def place_of(name: str) -> Place:
    """Where the parameter of this name is in a COSMOS."""
    if name.startswith(CROSS_ATTENTION):
        return Place("poolers")
    if name.endswith("logit_scale"):
        return Place("temperatures")
    tower = "image" if name.startswith("visual.") else "text"
    name = name.removeprefix("visual.")
    block = BLOCK.match(name)
    if block is not None:
        return Place(tower, "blocks", int(block[1]))
    embeddings = IMAGE_EMBEDDINGS if tower == "image" else TEXT_EMBEDDINGS
    return Place(tower, "embeddings" if name.startswith(embeddings) else "head")


def frozen_names(names: Iterable[str], freeze: str) -> set[str]:
    """Those of a model's parameters that `freeze` names.

    Raises:
        RequestError: a part that the model does not have (a block beyond its last), or nothing is left to train.
    """
    places = {name: place_of(name) for name in names}
    frozen: set[str] = set()
    for part in parse_parts(freeze):
        held = {name for name, place in places.items() if part.holds(place)}
        blocks = [place.block for place in places.values() if place.owner == part.owner and place.role == "blocks"]
        if not held or part.last > max(blocks, default=0):
            raise RequestError(
                f"freeze: the model has no {part.text}; the blocks of its {part.owner} tower are 0 to {max(blocks)}"
            )
        frozen |= held
    if frozen and len(frozen) == len(places):
        raise RequestError(f"freeze={freeze} leaves no parameter of the model to train")
    return frozen


def count_blocks(names: Iterable[str]) -> dict[str, int]:
    """Number of blocks of each tower."""
    counts = dict.fromkeys(TOWERS, 0)
    for place in map(place_of, names):
        if place.role == "blocks":
            counts[place.owner] = max(counts[place.owner], place.block + 1)
    return counts


def steps_below_head(name: str, blocks: dict[str, int]) -> int:
    """How often `layer_decay` multiplies the learning rate of a parameter (Bao et al., BEiT, ICLR 2022).

    0 for the head of a tower, poolers and temperatures; 1 for the last block; one more for each block below it, and for
    the embeddings, which are below block 0.
    """
    place = place_of(name)
    if place.role == "embeddings":
        return blocks[place.owner] + 1
    return blocks[place.owner] - place.block if place.role == "blocks" else 0
