"""All words of toybox's captions, which tests compare with tokenizers and with captions."""

from cosmos_eval.datasets.toybox import words

FUNCTION_WORDS = ("a", "an", "and", "at", "background", "empty", "holds", "is", "of", "on", "the", "there", "are")


def vocabulary() -> tuple[str, ...]:
    """Return every word of every caption and negative, in alphabetical order."""
    phrases = (*words.SHAPES, *words.COLOURS, *words.SIZES, *words.TEXTURES, *words.PLACES, *words.RELATIONS)
    phrases += (*words.BACKGROUND_COLOURS, *words.BACKGROUND_PATTERNS, *words.COUNTS, *FUNCTION_WORDS)
    return tuple(sorted({word for phrase in phrases for word in phrase.split()}))
