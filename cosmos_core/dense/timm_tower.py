"""Patch features of timm's towers, as open_clip wraps them: ViTs, EVA, SigLIP, PE, ViTamin, MobileCLIP, ConvNeXt, Swin.

Everything that depends on the image's size (patch embedding, resampled position embeddings, rotary positions) is timm's
own, on copies of its modules that share the weights and accept any size.
"""

import copy
from typing import Any

from open_clip.timm_model import TimmModel
from timm.layers import AttentionPoolLatent
from timm.layers.format import Format
from timm.models.convnext import ConvNeXt
from timm.models.eva import Eva, EvaBlock, EvaBlockPostNorm
from timm.models.fastvit import FastVit
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import Block, VisionTransformer
from timm.models.vision_transformer_relpos import VisionTransformerRelPos
from torch import Tensor

from cosmos_core.dense.tower import DenseTower, UnsupportedTower, crop_to_patches
from cosmos_core.dense.variants import ATTENTIONS, run_block, with_changes
from cosmos_core.errors import RequestError

MAP_ATTENTIONS = ("vanilla", "raw")
"""Variants of towers whose last layers are not an attention block of all patches."""


def read_timm_tower(visual: TimmModel) -> DenseTower:
    """The tower of an open_clip TimmModel.

    Raises:
        UnsupportedTower: its trunk is of another class, or pools in another way.
    """
    trunk = visual.trunk
    if "pool" in visual.head._modules:
        raise UnsupportedTower("its image tower pools a feature map by an attention of open_clip's own")
    if isinstance(trunk, VisionTransformer | Eva):
        return TimmViT(visual)
    if isinstance(trunk, ConvNeXt | FastVit | SwinTransformer | VisionTransformerRelPos):
        return TimmFeatureMap(visual)
    raise UnsupportedTower(f"its image tower is timm's {type(trunk).__name__}, which is not read")


class TimmViT:
    """timm's VisionTransformer or Eva."""

    def __init__(self, visual: TimmModel) -> None:
        trunk: Any = visual.trunk
        last = trunk.blocks[-1]
        if not isinstance(last, Block | EvaBlock | EvaBlockPostNorm):
            raise UnsupportedTower(f"its image tower has blocks of the class {type(last).__name__}")
        if not hasattr(last.attn, "fused_attn"):
            raise UnsupportedTower(f"its image tower has attention of the class {type(last.attn).__name__}")
        if getattr(trunk, "rope_mixed", False):
            raise UnsupportedTower("its image tower has rotary positions that differ between blocks")
        pool = trunk.attn_pool
        if pool is None and not trunk.global_pool:
            raise UnsupportedTower("its image tower does not pool, so it has no embedding of an image")
        if pool is not None and (not isinstance(pool, AttentionPoolLatent) or pool.pos_embed is not None):
            raise UnsupportedTower(f"its image tower pools by {type(pool).__name__} with positions of its own")
        keeps_width = pool is None or pool.out_features == trunk.embed_dim
        self.attentions = tuple(name for name in ATTENTIONS if keeps_width or name != "raw")
        self.visual = visual
        self.patch: tuple[int, int] = _pixels_of_patch(trunk.patch_embed)

    def features(self, images: Tensor, attention: str) -> Tensor:
        """(B, h, w, D): see `cosmos_core.dense.patch_features`."""
        images, grid = crop_to_patches(images, self.patch)
        trunk: Any = self.visual.trunk
        hidden, rope = _embed(trunk, images, grid)
        arguments = {} if rope is None else {"rope": rope}
        *blocks, last = trunk.blocks
        for block in blocks:
            hidden = block(hidden, **arguments)
        last = with_changes(last, attn=with_changes(last.attn, fused_attn=True))
        hidden = run_block(
            attention, grid, lambda: last(hidden, **arguments), lambda: _attention_alone(last, hidden, arguments)
        )
        tokens = trunk.norm(hidden)[:, trunk.num_prefix_tokens :].flatten(0, 1)  # (B * h * w, width)
        if trunk.attn_pool is not None and attention != "raw":
            tokens = trunk.attn_pool(tokens[:, None])  # each token alone: its value, projected, and the pooler's MLP
        return self.visual.head(trunk.head(trunk.fc_norm(tokens))).unflatten(0, (len(images), *grid))


def _pixels_of_patch(patch_embed: Any) -> tuple[int, int]:
    """Rows and columns of pixels that become one token."""
    ratio = patch_embed.feat_ratio(as_scalar=False)
    return int(ratio[0]), int(ratio[1])


def _embed(trunk: Any, images: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor | None]:
    """Input of the first block, (B, P + h * w, width), and the rotary positions if there are any."""
    patch_embed = with_changes(
        trunk.patch_embed, strict_img_size=False, dynamic_img_pad=False, flatten=False, output_fmt=Format.NHWC
    )
    patches = patch_embed(images)  # (B, h, w, width)
    changes: dict[str, Any] = {"dynamic_img_size": True}
    rope = getattr(trunk, "rope", None)
    if rope is not None and rope.feat_shape is not None and tuple(rope.feat_shape) != grid:
        rope = changes["rope"] = copy.deepcopy(rope)
        rope.update_feat_shape(list(grid))
    if isinstance(trunk, Eva):
        hidden, rotary = with_changes(trunk, patch_drop=None, **changes)._pos_embed(patches)
    else:
        hidden, rotary = with_changes(trunk, **changes)._pos_embed(patches), None
    return trunk.norm_pre(hidden), rotary


def _attention_alone(block: Any, hidden: Tensor, arguments: dict[str, Tensor]) -> Tensor:
    """What a block adds to its input first."""
    if isinstance(block, EvaBlockPostNorm):
        return block.norm1(block.attn(hidden, **arguments))
    output = block.attn(block.norm1(hidden), **arguments)
    if isinstance(block, EvaBlock):
        return output if block.gamma_1 is None else block.gamma_1 * output
    return block.ls1(output)


class TimmFeatureMap:
    """A tower with a feature map, which ends in convolutions, or in attention in windows or with relative positions.

    Each place of the map becomes a feature as the whole map does if it has this place alone.
    """

    attentions: tuple[str, ...] = MAP_ATTENTIONS

    def __init__(self, visual: TimmModel) -> None:
        trunk: Any = visual.trunk
        self.visual = visual
        self.any_size = isinstance(trunk, ConvNeXt | FastVit)
        if isinstance(trunk, VisionTransformerRelPos):
            self.patch = _pixels_of_patch(trunk.patch_embed)
        else:
            reduction = int(trunk.feature_info[-1]["reduction"])
            self.patch = (reduction, reduction)

    def features(self, images: Tensor, attention: str) -> Tensor:
        """(B, h, w, D): see `cosmos_core.dense.patch_features`."""
        images, grid = crop_to_patches(images, self.patch)
        trunk: Any = self.visual.trunk
        native = tuple(self.visual.image_size)
        if not self.any_size and tuple(images.shape[-2:]) != native:
            raise RequestError(
                f"{type(trunk).__name__} takes images of {native[0]} x {native[1]} pixels only, not "
                f"{images.shape[-2]} x {images.shape[-1]}; set crop to {native[0]} and short_side to at least that"
            )
        outputs = trunk.forward_features(images)
        if isinstance(trunk, VisionTransformerRelPos):
            places = outputs[:, trunk.num_prefix_tokens :].flatten(0, 1)
            pooled = trunk.head(trunk.fc_norm(places))
        elif isinstance(trunk, SwinTransformer):  # (B, h, w, C)
            pooled = trunk.forward_head(outputs.flatten(0, 2)[:, None, None])
        else:  # (B, C, h, w)
            places = outputs.permute(0, 2, 3, 1).flatten(0, 2)
            pooled = trunk.forward_head(places[:, :, None, None])
        return self.visual.head(pooled).unflatten(0, (len(images), *grid))
