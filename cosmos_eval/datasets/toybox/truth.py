"""Is a sentence true of a scene? It is read as words and held against the scene's content, whatever made the sentence.

A sentence claims that different objects exist which fit its phrases ("a red circle at top left and a blue star"), stand
in its relations, and that background, number of objects and empty places are as it says. It leaves room for objects
that it does not mention. "left of" compares columns, "above" rows: "a red circle left of a blue star" holds also where
the circle stands higher or lower. "the" claims no more than "a": no scene holds two objects of one colour and shape.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from cosmos_eval.datasets.toybox.scenes import Scene, Thing
from cosmos_eval.datasets.toybox.words import (
    BACKGROUND_COLOURS,
    BACKGROUND_PATTERNS,
    COLOURS,
    COUNTS,
    PLACES,
    RELATIONS,
    SHAPES,
    SIZES,
    TEXTURES,
)


@dataclass
class Phrase:
    """What a sentence says of one object; None where it says nothing."""

    shape: str
    colour: str | None = None
    size: str | None = None
    texture: str | None = None
    place: str | None = None

    def fits(self, thing: Thing) -> bool:
        asked = (self.shape, self.colour, self.size, self.texture, self.place)
        have = (thing.shape, thing.colour, thing.size, thing.texture, thing.place)
        return all(want is None or want == has for want, has in zip(asked, have, strict=True))


@dataclass
class Claim:
    """The content of one sentence; relations are (phrase, relation, phrase) by index."""

    phrases: list[Phrase] = field(default_factory=list)
    relations: list[tuple[int, str, int]] = field(default_factory=list)
    pattern: str | None = None
    ground: str | None = None
    count: int | None = None
    empty: list[str] = field(default_factory=list)


def is_true(text: str, scene: Scene) -> bool:
    """Whether every sentence of a text (joined with ". ") is true of the scene.

    Raises:
        ValueError: a sentence is not of toybox's language; names the sentence and the word.
    """
    return all(_holds(claim, scene) for claim in _claims(text))


@lru_cache(maxsize=4096)
def _claims(text: str) -> tuple["Claim", ...]:
    return tuple(read(sentence) for sentence in text.removesuffix(".").split(". "))


def related(first: Thing, relation: str, second: Thing) -> bool:
    """Whether `first` stands in the relation to `second`."""
    return {
        "left of": first.column < second.column,
        "right of": first.column > second.column,
        "above": first.row < second.row,
        "below": first.row > second.row,
    }[relation]


def _holds(claim: Claim, scene: Scene) -> bool:
    if claim.pattern not in (None, scene.background.pattern) or claim.ground not in (None, scene.background.colour):
        return False
    if claim.count not in (None, len(scene.objects)):
        return False
    if any(thing.place in claim.empty for thing in scene.objects):
        return False
    return _can_assign(claim, scene.objects, [])


def _can_assign(claim: Claim, things: Sequence[Thing], chosen: list[Thing]) -> bool:
    """Whether the phrases after the chosen ones can be given to objects that are all different."""
    if len(chosen) == len(claim.phrases):
        return all(related(chosen[i], relation, chosen[j]) for i, relation, j in claim.relations)
    phrase = claim.phrases[len(chosen)]
    return any(
        phrase.fits(thing) and _can_assign(claim, things, [*chosen, thing])
        for thing in things
        if all(thing is not other for other in chosen)
    )


def read(sentence: str) -> Claim:
    """The claim that a sentence makes. ValueError where it is not of toybox's language."""
    return _Sentence(sentence).read()


class _Sentence:
    """Reads words from the left; each method takes what it expects, or raises."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.words = text.replace(",", " ,").split()
        self.at = 0
        self.claim = Claim()

    def read(self) -> Claim:
        if self.take("there"):
            self.need("is", "are")
            self.count()
        elif self.take("the background"):
            self.need("is")
            self.ground()
        elif self.words and self.words[0] in {count.split()[0] for count in COUNTS}:
            self.count()
            self.need("on")
            self.ground()
            while self.take(","):
                self.thing(place=self.need(*PLACES))
        elif place := self.take(*PLACES):
            if self.need("holds", "is empty") == "holds":
                self.thing(place)
            else:
                self.claim.empty.append(place)
        else:
            self.things()
        if self.at < len(self.words):
            raise self.wrong()
        return self.claim

    def things(self) -> None:
        """One object and what is said of it, or several joined by "and"."""
        first = self.thing()
        if self.take("is"):
            if self.take("at"):
                first.place = self.need(*PLACES)
            elif size := self.take(*SIZES):
                first.size = size
                self.need("and")
                first.texture = self.need(*TEXTURES)
            else:
                self.relation()
            return
        while True:
            if self.claim.phrases[-1].place is None and self.take("at"):
                self.claim.phrases[-1].place = self.need(*PLACES)
            elif self.peek(*RELATIONS):
                self.relation()
            elif self.take("and"):
                self.thing()
            else:
                break
        if self.take("on"):
            self.ground()

    def relation(self) -> None:
        relation = self.need(*RELATIONS)
        self.thing()
        last = len(self.claim.phrases) - 1
        self.claim.relations.append((last - 1, relation, last))

    def thing(self, place: str | None = None) -> Phrase:
        self.take("a", "an", "the")
        size, texture, colour = self.take(*SIZES), self.take(*TEXTURES), self.take(*COLOURS)
        phrase = Phrase(self.need(*SHAPES), colour, size, texture, place)
        self.claim.phrases.append(phrase)
        return phrase

    def ground(self) -> None:
        self.take("a", "an")
        self.claim.pattern = self.take(*BACKGROUND_PATTERNS)
        self.claim.ground = self.need(*BACKGROUND_COLOURS)
        self.take("background")

    def count(self) -> None:
        self.claim.count = 1 + COUNTS.index(self.need(*COUNTS))

    def peek(self, *phrases: str) -> str | None:
        for phrase in phrases:
            words = phrase.split()
            if self.words[self.at : self.at + len(words)] == words:
                return phrase
        return None

    def take(self, *phrases: str) -> str | None:
        phrase = self.peek(*phrases)
        if phrase is not None:
            self.at += len(phrase.split())
        return phrase

    def need(self, *phrases: str) -> str:
        phrase = self.take(*phrases)
        if phrase is None:
            raise self.wrong()
        return phrase

    def wrong(self) -> ValueError:
        word = self.words[self.at] if self.at < len(self.words) else "its end"
        return ValueError(f"not a sentence of toybox: {self.text!r}, at {word!r}")
