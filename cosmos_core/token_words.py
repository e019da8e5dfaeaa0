"""Which tokens of a text belong to which word.

A folded vocabulary cannot be decoded, and byte pairs cut words into unreadable pieces. So words are taken from the text
itself, split by the tokenizer's own pattern, and each has the positions of its tokens.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from cosmos_core.tokenizer import Tokenizer, byte_pair_encoding


@dataclass(frozen=True)
class Word:
    """A word of a text, or a punctuation mark."""

    text: str
    positions: range
    """Positions of its tokens in the ids of the text; empty if the text was truncated before it."""


def words_of(tokenizer: Tokenizer, texts: Sequence[str], context_length: int | None = None) -> list[tuple[Word, ...]]:
    """The words of each text, in order. Start, end and padding tokens belong to none.

    A word is a run of letters, digits and endings after an apostrophe ("dog's", "b52"); other characters are words of
    their own (","). It is spelled as in the text if the tokenizer's cleaning only lower-cased it.
    """
    room = (context_length or tokenizer.context_length) - 2  # of start and end
    return [_find_words(text, room) for text in texts]


def _find_words(text: str, room: int) -> tuple[Word, ...]:
    words: list[Word] = []
    token_count, last_end = 0, -1  # number of tokens so far; end of the last word in the text
    cleaned, shown = _clean(text)
    for match in byte_pair_encoding().pat.finditer(cleaned):
        first, token_count = token_count, token_count + _count_tokens(match.group())
        positions = range(1 + min(first, room), 1 + min(token_count, room))
        piece = shown[match.start() : match.end()]
        if words and match.start() == last_end and _continues(words[-1].text, piece):
            before = words.pop()
            piece = before.text + piece
            positions = range(before.positions.start, positions.stop)
        words.append(Word(piece, positions))
        last_end = match.end()
    return tuple(words)


def _clean(text: str) -> tuple[str, str]:
    """The text as it is encoded, and with its original upper case if the two agree character by character."""
    cleaned = byte_pair_encoding().clean_fn(text)
    written = " ".join(text.split())
    same = len(written) == len(cleaned) and written.lower() == cleaned
    return cleaned, written if same else cleaned


def _count_tokens(part: str) -> int:
    """Number of tokens of one match of the pattern."""
    bpe = byte_pair_encoding()
    return len(bpe.bpe("".join(bpe.byte_encoder[byte] for byte in part.encode())).split(" "))


def _continues(before: str, piece: str) -> bool:
    """Whether a piece right after a word continues it: letters, digits and endings such as "'s" do."""
    if not before[-1].isalnum():
        return False
    return piece[0].isalnum() or re.fullmatch(r"'(s|t|re|ve|m|ll|d)", piece, re.IGNORECASE) is not None
