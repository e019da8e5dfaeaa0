"""What is said about a scene. Every sentence is true of it (`truth.is_true` reads them back) and short, for text crops.

Sentences are lower case and carry no final period, as in DreamLIP's records: a reader joins them with ". ".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from cosmos_eval.datasets.toybox.dice import Dice
from cosmos_eval.datasets.toybox.scenes import Scene, Thing
from cosmos_eval.datasets.toybox.words import CENTER, CORNERS, COUNTS, an

RECORD_KEYS = (
    "raw_caption",
    "shortIB_captions",
    "shortSV_captions",
    "shortLLA_captions",
    "longIB_captions",
    "longSV_captions",
    "longLLA_captions",
)


@dataclass(frozen=True)
class Captions:
    """What is said of one scene. `full` are its complete descriptions, `long` are lists of sentences."""

    raw: str
    full: tuple[str, str]
    short: str
    long: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]


def name(thing: Thing) -> str:
    """red circle"""
    return f"{thing.colour} {thing.shape}"


def whole(thing: Thing) -> str:
    """small striped red circle"""
    return f"{thing.size} {thing.texture} {thing.colour} {thing.shape}"


def relation(first: Thing, second: Thing, dice: Dice) -> str:
    """A relation that holds between two objects; one of two at random where they stand diagonally."""
    held = []
    if first.column != second.column:
        held.append("left of" if first.column < second.column else "right of")
    if first.row != second.row:
        held.append("above" if first.row < second.row else "below")
    return dice.pick(held)


def captions(scene: Scene) -> Captions:
    """All captions of a scene; the choice among wordings is seeded by its key."""
    dice = Dice("words", scene.key)
    things = dice.sample(scene.objects, len(scene.objects))
    pairs = list(pairwise(things))
    ground = f"{scene.background.pattern} {scene.background.colour}"

    raw_things = things[: 1 + dice.below(2)]
    raw = " and ".join(name(t) if dice.chance(0.6) else f"{t.size} {name(t)}" for t in raw_things)
    if dice.chance(0.25):
        raw += f" on {scene.background.colour}"

    if pairs:
        first, second = pairs[0]
        short = f"{an(name(first))} {relation(first, second, dice)} {an(name(second))}"
    else:
        short = f"a {things[0].texture} {name(things[0])} on {an(scene.background.colour)} background"

    again = dice.sample(things, len(things))
    full = (
        " and ".join(f"a {whole(t)} at {t.place}" for t in things) + f" on {ground}",
        f"{COUNTS[len(things) - 1]} on {ground}, " + ", ".join(f"{t.place} a {whole(t)}" for t in again),
    )

    placed = [f"a {whole(t)} is at {t.place}" for t in things] + [f"the background is {ground}"]
    related = [_count(things)] + [f"the {name(a)} is {relation(a, b, dice)} the {name(b)}" for a, b in pairs]
    detailed = [
        sentence
        for t in dice.sample(things, len(things))
        for sentence in (f"the {name(t)} is {t.size} and {t.texture}", f"{t.place} holds {an(name(t))}")
    ]
    empty = [place for place in (*CORNERS, CENTER) if all(t.place != place for t in things)]
    if dice.chance(0.3):
        detailed.append(f"{dice.pick(empty)} is empty")
    return Captions(raw, full, short, (tuple(placed), tuple(related), tuple(detailed)))


def _count(things: Sequence[Thing]) -> str:
    return f"there {'is' if len(things) == 1 else 'are'} {COUNTS[len(things) - 1]}"


def record(scene: Scene) -> dict[str, list[str]]:
    """The captions in DreamLIP's record structure: seven keys, each with a list of sentences.

    One raw caption (terse, like a web caption: not everything is named), two complete descriptions and a partial one
    under the three `short` keys, and three multi-sentence descriptions, a sentence an entry, under the `long` keys.
    """
    said = captions(scene)
    lists = ([said.raw], [said.full[0]], [said.short], [said.full[1]], *map(list, said.long))
    return dict(zip(RECORD_KEYS, lists, strict=True))
