"""Compositional hard negatives of SugarCrepe's seven kinds (Hsieh et al., NeurIPS 2023): a true caption and a false one
that differs from it in one step.

replace_obj, replace_att and replace_rel replace the shape, an attribute, or a relation (or place) by another one;
swap_obj and swap_att exchange two objects or two attributes, so that both captions have the same words; add_obj and
add_att add an object that the scene does not have, or an attribute that its object does not have. New words are drawn
uniformly, so that a text-only model cannot tell replaced and swapped captions from true ones. Captions with an addition
are longer than the true ones, as in SugarCrepe.
"""

from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass, replace
from typing import Any

from cosmos_eval.datasets.toybox.caption_check import ObjectPhrase, is_true, parse_sentence
from cosmos_eval.datasets.toybox.captioning import choose_relation, short_name
from cosmos_eval.datasets.toybox.random_stream import RandomStream
from cosmos_eval.datasets.toybox.scenes import Scene, SceneObject
from cosmos_eval.datasets.toybox.words import (
    COLOURS,
    CORNERS,
    PLACES,
    RELATIONS,
    SHAPES,
    SIZES,
    TEXTURES,
    add_article,
)

KINDS = ("replace_obj", "replace_att", "replace_rel", "swap_obj", "swap_att", "add_obj", "add_att")
ATTRIBUTES = {"colour": COLOURS, "size": SIZES, "texture": TEXTURES}

CaptionPairs = Iterator[tuple[str, str]]
"""Candidates in random order: a true caption, and one that may be false."""


@dataclass(frozen=True)
class Negative:
    """A true and a false caption of a scene, which differ in one step of the given kind."""

    kind: str
    positive: str
    negative: str


def negatives(scene: Scene) -> tuple[Negative, ...]:
    """Return at most one negative of each kind, in the order of `KINDS`, seeded by the scene's key.

    A scene with one object has no swaps. Few other scenes lack a kind: where two objects share all attributes, or where
    the caption stays true after every exchange.
    """
    chosen = []
    for kind, propose in _PROPOSERS.items():
        for positive, negative in propose(scene, RandomStream("negative", kind, scene.key)):
            if not _names_object_twice(negative) and not is_true(negative, scene):
                chosen.append(Negative(kind, positive, negative))
                break
    return tuple(chosen)


def _names_object_twice(caption: str) -> bool:
    """Whether a caption names the same colour and shape twice; no scene has two such objects, so that a model could
    tell that it is false without the image."""
    names = [(phrase.colour, phrase.shape) for phrase in parse_sentence(caption).phrases]
    return len(set(names)) < len(names)


# Each function below proposes captions of one kind. The order of its random draws decides which caption comes first:
# do not add, leave out or move a draw (see `scenes.VERSION`).


def _replace_object(scene: Scene, rng: RandomStream) -> CaptionPairs:
    _, phrases, index = _choose_objects(scene, rng, with_place=rng.chance(0.5))
    for shape in _shuffle_others(SHAPES, phrases[index].shape, rng):
        yield _caption(phrases), _caption(_change(phrases, index, shape=shape))


def _replace_attribute(scene: Scene, rng: RandomStream) -> CaptionPairs:
    objects, phrases, index = _choose_objects(scene, rng, with_place=rng.chance(0.5))
    attribute = rng.choice(tuple(ATTRIBUTES))
    true_value = getattr(objects[index], attribute)
    phrases = _change(phrases, index, **{attribute: true_value})
    for value in _shuffle_others(ATTRIBUTES[attribute], true_value, rng):
        yield _caption(phrases), _caption(_change(phrases, index, **{attribute: value}))


def _replace_relation(scene: Scene, rng: RandomStream) -> CaptionPairs:
    if len(scene.objects) > 1 and rng.chance(0.5):
        first, second = rng.sample(scene.objects, 2)
        relation = choose_relation(first, second, rng)
        for other in _shuffle_others(RELATIONS, relation, rng):
            yield _relation_caption(first, relation, second), _relation_caption(first, other, second)
        return
    objects, phrases, index = _choose_objects(scene, rng, with_place=True)
    for place in _shuffle_others(PLACES if len(scene.objects) == 1 else CORNERS, objects[index].place, rng):
        if all(place != phrase.place for phrase in phrases):
            yield _caption(phrases), _caption(_change(phrases, index, place=place))


def _swap_objects(scene: Scene, rng: RandomStream) -> CaptionPairs:
    if len(scene.objects) < 2:
        return
    first, second = rng.sample(scene.objects, 2)
    if rng.chance(0.5):
        relation = choose_relation(first, second, rng)
        yield _relation_caption(first, relation, second), _relation_caption(second, relation, first)
    else:
        a, b = (ObjectPhrase(o.shape, o.colour, place=o.place) for o in (first, second))
        yield _caption([a, b]), _caption([replace(b, place=a.place), replace(a, place=b.place)])


def _swap_attributes(scene: Scene, rng: RandomStream) -> CaptionPairs:
    pairs = [(first, second) for first in scene.objects for second in scene.objects if first is not second]
    for first, second in rng.sample(pairs, len(pairs)):
        for attribute in rng.sample(tuple(ATTRIBUTES), len(ATTRIBUTES)):
            first_value, second_value = getattr(first, attribute), getattr(second, attribute)
            if first_value == second_value:
                continue
            phrases = [ObjectPhrase(o.shape, o.colour) for o in (first, second)]
            phrases = _change(_change(phrases, 0, **{attribute: first_value}), 1, **{attribute: second_value})
            swapped = _change(_change(phrases, 0, **{attribute: second_value}), 1, **{attribute: first_value})
            yield _caption(phrases), _caption(swapped)


def _add_object(scene: Scene, rng: RandomStream) -> CaptionPairs:
    _, phrases, _ = _choose_objects(scene, rng, with_place=rng.chance(0.5))
    present = {(o.colour, o.shape) for o in scene.objects}
    absent = [(colour, shape) for colour in COLOURS for shape in SHAPES if (colour, shape) not in present]
    if rng.chance(0.5):  # an object that shares its colour or its shape with one of the scene: harder to tell
        colours, shapes = zip(*present, strict=True)
        absent = [(colour, shape) for colour, shape in absent if colour in colours or shape in shapes]
    colour, shape = rng.choice(absent)
    yield _caption(phrases), _caption([*phrases, ObjectPhrase(shape, colour)])


def _add_attribute(scene: Scene, rng: RandomStream) -> CaptionPairs:
    objects, phrases, index = _choose_objects(scene, rng, with_place=rng.chance(0.5))
    attribute = rng.choice(tuple(ATTRIBUTES))
    phrases = _change(phrases, index, **{attribute: None})
    for value in _shuffle_others(ATTRIBUTES[attribute], getattr(objects[index], attribute), rng):
        yield _caption(phrases), _caption(_change(phrases, index, **{attribute: value}))


_PROPOSERS: dict[str, Callable[[Scene, RandomStream], CaptionPairs]] = {
    "replace_obj": _replace_object,
    "replace_att": _replace_attribute,
    "replace_rel": _replace_relation,
    "swap_obj": _swap_objects,
    "swap_att": _swap_attributes,
    "add_obj": _add_object,
    "add_att": _add_attribute,
}
"""Kind -> the function that proposes captions; in the order of `KINDS`."""


def _choose_objects(
    scene: Scene, rng: RandomStream, with_place: bool
) -> tuple[list[SceneObject], list[ObjectPhrase], int]:
    """Choose one or two objects; return them, a phrase for each, and the index of the one to change.

    A phrase names colour and shape, and with `with_place` the place.
    """
    objects = rng.sample(scene.objects, min(len(scene.objects), 1 + rng.below(2)))
    phrases = [ObjectPhrase(o.shape, o.colour, place=o.place if with_place else None) for o in objects]
    return objects, phrases, rng.below(len(objects))


def _change(phrases: list[ObjectPhrase], index: int, **properties: Any) -> list[ObjectPhrase]:
    """Return the phrases with other properties of the one at `index`."""
    return [replace(phrase, **properties) if i == index else phrase for i, phrase in enumerate(phrases)]


def _shuffle_others(values: tuple[str, ...], true_value: str, rng: RandomStream) -> list[str]:
    """Return all values but the true one, in random order."""
    return rng.sample([value for value in values if value != true_value], len(values) - 1)


def _caption(phrases: list[ObjectPhrase]) -> str:
    return " and ".join(_phrase_text(phrase) + (f" at {phrase.place}" if phrase.place else "") for phrase in phrases)


def _relation_caption(first: SceneObject, relation: str, second: SceneObject) -> str:
    return f"{add_article(short_name(first))} {relation} {add_article(short_name(second))}"


def _phrase_text(phrase: ObjectPhrase) -> str:
    """Return the phrase with its article, without its place: "a small striped red circle"."""
    shape, colour, size, texture, _ = astuple(phrase)
    return add_article(" ".join(word for word in (size, texture, colour, shape) if word))
