"""The content of a scene, how it is drawn at random, and why no content occurs in two splits."""

from collections.abc import Callable
from dataclasses import dataclass

from cosmos_core.errors import RequestError
from cosmos_eval.datasets.toybox.random_stream import RandomStream, digest_number
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
"""Version of the generator: images, wording and splits. Numbers of different versions are not comparable."""

SPLITS = {"train": range(0, 80), "val": range(80, 90), "test": range(90, 100)}
"""Split -> its buckets, of the hundred buckets into which scene contents are hashed."""

COUNT_SHARES = (0.35, 0.35, 0.18, 0.12)
"""Share of the scenes that hold one, two, three and four objects."""

# Lengths are shares of the image's side. Objects in different corners never touch: neighbouring corners are 0.5 apart,
# and an object reaches less than 0.25 along each axis: 0.03 of offset, and 0.22 from its centre to the tip of a star.
CENTRES = {
    "top left": (0.25, 0.25),
    "top right": (0.75, 0.25),
    "bottom left": (0.25, 0.75),
    "bottom right": (0.75, 0.75),
    CENTER: (0.5, 0.5),
}
"""Place -> the x and y of its centre."""
MAX_OFFSET = 0.03
"""Largest distance, in x and in y, of an object's centre from the centre of its place."""
RADII = {"small": (0.12, 0.135), "large": (0.195, 0.21)}
"""Size -> the smallest and the largest radius of an object of this size."""


@dataclass(frozen=True)
class SceneObject:
    """One object. Captions can name the first five fields and never the others. Lengths are shares of the side."""

    shape: str
    colour: str
    size: str
    texture: str
    place: str
    x: float = 0.5
    y: float = 0.5
    radius: float = 0.2
    angle: float = 0.0
    """Rotation in radians."""
    shade: float = 0.0
    """-1 to 1: how much darker or lighter the object is than the mean of its colour."""

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
    """Captions can name colour and pattern. `angle` is the pattern's rotation in radians; `shade` from -1 to 1."""

    colour: str
    pattern: str
    angle: float = 0.0
    shade: float = 0.0


@dataclass(frozen=True)
class Speck:
    """A short line or dot: clutter, not an object, and in no caption.

    Lengths are shares of the side, `angle` is in radians, `tone` goes from -1 (dark) to 1 (light).
    """

    x: float
    y: float
    length: float
    angle: float
    tone: float


@dataclass(frozen=True)
class Scene:
    """The content of a scene, its key and its split.

    The key names the scene; it also seeds the noise of the background, the wording of the captions and the negatives.
    """

    objects: tuple[SceneObject, ...]
    background: Background
    key: str
    split: str
    specks: tuple[Speck, ...] = ()

    def signature(self) -> str:
        """Return the content that captions can name, in one string; the order of the objects does not matter."""
        objects = sorted(f"{o.place}:{o.size} {o.texture} {o.colour} {o.shape}" for o in self.objects)
        return f"{self.background.pattern} {self.background.colour};" + ";".join(objects)


def split_of(signature: str) -> str:
    """Return the only split in which a scene of this content may occur."""
    bucket = digest_number("split", VERSION, signature) % 100
    return next(split for split, buckets in SPLITS.items() if bucket in buckets)


def make_scene(seed: int, split: str, index: int) -> Scene:
    """Draw scene `index` of a split: 1 to 4 objects in different places, no two alike in both colour and shape.

    Raises:
        RequestError: the split is not train, val or test.
    """
    return _draw_until_in_split(f"{split}-{seed}-{index:06d}", split, _draw_scene)


def single_object_scene(seed: int, split: str, label: int, index: int) -> Scene:
    """Draw image `index` of class `label` (see `words.CLASSES`): one large object of that class, with specks around it.

    Raises:
        RequestError: the split is not train, val or test, or the label is not in 0..47.
    """
    if not 0 <= label < len(SHAPES) * len(COLOURS):
        raise RequestError(f"toybox has classes 0 to {len(SHAPES) * len(COLOURS) - 1}, not {label}")

    def draw(rng: RandomStream, key: str, split: str) -> Scene:
        shape, colour = SHAPES[label // len(COLOURS)], COLOURS[label % len(COLOURS)]
        scene_object = _draw_object(rng, shape, colour, "large", rng.choice(PLACES))
        return Scene((scene_object,), _draw_background(rng), key, split, _draw_specks(rng, 2 + rng.below(5)))

    return _draw_until_in_split(f"{split}-{seed}-class{label:02d}-{index:05d}", split, draw)


# The functions below draw from one stream, one value after the other. The order of their draws decides every image and
# caption: a draw that is added, left out or moved changes all that follow, and needs a new VERSION. Python evaluates
# arguments from left to right, so the order of the arguments counts, too.


def _draw_until_in_split(key: str, split: str, draw: Callable[[RandomStream, str, str], Scene]) -> Scene:
    """Draw scenes until the content of one belongs to the split; so splits cannot overlap, whatever their seeds."""
    if split not in SPLITS:
        raise RequestError(f"toybox has the splits {', '.join(SPLITS)}, not {split!r}")
    rng = RandomStream("scene", VERSION, key)
    while True:
        scene = draw(rng, key, split)
        if split_of(scene.signature()) == split:
            return scene


def _draw_scene(rng: RandomStream, key: str, split: str) -> Scene:
    # one draw decides the number of objects: the first share whose sum with those before it exceeds the point
    point, count = rng.uniform(0, 1), 1
    for share in COUNT_SHARES[:-1]:
        point -= share
        count += point >= 0
    places = [rng.choice(PLACES)] if count == 1 else rng.sample(CORNERS, count)
    objects: list[SceneObject] = []
    for place in places:
        while True:
            colour, shape = rng.choice(COLOURS), rng.choice(SHAPES)
            if all((other.colour, other.shape) != (colour, shape) for other in objects):
                break
        objects.append(_draw_object(rng, shape, colour, rng.choice(SIZES), place))
    specks = _draw_specks(rng, rng.below(6)) if rng.chance(0.5) else ()
    return Scene(tuple(objects), _draw_background(rng), key, split, specks)


def _draw_object(rng: RandomStream, shape: str, colour: str, size: str, place: str) -> SceneObject:
    x, y = CENTRES[place]
    return SceneObject(
        shape=shape,
        colour=colour,
        size=size,
        texture=rng.choice(TEXTURES),
        place=place,
        x=x + rng.uniform(-MAX_OFFSET, MAX_OFFSET),
        y=y + rng.uniform(-MAX_OFFSET, MAX_OFFSET),
        radius=rng.uniform(*RADII[size]),
        angle=rng.uniform(-0.2, 0.2),
        shade=rng.uniform(-1, 1),
    )


def _draw_background(rng: RandomStream) -> Background:
    return Background(
        colour=rng.choice(BACKGROUND_COLOURS),
        pattern=rng.choice(BACKGROUND_PATTERNS),
        angle=rng.uniform(0, 6.2831853),
        shade=rng.uniform(-1, 1),
    )


def _draw_specks(rng: RandomStream, count: int) -> tuple[Speck, ...]:
    return tuple(
        Speck(
            x=rng.uniform(0.03, 0.97),
            y=rng.uniform(0.03, 0.97),
            length=rng.choice((0.0, 0.06, 0.1)),
            angle=rng.uniform(0, 3.1415927),
            tone=rng.choice((-1.0, 1.0)) * rng.uniform(0.5, 1),
        )
        for _ in range(count)
    )
