"""Patch features of CLIP's ResNets: their attention pool gives a feature for each place of the last feature map.

The pool is one attention over the places and their mean, without residual or MLP, so all variants that replace an
attention are defined for it. `maskclip` is what MaskCLIP's authors compute: value and output projection as two 1 x 1
convolutions, without position embeddings.
"""

from typing import Any

import torch
from open_clip.modified_resnet import ModifiedResNet
from torch import Tensor
from torch.nn import functional as F

from cosmos_core.dense.tower import crop_to_patches
from cosmos_core.dense.variants import MIXERS
from cosmos_core.positions import run_time_positions

STRIDE = 32
"""Pixels of a place of the last feature map."""


class AttentionPooledResNet:
    """open_clip's ModifiedResNet as a source of patch features."""

    attentions: tuple[str, ...] = ("vanilla", *MIXERS)

    def __init__(self, visual: ModifiedResNet) -> None:
        self.visual = visual

    def features(self, images: Tensor, attention: str) -> Tensor:
        """(B, h, w, D): see `cosmos_core.dense.patch_features`."""
        images, grid = crop_to_patches(images, (STRIDE, STRIDE))
        visual = self.visual
        pool: Any = visual.attnpool
        places = visual.layer4(visual.layer3(visual.layer2(visual.layer1(visual.stem(images)))))
        places = places.flatten(2).transpose(1, 2)  # (B, h * w, C)
        if attention == "maskclip":
            return pool.c_proj(pool.v_proj(places)).unflatten(1, grid)
        tokens = torch.cat([places.mean(dim=1, keepdim=True), places], dim=1)
        positions = pool.positional_embedding
        side = round((len(positions) - 1) ** 0.5)
        square = images.shape[-2] == images.shape[-1]
        tokens = tokens + run_time_positions(positions, (side, side), grid, square).to(tokens.dtype)
        q, k, v = (
            projection(tokens).unflatten(-1, (pool.num_heads, -1)).transpose(1, 2)
            for projection in (pool.q_proj, pool.k_proj, pool.v_proj)
        )
        is_vanilla = attention == "vanilla"
        mixed = F.scaled_dot_product_attention(q, k, v) if is_vanilla else MIXERS[attention](q, k, v, grid)
        return pool.c_proj(mixed.transpose(1, 2).flatten(2))[:, 1:].unflatten(1, grid)
