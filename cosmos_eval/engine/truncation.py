"""Texts that are longer than a model's context: the model never reads their end, and gives no sign of it.

They are counted when texts become tokens, not when they are encoded. So a run whose features are all in the cache
reports the same numbers.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

MANY = 0.1
"""From a larger share of truncated texts on, a result says so more plainly: its numbers are of the beginnings."""
MAX_SPECIAL_TOKENS = 4
"""A tokenizer adds at most this many tokens around a text (start, end, ...). A model that adds more, such as a prompt,
has their number as `added_tokens`."""


@dataclass
class TextCounts:
    """How many texts of one benchmark the model has read, and how many of them were truncated."""

    read: int = 0
    """Texts of the benchmark; a repeated text counts each time."""
    truncated: int | None = 0
    """How many of them are longer than the context; None if the model does not say."""
    context_length: int | None = None
    """The model's context in tokens; None if it is not known."""
    alike: bool = False
    """Whether all texts were truncated to the same tokens, although they differ. Then any model gives them equal
    features."""

    def add(self, is_truncated: Tensor | None, distinct_index: Tensor, context_length: int | None, alike: bool) -> None:
        """Count N texts, of which M are distinct.

        Args:
            is_truncated: (M,) bool; None if the model does not say.
            distinct_index: (N,) int64, the index of each text among the distinct ones.
        """
        self.read += len(distinct_index)
        self.context_length = context_length
        self.alike = alike
        if is_truncated is None or self.truncated is None:
            self.truncated = None
        else:
            self.truncated += int(is_truncated[distinct_index].sum())

    @property
    def truncated_share(self) -> float | None:
        """Share of the texts that were truncated; None if there were none, or the model does not say."""
        return self.truncated / self.read if self.read and self.truncated is not None else None

    def record(self) -> dict[str, Any]:
        """Return the counts as a result holds them."""
        return {"read": self.read, "truncated": self.truncated, "context_length": self.context_length}

    def warnings(self) -> tuple[str, ...]:
        """Return one warning if texts were truncated, with their share if it is more than a tenth; else none."""
        if not self.truncated:
            return ()
        context = (
            "the model's context" if self.context_length is None else f"the context of {self.context_length:,} tokens"
        )
        if self.read == 1:
            sentence = f"{self.truncated:,} of {self.read:,} text is longer than {context} and was cut"
        else:
            sentence = f"{self.truncated:,} of {self.read:,} texts are longer than {context} and were cut"
        share = self.truncated_share or 0.0
        if share > MANY:
            sentence += f" ({100 * share:.0f} %: the numbers say little of how long texts are understood)"
        if self.alike:
            sentence += "; all are the same text after that, which no model can tell apart"
        return (sentence,)


def find_truncated_texts(
    model: Any, texts: Sequence[str], lengths: Tensor | None, context_length: int
) -> Tensor | None:
    """Return whether each of M texts is longer than the model's context: (M,) bool, or None if the model does not say.

    Tokenizing a text once more is slow, so the model is asked only about texts that can be too long.

    Args:
        model: an adapter; its method `truncated(texts)`, if it has one, returns a bool for each text, or None.
        lengths: (M,) number of tokens that the model reads of each text, if they are known. A truncated text fills the
            context.
        context_length: the model's context in tokens; 0 if it is not known.
    """
    if not callable(getattr(model, "truncated", None)):
        return None
    if lengths is not None:
        candidates = (lengths >= context_length).nonzero().flatten().tolist()
    else:
        # Each token of an ASCII text stands for at least one character, so a short enough text is not truncated.
        max_characters = context_length - getattr(model, "added_tokens", MAX_SPECIAL_TOKENS)
        candidates = [i for i, text in enumerate(texts) if not (len(text) <= max_characters and text.isascii())]
    is_truncated = torch.zeros(len(texts), dtype=torch.bool)
    if candidates:
        answers = model.truncated([texts[i] for i in candidates])
        if answers is None:
            return None
        is_truncated[candidates] = torch.tensor(answers, dtype=torch.bool)
    return is_truncated


def are_truncated_alike(model: Any, texts: Sequence[str], keys: Sequence[str], is_truncated: Tensor | None) -> bool:
    """Return whether several distinct texts are all truncated, and to the same tokens.

    Args:
        keys: digests of what the model reads of each text: of its tokens, or of the text itself if the model tokenizes.
        is_truncated: (M,) bool; None if it is not known.
    """
    if is_truncated is None or len(texts) < 2 or not bool(is_truncated.all()):
        return False
    if len(set(keys)) == 1:
        return True
    tokenize = getattr(model, "tokenize", None)
    if not callable(tokenize):
        return False
    first_tokens = tokenize([texts[0]])
    return all(torch.equal(tokenize([text]), first_tokens) for text in texts[1:])


def truncated_alike(engine: Any, name: str) -> Collection[str]:
    """Return `(name,)` if all texts of the benchmark were truncated to the same tokens, else nothing.

    A task leaves these features out of its check for collapsed features: they are equal because of the dataset, and
    `TextCounts.warnings` reports it.

    Args:
        name: how the task calls its text features in that check.
    """
    counts = getattr(engine, "text_counts", None)
    return (name,) if counts is not None and counts.alike else ()
