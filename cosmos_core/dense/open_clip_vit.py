"""Patch features of open_clip's own ViT: pooling by class token, mean (CLIPA) or attention (CoCa). COSMOS's is one."""

from collections.abc import Callable
from typing import Any

import torch
from open_clip.transformer import (
    AttentionalPooler,
    CustomResidualAttentionBlock,
    ResidualAttentionBlock,
    VisionTransformer,
)
from torch import Tensor
from torch.nn import functional as F

from cosmos_core.dense.tower import UnsupportedTower, require_whole_patch
from cosmos_core.dense.variants import ATTENTIONS, KEEP_RESIDUAL, MIXERS, Mixer
from cosmos_core.positions import run_time_positions


class OpenClipViT:
    """open_clip's VisionTransformer as a source of patch features.

    Raises:
        UnsupportedTower: it pools in another way, or has blocks of another class.
    """

    def __init__(self, visual: VisionTransformer) -> None:
        pooler = visual.attn_pool
        if pooler is not None and getattr(visual, "attn_pool_contrastive", None) is not None:
            raise UnsupportedTower("its image tower has two attentional poolers, which open_clip calls untested")
        if visual.pool_type not in ("tok", "avg"):
            raise UnsupportedTower(f"its image tower pools by {visual.pool_type!r}, so it has no embedding of an image")
        for block in visual.transformer.resblocks:
            if not isinstance(block, ResidualAttentionBlock | CustomResidualAttentionBlock):
                raise UnsupportedTower(f"its image tower has blocks of the class {type(block).__name__}")
            if getattr(block.attn, "logit_scale", None) is not None:
                raise UnsupportedTower("its image tower has scaled cosine attention, which open_clip itself cannot run")
        self.visual = visual
        # A pooler's output has another width than the tokens, so the final norm and projection cannot take them.
        self.attentions = tuple(name for name in ATTENTIONS if pooler is None or name != "raw")

    def features(self, images: Tensor, attention: str) -> Tensor:
        """(B, h, w, D): see `cosmos_core.dense.patch_features`."""
        tokens = self.tokens(images, attention)
        return tokens if self.visual.proj is None else tokens @ self.visual.proj

    def tokens(self, images: Tensor, attention: str) -> Tensor:
        """(B, h, w, width): `features` before the projection."""
        visual = self.visual
        hidden, grid = _embed(visual, images)
        *trunk, last = visual.transformer.resblocks
        for block in trunk:
            hidden = block(hidden)
        hidden = _last_block(attention)(last, hidden, grid)[:, 1:]
        if visual.attn_pool is not None:
            hidden = _pooled_alone(visual.attn_pool, hidden)
        return visual.ln_post(hidden).unflatten(1, grid)


def _pooled_alone(pooler: AttentionalPooler, tokens: Tensor) -> Tensor:
    """(B, L, width) -> (B, L, output width): what the pooler makes of each token alone.

    All of its queries give a single token the weight 1: what remains are the value and the output projection.
    """
    attn = pooler.attn
    weight = attn.v_proj_weight if attn.in_proj_weight is None else attn.in_proj_weight.chunk(3)[2]
    return attn.out_proj(F.linear(pooler.ln_k(tokens), weight, attn.in_proj_bias.chunk(3)[2]))


def _embed(visual: VisionTransformer, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """Input of the first block, (B, 1 + h * w, width), and the grid (h, w)."""
    height, width = images.shape[-2:]
    require_whole_patch(images, visual.patch_size)
    patches = visual.conv1(images)  # (B, width, h, w)
    grid = (patches.shape[-2], patches.shape[-1])
    positions = run_time_positions(
        visual.positional_embedding,
        visual.grid_size,
        grid,
        square=_uses_positions_unchanged(visual, (height, width), grid),
    )
    class_token = visual.class_embedding.to(patches.dtype).expand(len(images), 1, -1)
    hidden = torch.cat([class_token, patches.flatten(2).transpose(1, 2)], dim=1) + positions.to(patches.dtype)
    return visual.ln_pre(hidden), grid


def _uses_positions_unchanged(visual: VisionTransformer, size: tuple[int, int], grid: tuple[int, int]) -> bool:
    """Whether position embeddings are used unchanged if their number matches.

    For a COSMOS the rule of its training holds: for square images only. open_clip's towers have one image size, which
    need not be square, and their embeddings are never resampled for that size.
    """
    square = size[0] == size[1]
    if hasattr(visual, "attn_cross_pool"):
        return square
    return grid == visual.grid_size and (square or size == tuple(visual.image_size))


Block = Any
"""open_clip's ResidualAttentionBlock or CustomResidualAttentionBlock."""


def _last_block(attention: str) -> Callable[[Block, Tensor, tuple[int, int]], Tensor]:
    """The last block with an attention variant."""
    if attention not in MIXERS:
        return lambda block, hidden, grid: block(hidden)
    return (_with_residual if attention in KEEP_RESIDUAL else _attention_only)(MIXERS[attention])


def _with_residual(mixer: Mixer) -> Callable[[Block, Tensor, tuple[int, int]], Tensor]:
    """The block with another attention; residual and MLP are kept."""

    def forward(block: Block, hidden: Tensor, grid: tuple[int, int]) -> Tensor:
        hidden = hidden + _attention_output(block, hidden, grid, mixer)
        return hidden + block.ls_2(block.mlp(block.ln_2(hidden)))

    return forward


def _attention_only(mixer: Mixer) -> Callable[[Block, Tensor, tuple[int, int]], Tensor]:
    """The block's attention alone, without residual and MLP."""

    def forward(block: Block, hidden: Tensor, grid: tuple[int, int]) -> Tensor:
        return _attention_output(block, hidden, grid, mixer)

    return forward


def _attention_output(block: Block, hidden: Tensor, grid: tuple[int, int], mixer: Mixer) -> Tensor:
    """(B, L, width): output of the block's attention, computed by `mixer` instead of softmax(q k^T) v.

    Not by `replaced_attention`: torch's MultiheadAttention may compute without the function that it replaces.
    """
    attn = block.attn
    q, k, v = F.linear(block.ln_1(hidden), attn.in_proj_weight, attn.in_proj_bias).chunk(3, dim=-1)
    q, k, v = (x.unflatten(-1, (attn.num_heads, -1)).transpose(1, 2) for x in (q, k, v))  # (B, heads, L, d)
    if isinstance(block, ResidualAttentionBlock):
        return block.ls_1(attn.out_proj(mixer(q, k, v, grid).transpose(1, 2).flatten(2)))
    mixed = mixer(attn.ln_q(q), attn.ln_k(k), v, grid)
    if attn.head_scale is not None:
        mixed = mixed * attn.head_scale
    return block.ls_1(block.ln_attn(attn.out_proj(attn.ln_inner(mixed.transpose(1, 2).flatten(2)))))
