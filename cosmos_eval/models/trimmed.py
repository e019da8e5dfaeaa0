"""Texts as ids that are cut behind the last token that a causal tower reads: what an engine sorts, batches and encodes.

An adapter whose tower allows it has `trimmed_text`, a `TrimmedText`; all others have None there, or no such attribute,
and see whole texts through `encode_text`.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from cosmos_core.text_tower import CausalText

CHUNK = 4096
"""Texts that are tokenized to whole contexts at a time."""
TOKENS_ON_CPU = 2048
"""Tokens that pass a tower on a CPU at a time: their activations stay in the cache, which takes a third off the time of
a batch of 20,000; from 600 to 2,600 it is the same."""


@dataclass(frozen=True)
class Batch:
    """Texts that pass a tower together."""

    ids: Tensor
    """(B, longest of them) int32, zeros behind each"""
    lengths: Tensor
    """(B,) int64"""

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, part: slice) -> "Batch":
        return Batch(self.ids[part], self.lengths[part])


@dataclass(frozen=True)
class Tokens:
    """Ids of many texts, one after the other without padding."""

    ids: Tensor
    """(sum of lengths,) int32"""
    lengths: Tensor
    """(N,) int64"""

    def __len__(self) -> int:
        return len(self.lengths)

    @cached_property
    def starts(self) -> Tensor:
        """(N,) where each begins in `ids`."""
        return self.lengths.cumsum(0) - self.lengths

    def contents(self) -> list[bytes]:
        """The ids of each text; equal for texts that the tower cannot tell apart."""
        content, size = self.ids.numpy().tobytes(), self.ids.element_size()
        bounds = zip((self.starts * size).tolist(), (self.lengths * size).tolist(), strict=True)
        return [content[start : start + length] for start, length in bounds]

    def batch(self, places: Tensor) -> Batch:
        """The texts at `places`, in that order."""
        lengths = self.lengths[places]
        column = torch.arange(int(lengths.max()))
        inside = column < lengths[:, None]
        starts = self.starts[places]
        ids = torch.zeros(inside.shape, dtype=torch.int32)
        ids[inside] = self.ids[(starts[:, None] + column)[inside]]
        return Batch(ids, lengths)


@dataclass(frozen=True)
class TrimmedText:
    """A tokenizer and a causal tower behind it."""

    tokenize: Callable[[list[str]], Tensor]
    """B texts -> (B, L) ids, L the context or less."""
    tower: CausalText
    device: torch.device
    at_rest: Callable[[], AbstractContextManager] = torch.no_grad
    """Inside it the tower is encoded with: no gradients, and no training mode."""

    @property
    def context_length(self) -> int:
        return self.tower.context_length

    def tokens(self, texts: Sequence[str], advance: Callable[[int], object] = lambda n: None) -> Tokens:
        """What the tower reads of each text; `advance` is told how many are done."""
        ids, lengths = [], []
        for start in range(0, len(texts), CHUNK):
            chunk = self.tokenize(list(texts[start : start + CHUNK]))
            read = self.tower.lengths(chunk)
            ids.append(chunk[torch.arange(chunk.shape[1]) < read[:, None]].int())
            lengths.append(read)
            advance(len(chunk))
        return Tokens(torch.cat(ids), torch.cat(lengths))

    def encode(self, batch: Batch) -> Tensor:
        """(B, D) float32, unnormalised, on `device`, without gradients."""
        at_once = len(batch)
        if self.device.type == "cpu":
            at_once = max(1, TOKENS_ON_CPU // batch.ids.shape[1])
        with self.at_rest():
            return torch.cat(
                [
                    self.tower(ids.to(self.device), lengths.to(self.device)).float()
                    for ids, lengths in zip(batch.ids.split(at_once), batch.lengths.split(at_once), strict=True)
                ]
            )
