"""What is in a scene, how one is drawn by lot, and why two splits never hold the same content."""

from collections.abc import Callable
from dataclasses import dataclass

from cosmos_core.errors import RequestError
from cosmos_eval.datasets.toybox.dice import Dice, digest_number
from cosmos_eval.datasets.toybox.words import (
    BACKGROUND_COLOURS,
    BACKGROUND_PATTERNS,
    CENTER,
    COLOURS,
    CORNERS,
    PLACES,
    SHAPES,
    SIZES,
    TEXTURES,
)

VERSION = 1
"""Of the generator: images, wording and splits. Numbers of different versions are not comparable."""

SPLITS = {"train": range(0, 80), "val": range(80, 90), "test": range(90, 100)}
"""Which hundredths of all scene contents belong to a split."""

# How often a scene holds one, two, three or four objects.
COUNT_SHARES = (0.35, 0.35, 0.18, 0.12)

# Centres of the places and how far an object's centre strays from them, as shares of the image's side. The largest
# object reaches 0.21 from its centre, so that objects of different corners never touch.
CENTRES = {
    "top left": (0.25, 0.25),
    "top right": (0.75, 0.25),
    "bottom left": (0.25, 0.75),
    "bottom right": (0.75, 0.75),
    CENTER: (0.5, 0.5),
}
STRAY = 0.03
RADII = {"small": (0.12, 0.135), "large": (0.195, 0.21)}


@dataclass(frozen=True)
class Thing:
    """One object: what captions speak of, then what they do not (lengths are shares of the side)."""

    shape: str
    colour: str
    size: str
    texture: str
    place: str
    x: float = 0.5
    y: float = 0.5
    radius: float = 0.2
    turn: float = 0.0
    """Radians."""
    shade: float = 0.0
    """-1 to 1: how much darker or lighter than its colour's mean."""

    @property
    def column(self) -> int:
        """0 left, 1 centre, 2 right."""
        return 0 if "left" in self.place else 2 if "right" in self.place else 1

    @property
    def row(self) -> int:
        """0 top, 1 centre, 2 bottom."""
        return 0 if "top" in self.place else 2 if "bottom" in self.place else 1


@dataclass(frozen=True)
class Background:
    colour: str
    pattern: str
    turn: float = 0.0
    shade: float = 0.0


@dataclass(frozen=True)
class Speck:
    """A short line or dot, no object and in no caption (lengths as above; `tone` from -1, dark, to 1, light)."""

    x: float
    y: float
    length: float
    turn: float
    tone: float


@dataclass(frozen=True)
class Scene:
    """A scene's content, its name and its split. `key` also seeds the noise of its background and its wording."""

    objects: tuple[Thing, ...]
    background: Background
    key: str
    split: str
    specks: tuple[Speck, ...] = ()

    def signature(self) -> str:
        """The content that captions can speak of, independent of the order of objects; equal for equal content."""
        things = sorted(f"{t.place}:{t.size} {t.texture} {t.colour} {t.shape}" for t in self.objects)
        return f"{self.background.pattern} {self.background.colour};" + ";".join(things)


def split_of(signature: str) -> str:
    """The only split in which a scene of this content may occur."""
    bucket = digest_number("split", VERSION, signature) % 100
    return next(split for split, buckets in SPLITS.items() if bucket in buckets)


def make_scene(seed: int, split: str, index: int) -> Scene:
    """Scene `index` of a split: 1 to 4 objects in different places, no two alike in both colour and shape.

    Raises:
        RequestError: the split is none of train, val and test.
    """
    return _draw_until_in_split(f"{split}-{seed}-{index:06d}", split, _draw)


def single_object_scene(seed: int, split: str, label: int, index: int) -> Scene:
    """Image `index` of class `label` (see `words.CLASSES`): one large object of that class and specks around it.

    Raises:
        RequestError: the split is none of train, val and test, or the label is not in 0..47.
    """
    if not 0 <= label < len(SHAPES) * len(COLOURS):
        raise RequestError(f"toybox has classes 0 to {len(SHAPES) * len(COLOURS) - 1}, not {label}")

    def draw(dice: Dice, key: str, split: str) -> Scene:
        shape, colour = SHAPES[label // len(COLOURS)], COLOURS[label % len(COLOURS)]
        thing = _thing(dice, shape, colour, "large", dice.pick(PLACES))
        return Scene((thing,), _background(dice), key, split, _specks(dice, 2 + dice.below(5)))

    return _draw_until_in_split(f"{split}-{seed}-class{label:02d}-{index:05d}", split, draw)


def _draw_until_in_split(key: str, split: str, draw: Callable[[Dice, str, str], Scene]) -> Scene:
    """Draw until a scene's content belongs to the split, so that overlap is impossible whatever the seeds."""
    if split not in SPLITS:
        raise RequestError(f"toybox has the splits {', '.join(SPLITS)}, not {split!r}")
    dice = Dice("scene", VERSION, key)
    while True:
        scene = draw(dice, key, split)
        if split_of(scene.signature()) == split:
            return scene


def _draw(dice: Dice, key: str, split: str) -> Scene:
    point, count = dice.between(0, 1), 1
    for share in COUNT_SHARES[:-1]:
        point -= share
        count += point >= 0
    places = [dice.pick(PLACES)] if count == 1 else dice.sample(CORNERS, count)
    things: list[Thing] = []
    for place in places:
        while True:
            colour, shape = dice.pick(COLOURS), dice.pick(SHAPES)
            if all((t.colour, t.shape) != (colour, shape) for t in things):
                break
        things.append(_thing(dice, shape, colour, dice.pick(SIZES), place))
    specks = _specks(dice, dice.below(6)) if dice.chance(0.5) else ()
    return Scene(tuple(things), _background(dice), key, split, specks)


def _thing(dice: Dice, shape: str, colour: str, size: str, place: str) -> Thing:
    x, y = CENTRES[place]
    return Thing(
        shape=shape,
        colour=colour,
        size=size,
        texture=dice.pick(TEXTURES),
        place=place,
        x=x + dice.between(-STRAY, STRAY),
        y=y + dice.between(-STRAY, STRAY),
        radius=dice.between(*RADII[size]),
        turn=dice.between(-0.2, 0.2),
        shade=dice.between(-1, 1),
    )


def _background(dice: Dice) -> Background:
    return Background(
        colour=dice.pick(BACKGROUND_COLOURS),
        pattern=dice.pick(BACKGROUND_PATTERNS),
        turn=dice.between(0, 6.2831853),
        shade=dice.between(-1, 1),
    )


def _specks(dice: Dice, count: int) -> tuple[Speck, ...]:
    return tuple(
        Speck(
            x=dice.between(0.03, 0.97),
            y=dice.between(0.03, 0.97),
            length=dice.pick((0.0, 0.06, 0.1)),
            turn=dice.between(0, 3.1415927),
            tone=dice.pick((-1.0, 1.0)) * dice.between(0.5, 1),
        )
        for _ in range(count)
    )
