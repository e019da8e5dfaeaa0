"""Weights of transformers' image towers under the names of open_clip's and timm's towers."""

from typing import Any

import torch


def as_open_clip(network: Any) -> dict[str, torch.Tensor]:
    """The image tower of a CLIPModel, for an open_clip VisionTransformer."""
    tower = network.vision_model
    state = {
        "class_embedding": tower.embeddings.class_embedding,
        "positional_embedding": tower.embeddings.position_embedding.weight,
        "conv1.weight": tower.embeddings.patch_embedding.weight,
        "proj": network.visual_projection.weight.T,
    }
    norms = {"ln_pre": tower.pre_layrnorm, "ln_post": tower.post_layernorm}
    for number, layer in enumerate(tower.encoder.layers):
        block = f"transformer.resblocks.{number}"
        attention = layer.self_attn
        for part in ("weight", "bias"):
            projections = (attention.q_proj, attention.k_proj, attention.v_proj)
            state[f"{block}.attn.in_proj_{part}"] = torch.cat([getattr(p, part) for p in projections])
        norms |= {f"{block}.ln_1": layer.layer_norm1, f"{block}.ln_2": layer.layer_norm2}
        norms |= {f"{block}.attn.out_proj": attention.out_proj}
        norms |= {f"{block}.mlp.c_fc": layer.mlp.fc1, f"{block}.mlp.c_proj": layer.mlp.fc2}
    for name, module in norms.items():
        state |= {f"{name}.weight": module.weight, f"{name}.bias": module.bias}
    return state


def as_timm(tower: Any) -> dict[str, torch.Tensor]:
    """The vision tower of a SiglipModel, for the trunk of a timm VisionTransformer with attention pool."""
    head = tower.head
    width = len(tower.post_layernorm.weight)
    _, kv_weight = head.attention.in_proj_weight.split([width, 2 * width])
    _, kv_bias = head.attention.in_proj_bias.split([width, 2 * width])
    state = {
        "pos_embed": tower.embeddings.position_embedding.weight[None],
        "attn_pool.latent": head.probe,
        "attn_pool.q.weight": head.attention.in_proj_weight[:width],
        "attn_pool.q.bias": head.attention.in_proj_bias[:width],
        "attn_pool.kv.weight": kv_weight,
        "attn_pool.kv.bias": kv_bias,
    }
    modules = {"patch_embed.proj": tower.embeddings.patch_embedding, "norm": tower.post_layernorm}
    modules |= {"attn_pool.proj": head.attention.out_proj, "attn_pool.norm": head.layernorm}
    modules |= {"attn_pool.mlp.fc1": head.mlp.fc1, "attn_pool.mlp.fc2": head.mlp.fc2}
    for number, layer in enumerate(tower.encoder.layers):
        block, attention = f"blocks.{number}", layer.self_attn
        for part in ("weight", "bias"):
            projections = (attention.q_proj, attention.k_proj, attention.v_proj)
            state[f"{block}.attn.qkv.{part}"] = torch.cat([getattr(p, part) for p in projections])
        modules |= {f"{block}.attn.proj": attention.out_proj, f"{block}.norm1": layer.layer_norm1}
        modules |= {f"{block}.norm2": layer.layer_norm2}
        modules |= {f"{block}.mlp.fc1": layer.mlp.fc1, f"{block}.mlp.fc2": layer.mlp.fc2}
    for name, module in modules.items():
        state |= {f"{name}.weight": module.weight, f"{name}.bias": module.bias}
    return state
