"""Texts as token ids without padding, for causal text towers, which read no further than the end token of a text.

An adapter with such a tower has the attribute `trimmed_text`, a `TrimmedText`. The engine then tokenizes all texts
first, sorts them by length, and encodes batches that are only as long as their longest text. Other adapters have None
there, or no such attribute, and encode whole texts by `encode_text`.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from cosmos_core.devices import send
from cosmos_core.text_tower import CausalText

CHUNK = 4096
"""Number of texts tokenized at a time; before they are trimmed, each has the length of the context."""
TOKENS_ON_CPU = 2048
"""Number of tokens that pass the tower at a time on a CPU. Their activations then stay in the CPU's cache, which saves
a third of the time of a batch of 20,000 tokens; every number from 600 to 2,600 is as fast."""


@dataclass(frozen=True)
class TextBatch:
    """Token ids of texts that pass the tower together."""

    ids: Tensor
    """(B, length of the longest text) int32, padded with zeros."""
    lengths: Tensor
    """(B,) int64 tokens of each text."""

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, part: slice) -> "TextBatch":
        return TextBatch(self.ids[part], self.lengths[part])


@dataclass(frozen=True)
class TokenizedTexts:
    """Token ids of N texts, concatenated without padding."""

    ids: Tensor
    """(sum of lengths,) int32"""
    lengths: Tensor
    """(N,) int64 tokens of each text."""

    def __len__(self) -> int:
        return len(self.lengths)

    @cached_property
    def starts(self) -> Tensor:
        """(N,) position in `ids` at which each text begins."""
        return self.lengths.cumsum(0) - self.lengths

    def contents(self) -> list[bytes]:
        """The ids of each text as bytes; two texts have equal bytes if the tower cannot tell them apart."""
        id_bytes, id_size = self.ids.numpy().tobytes(), self.ids.element_size()
        bounds = zip((self.starts * id_size).tolist(), (self.lengths * id_size).tolist(), strict=True)
        return [id_bytes[start : start + length] for start, length in bounds]

    def batch(self, indices: Tensor) -> TextBatch:
        """The texts with these indices, in that order."""
        lengths = self.lengths[indices]
        columns = torch.arange(int(lengths.max()))
        is_token = columns < lengths[:, None]  # (B, longest); false for padding
        positions = self.starts[indices][:, None] + columns  # in self.ids; beyond the end of the text for padding
        ids = torch.zeros(is_token.shape, dtype=torch.int32)
        ids[is_token] = self.ids[positions[is_token]]
        return TextBatch(ids, lengths)


@dataclass(frozen=True)
class TrimmedText:
    """A tokenizer and the causal text tower that reads its ids."""

    tokenize: Callable[[list[str]], Tensor]
    """B texts -> (B, L) ids; L is the context length or less."""
    tower: CausalText
    device: torch.device
    evaluation_mode: Callable[[], AbstractContextManager] = torch.no_grad
    """Context manager around every call of the tower: no gradients, and modules in eval mode."""

    @property
    def context_length(self) -> int:
        return self.tower.context_length

    def tokens(self, texts: Sequence[str], advance: Callable[[int], object] = lambda n: None) -> TokenizedTexts:
        """Tokenize texts, each up to the last token that the tower reads.

        Args:
            advance: called with the number of texts after each chunk of them.
        """
        ids, lengths = [], []
        for start in range(0, len(texts), CHUNK):
            chunk = self.tokenize(list(texts[start : start + CHUNK]))  # (B, L)
            chunk_lengths = self.tower.lengths(chunk)
            is_read = torch.arange(chunk.shape[1]) < chunk_lengths[:, None]
            ids.append(chunk[is_read].int())
            lengths.append(chunk_lengths)
            advance(len(chunk))
        return TokenizedTexts(torch.cat(ids), torch.cat(lengths))

    def encode(self, batch: TextBatch) -> Tensor:
        """(B, D) float32, unnormalised, on `device`, without gradients."""
        part_size = len(batch)
        if self.device.type == "cpu":
            part_size = max(1, TOKENS_ON_CPU // batch.ids.shape[1])
        with self.evaluation_mode():
            return torch.cat(
                [
                    self.tower(send(ids, self.device), send(lengths, self.device)).float()
                    for ids, lengths in zip(batch.ids.split(part_size), batch.lengths.split(part_size), strict=True)
                ]
            )
