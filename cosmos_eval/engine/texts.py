"""Batches of texts: of like length, cut behind the longest, where a tower reads no further; else whole and in order."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cosmos_eval.progress import Reporter

TEXTS_PER_PICTURE = 4
"""Whole texts of a batch for each picture of a batch: a caption costs a tower a fraction of what a picture does."""


@dataclass(frozen=True)
class TextPlan:
    """How texts pass a model. Depends on the texts, their order and the batch size, on nothing else."""

    batches: list[Tensor]
    """Places in the texts of the members of each batch."""
    row_of_text: Tensor
    """(N,) the row of each text among all members in their order; texts that the tower cannot tell apart share one."""
    inputs: Callable[[Tensor], Any]
    """What `encode` takes for the texts at some places."""
    encode: Callable[[Any], Tensor]
    """Inputs of a batch -> (B, D), unnormalised."""

    @property
    def members(self) -> list[int]:
        """Places of the texts that are encoded, in the order in which they are."""
        return torch.cat(self.batches).tolist()

    def __iter__(self) -> Iterator[Any]:
        """Inputs of the batches, each as long as its batch."""
        return (self.inputs(places) for places in self.batches)


def plan_texts(model: Any, texts: Sequence[str], batch_size: int, reporter: Reporter) -> TextPlan:
    """Batches of distinct texts, each of at most as many tokens as `batch_size` * TEXTS_PER_PICTURE whole texts have.

    A model with `trimmed_text` gets batches of texts of like length, the longest first: what memory is needed shows at
    once. Any other gets the texts as they are, in their order.
    """
    whole = batch_size * TEXTS_PER_PICTURE
    trimmed = getattr(model, "trimmed_text", None)
    if trimmed is None:
        every = torch.arange(len(texts))
        return TextPlan(
            list(every.split(whole)), every, lambda places: [texts[j] for j in places.tolist()], model.encode_text
        )
    with reporter.task("reading texts", len(texts), "texts") as advance:
        tokens = trimmed.tokens(texts, advance)
    first, same = tokens.distinct()
    batches = [first[group] for group in by_length(tokens.lengths[first], whole * trimmed.context_length)]
    row = torch.empty(len(texts), dtype=torch.int64)
    row[torch.cat(batches)] = torch.arange(len(first))
    return TextPlan(batches, row[first[same]], tokens.batch, trimmed.encode)


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
