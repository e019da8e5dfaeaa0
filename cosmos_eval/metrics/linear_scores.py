"""Scores of a linear classifier for each class: what linear probes and few-shot classifiers are ranked by."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from cosmos_eval.metrics.query_scores import Block
from cosmos_eval.metrics.similarity import BLOCK_BYTES, plain_float32


@dataclass(frozen=True)
class LinearClassifier:
    """Scores features x of D dimensions for C classes: x @ coefficients + intercepts."""

    coefficients: Tensor
    """(D, C) float32 or float64, in which scores are computed."""
    intercepts: Tensor
    """(C,) of the same type and device."""


@dataclass(frozen=True)
class LinearScores:
    """`QueryScores` of N features against all classes; a classifier may know some of the classes only."""

    features: Tensor
    """(N, D) of any float type, on the device of the classifier."""
    classifier: LinearClassifier
    """Of P classes."""
    known: Tensor
    """(P,) int64 class of each of the classifier's. All others score minus infinity."""
    classes: int
    """C, the number of all classes."""
    decimals: int | None = None
    """Scores are rounded to so many decimals: those that differ by rounding only then tie exactly."""

    @property
    def query_count(self) -> int:
        return len(self.features)

    @property
    def device(self) -> torch.device:
        return self.features.device

    @property
    def column(self) -> Tensor:
        return torch.arange(self.classes)

    @cached_property
    def copies(self) -> Tensor:
        return torch.ones(self.classes, device=self.device)

    def blocks(self, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
        coefficients, intercepts = self.classifier.coefficients, self.classifier.intercepts
        step = max(1, block_bytes // (self.classes * coefficients.element_size()))
        known = self.known.to(self.device)
        for start in range(0, self.query_count, step):
            with torch.no_grad(), plain_float32():
                block = self.features[start : start + step].to(coefficients.dtype)
                scores = torch.addmm(intercepts, block, coefficients)
                if self.decimals is not None:
                    scores = scores.round(decimals=self.decimals)
                if len(known) < self.classes:
                    scores = scores.new_full((len(block), self.classes), -torch.inf).index_copy_(1, known, scores)
            yield start, start + len(block), scores
