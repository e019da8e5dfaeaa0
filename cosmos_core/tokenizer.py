"""Text to token ids: OpenAI's byte-pair encoding, whole or folded to a small vocabulary.

The encoding is open_clip's (lower case, ftfy, HTML entities resolved twice). This module adds start and end tokens,
truncation that keeps the end token, padding with 0, and the folding that lets a small model read any text.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from torch import Tensor

from cosmos_core.byte_pairs import BytePairs, frame_ids
from cosmos_core.errors import RequestError
from cosmos_core.short_repr import short_repr

OPENAI_VOCABULARY = 49408


@lru_cache(maxsize=1)
def byte_pair_encoding() -> Any:
    """open_clip's tokenizer; built once, since reading its 48,894 merges takes a while."""
    from open_clip import SimpleTokenizer

    return SimpleTokenizer()


@lru_cache(maxsize=1)
def _byte_pairs() -> BytePairs:
    return BytePairs(byte_pair_encoding())


class Tokenizer:
    """Texts -> ids (B, L) of a model with the given context length and vocabulary.

    A vocabulary of 49,408 is OpenAI's. In a smaller one of V, an ordinary id becomes 1 + id mod (V - 3), the start
    token V - 2 and the end token V - 1, so that any text works and the end token stays the largest id, which is where
    text is pooled. Padding is 0 in both. If a text contains the end marker literally, it is an end token, and the text
    is pooled there.
    """

    def __init__(self, context_length: int = 77, vocab_size: int = OPENAI_VOCABULARY) -> None:
        if context_length < 2:
            raise RequestError(f"a context of {context_length} tokens has no room for the start and end tokens")
        if vocab_size < 4 or vocab_size > OPENAI_VOCABULARY:
            raise RequestError(f"a vocabulary of {vocab_size} is outside 4 to {OPENAI_VOCABULARY}, OpenAI's size")
        self.context_length, self.vocab_size = context_length, vocab_size

    @property
    def name(self) -> str:
        """The name that a result records."""
        folded = "" if self.vocab_size == OPENAI_VOCABULARY else f" folded to {self.vocab_size}"
        return f"openai-bpe{folded}"

    def encode(self, text: str) -> list[int]:
        """OpenAI's ids of a text, without start and end tokens, neither truncated nor folded."""
        return _byte_pairs().encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of OpenAI's ids; words are followed by a space."""
        return byte_pair_encoding().decode(list(ids))

    def fold(self, token: int) -> int:
        """The id of this vocabulary for one of OpenAI's."""
        if self.vocab_size == OPENAI_VOCABULARY:
            return token
        specials = {OPENAI_VOCABULARY - 2: self.vocab_size - 2, OPENAI_VOCABULARY - 1: self.vocab_size - 1}
        return specials.get(token, 1 + token % (self.vocab_size - 3))

    def __call__(self, texts: str | Sequence[str], context_length: int | None = None) -> Tensor:
        """B texts (or one) -> (B, L) int64; longer texts are truncated, and their last id is the end token."""
        length = context_length or self.context_length
        texts = [texts] if isinstance(texts, str) else texts
        start, end = self.fold(OPENAI_VOCABULARY - 2), self.fold(OPENAI_VOCABULARY - 1)
        ids = [self.encode(text) for text in texts]
        if self.vocab_size != OPENAI_VOCABULARY:
            ids = [[self.fold(token) for token in text_ids] for text_ids in ids]
        return frame_ids(ids, length, start, end)


def build_tokenizer(text_cfg: Mapping[str, Any]) -> Callable[[Sequence[str]], Tensor]:
    """The tokenizer that a text tower's configuration asks for: texts -> (B, context_length) ids.

    Raises:
        RequestError: the tower needs another tokenizer than OpenAI's.
    """
    other_tokenizer = (
        text_cfg.get("hf_tokenizer_name") or text_cfg.get("tokenizer_mode") or text_cfg.get("tokenizer_kwargs")
    )
    if other_tokenizer:
        raise RequestError(
            f"the text tower asks for the tokenizer {short_repr(other_tokenizer)}; "
            "only OpenAI's byte-pair encoding is built in"
        )
    return Tokenizer(text_cfg.get("context_length", 77), text_cfg.get("vocab_size", OPENAI_VOCABULARY))
