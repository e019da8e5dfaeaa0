"""Attention maps of COSMOS's two cross-attention poolers: over patches given the text, and over tokens given the image.

The maps of the paper's qualitative figure (Kim et al., CVPR 2025, arXiv 2412.01814). The queries are
the text's pooled feature over the image's patch tokens, and the image's pooled feature over the text's tokens, with the
modules and inputs of `COSMOS.forward`. Weights are averaged over heads.

A large weight says that the pooler attends to a patch, not that image and text agree there: the attended value is added
to a feature that has its own content. Maps of similarity come from `cosmos_core.dense`.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from cosmos_core.cross_pool import CrossAttentionPool
from cosmos_core.errors import RequestError
from cosmos_core.model import COSMOS
from cosmos_core.printable import plural
from cosmos_core.token_words import Word


@dataclass(frozen=True)
class AttentionMaps:
    """Attention weights of B pairs of an image and a text; float32."""

    patches: Tensor
    """(B, h, w): weights of the patches given the text; they sum to 1 for each image."""
    tokens: Tensor
    """(B, L): weights of all token positions given the image; they sum to 1. Start, end and padding are among them,
    since the pooler has no mask."""
    words: tuple[tuple[Word, ...], ...] = field(default=())
    """The words of each text with the positions of their tokens, if known."""

    def word_weights(self, index: int) -> list[float]:
        """One weight for each word of a text: the sum over its tokens, 0 for a word that was truncated."""
        return word_weights(self.tokens[index], self.words[index])


def attention_maps(model: COSMOS, images: Tensor, ids: Tensor) -> AttentionMaps:
    """Weights of both poolers, each image with its own text.

    Args:
        images: (B, 3, H, W), normalised; h and w are H and W in whole patches.
        ids: (B, L). Padding is attended to as well, so another L gives other weights.

    Raises:
        RequestError: images smaller than one patch.
        ValueError: the numbers of images and texts differ.
    """
    if len(images) != len(ids):
        raise ValueError(f"{plural(len(images), 'image')} and {plural(len(ids), 'text')}; attention maps need pairs")
    height, width = images.shape[-2:]
    rows, columns = model.patch_size
    if height < rows or width < columns:
        raise RequestError(
            f"images of {height} x {width} pixels are smaller than a patch of {rows} x {columns}; resize them first"
        )
    image_features, image_tokens = model.image_tower(images)
    text_features, text_tokens = model.text_tower(ids)
    patches = pooler_weights(
        model.visual.attn_cross_pool, text_features[:, None], model.image_token_mapping(image_tokens)
    )
    tokens = pooler_weights(model.text_attn_cross_pool, image_features[:, None], model.text_token_mapping(text_tokens))
    return AttentionMaps(patches[:, 0].unflatten(1, (height // rows, width // columns)).float(), tokens[:, 0].float())


def pooler_weights(pool: CrossAttentionPool, queries: Tensor, tokens: Tensor) -> Tensor:
    """(B, n, D) queries and (B, T, D) tokens -> (B, n, T) weights, the mean over heads; they sum to 1 over T."""
    keys = pool.ln_k(tokens)
    return pool.attn(pool.ln_q(queries), keys, keys, need_weights=True)[1]


def stretch_to_unit_range(weights: Tensor, dims: int = 1) -> Tensor:
    """Each map scaled to [0, 1] by its own smallest and largest value, as in the paper's figure.

    A constant map becomes 0 everywhere.

    Args:
        weights: (..., one map), the last `dims` dimensions being the map; not empty.
    """
    over = tuple(range(-dims, 0))
    low, high = weights.amin(over, keepdim=True), weights.amax(over, keepdim=True)
    span = high - low
    return torch.where(span > 0, (weights - low) / torch.where(span > 0, span, 1), torch.zeros_like(weights))


def word_weights(tokens: Tensor, words: tuple[Word, ...]) -> list[float]:
    """(L,) weights of tokens -> one weight for each word, the sum over its tokens; 0 for a truncated word."""
    return [float(tokens[word.positions.start : word.positions.stop].sum()) for word in words]
