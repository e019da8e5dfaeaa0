"""Decide whether a caption is true of a scene: parse its words and compare them with the content of the scene.

A sentence states that objects exist which match its phrases ("a red circle at top left and a blue star"), each phrase a
different object, that its relations hold between them, and that the background, the number of objects and the empty
places are as stated. The scene may have objects that the sentence does not mention. "left of" compares columns only and
"above" rows only: "a red circle left of a blue star" is also true where the circle is higher or lower than the star.
"the" means the same as "a", since no scene holds two objects of one colour and shape.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from cosmos_eval.datasets.toybox.scenes import Scene, SceneObject
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
class ObjectPhrase:
    """What a sentence states about one object; None for a property that it does not mention."""

    shape: str
    colour: str | None = None
    size: str | None = None
    texture: str | None = None
    place: str | None = None

    def matches(self, scene_object: SceneObject) -> bool:
        """Whether the object has every property that the phrase mentions."""
        stated = (self.shape, self.colour, self.size, self.texture, self.place)
        o = scene_object
        actual = (o.shape, o.colour, o.size, o.texture, o.place)
        return all(value is None or value == has for value, has in zip(stated, actual, strict=True))


@dataclass
class ParsedSentence:
    """The content of one sentence; None and empty lists for what it does not mention."""

    phrases: list[ObjectPhrase] = field(default_factory=list)
    relations: list[tuple[int, str, int]] = field(default_factory=list)
    """(index of a phrase, relation, index of a phrase)."""
    background_pattern: str | None = None
    background_colour: str | None = None
    object_count: int | None = None
    empty_places: list[str] = field(default_factory=list)


def is_true(text: str, scene: Scene) -> bool:
    """Whether every sentence of a text (joined with ". ") is true of the scene.

    Raises:
        ValueError: a sentence that toybox cannot have written; names the sentence and the word.
    """
    return all(_is_sentence_true(sentence, scene) for sentence in _parse_text(text))


@lru_cache(maxsize=4096)
def _parse_text(text: str) -> tuple[ParsedSentence, ...]:
    return tuple(parse_sentence(sentence) for sentence in text.removesuffix(".").split(". "))


def is_related(first: SceneObject, relation: str, second: SceneObject) -> bool:
    """Whether the relation of `first` to `second` holds."""
    return {
        "left of": first.column < second.column,
        "right of": first.column > second.column,
        "above": first.row < second.row,
        "below": first.row > second.row,
    }[relation]


def _is_sentence_true(sentence: ParsedSentence, scene: Scene) -> bool:
    if sentence.background_pattern not in (None, scene.background.pattern):
        return False
    if sentence.background_colour not in (None, scene.background.colour):
        return False
    if sentence.object_count not in (None, len(scene.objects)):
        return False
    if any(scene_object.place in sentence.empty_places for scene_object in scene.objects):
        return False
    return _can_assign_phrases(sentence, scene.objects, [])


def _can_assign_phrases(sentence: ParsedSentence, objects: Sequence[SceneObject], assigned: list[SceneObject]) -> bool:
    """Whether the phrases can be assigned to different objects such that all relations hold.

    Backtracking: the first phrases are assigned to the objects in `assigned`, the next phrase is tried with every other
    object. The first object that matches need not be the right one ("a circle left of a circle").
    """
    if len(assigned) == len(sentence.phrases):
        return all(is_related(assigned[i], relation, assigned[j]) for i, relation, j in sentence.relations)
    phrase = sentence.phrases[len(assigned)]
    for candidate in objects:
        is_free = all(candidate is not other for other in assigned)
        if is_free and phrase.matches(candidate) and _can_assign_phrases(sentence, objects, [*assigned, candidate]):
            return True
    return False


def parse_sentence(sentence: str) -> ParsedSentence:
    """Parse one sentence.

    Raises:
        ValueError: a sentence that toybox cannot have written; names the sentence and the word.
    """
    return _SentenceParser(sentence).parse()


class _SentenceParser:
    """A recursive-descent parser of toybox's captions: a method for each rule of their grammar.

    `accept` takes one of the given words or phrases if it comes next, `expect` raises if none does.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.words = text.replace(",", " ,").split()
        self.position = 0
        self.parsed = ParsedSentence()

    def parse(self) -> ParsedSentence:
        if self.accept("there"):
            self.expect("is", "are")
            self.parse_count()
        elif self.accept("the background"):
            self.expect("is")
            self.parse_background()
        elif self.words and self.words[0] in {count.split()[0] for count in COUNTS}:
            self.parse_count()
            self.expect("on")
            self.parse_background()
            while self.accept(","):
                self.parse_object(place=self.expect(*PLACES))
        elif place := self.accept(*PLACES):
            if self.expect("holds", "is empty") == "holds":
                self.parse_object(place)
            else:
                self.parsed.empty_places.append(place)
        else:
            self.parse_objects()
        if self.position < len(self.words):
            raise self.error()
        return self.parsed

    def parse_objects(self) -> None:
        """One object and a statement about it ("the star is ..."), or several objects joined by "and" or relations."""
        first = self.parse_object()
        if self.accept("is"):
            if self.accept("at"):
                first.place = self.expect(*PLACES)
            elif size := self.accept(*SIZES):
                first.size = size
                self.expect("and")
                first.texture = self.expect(*TEXTURES)
            else:
                self.parse_relation()
            return
        while True:
            if self.parsed.phrases[-1].place is None and self.accept("at"):
                self.parsed.phrases[-1].place = self.expect(*PLACES)
            elif self.peek(*RELATIONS):
                self.parse_relation()
            elif self.accept("and"):
                self.parse_object()
            else:
                break
        if self.accept("on"):
            self.parse_background()

    def parse_relation(self) -> None:
        """A relation and the object behind it; it relates the object before it to that object."""
        relation = self.expect(*RELATIONS)
        self.parse_object()
        last = len(self.parsed.phrases) - 1
        self.parsed.relations.append((last - 1, relation, last))

    def parse_object(self, place: str | None = None) -> ObjectPhrase:
        self.accept("a", "an", "the")
        size, texture, colour = self.accept(*SIZES), self.accept(*TEXTURES), self.accept(*COLOURS)
        phrase = ObjectPhrase(self.expect(*SHAPES), colour, size, texture, place)
        self.parsed.phrases.append(phrase)
        return phrase

    def parse_background(self) -> None:
        self.accept("a", "an")
        self.parsed.background_pattern = self.accept(*BACKGROUND_PATTERNS)
        self.parsed.background_colour = self.expect(*BACKGROUND_COLOURS)
        self.accept("background")

    def parse_count(self) -> None:
        self.parsed.object_count = 1 + COUNTS.index(self.expect(*COUNTS))

    def peek(self, *phrases: str) -> str | None:
        """Return the first of the phrases that comes next, without moving on; None where none does."""
        for phrase in phrases:
            words = phrase.split()
            if self.words[self.position : self.position + len(words)] == words:
                return phrase
        return None

    def accept(self, *phrases: str) -> str | None:
        """Move past the first of the phrases that comes next and return it; None where none does."""
        phrase = self.peek(*phrases)
        if phrase is not None:
            self.position += len(phrase.split())
        return phrase

    def expect(self, *phrases: str) -> str:
        """Move past the first of the phrases that comes next and return it; ValueError where none does."""
        phrase = self.accept(*phrases)
        if phrase is None:
            raise self.error()
        return phrase

    def error(self) -> ValueError:
        word = repr(self.words[self.position]) if self.position < len(self.words) else "the end"
        return ValueError(f"not a sentence of toybox: {self.text!r}, at {word}")
