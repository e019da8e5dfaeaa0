"""Scores by a model's own `similarity`, computed tile by tile on one grid of distinct images and distinct texts.

A tile is the scores of up to `side` images with up to `side` texts. The grid depends on the shapes of the features
only, never on the direction or on the block that is read. So a pair has the same score, to the bit, as image-to-text
and as text-to-image, and in any block: kernels may give other last bits for other shapes of their input, and a pair is
always computed in the same tile. If a tile does not fit in memory, it is halved along its longer side.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import isqrt
from typing import Any

import torch
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_core.memory_errors import is_out_of_memory
from cosmos_eval.metrics.query_scores import Block, MatrixScores, QueryScores, count_copies
from cosmos_eval.metrics.similarity import BLOCK_BYTES, deduplicate_features, plain_float32
from cosmos_eval.models.returned_values import as_scores
from cosmos_eval.progress import Reporter, report_if_slow

TILE_BYTES = 64 * 2**20
"""Memory that `similarity` may need for a tile, estimated as one float32 for each pair of vectors (tokens) of an image
and a text, or one vector for each pair of an image and a text, whichever is more."""
LARGEST_TILE = 1024
"""The largest number of images, and of texts, of a tile."""
WHOLE_BYTES = 2**29
"""Up to this size, the scores of all distinct pairs are kept, so that both directions read the same ones (5,000 images
x 25,000 texts). Beyond, each direction computes them again."""


class SimilarityTiles:
    """Scores of distinct images and texts by a model's `similarity`.

    Args:
        model: has `similarity`, and `spec` for messages.
        images: (N, ...) float32 features, the last dimension of unit length.
        texts: (M, ...) features on the same device.
        image_name: how errors call the image at an index.
        text_name: how errors call the text at an index.
        reporter: shows progress.
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
        self.images, self.texts = deduplicate_features(images), deduplicate_features(texts)
        self.device = images.device
        self.image_name, self.text_name = image_name, text_name
        self.reporter = reporter
        self.shape = len(self.images.features), len(self.texts.features)
        """Numbers of distinct images and of distinct texts."""
        side = tile_side(images[0], texts[0])
        # Scores are read in strips: one tile high, as long as the other side. A strip must fit in a block.
        self.tile_shape = tuple(max(1, min(side, BLOCK_BYTES // (4 * length))) for length in reversed(self.shape))
        """Images and texts of a tile."""

    @property
    def fits(self) -> bool:
        """Whether the scores of all distinct pairs may be kept in memory."""
        return 4 * self.shape[0] * self.shape[1] <= WHOLE_BYTES

    def directions(self) -> tuple[QueryScores, QueryScores]:
        """Return the scores of images against texts, and of texts against images."""
        if self.fits:
            scores = self.whole
            columns = self.images.column, self.texts.column
            return MatrixScores(scores, *columns), MatrixScores(scores.T, *reversed(columns))
        return _StripScores(self, by_image=True), _StripScores(self, by_image=False)

    @cached_property
    def whole(self) -> Tensor:
        """The scores (distinct images, distinct texts) of all pairs."""
        scores = torch.empty(self.shape, device=self.device)
        pair_count = self.shape[0] * self.shape[1]
        with report_if_slow(self.reporter, "similarity of images and texts", pair_count, "pairs") as advance:
            for start in range(0, self.shape[0], self.tile_shape[0]):
                strip = self.strip(start // self.tile_shape[0], by_image=True)
                scores[start : start + len(strip)] = strip
                advance(strip.numel())
        return scores

    def strip(self, number: int, by_image: bool) -> Tensor:
        """Return one row of tiles as queries x candidates.

        Returns:
            (side, distinct texts) if `by_image`, else (side, distinct images); `side` may be less in the last strip.
        """
        if by_image:
            images = self._tile_slices(0)[number]
            return torch.cat([self._score_tile(images, texts) for texts in self._tile_slices(1)], dim=1)
        texts = self._tile_slices(1)[number]
        return torch.cat([self._score_tile(images, texts) for images in self._tile_slices(0)], dim=0).T

    def of_pairs(self, pairs: Tensor) -> Tensor:
        """Return the scores (P,) on the CPU of pairs (P, 2) of an image index and a text index.

        Each distinct pair is scored once, all texts of an image together.
        """
        image_index = self.images.column.cpu()[pairs[:, 0]]
        text_index = self.texts.column.cpu()[pairs[:, 1]]
        # `unique` sorts, so the pairs of an image are consecutive.
        distinct, distinct_index = (image_index * self.shape[1] + text_index).unique(return_inverse=True)
        images, texts = distinct // self.shape[1], distinct % self.shape[1]
        scores = []
        with report_if_slow(self.reporter, "similarity of image-text pairs", len(distinct), "pairs") as advance:
            start = 0
            for count in torch.unique_consecutive(images, return_counts=True)[1].tolist():
                image = images[start : start + 1]
                for texts_of_image in texts[start : start + count].split(self.tile_shape[1]):
                    scores.append(self._score(image, texts_of_image)[0].cpu())
                start += count
                advance(count)
        return torch.cat(scores)[distinct_index]

    def _tile_slices(self, side: int) -> list[slice]:
        """Return the slices of distinct images (side 0) or texts (side 1) that the tiles have."""
        size, step = self.shape[side], self.tile_shape[side]
        return [slice(start, min(start + step, size)) for start in range(0, size, step)]

    def _score_tile(self, images: slice, texts: slice) -> Tensor:
        return self._score(torch.arange(images.start, images.stop), torch.arange(texts.start, texts.stop))

    def _score(self, images: Tensor, texts: Tensor) -> Tensor:
        """Return the finite scores (n, m) float32 of distinct images and texts, given by their indices (n,) and (m,).

        Raises:
            RequestError: a score is not finite (the message names the first pair), or memory for one pair is lacking.
        """
        try:
            with torch.no_grad(), plain_float32():
                values = self.model.similarity(
                    self.images.features[images.to(self.device)], self.texts.features[texts.to(self.device)]
                )
                scores = as_scores(values, (len(images), len(texts)), f"{self.model.spec}: similarity").to(self.device)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if len(images) == len(texts) == 1:
                raise RequestError(
                    f"out of memory scoring an image and a text on {self.device}; free memory there, or give another "
                    "--device"
                ) from error
        else:
            is_bad = ~torch.isfinite(scores)
            if is_bad.any():
                row, column = is_bad.nonzero()[0].tolist()
                names = self._names(int(images[row]), int(texts[column]))
                raise RequestError(not_finite(self.model, *names))
            return scores
        # Memory ran out. This is after `except`, where the exception and the tensors of the failed call are freed.
        if len(images) >= len(texts):
            return torch.cat([self._score(half, texts) for half in images.tensor_split(2)], dim=0)
        return torch.cat([self._score(images, half) for half in texts.tensor_split(2)], dim=1)

    def _names(self, distinct_image: int, distinct_text: int) -> tuple[str, str]:
        """Return the names of a distinct image and a distinct text: those of the first ones with these features."""
        first_image = int((self.images.column == distinct_image).nonzero()[0])
        first_text = int((self.texts.column == distinct_text).nonzero()[0])
        return self.image_name(first_image), self.text_name(first_text)


@dataclass
class _StripScores:
    """One direction of scores that are too many to be kept: strips of tiles are computed when they are read.

    A `QueryScores`.
    """

    tiles: SimilarityTiles
    by_image: bool

    def __post_init__(self) -> None:
        sides = self.tiles.images, self.tiles.texts
        queries, candidates = sides if self.by_image else sides[::-1]
        self.query_count = len(queries.column)
        self.device = self.tiles.device
        self.column, self.copies = candidates.column, count_copies(candidates.column, len(candidates.features))
        self._distinct_query = queries.column.cpu()
        self._strip_height = self.tiles.tile_shape[0 if self.by_image else 1]
        # Consecutive queries are usually of one strip, which is computed once then. Only the last strip is kept; a
        # later query that repeats an earlier one may compute a strip again.
        self._strip = lru_cache(maxsize=1)(lambda number: self.tiles.strip(number, self.by_image))

    def blocks(self, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
        step = max(1, min(self._strip_height, block_bytes // (4 * len(self.copies))))
        with report_if_slow(self.tiles.reporter, "scoring", self.query_count, "queries") as advance:
            for start in range(0, self.query_count, step):
                distinct_query = self._distinct_query[start : start + step]
                strip_number, row_in_strip = distinct_query // self._strip_height, distinct_query % self._strip_height
                block = torch.empty(len(distinct_query), len(self.copies), device=self.device)
                for number in strip_number.unique().tolist():
                    in_strip = (strip_number == number).nonzero().flatten()
                    block[in_strip.to(self.device)] = self._strip(number)[row_in_strip[in_strip].to(self.device)]
                yield start, start + len(distinct_query), block
                advance(len(distinct_query))


def tile_side(image: Tensor, text: Tensor) -> int:
    """Return the number of images, and of texts, of a tile.

    Args:
        image: the features (D,) or (L, D) of one image.
        text: the features of one text.
    """
    vector_pairs = (image.numel() // image.shape[-1]) * (text.numel() // text.shape[-1])
    bytes_of_pair = 4 * max(vector_pairs, image.shape[-1], text.shape[-1])
    return max(1, min(LARGEST_TILE, isqrt(TILE_BYTES // bytes_of_pair)))


def not_finite(model: Any, image: str, text: str) -> str:
    """Return the error message for a score that is NaN or infinite."""
    return (
        f"{model.spec}: the score of {image} with {text} is not finite; check the weights, or raise the precision to "
        "fp32"
    )
