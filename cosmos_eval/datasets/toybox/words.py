"""toybox's words: what a scene can hold and the few words that captions are made of.

Every word is one token of CLIP's byte-pair vocabulary. Folded as `1 + id mod (V - 3)` the words stay apart for a
vocabulary of V = 1,200 entries (not for every V: in 1,024 "blue" and "below" meet); a test holds this.
"""

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
COLOURS = ("red", "yellow", "green", "aqua", "blue", "purple", "white", "black")
SIZES = ("small", "large")
TEXTURES = ("plain", "striped", "dotted")
CORNERS = ("top left", "top right", "bottom left", "bottom right")
CENTER = "center"
PLACES = (*CORNERS, CENTER)
RELATIONS = ("left of", "right of", "above", "below")
BACKGROUND_COLOURS = ("gray", "brown", "olive", "slate", "teal", "rose")
BACKGROUND_PATTERNS = ("smooth", "faded", "noisy", "lined", "checked")
COUNTS = ("one object", "two objects", "three objects", "four objects")

CLASSES = tuple(f"{colour} {shape}" for shape in SHAPES for colour in COLOURS)
"""The 48 classes of toybox classification; class c is shape c // 8 in colour c % 8."""


def an(phrase: str) -> str:
    """The phrase with its indefinite article."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"
