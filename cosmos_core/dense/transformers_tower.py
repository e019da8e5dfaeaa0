"""Which image tower of transformers is read how: recognised by its parts, as families copy each other's towers."""

from typing import Any

from torch import nn

from cosmos_core.dense.tower import DenseTower
from cosmos_core.dense.transformers_eager import BlipViT, FlavaViT, TransformersFeatureMap
from cosmos_core.dense.transformers_vit import TransformersViT, has_part

_BLIP_PARTS = ("vision_model.encoder.layers.0.self_attn.qkv", "vision_model.post_layernorm")
_FLAVA_PARTS = ("image_model.encoder.layer.0.attention.attention.query", "image_model.layernorm", "image_projection")


def is_transformers_network(network: object) -> bool:
    """Whether this is a network of transformers, as `AutoModel` loads it."""
    return any(base.__module__.startswith("transformers.") for base in type(network).__mro__)


def read_transformers_tower(network: Any) -> DenseTower:
    """The tower of a network of transformers.

    Raises:
        UnsupportedTower: its parts are not those of a tower that is read.
    """
    projects = has_part(network, "visual_projection") or has_part(network, "vision_proj")
    if projects and all(has_part(network, part) for part in _BLIP_PARTS):
        return BlipViT(network)
    if all(has_part(getattr(network, "flava", network), part) for part in _FLAVA_PARTS):
        return FlavaViT(network)
    pooler = getattr(getattr(network, "vision_model", None), "pooler", None)
    if isinstance(pooler, nn.AvgPool2d):
        return TransformersFeatureMap(network)
    return TransformersViT(network)
