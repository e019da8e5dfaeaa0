"""Batches of texts: of like length, cut behind the longest, where a tower reads no further; else whole and in order."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cosmos_eval.cache.known_features import key_of
from cosmos_eval.progress import Reporter

TEXTS_PER_IMAGE = 4
"""Whole texts of a batch for each image of a batch: a caption costs a tower a fraction of what an image does."""


@dataclass(frozen=True)
class TextInputs:
    """What a model is given for each of some texts."""

    keys: list[str]
    """Digests of what the model sees of each: texts that it cannot tell apart share one."""
    whole: int
    """Texts of a whole context that a batch may hold."""
    inputs: Callable[[Sequence[int]], Any]
    """What `encode` takes for the texts at some places."""
    encode: Callable[[Any], Tensor]
    """Inputs of a batch -> (B, D), unnormalised."""
    lengths: Tensor | None = None
    """(N,) tokens of each, where a batch costs as much as its longest."""
    context_length: int = 0

    def batches(self, some: Sequence[int]) -> list[Sequence[int]]:
        """Places in `some` texts, in batches that depend on their order, their lengths and the batch size only.

        A list that loses whole batches of its own falls into the others as before.
        """
        if self.lengths is None:
            return in_order(len(some), self.whole)
        lengths = self.lengths[torch.tensor(some)]
        return [places.tolist() for places in by_length(lengths, self.whole * self.context_length)]


def read_texts(model: Any, texts: Sequence[str], batch_size: int, reporter: Reporter) -> TextInputs:
    """Distinct texts, for batches of at most as many tokens as `batch_size` * TEXTS_PER_IMAGE whole texts have.

    A model with `trimmed_text` gets batches of texts of like length, the longest first: what memory is needed shows at
    once. Any other gets the texts as they are, in their order.
    """
    whole = batch_size * TEXTS_PER_IMAGE
    trimmed = getattr(model, "trimmed_text", None)
    if trimmed is None:
        keys = [text_key(text) for text in texts]
        return TextInputs(keys, whole, lambda some: [texts[j] for j in some], model.encode_text)
    with reporter.task("reading texts", len(texts), "texts") as advance:
        tokens = trimmed.tokens(texts, advance)
    return TextInputs(
        [key_of(b"ids", content) for content in tokens.contents()],
        whole,
        lambda some: tokens.batch(torch.tensor(some)),
        trimmed.encode,
        tokens.lengths,
        trimmed.context_length,
    )


def text_key(text: str) -> str:
    """The digest of a text that a model takes as it is."""
    return key_of(b"text", text.encode("utf-8", "surrogatepass"))


def in_order(count: int, size: int) -> list[Sequence[int]]:
    """The places of so many items, in batches of `size`."""
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


def by_length(lengths: Tensor, budget: int) -> list[Tensor]:
    """Places of (N,) lengths in batches, the longest first, equal ones in their order.

    A batch holds as many as fit `budget` when all are as long as its longest, and at least one.
    """
    order = lengths.argsort(descending=True, stable=True)
    longest = lengths[order].tolist()
    batches = []
    start = 0
    while start < len(order):
        size = max(1, budget // longest[start])
        batches.append(order[start : start + size])
        start += size
    return batches
