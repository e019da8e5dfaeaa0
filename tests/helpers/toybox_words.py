"""All words of toybox's captions, which tests hold against tokenizers and against captions."""

from cosmos_eval.datasets.toybox import words

LINKS = ("a", "an", "and", "at", "background", "empty", "holds", "is", "of", "on", "the", "there", "are")


def vocabulary() -> tuple[str, ...]:
    """Every word of every caption and negative, in alphabetical order."""
    phrases = (*words.SHAPES, *words.COLOURS, *words.SIZES, *words.TEXTURES, *words.PLACES, *words.RELATIONS)
    phrases += (*words.BACKGROUND_COLOURS, *words.BACKGROUND_PATTERNS, *words.COUNTS, *LINKS)
    return tuple(sorted({word for phrase in phrases for word in phrase.split()}))
