"""Compositional negatives of SugarCrepe's seven kinds (Hsieh et al., 2023): a true caption and a false one a step away.

replace_obj, replace_att, replace_rel put another shape, attribute, or relation (or place) for a true one; swap_obj and
swap_att exchange two objects or two attributes, so that both captions hold the same words; add_obj and add_att add an
object that is not there or an attribute that its object does not have. New words are drawn evenly, so that replaced and
swapped captions cannot be told from true ones without the image; those with an addition are longer, as in SugarCrepe.
"""

from collections.abc import Iterator
from dataclasses import astuple, dataclass, replace
from typing import Any

from cosmos_eval.datasets.toybox.dice import Dice
from cosmos_eval.datasets.toybox.scenes import Scene, Thing
from cosmos_eval.datasets.toybox.sentences import relation
from cosmos_eval.datasets.toybox.truth import Phrase, is_true, read
from cosmos_eval.datasets.toybox.words import COLOURS, CORNERS, PLACES, RELATIONS, SHAPES, SIZES, TEXTURES, an

KINDS = ("replace_obj", "replace_att", "replace_rel", "swap_obj", "swap_att", "add_obj", "add_att")
ATTRIBUTES = {"colour": COLOURS, "size": SIZES, "texture": TEXTURES}

Pairs = Iterator[tuple[str, str]]
"""Candidates in random order: a true sentence, and one that may be false."""


@dataclass(frozen=True)
class Negative:
    kind: str
    positive: str
    """True of the scene."""
    negative: str
    """False of the scene, one step from the positive."""


def negatives(scene: Scene) -> tuple[Negative, ...]:
    """At most one negative of each kind, in the order of `KINDS`, seeded by the scene's key.

    A scene with one object has no swaps, and few others lack one (all attributes shared, or an exchange that is true).
    """
    made = []
    for kind, candidates in _CANDIDATES.items():
        for positive, negative in candidates(scene, Dice("negative", kind, scene.key)):
            if not _repeats(negative) and not is_true(negative, scene):
                made.append(Negative(kind, positive, negative))
                break
    return tuple(made)


def _repeats(text: str) -> bool:
    """Whether a sentence names a colour and shape twice: false of every scene, it could be refused unseen."""
    named = [(phrase.colour, phrase.shape) for phrase in read(text).phrases]
    return len(set(named)) < len(named)


def _replace_object(scene: Scene, dice: Dice) -> Pairs:
    _, phrases, at = _some(scene, dice, placed=dice.chance(0.5))
    for shape in _others(SHAPES, phrases[at].shape, dice):
        yield _say(phrases), _say(_changed(phrases, at, shape=shape))


def _replace_attribute(scene: Scene, dice: Dice) -> Pairs:
    things, phrases, at = _some(scene, dice, placed=dice.chance(0.5))
    attribute = dice.pick(tuple(ATTRIBUTES))
    true = getattr(things[at], attribute)
    phrases = _changed(phrases, at, **{attribute: true})
    for value in _others(ATTRIBUTES[attribute], true, dice):
        yield _say(phrases), _say(_changed(phrases, at, **{attribute: value}))


def _replace_relation(scene: Scene, dice: Dice) -> Pairs:
    if len(scene.objects) > 1 and dice.chance(0.5):
        first, second = dice.sample(scene.objects, 2)
        held = relation(first, second, dice)
        for other in _others(RELATIONS, held, dice):
            yield _relate(first, held, second), _relate(first, other, second)
        return
    things, phrases, at = _some(scene, dice, placed=True)
    for place in _others(PLACES if len(scene.objects) == 1 else CORNERS, things[at].place, dice):
        if all(place != phrase.place for phrase in phrases):
            yield _say(phrases), _say(_changed(phrases, at, place=place))


def _swap_objects(scene: Scene, dice: Dice) -> Pairs:
    if len(scene.objects) < 2:
        return
    first, second = dice.sample(scene.objects, 2)
    if dice.chance(0.5):
        held = relation(first, second, dice)
        yield _relate(first, held, second), _relate(second, held, first)
    else:
        one, two = (Phrase(thing.shape, thing.colour, place=thing.place) for thing in (first, second))
        yield _say([one, two]), _say([replace(two, place=one.place), replace(one, place=two.place)])


def _swap_attributes(scene: Scene, dice: Dice) -> Pairs:
    pairs = [(first, second) for first in scene.objects for second in scene.objects if first is not second]
    for first, second in dice.sample(pairs, len(pairs)):
        for attribute in dice.sample(tuple(ATTRIBUTES), len(ATTRIBUTES)):
            mine, yours = getattr(first, attribute), getattr(second, attribute)
            if mine != yours:
                phrases = [Phrase(thing.shape, thing.colour) for thing in (first, second)]
                true = _changed(_changed(phrases, 0, **{attribute: mine}), 1, **{attribute: yours})
                yield _say(true), _say(_changed(_changed(true, 0, **{attribute: yours}), 1, **{attribute: mine}))


def _add_object(scene: Scene, dice: Dice) -> Pairs:
    _, phrases, _ = _some(scene, dice, placed=dice.chance(0.5))
    present = {(thing.colour, thing.shape) for thing in scene.objects}
    absent = [(colour, shape) for colour in COLOURS for shape in SHAPES if (colour, shape) not in present]
    if dice.chance(0.5):  # one that shares its colour or its shape with an object that is there
        colours, shapes = zip(*present, strict=True)
        absent = [(colour, shape) for colour, shape in absent if colour in colours or shape in shapes]
    colour, shape = dice.pick(absent)
    yield _say(phrases), _say([*phrases, Phrase(shape, colour)])


def _add_attribute(scene: Scene, dice: Dice) -> Pairs:
    things, phrases, at = _some(scene, dice, placed=dice.chance(0.5))
    attribute = dice.pick(tuple(ATTRIBUTES))
    phrases = _changed(phrases, at, **{attribute: None})
    for value in _others(ATTRIBUTES[attribute], getattr(things[at], attribute), dice):
        yield _say(phrases), _say(_changed(phrases, at, **{attribute: value}))


# In the order of KINDS.
_CANDIDATES = {
    "replace_obj": _replace_object,
    "replace_att": _replace_attribute,
    "replace_rel": _replace_relation,
    "swap_obj": _swap_objects,
    "swap_att": _swap_attributes,
    "add_obj": _add_object,
    "add_att": _add_attribute,
}


def _some(scene: Scene, dice: Dice, placed: bool) -> tuple[list[Thing], list[Phrase], int]:
    """One or two of the objects, a phrase for each (colour and shape, and place), and which one is to be changed."""
    things = dice.sample(scene.objects, min(len(scene.objects), 1 + dice.below(2)))
    phrases = [Phrase(thing.shape, thing.colour, place=thing.place if placed else None) for thing in things]
    return things, phrases, dice.below(len(things))


def _changed(phrases: list[Phrase], at: int, **values: Any) -> list[Phrase]:
    return [replace(phrase, **values) if i == at else phrase for i, phrase in enumerate(phrases)]


def _others(values: tuple[str, ...], true: str, dice: Dice) -> list[str]:
    """The other values, in random order."""
    return dice.sample([value for value in values if value != true], len(values) - 1)


def _say(phrases: list[Phrase]) -> str:
    return " and ".join(_noun(phrase) + (f" at {phrase.place}" if phrase.place else "") for phrase in phrases)


def _relate(first: Thing, held: str, second: Thing) -> str:
    return f"{an(f'{first.colour} {first.shape}')} {held} {an(f'{second.colour} {second.shape}')}"


def _noun(phrase: Phrase) -> str:
    shape, colour, size, texture, _ = astuple(phrase)
    return an(" ".join(word for word in (size, texture, colour, shape) if word))
