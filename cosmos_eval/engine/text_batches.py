"""Batches of texts: how texts become inputs of a model, and which texts form a batch.

A text tower that is pooled at the end token never reads the padding behind it (`cosmos_eval.models.trimmed_text`). For
such a model, texts of similar length form a batch, which is cut behind its longest text: an ImageNet prompt then costs
10 tokens instead of 77. Any other model gets its texts in their order, as strings.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cosmos_eval.cache.cached_features import feature_key
from cosmos_eval.models.abilities import in_language
from cosmos_eval.progress import Reporter

TEXTS_PER_IMAGE = 4
"""Texts in a batch for each image of `batch_size`: a text costs a tower a fraction of what an image does."""


@dataclass(frozen=True)
class TextInputs:
    """N distinct texts as inputs of a model, and the batches they form."""

    keys: list[str]
    """A digest of what the model reads of each text. Texts that become the same tokens have the same key."""
    texts_per_batch: int
    """Texts of full context length that a batch may hold."""
    build_input: Callable[[Sequence[int]], Any]
    """Positions of the texts of a batch -> the input of `encode`."""
    encode: Callable[[Any], Tensor]
    """Input of a batch -> (B, D), unnormalised."""
    lengths: Tensor | None = None
    """(N,) number of tokens of each text, if a batch costs as much as its longest text; else None."""
    context_length: int = 0
    """Tokens that the model reads of a text; 0 if `lengths` is None."""

    def batches(self, positions: Sequence[int]) -> list[Sequence[int]]:
        """Divide some of the texts into batches.

        The batches depend on the order and the lengths of these texts and on the batch size only. If the texts of
        whole batches are removed from `positions`, the others form the same batches as before
        (`cosmos_eval.cache.cached_features` relies on that).

        Args:
            positions: which of the N texts.

        Returns:
            For each batch, the indices of its members in `positions`.
        """
        if self.lengths is None:
            return consecutive_batches(len(positions), self.texts_per_batch)
        lengths = self.lengths[torch.tensor(positions)]
        token_budget = self.texts_per_batch * self.context_length
        return [members.tolist() for members in batches_by_length(lengths, token_budget)]


def prepare_texts(
    model: Any, texts: Sequence[str], batch_size: int, reporter: Reporter, language: str | None = None
) -> TextInputs:
    """Tokenize distinct texts if the model reads trimmed texts, else leave them as they are.

    A batch holds `batch_size` * `TEXTS_PER_IMAGE` texts; of trimmed texts, as many tokens as that many full texts have.
    Batches of trimmed texts start with the longest: if one does not fit in memory, it shows at once.

    Args:
        model: an adapter, with or without `trimmed_text` (`cosmos_eval.models.trimmed_text`).
        language: code of the language of the texts, for a model that is told it; else None.
    """
    texts_per_batch = batch_size * TEXTS_PER_IMAGE
    trimmed = getattr(model, "trimmed_text", None)
    if trimmed is None:
        keys = [text_key(text, language) for text in texts]
        return TextInputs(keys, texts_per_batch, lambda members: [texts[j] for j in members], model.encode_text)
    with reporter.task("reading texts", len(texts), "texts") as advance:
        tokens = in_language(model, language, trimmed.tokens)(texts, advance)
    keys = [feature_key(b"ids", content) for content in tokens.contents()]
    return TextInputs(
        keys if language is None else [_language_key(key, language) for key in keys],
        texts_per_batch,
        lambda members: tokens.batch(torch.tensor(members)),
        trimmed.encode,
        tokens.lengths,
        trimmed.context_length,
    )


def text_key(text: str, language: str | None = None) -> str:
    """Return the key of a text that the model is given as a string.

    Args:
        language: the code that the model is told; None for a model that is told none.
    """
    key = feature_key(b"text", text.encode("utf-8", "surrogatepass"))
    return key if language is None else _language_key(key, language)


def _language_key(key: str, language: str) -> str:
    return feature_key(b"language", f"{language} {key}".encode())


def consecutive_batches(count: int, size: int) -> list[Sequence[int]]:
    """Divide the indices 0 to `count` - 1 into batches of `size` consecutive ones; the last batch may be smaller."""
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


def batches_by_length(lengths: Tensor, budget: int) -> list[Tensor]:
    """Divide texts into batches of similar length, the longest first; texts of equal length keep their order.

    Args:
        lengths: (N,) number of tokens of each text.
        budget: tokens of a batch, its padding to the longest text included. A batch has at least one text.

    Returns:
        For each batch, the indices of its members in `lengths`.
    """
    order = lengths.argsort(descending=True, stable=True)
    sorted_lengths = lengths[order].tolist()
    batches = []
    start = 0
    while start < len(order):
        size = max(1, budget // sorted_lengths[start])
        batches.append(order[start : start + size])
        start += size
    return batches
