"""The captions of a scene: a raw caption, complete descriptions, a short one and long ones, all short sentences.

Every sentence is true of its scene (`caption_check.is_true` parses it and compares). Sentences are lower case and have
no final period, as in DreamLIP's records: the code that reads a record joins them with ". ".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from cosmos_eval.datasets.toybox.random_stream import RandomStream
from cosmos_eval.datasets.toybox.scenes import Scene, SceneObject
from cosmos_eval.datasets.toybox.words import CENTER, CORNERS, COUNTS, add_article

RECORD_KEYS = (
    "raw_caption",
    "shortIB_captions",
    "shortSV_captions",
    "shortLLA_captions",
    "longIB_captions",
    "longSV_captions",
    "longLLA_captions",
)
"""Keys of a record of DreamLIP (Zheng et al., ECCV 2024), which has captions of three captioning models."""


@dataclass(frozen=True)
class Captions:
    """The captions of one scene."""

    raw: str
    full: tuple[str, str]
    """Two complete descriptions."""
    short: str
    long: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]
    """Three descriptions of several sentences each."""


def short_name(scene_object: SceneObject) -> str:
    """Return colour and shape: "red circle"."""
    return f"{scene_object.colour} {scene_object.shape}"


def full_name(scene_object: SceneObject) -> str:
    """Return everything but the place: "small striped red circle"."""
    return f"{scene_object.size} {scene_object.texture} {scene_object.colour} {scene_object.shape}"


def choose_relation(first: SceneObject, second: SceneObject, rng: RandomStream) -> str:
    """Return a relation of `first` to `second` that is true; one of two at random where they differ along both axes."""
    true_relations = []
    if first.column != second.column:
        true_relations.append("left of" if first.column < second.column else "right of")
    if first.row != second.row:
        true_relations.append("above" if first.row < second.row else "below")
    return rng.choice(true_relations)


def captions(scene: Scene) -> Captions:
    """Write all captions of a scene; the choice among wordings is seeded by the scene's key.

    The order of the random draws decides every caption: do not add, leave out or move one (see `scenes.VERSION`).
    """
    rng = RandomStream("words", scene.key)
    objects = rng.sample(scene.objects, len(scene.objects))
    neighbours = list(pairwise(objects))
    background = f"{scene.background.pattern} {scene.background.colour}"

    raw_objects = objects[: 1 + rng.below(2)]
    raw = " and ".join(short_name(o) if rng.chance(0.6) else f"{o.size} {short_name(o)}" for o in raw_objects)
    if rng.chance(0.25):
        raw += f" on {scene.background.colour}"

    if neighbours:
        first, second = neighbours[0]
        relation = choose_relation(first, second, rng)
        short = f"{add_article(short_name(first))} {relation} {add_article(short_name(second))}"
    else:
        background_colour = add_article(scene.background.colour)
        short = f"a {objects[0].texture} {short_name(objects[0])} on {background_colour} background"

    reordered = rng.sample(objects, len(objects))
    full = (
        " and ".join(f"a {full_name(o)} at {o.place}" for o in objects) + f" on {background}",
        f"{COUNTS[len(objects) - 1]} on {background}, " + ", ".join(f"{o.place} a {full_name(o)}" for o in reordered),
    )

    places = [f"a {full_name(o)} is at {o.place}" for o in objects] + [f"the background is {background}"]
    relations = [_count_sentence(objects)]
    relations += [f"the {short_name(a)} is {choose_relation(a, b, rng)} the {short_name(b)}" for a, b in neighbours]
    details = []
    for o in rng.sample(objects, len(objects)):
        details.append(f"the {short_name(o)} is {o.size} and {o.texture}")
        details.append(f"{o.place} holds {add_article(short_name(o))}")
    empty_places = [place for place in (*CORNERS, CENTER) if all(o.place != place for o in objects)]
    if rng.chance(0.3):
        details.append(f"{rng.choice(empty_places)} is empty")
    return Captions(raw, full, short, (tuple(places), tuple(relations), tuple(details)))


def _count_sentence(objects: Sequence[SceneObject]) -> str:
    return f"there {'is' if len(objects) == 1 else 'are'} {COUNTS[len(objects) - 1]}"


def record(scene: Scene) -> dict[str, list[str]]:
    """Return the captions in the structure of DreamLIP's records: seven keys, each with a list of sentences.

    The raw caption is terse, like a web caption: it does not name everything. The three `short` keys hold the two
    complete descriptions and the short one, the three `long` keys the descriptions of several sentences, each sentence
    an entry of the list.
    """
    texts = captions(scene)
    lists = ([texts.raw], [texts.full[0]], [texts.short], [texts.full[1]], *map(list, texts.long))
    return dict(zip(RECORD_KEYS, lists, strict=True))
