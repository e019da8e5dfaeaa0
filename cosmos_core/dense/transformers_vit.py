"""Patch features of transformers' dual encoders with the vision towers of CLIP and SigLIP.

Recognised by their parts, since many families (MetaCLIP 2, AltCLIP, ChineseCLIP, CLIPSeg) have copies of CLIP's tower.
For the same weights, features are those of open_clip's tower at every image size: position embeddings are resampled as
there, CLIP's by `run_time_positions`, SigLIP's by timm's rule. SigLIP 2 NaFlex resamples its own, for each grid.
"""

from typing import Any

import torch
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from cosmos_core.dense.tower import UnsupportedTower, crop_to_patches
from cosmos_core.dense.variants import ATTENTIONS, run_block
from cosmos_core.positions import run_time_positions

PATCH_EMBEDDINGS = (nn.Conv2d, nn.Linear)
"""Of images, or of patches that an image was cut into (SigLIP 2 NaFlex)."""
_TOWER_PARTS = (
    "embeddings.patch_embedding",
    "embeddings.position_embedding.weight",
    "encoder.layers",
    "post_layernorm",
)
_CLASS_TOKEN_PARTS = ("embeddings.class_embedding", "pre_layrnorm")
_LAYER_PARTS = ("layer_norm1", "self_attn.q_proj", "self_attn.out_proj", "layer_norm2", "mlp")
_POOLER_PARTS = ("probe", "attention", "layernorm", "mlp")


class TransformersViT:
    """A network of transformers with an image tower `vision_model`.

    Raises:
        UnsupportedTower: its tower has other parts than CLIP's or SigLIP's.
    """

    def __init__(self, network: Any) -> None:
        family = network.config.model_type
        tower = getattr(network, "vision_model", None)
        layers: Any = getattr(getattr(tower, "encoder", None), "layers", ())
        if tower is None or not all(has_part(tower, part) for part in _TOWER_PARTS) or not len(layers):
            raise UnsupportedTower(f"the image tower of {family} has other parts than CLIP's and SigLIP's")
        embeddings = tower.embeddings
        last: Any = layers[-1]
        patch_embedding = embeddings.patch_embedding
        if not all(has_part(last, part) for part in _LAYER_PARTS) or not isinstance(patch_embedding, PATCH_EMBEDDINGS):
            raise UnsupportedTower(f"the blocks of {family}'s image tower have other parts than CLIP's and SigLIP's")
        implementation = getattr(getattr(last.self_attn, "config", None), "_attn_implementation", "another")
        if implementation != "sdpa":
            raise UnsupportedTower(f"its attention is {implementation}, not transformers' sdpa")
        self.tower = tower
        self.has_class_token = all(has_part(tower, part) for part in _CLASS_TOKEN_PARTS)
        self.pooler = getattr(tower, "head", None)
        self.projection = getattr(network, "visual_projection", None)
        is_clip = self.has_class_token and self.pooler is None and self.projection is not None
        is_siglip = self.projection is None and not has_part(embeddings, "class_embedding") and has_part(tower, "head")
        if not is_clip and not (is_siglip and all(has_part(self.pooler, part) for part in _POOLER_PARTS)):
            raise UnsupportedTower(f"{family}'s image tower pools neither as CLIP's nor as SigLIP's")
        self.takes_patches = isinstance(patch_embedding, nn.Linear)
        side = tower.config.patch_size
        self.patch: tuple[int, int] = (side, side)
        self.attentions = ATTENTIONS

    def features(self, images: Tensor, attention: str) -> Tensor:
        """(B, h, w, D): see `cosmos_core.dense.patch_features`."""
        square = images.shape[-2] == images.shape[-1]
        images, grid = crop_to_patches(images, self.patch)
        hidden = self._embed(images, grid, square)
        *layers, last = self.tower.encoder.layers
        for layer in layers:
            hidden = layer(hidden, attention_mask=None)
        hidden = run_block(
            attention,
            grid,
            lambda: last(hidden, attention_mask=None),
            lambda: last.self_attn(last.layer_norm1(hidden), attention_mask=None)[0],
        )
        tokens = self.tower.post_layernorm(hidden[:, int(self.has_class_token) :])
        if self.pooler is not None and attention != "raw":
            tokens = _pooled_alone(self.pooler, tokens)
        if self.projection is not None:
            tokens = self.projection(tokens)
        return tokens.unflatten(1, grid)

    def _embed(self, images: Tensor, grid: tuple[int, int], square: bool) -> Tensor:
        """(B, P + h * w, width), P = 1 with a class token and 0 without."""
        embeddings = self.tower.embeddings
        if self.takes_patches:
            patches = _cut_into_patches(images, grid, self.patch)
            resampled: Tensor = embeddings(patches, torch.tensor([grid]).expand(len(images), 2))
            return resampled
        hidden = embeddings.patch_embedding(images).flatten(2).transpose(1, 2)
        positions = embeddings.position_embedding.weight
        side = round((len(positions) - int(self.has_class_token)) ** 0.5)
        if not self.has_class_token:
            return hidden + resample_abs_pos_embed(
                positions[None], new_size=list(grid), old_size=[side, side], num_prefix_tokens=0
            )
        class_token = embeddings.class_embedding.expand(len(images), 1, -1)
        hidden = torch.cat([class_token, hidden], dim=1)
        is_native = square and grid == (side, side)
        hidden = hidden + run_time_positions(positions, (side, side), grid, is_native)
        return self.tower.pre_layrnorm(hidden)


def _cut_into_patches(images: Tensor, grid: tuple[int, int], patch: tuple[int, int]) -> Tensor:
    """(B, 3, H, W) -> (B, h * w, values of a patch): row by row, and in a patch all channels of a pixel together."""
    cut = images.unflatten(3, (grid[1], patch[1])).unflatten(2, (grid[0], patch[0]))  # (B, 3, h, rows, w, columns)
    return cut.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def _pooled_alone(pooler: Any, tokens: Tensor) -> Tensor:
    """(B, L, width): what SigLIP's pooling head makes of each token alone: its value, projected, and the MLP."""
    attention: nn.MultiheadAttention = pooler.attention
    values = nn.functional.linear(tokens, attention.in_proj_weight.chunk(3)[2], attention.in_proj_bias.chunk(3)[2])
    pooled = attention.out_proj(values)
    return pooled + pooler.mlp(pooler.layernorm(pooled))


def has_part(module: Any, path: str) -> bool:
    """Whether a module has the part at a path such as `encoder.layers`."""
    for name in path.split("."):
        module = getattr(module, name, None)
    return module is not None
