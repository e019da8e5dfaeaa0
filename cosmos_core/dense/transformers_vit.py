"""Patch features of transformers' dual encoders with the vision towers of CLIP and SigLIP.

Recognised by their parts, since many families (MetaCLIP 2, AltCLIP, ChineseCLIP, CLIPSeg) have copies of CLIP's tower.
For the same weights, features are those of open_clip's tower at every image size: position embeddings are resampled as
there, CLIP's by `run_time_positions`, SigLIP's by timm's rule.
"""

from typing import Any

import torch
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from cosmos_core.dense.tower import UnsupportedTower, crop_to_patches
from cosmos_core.dense.variants import ATTENTIONS, run_block
from cosmos_core.positions import run_time_positions

_TOWER_PARTS = (
    "embeddings.patch_embedding",
    "embeddings.position_embedding.weight",
    "encoder.layers",
    "post_layernorm",
)
_CLASS_TOKEN_PARTS = ("embeddings.class_embedding", "pre_layrnorm")
_LAYER_PARTS = ("layer_norm1", "self_attn.q_proj", "self_attn.out_proj", "layer_norm2", "mlp")
_POOLER_PARTS = ("probe", "attention", "layernorm", "mlp")


def is_transformers_network(network: object) -> bool:
    """Whether this is a network of transformers, as `AutoModel` loads it."""
    return any(base.__module__.startswith("transformers.") for base in type(network).__mro__)


class TransformersViT:
    """A network of transformers with an image tower `vision_model`.

    Raises:
        UnsupportedTower: its tower has other parts than CLIP's or SigLIP's.
    """

    def __init__(self, network: Any) -> None:
        family = network.config.model_type
        tower = getattr(network, "vision_model", None)
        layers: Any = getattr(getattr(tower, "encoder", None), "layers", ())
        if tower is None or not all(_has(tower, part) for part in _TOWER_PARTS) or not len(layers):
            raise UnsupportedTower(f"the image tower of {family} has other parts than CLIP's and SigLIP's")
        embeddings = tower.embeddings
        last: Any = layers[-1]
        if not all(_has(last, part) for part in _LAYER_PARTS) or not isinstance(embeddings.patch_embedding, nn.Conv2d):
            raise UnsupportedTower(f"the blocks of {family}'s image tower have other parts than CLIP's and SigLIP's")
        implementation = getattr(getattr(last.self_attn, "config", None), "_attn_implementation", "another")
        if implementation != "sdpa":
            raise UnsupportedTower(f"its attention is {implementation}, not transformers' sdpa")
        self.tower = tower
        self.has_class_token = all(_has(tower, part) for part in _CLASS_TOKEN_PARTS)
        self.pooler = getattr(tower, "head", None)
        self.projection = getattr(network, "visual_projection", None)
        is_clip = self.has_class_token and self.pooler is None and self.projection is not None
        is_siglip = self.projection is None and not _has(embeddings, "class_embedding") and _has(tower, "head")
        if not is_clip and not (is_siglip and all(_has(self.pooler, part) for part in _POOLER_PARTS)):
            raise UnsupportedTower(f"{family}'s image tower pools neither as CLIP's nor as SigLIP's")
        rows, columns = embeddings.patch_embedding.kernel_size
        self.patch = (int(rows), int(columns))
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


def _pooled_alone(pooler: Any, tokens: Tensor) -> Tensor:
    """(B, L, width): what SigLIP's pooling head makes of each token alone: its value, projected, and the MLP."""
    attention: nn.MultiheadAttention = pooler.attention
    values = nn.functional.linear(tokens, attention.in_proj_weight.chunk(3)[2], attention.in_proj_bias.chunk(3)[2])
    pooled = attention.out_proj(values)
    return pooled + pooler.mlp(pooler.layernorm(pooled))


def _has(module: Any, path: str) -> bool:
    for name in path.split("."):
        module = getattr(module, name, None)
    return module is not None
