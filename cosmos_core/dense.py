"""Patch features: one embedding in the joint image-text space for each patch of an image, without training.

The last block decides how local a patch feature is. Four variants of it; all other blocks stay as they are:

- `vanilla`: the block as it was trained.
- `csa`, correlative self-attention (Wang et al., "SCLIP: Rethinking Self-Attention for Dense Vision-Language
  Inference", ECCV 2024, arXiv 2312.01597): (softmax(q q^T / sqrt(d)) + softmax(k k^T / sqrt(d))) v, so that weights sum
  to 2; residual and MLP are kept.
- `clearclip` (Lan et al., "ClearCLIP: Decomposing CLIP Representations for Dense Vision-Language Inference", ECCV 2024,
  arXiv 2407.12442): softmax(q q^T / sqrt(d)) v; the block's output is its attention alone, without residual and MLP.
- `naclip` (Hajimiri et al., "Pay Attention to Your Neighbours: Training-Free Open-Vocabulary Semantic Segmentation",
  WACV 2025, arXiv 2404.08181): softmax(k k^T / sqrt(d) + n) v, where n is exp(-distance^2 / (2 * 5^2)) between two
  patches, distance in patches, and 0 to and from the class token; without residual and MLP, as for `clearclip`.

Only the features follow these papers, not their whole evaluation. The authors' code also differs otherwise: NACLIP
refines by ten steps of PAMR by default; ClearCLIP takes windows of 448 pixels every 224, pads them to whole
patches, runs in half precision and can add up several last blocks. Here windows, scale, thresholds and refinement come
from the benchmark's definition, and pixels beyond the last whole patch are left out. If a block has a layer scale or
a norm after its attention, both are kept in all variants; the authors' towers have neither.
"""

from collections.abc import Callable
from typing import Any

import torch
from open_clip.transformer import CustomResidualAttentionBlock, ResidualAttentionBlock, VisionTransformer
from torch import Tensor
from torch.nn import functional as F

from cosmos_core.errors import RequestError
from cosmos_core.positions import run_time_positions

ATTENTIONS = ("vanilla", "csa", "clearclip", "naclip")
"""Variants of the last block, described above."""

NEIGHBOURHOOD = 5.0
"""Standard deviation of NACLIP's neighbourhood, in patches, as its authors set it."""


def patch_features(visual: Any, images: Tensor, attention: str = "vanilla") -> Tensor:
    """Features of all patches of a batch, in the joint space of images and texts.

    Args:
        visual: an image tower of open_clip's class VisionTransformer that pools by its class token; COSMOS's is one.
        images: (B, 3, H, W), normalised, of any size from one patch on. Sizes that are no multiple of the patch are
            floored; position embeddings are interpolated for other sizes than the tower's own.
        attention: one of ATTENTIONS.

    Returns:
        (B, h, w, D), not normalised: patch tokens after the final norm, times the projection where there is one. The
        class token takes part in attention and is not in the result. Patches are never dropped.

    Raises:
        RequestError: an unknown `attention`, an unsupported tower, or images smaller than one patch.
    """
    tokens = patch_tokens(visual, images, attention)
    return tokens if visual.proj is None else tokens @ visual.proj


def patch_tokens(visual: Any, images: Tensor, attention: str = "vanilla") -> Tensor:
    """(B, h, w, width) as `patch_features`, after the final norm and before the projection."""
    if attention not in ATTENTIONS:
        raise RequestError(f"unknown attention {attention!r} of the last block; give {', '.join(ATTENTIONS)}")
    tower = _supported(visual)
    hidden, grid = _embed(tower, images)
    *trunk, last = tower.transformer.resblocks
    for block in trunk:
        hidden = block(hidden)
    return tower.ln_post(_LAST[attention](last, hidden, grid)[:, 1:]).unflatten(1, grid)


def require_supported_tower(visual: object, name: str) -> None:
    """Check that `patch_features` supports an image tower.

    Raises:
        RequestError: it does not; the message begins with `name`, the model of the tower.
    """
    reason = _why_unsupported(visual)
    if reason:
        raise RequestError(
            f"{name} gives no features of patches: {reason}; COSMOS and open_clip's ViTs with class-token pooling do"
        )


def supported_attentions(visual: object) -> tuple[str, ...]:
    """The variants of ATTENTIONS that `patch_features` has for an image tower; none for an unsupported tower."""
    return () if _why_unsupported(visual) else ATTENTIONS


def _why_unsupported(visual: object) -> str:
    if not isinstance(visual, VisionTransformer):
        kind = _KINDS.get(type(visual).__name__, f"a {type(visual).__name__}")
        return f"its image tower is {kind}, not open_clip's VisionTransformer"
    if visual.attn_pool is not None:
        return "its image tower pools by attention, not by the class token"
    if visual.pool_type != "tok":
        return f"its image tower pools by {visual.pool_type!r}, not by the class token"
    for block in visual.transformer.resblocks:
        if not isinstance(block, ResidualAttentionBlock | CustomResidualAttentionBlock):
            return f"its image tower has blocks of the class {type(block).__name__}"
        if getattr(block.attn, "logit_scale", None) is not None:
            return "its image tower has scaled cosine attention, which open_clip itself cannot run"
    return ""


_KINDS = {"TimmModel": "a timm model", "ModifiedResNet": "a ResNet"}


def _supported(visual: object) -> VisionTransformer:
    require_supported_tower(visual, "this model")
    assert isinstance(visual, VisionTransformer)
    return visual


def _embed(visual: VisionTransformer, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """Input of the first block, (B, 1 + h * w, width), and the grid (h, w)."""
    height, width = images.shape[-2:]
    if height < visual.patch_size[0] or width < visual.patch_size[1]:
        raise RequestError(
            f"images of {height} x {width} pixels are smaller than a patch of {visual.patch_size[0]} x "
            f"{visual.patch_size[1]}; resize them first"
        )
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
Mixer = Callable[[Tensor, Tensor, Tensor, tuple[int, int]], Tensor]
"""q, k, v (B, heads, 1 + h * w, d) and the grid (h, w) -> mixed values of the same shape."""


def _correlative_attention(q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
    # the sum of two attentions is the attention with the sum of their weights; no weight matrix has to be computed
    return F.scaled_dot_product_attention(q, q, v) + F.scaled_dot_product_attention(k, k, v)


def _query_query_attention(q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
    return F.scaled_dot_product_attention(q, q, v)


def _neighbourhood_attention(q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
    return F.scaled_dot_product_attention(k, k, v, attn_mask=_neighbourhood(grid, k))


def _neighbourhood(grid: tuple[int, int], like: Tensor) -> Tensor:
    """(1 + h * w, 1 + h * w): NACLIP's bias of the attention logits, with device and type of `like`."""
    rows, columns = (torch.arange(side, device=like.device, dtype=torch.float32) for side in grid)
    by_row, by_column = (
        torch.exp(-((side[:, None] - side[None, :]) ** 2) / (2 * NEIGHBOURHOOD**2)) for side in (rows, columns)
    )
    return F.pad(torch.kron(by_row, by_column), (1, 0, 1, 0)).to(like.dtype)


def _vanilla(block: Block, hidden: Tensor, grid: tuple[int, int]) -> Tensor:
    return block(hidden)


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


_LAST: dict[str, Callable[[Block, Tensor, tuple[int, int]], Tensor]] = {
    "vanilla": _vanilla,
    "csa": _with_residual(_correlative_attention),
    "clearclip": _attention_only(_query_query_attention),
    "naclip": _attention_only(_neighbourhood_attention),
}


def _attention_output(block: Block, hidden: Tensor, grid: tuple[int, int], mixer: Mixer) -> Tensor:
    """(B, L, width): output of the block's attention, computed by `mixer` instead of softmax(q k^T) v."""
    attn = block.attn
    q, k, v = F.linear(block.ln_1(hidden), attn.in_proj_weight, attn.in_proj_bias).chunk(3, dim=-1)
    q, k, v = (x.unflatten(-1, (attn.num_heads, -1)).transpose(1, 2) for x in (q, k, v))  # (B, heads, L, d)
    if isinstance(block, ResidualAttentionBlock):
        return block.ls_1(attn.out_proj(mixer(q, k, v, grid).transpose(1, 2).flatten(2)))
    mixed = mixer(attn.ln_q(q), attn.ln_k(k), v, grid)
    if attn.head_scale is not None:
        mixed = mixed * attn.head_scale
    return block.ls_1(block.ln_attn(attn.out_proj(attn.ln_inner(mixed.transpose(1, 2).flatten(2)))))
