"""toybox's vocabulary: the properties that a scene can have, and the words of its captions.

Every word is one token of CLIP's byte-pair vocabulary. A small model folds token ids into a vocabulary of V entries by
`1 + id mod (V - 3)`; with V = 1,200 no two words share an id (with V = 1,024 "blue" and "below" do). A test checks it.
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


def add_article(phrase: str) -> str:
    """Return the phrase with its indefinite article: "a red circle", "an aqua star"."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"
