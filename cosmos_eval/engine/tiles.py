"""Scores by a model's own `similarity`, tile by tile on one grid of distinct images and distinct texts.

The grid depends on the features' shapes alone. So a pair has the same score, to the bit, in either direction and in any
block, whatever else is asked for; a tile that memory does not hold is halved.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import isqrt
from typing import Any

import torch
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_eval.metrics.query_scores import Block, MatrixScores, QueryScores, copies_of
from cosmos_eval.metrics.similarity import BLOCK_BYTES, plain_float32, share_equal_rows
from cosmos_eval.models.base import as_scores, out_of_memory
from cosmos_eval.progress import Reporter, after_a_while

TILE_BYTES = 64 * 2**20
"""What a tile may take when `similarity` compares each vector of an image with each of a text, or makes a vector of a
pair."""
LARGEST_TILE = 1024
"""Images, and texts, of a tile."""
WHOLE_BYTES = 2**29
"""Scores of distinct pairs that are kept until both directions have read them: 5,000 images x 25,000 texts."""


class SimilarityTiles:
    """Scores of distinct images and texts by a model's `similarity`.

    Args:
        model: has `similarity`, and `spec` for messages.
        images: (N, ...) float32 features, the last dimension of unit length; `texts` (M, ...) on the same device.
        image_name, text_name: what errors call image i and text j.
        reporter: where progress goes.
    """

    def __init__(
        self,
        model: Any,
        images: Tensor,
        texts: Tensor,
        image_name: Callable[[int], str],
        text_name: Callable[[int], str],
        reporter: Reporter,
    ) -> None:
        self.model = model
        self.images, self.texts = share_equal_rows(images), share_equal_rows(texts)
        self.device = images.device
        self.names = image_name, text_name
        self.reporter = reporter
        self.shape = len(self.images.rows), len(self.texts.rows)
        side = tile_side(images[0], texts[0])
        # a strip, one tile high and as long as the other side, must fit a block
        self.sides = tuple(max(1, min(side, BLOCK_BYTES // (4 * other))) for other in reversed(self.shape))

    @property
    def fits(self) -> bool:
        """Whether all scores may be kept."""
        return 4 * self.shape[0] * self.shape[1] <= WHOLE_BYTES

    def directions(self) -> tuple[QueryScores, QueryScores]:
        """Scores of images against texts, and of texts against images."""
        if self.fits:
            scores = self.whole
            columns = self.images.column, self.texts.column
            return MatrixScores(scores, *columns), MatrixScores(scores.T, *reversed(columns))
        return _Strips(self, by_image=True), _Strips(self, by_image=False)

    @cached_property
    def whole(self) -> Tensor:
        """(N', M') scores of all distinct images and texts."""
        scores = torch.empty(self.shape, device=self.device)
        pairs = self.shape[0] * self.shape[1]
        with after_a_while(self.reporter, "scoring pairs", pairs, "pairs") as advance:
            for start in range(0, self.shape[0], self.sides[0]):
                strip = self.strip(start // self.sides[0], by_image=True)
                scores[start : start + len(strip)] = strip
                advance(strip.numel())
        return scores

    def strip(self, number: int, by_image: bool) -> Tensor:
        """(side, M') scores of one strip of distinct images with all texts, or (side, N') of texts with all images."""
        along = 1 if by_image else 0
        across = self._cut(1 - along)[number]
        tiles = [(across, cut) if by_image else (cut, across) for cut in self._cut(along)]
        scores = torch.cat([self._tile(images, texts) for images, texts in tiles], dim=along)
        return scores if by_image else scores.T

    def of_pairs(self, pairs: Tensor) -> Tensor:
        """(P,) scores on the CPU of (P, 2) pairs, each distinct one scored once: the texts of an image together."""
        left, right = self.images.column.cpu()[pairs[:, 0]], self.texts.column.cpu()[pairs[:, 1]]
        distinct, place = (left * self.shape[1] + right).unique(return_inverse=True)
        image, text = distinct // self.shape[1], distinct % self.shape[1]
        scores = []
        with after_a_while(self.reporter, "scoring pairs", len(distinct), "pairs") as advance:
            start = 0
            for count in torch.unique_consecutive(image, return_counts=True)[1].tolist():
                own, others = image[start : start + 1], text[start : start + count].split(self.sides[1])
                scores += [self._scored(own, some)[0].cpu() for some in others]
                start += count
                advance(count)
        return torch.cat(scores)[place]

    def _cut(self, side: int) -> list[slice]:
        """Tiles of distinct images (0) or texts (1)."""
        size, step = self.shape[side], self.sides[side]
        return [slice(start, min(start + step, size)) for start in range(0, size, step)]

    def _tile(self, images: slice, texts: slice) -> Tensor:
        return self._scored(torch.arange(images.start, images.stop), torch.arange(texts.start, texts.stop))

    def _scored(self, images: Tensor, texts: Tensor) -> Tensor:
        """(n, m) finite float32 scores of some distinct images and texts, given by their places."""
        of_images, of_texts = images.to(self.device), texts.to(self.device)
        try:
            with torch.no_grad(), plain_float32():
                values = self.model.similarity(self.images.rows[of_images], self.texts.rows[of_texts])
                scores = as_scores(values, (len(images), len(texts)), f"{self.model.spec}: similarity").to(self.device)
        except Exception as error:
            if not out_of_memory(error):
                raise
            if len(images) == len(texts) == 1:
                raise RequestError(
                    f"out of memory scoring an image and a text on {self.device}; make room there, or give another "
                    "--device"
                ) from error
        else:
            bad = ~torch.isfinite(scores)
            if bad.any():
                image, text = bad.nonzero()[0].tolist()
                raise RequestError(not_finite(self.model, *self._names(int(images[image]), int(texts[text]))))
            return scores
        halves = [images.tensor_split(2), [texts]] if len(images) >= len(texts) else [[images], texts.tensor_split(2)]
        return torch.cat([torch.cat([self._scored(i, j) for j in halves[1]], dim=1) for i in halves[0]])

    def _names(self, image: int, text: int) -> tuple[str, str]:
        """What people call a distinct image and text: by the first that has these features."""
        shared = (self.images, image), (self.texts, text)
        first = [int((side.column == place).nonzero()[0]) for side, place in shared]
        return self.names[0](first[0]), self.names[1](first[1])


@dataclass
class _Strips:
    """One direction of scores that are too many to be kept: strips of tiles, made as queries need them."""

    tiles: SimilarityTiles
    by_image: bool

    def __post_init__(self) -> None:
        sides = self.tiles.images, self.tiles.texts
        queries, candidates = sides if self.by_image else sides[::-1]
        self.queries = len(queries.column)
        self.device = self.tiles.device
        self.column, self.copies = candidates.column, copies_of(candidates.column, len(candidates.rows))
        self._row = queries.column.cpu()
        self._height = self.tiles.sides[0 if self.by_image else 1]
        # a query that is there twice may ask for a strip again
        self._strip = lru_cache(maxsize=1)(lambda number: self.tiles.strip(number, self.by_image))

    def blocks(self, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
        step = max(1, min(self._height, block_bytes // (4 * len(self.copies))))
        with after_a_while(self.tiles.reporter, "scoring", self.queries, "queries") as advance:
            for start in range(0, self.queries, step):
                row = self._row[start : start + step]
                block = torch.empty(len(row), len(self.copies), device=self.device)
                for number in (row // self._height).unique().tolist():
                    own = (row // self._height == number).nonzero().flatten()
                    block[own.to(self.device)] = self._strip(number)[(row[own] % self._height).to(self.device)]
                yield start, start + len(row), block
                advance(len(row))


def tile_side(image: Tensor, text: Tensor) -> int:
    """Images and texts of a tile, from the features of one of each."""
    vectors = (image.numel() // image.shape[-1]) * (text.numel() // text.shape[-1])
    of_pair = 4 * max(vectors, image.shape[-1], text.shape[-1])
    return max(1, min(LARGEST_TILE, isqrt(TILE_BYTES // of_pair)))


def not_finite(model: Any, image: str, text: str) -> str:
    """The refusal of a score that is NaN or infinite."""
    return (
        f"{model.spec}: the score of {image} with {text} is not finite; check the weights, or raise the precision to "
        "fp32"
    )
