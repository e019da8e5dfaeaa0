"""How many texts a model read only in part: what stands behind its context never reaches it, and nobody is told.

Counted where texts become tokens, so that a run whose features are all in the cache says the same numbers.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

SPECIAL = 4
"""Tokens that a tokenizer may put around a text, at most."""


@dataclass
class TextsRead:
    """What a model read of the texts of one benchmark."""

    read: int = 0
    """Texts that were asked for, repeated ones each time."""
    truncated: int | None = 0
    """How many of them are longer than the context; None where the model does not say."""
    context_length: int | None = None
    alike: bool = False
    """Whether different texts were cut to the same tokens, all of them: their features are one, whatever the model."""

    def add(self, cut: Tensor | None, of_text: Tensor, context_length: int | None, alike: bool) -> None:
        """Count some texts.

        Args:
            cut: (M,) bool for each distinct text; None where the model does not say.
            of_text: (N,) which of the distinct texts each text is.
        """
        self.read += len(of_text)
        self.context_length = context_length
        self.alike = alike
        if cut is None or self.truncated is None:
            self.truncated = None
        else:
            self.truncated += int(cut[of_text].sum())

    def record(self) -> dict[str, Any]:
        """For a result."""
        return {"read": self.read, "truncated": self.truncated, "context_length": self.context_length}

    def warnings(self) -> tuple[str, ...]:
        """One remark where texts were cut."""
        if not self.truncated:
            return ()
        context = "the model's context" if self.context_length is None else f"the context of {self.context_length:,}"
        tokens = "" if self.context_length is None else " tokens"
        verbs = "is longer than {} and was cut" if self.read == 1 else "are longer than {} and were cut"
        same = "; all are the same text after that, which no model can tell apart" if self.alike else ""
        texts = "text" if self.read == 1 else "texts"
        return (f"{self.truncated:,} of {self.read:,} {texts} {verbs.format(context + tokens)}{same}",)


def truncated_texts(model: Any, texts: Sequence[str], lengths: Tensor | None, context_length: int) -> Tensor | None:
    """(M,) bool, whether each of some texts is longer than the context of a model; None where the model does not say.

    Args:
        model: an adapter; `truncated(texts)`, where it has that, gives a bool for each text.
        lengths: (M,) tokens that the model reads of each, where they are known: a text is cut only where it fills the
            context.
        context_length: tokens that the model reads; 0 where that is not known.
    """
    if not callable(getattr(model, "truncated", None)):
        return None
    if lengths is not None:
        candidates = (lengths >= context_length).nonzero().flatten().tolist()
    else:
        # A token of ASCII text stands for one character at least.
        room = context_length - SPECIAL
        candidates = [i for i, text in enumerate(texts) if not (len(text) <= room and text.isascii())]
    cut = torch.zeros(len(texts), dtype=torch.bool)
    if candidates:
        said = model.truncated([texts[i] for i in candidates])
        if said is None:
            return None
        cut[candidates] = torch.tensor(said, dtype=torch.bool)
    return cut


def cut_alike(model: Any, texts: Sequence[str], keys: Sequence[str], cut: Tensor | None) -> bool:
    """Whether different texts, all of them cut, are the same tokens.

    Args:
        keys: what the model sees of each, as digests; of the text itself where its tokens are not known.
    """
    if cut is None or len(texts) < 2 or not bool(cut.all()):
        return False
    if len(set(keys)) == 1:
        return True
    tokenize = getattr(model, "tokenize", None)
    if not callable(tokenize):
        return False
    first = tokenize([texts[0]])
    return all(torch.equal(tokenize([text]), first) for text in texts[1:])


def except_cut_alike(engine: Any, name: str) -> Collection[str]:
    """The name of a set of text features, where their being one point is no remark on the model."""
    counts = getattr(engine, "texts_read", None)
    return (name,) if counts is not None and counts.alike else ()
