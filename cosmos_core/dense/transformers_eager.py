"""Patch features of transformers' BLIP and FLAVA, whose ViTs compute attention without torch's function for it.

The last block runs as the library's own, with a module in place of its attention that mixes values by a variant.
Position embeddings are resampled by the library.
"""

from typing import Any

import torch
from torch import Tensor, nn

from cosmos_core.dense.tower import crop_to_patches
from cosmos_core.dense.variants import ATTENTIONS, KEEP_RESIDUAL, MIXERS, Mixer, with_changes


class EagerViT:
    """A ViT with a class token whose blocks are pre-norm; what differs between families is in the subclasses."""

    attentions: tuple[str, ...] = ATTENTIONS
    attention_name: str
    """Of a block's attention, which returns a tuple that begins with its output."""
    norm_name: str
    """Of the norm before it."""

    def __init__(self, tower: Any, layers: Any) -> None:
        self.tower = tower
        self.layers = layers
        patch = tower.config.patch_size
        self.patch: tuple[int, int] = (patch, patch)

    def features(self, images: Tensor, attention: str) -> Tensor:
        """(B, h, w, D): see `cosmos_core.dense.patch_features`."""
        images, grid = crop_to_patches(images, self.patch)
        hidden = self.tower.embeddings(images, interpolate_pos_encoding=True)
        *layers, last = self.layers
        for layer in layers:
            hidden = _output(layer(hidden))
        if attention in MIXERS:
            mixed = _MixedAttention(self, getattr(last, self.attention_name), MIXERS[attention], grid)
            last = with_changes(last, **{self.attention_name: mixed})
        keeps_block = attention not in MIXERS or attention in KEEP_RESIDUAL
        hidden = _output(last(hidden)) if keeps_block else _output(mixed(getattr(last, self.norm_name)(hidden)))
        return self.embed(hidden[:, 1:]).unflatten(1, grid)

    def embed(self, tokens: Tensor) -> Tensor:
        """(B, L, width) -> (B, L, D): what the tower makes of its class token after the last block."""
        raise NotImplementedError

    def queries_keys_values(self, attention: Any, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, L, width) -> three of (B, heads, L, d)."""
        raise NotImplementedError

    def project(self, attention: Any, mixed: Tensor) -> Tensor:
        """(B, L, heads * d) -> (B, L, width): the output projection of the attention."""
        raise NotImplementedError


class _MixedAttention(nn.Module):
    """Stands for a block's attention."""

    def __init__(self, family: EagerViT, attention: Any, mixer: Mixer, grid: tuple[int, int]) -> None:
        super().__init__()
        self.family = family
        self.attention = attention
        self.mixer = mixer
        self.grid = grid

    def forward(self, hidden_states: Tensor, *arguments: Any, **options: Any) -> tuple[Tensor, None]:
        q, k, v = self.family.queries_keys_values(self.attention, hidden_states)
        mixed = self.mixer(q, k, v, self.grid).transpose(1, 2).flatten(2)
        return self.family.project(self.attention, mixed), None


def _output(result: Any) -> Tensor:
    """What a block or its attention returns first, or alone."""
    return result[0] if isinstance(result, tuple) else result


class BlipViT(EagerViT):
    """The image tower of BLIP's image-text contrast: `BlipForImageTextRetrieval`, or `BlipModel`."""

    attention_name = "self_attn"
    norm_name = "layer_norm1"

    def __init__(self, network: Any) -> None:
        super().__init__(network.vision_model, network.vision_model.encoder.layers)
        # BlipModel embeds the tower's pooled output, which is normed once more than its tokens.
        self.norms_twice = hasattr(network, "visual_projection")
        self.projection = network.visual_projection if self.norms_twice else network.vision_proj

    def embed(self, tokens: Tensor) -> Tensor:
        tokens = self.tower.post_layernorm(tokens)
        return self.projection(self.tower.post_layernorm(tokens) if self.norms_twice else tokens)

    def queries_keys_values(self, attention: Any, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = attention.qkv(hidden).unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return q, k, v

    def project(self, attention: Any, mixed: Tensor) -> Tensor:
        projected: Tensor = attention.projection(mixed)
        return projected


class FlavaViT(EagerViT):
    """The image tower of FLAVA's global contrast."""

    attention_name = "attention"
    norm_name = "layernorm_before"

    def __init__(self, network: Any) -> None:
        model = getattr(network, "flava", network)
        super().__init__(model.image_model, model.image_model.encoder.layer)
        self.projection = model.image_projection

    def embed(self, tokens: Tensor) -> Tensor:
        return self.projection(self.tower.layernorm(tokens))

    def queries_keys_values(self, attention: Any, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        own = attention.attention
        q, k, v = (
            part(hidden).unflatten(-1, (own.num_attention_heads, -1)).transpose(1, 2)
            for part in (own.query, own.key, own.value)
        )
        return q, k, v

    def project(self, attention: Any, mixed: Tensor) -> Tensor:
        projected: Tensor = attention.output.dense(mixed)
        return projected


class TransformersFeatureMap:
    """ALIGN's EfficientNet: its embedding is the mean of its last feature map, so each place is a feature."""

    attentions: tuple[str, ...] = ("vanilla", "raw")

    def __init__(self, network: Any) -> None:
        self.tower = network.vision_model
        stride = 2 * int(torch.tensor(self.tower.config.strides).prod())  # its first convolution has stride 2
        self.patch = (stride, stride)

    def features(self, images: Tensor, attention: str) -> Tensor:
        """(B, h, w, D): see `cosmos_core.dense.patch_features`."""
        images, _ = crop_to_patches(images, self.patch)
        # not the whole tower, whose pooling is the mean only of maps that are smaller than its kernel
        places: Tensor = self.tower.encoder(self.tower.embeddings(images))[0]  # (B, D, h, w)
        return places.permute(0, 2, 3, 1)
