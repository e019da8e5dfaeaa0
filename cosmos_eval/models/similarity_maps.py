"""Similarity maps: the cosine of each patch with a text, for models without cross-attention."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from cosmos_core.errors import RequestError
from cosmos_eval.models.abilities import require_patch_encoder


def similarity_maps(model: Any, x: Tensor, texts: Sequence[str], attention: str = "vanilla") -> Tensor:
    """Cosine of every patch with every text, in the embedding space that images and texts share.

    Args:
        model: an adapter with `encode_patches` and `encode_text`.
        x: (B, 3, H, W) normalised as by the model's `preprocess`, of any H and W.
        texts: N texts.
        attention: attention variant of the last block, see `cosmos_core.dense`. With `vanilla`, the feature of a patch
            may describe any part of the image, because the last block mixes patches for the pooled feature.

    Returns:
        (B, N, h, w) float32 in [-1, 1], on the model's device.

    Raises:
        RequestError: the model has no patch features, or they have another dimension than its text features.
    """
    encode_patches = require_patch_encoder(model, attention)
    patch_features = F.normalize(encode_patches(x, attention=attention), dim=-1)  # (B, h, w, D)
    text_features = F.normalize(model.encode_text(list(texts)), dim=-1)  # (N, D)
    if patch_features.shape[-1] != text_features.shape[-1]:
        raise RequestError(
            f"{model.spec} has patch features of {patch_features.shape[-1]} dimensions and text features of "
            f"{text_features.shape[-1]}; similarity needs both in one space"
        )
    similarities = patch_features.flatten(1, 2) @ text_features.T  # (B, h * w, N)
    return similarities.transpose(1, 2).unflatten(2, patch_features.shape[1:3])
