"""Where in an image a text is found, for models without cross-attention: similarity of patches and text."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from cosmos_core.errors import RequestError
from cosmos_eval.models.base import patch_encoder


def similarity_maps(model: Any, x: Tensor, texts: Sequence[str], attention: str = "vanilla") -> Tensor:
    """Cosine of every patch with every text, in the space that images and texts share.

    Args:
        model: one with `encode_patches` and `encode_text`.
        x: (B, 3, H, W) normalised as by the model's `preprocess`, of any H and W.
        texts: N of them.
        attention: what the last block does, see `cosmos_core.dense`. With `vanilla`, what a patch says may be of any
            place of the image: the last block has mixed them for the pooled feature's sake.

    Returns:
        (B, N, h, w) float32 in [-1, 1], on the model's device.

    Raises:
        RequestError: the model has no vectors of patches, or not in the space of its texts.
    """
    encode_patches = patch_encoder(model)
    patches = F.normalize(encode_patches(x, attention=attention), dim=-1)
    rows = F.normalize(model.encode_text(list(texts)), dim=-1)
    if patches.shape[-1] != rows.shape[-1]:
        raise RequestError(
            f"{model.spec} gives {patches.shape[-1]} numbers a patch and {rows.shape[-1]} a text; "
            "similarity needs both in one space"
        )
    return (patches.flatten(1, 2) @ rows.T).transpose(1, 2).unflatten(2, patches.shape[1:3])
