"""Patch features of timm's and transformers' towers by hooks on a library's own forward pass, in float64.

The last block's attention gets other values by a hook before its output projection, computed one head and one token at
a time from the parameters; a hook on the block drops residual and MLP; and the library pools each token alone, one by
one. Native image size only: at other sizes the library itself is the oracle.
"""

import copy
import math
from typing import Any

import torch
from torch import Tensor
from transformers.models.siglip2.image_processing_siglip2 import convert_image_to_patches

STANDARD_DEVIATION = 5


@torch.no_grad()
def timm_features(visual: Any, image: Tensor, attention: str) -> Tensor:
    """(3, H, W) of the native size -> (h * w, D), by the sentences of `cosmos_core.dense`; open_clip's TimmModel."""
    tower = copy.deepcopy(visual).double().eval()
    trunk = tower.trunk
    block = trunk.blocks[-1]
    seen: dict[str, Tensor] = {}
    block.attn.register_forward_pre_hook(lambda module, inputs: seen.update(input=inputs[0]))
    block.attn.register_forward_hook(lambda module, inputs, output: seen.update(attention=output))
    trunk.norm.register_forward_hook(lambda module, inputs, output: seen.update(tokens=output))
    prefix, grid = trunk.num_prefix_tokens, trunk.patch_embed.grid_size

    def mixed(module: Any, inputs: Any) -> Tensor:
        q, k, v = _timm_queries_keys_values(block.attn, seen["input"][0])
        if hasattr(trunk, "rope") and trunk.rope is not None:
            rope = trunk.rope.get_embed()
            half = block.attn.rotate_half
            q, k = (_rotated(x, rope, prefix, half) for x in (q, k))
        return _mixed(q, k, v, attention, grid, prefix)[None]

    def attention_alone(module: Any, inputs: Any, output: Tensor) -> Tensor:
        added = seen["attention"]
        if type(module).__name__ == "EvaBlockPostNorm":
            return module.norm1(added)
        if type(module).__name__ == "EvaBlock":
            return added if module.gamma_1 is None else module.gamma_1 * added
        return module.ls1(added)

    if attention not in ("vanilla", "raw"):
        block.attn.norm.register_forward_pre_hook(mixed)
    if attention in ("clearclip", "naclip"):
        block.register_forward_hook(attention_alone)
    tower(image[None].double())
    tokens = seen["tokens"][0, prefix:]
    if attention == "raw":
        return torch.stack([tower.head(trunk.head(trunk.fc_norm(token[None])))[0] for token in tokens])
    return torch.stack([tower.head(trunk.forward_head(token.expand(1, prefix + 1, -1)))[0] for token in tokens])


def _timm_queries_keys_values(attn: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(L, C) -> three of (L, heads, d)."""
    if attn.qkv is None:
        projections = [attn.q_proj(x), attn.k_proj(x), attn.v_proj(x)]
    else:
        weights = attn.qkv.weight.chunk(3)
        if hasattr(attn, "q_bias") and attn.q_bias is not None:
            biases = (attn.q_bias, torch.zeros_like(attn.q_bias), attn.v_bias)
        else:
            bias = attn.qkv.bias
            biases = bias.chunk(3) if bias is not None else (torch.zeros(()),) * 3
        projections = [x @ weight.T + bias for weight, bias in zip(weights, biases, strict=True)]
    q, k, v = (projection.unflatten(-1, (attn.num_heads, -1)) for projection in projections)
    return attn.q_norm(q), attn.k_norm(k), v


def _rotated(x: Tensor, rope: Tensor, prefix: int, half: bool) -> Tensor:
    """(L, heads, d), each pair of a patch's numbers turned by its angle; `rope` has sines, then cosines."""
    turned = x.clone()
    size = x.shape[-1]
    sine, cosine = rope.double().chunk(2, dim=-1)
    pairs = [(i, i + size // 2) for i in range(size // 2)] if half else [(i, i + 1) for i in range(0, size, 2)]
    for place in range(len(x) - prefix):
        for first, second in pairs:
            a, b = x[prefix + place, :, first], x[prefix + place, :, second]
            turned[prefix + place, :, first] = a * cosine[place, first] - b * sine[place, first]
            turned[prefix + place, :, second] = b * cosine[place, second] + a * sine[place, second]
    return turned


@torch.no_grad()
def transformers_features(network: Any, image: Tensor, attention: str) -> Tensor:
    """(3, H, W) of the native size -> (h * w, D); a CLIPModel or SiglipModel of transformers."""
    network = copy.deepcopy(network).double().eval()
    tower = network.vision_model
    layer = tower.encoder.layers[-1]
    prefix = int(hasattr(tower.embeddings, "class_embedding"))
    patch = tower.config.patch_size
    grid = (image.shape[1] // patch, image.shape[2] // patch)
    seen: dict[str, Tensor] = {}
    for name in ("q_proj", "k_proj", "v_proj"):
        getattr(layer.self_attn, name).register_forward_hook(
            lambda module, inputs, output, name=name: seen.update({name: output[0]})
        )
    layer.self_attn.register_forward_hook(lambda module, inputs, output: seen.update(attention=output[0]))
    layer.register_forward_hook(
        lambda module, inputs, output: seen["attention"] if attention in ("clearclip", "naclip") else None
    )

    def mixed(module: Any, inputs: Any) -> Tensor:
        heads = layer.self_attn.num_heads
        q, k, v = (seen[name].unflatten(-1, (heads, -1)) for name in ("q_proj", "k_proj", "v_proj"))
        return _mixed(q, k, v, attention, grid, prefix)[None]

    if attention not in ("vanilla", "raw"):
        layer.self_attn.out_proj.register_forward_pre_hook(mixed)
    layer.register_forward_hook(lambda module, inputs, output: seen.update(hidden=output))
    if isinstance(tower.embeddings.patch_embedding, torch.nn.Linear):  # SigLIP 2 NaFlex
        tower(**_as_patches(image.double(), patch))
    else:
        tower(pixel_values=image[None].double())
    tokens = tower.post_layernorm(seen["hidden"])[0, prefix:]
    if hasattr(network, "visual_projection"):
        return torch.stack([network.visual_projection(token) for token in tokens])
    return tokens if attention == "raw" else torch.stack([tower.head(token[None, None])[0] for token in tokens])


def _as_patches(image: Tensor, patch: int) -> dict[str, Tensor]:
    """The inputs of a NaFlex tower, as transformers' image processor cuts them."""
    grid = torch.tensor([[image.shape[1] // patch, image.shape[2] // patch]])
    patches = convert_image_to_patches(image, patch)
    return {
        "pixel_values": patches[None],
        "pixel_attention_mask": torch.ones(1, len(patches), dtype=torch.long),
        "spatial_shapes": grid,
    }


@torch.no_grad()
def eager_features(network: Any, image: Tensor, attention: str) -> Tensor:
    """(3, H, W) of the native size -> (h * w, D); BlipForImageTextRetrieval, BlipModel or FlavaModel."""
    network = copy.deepcopy(network).double().eval()
    network = getattr(network, "flava", network)
    is_blip = hasattr(network, "vision_model")
    tower = network.vision_model if is_blip else network.image_model
    layer = tower.encoder.layers[-1] if is_blip else tower.encoder.layer[-1]
    attn = layer.self_attn if is_blip else layer.attention
    patch = tower.config.patch_size
    seen: dict[str, Tensor] = {}
    parts = [attn.qkv] if is_blip else [attn.attention.query, attn.attention.key, attn.attention.value]
    for number, part in enumerate(parts):
        part.register_forward_hook(lambda module, inputs, output, number=number: seen.update({str(number): output[0]}))
    attn.register_forward_hook(lambda module, inputs, output: seen.update(attention=output[0]))

    def mixed(module: Any, inputs: Any) -> Any:
        heads = attn.num_heads if is_blip else attn.attention.num_attention_heads
        projections = seen["0"].chunk(3, dim=-1) if is_blip else [seen[name] for name in "012"]
        q, k, v = (projection.unflatten(-1, (heads, -1)) for projection in projections)
        return (_mixed(q, k, v, attention, (image.shape[1] // patch, image.shape[2] // patch), 1)[None], *inputs[1:])

    def alone(module: Any, inputs: Any, output: Any) -> Any:
        return seen["attention"] if is_blip else (seen["attention"],)

    if attention not in ("vanilla", "raw"):
        (attn.projection if is_blip else attn.output.dense).register_forward_pre_hook(mixed)
    if attention in ("clearclip", "naclip"):
        layer.register_forward_hook(alone)
    tokens = tower(pixel_values=image[None].double()).last_hidden_state[0, 1:]
    if not is_blip:
        return torch.stack([network.image_projection(token) for token in tokens])
    if hasattr(network, "vision_proj"):
        return torch.stack([network.vision_proj(token) for token in tokens])
    return torch.stack([network.visual_projection(tower.post_layernorm(token)) for token in tokens])


@torch.no_grad()
def align_features(network: Any, image: Tensor, attention: str) -> Tensor:
    """(3, H, W) -> (h * w, D): each place of the last feature map, pooled as a map of its own."""
    tower = copy.deepcopy(network).double().eval().vision_model
    feature_map = tower(pixel_values=image[None].double()).last_hidden_state
    places = [(row, column) for row in range(feature_map.shape[2]) for column in range(feature_map.shape[3])]
    return torch.stack([tower.pooler(feature_map[:, :, i : i + 1, j : j + 1]).flatten() for i, j in places])


@torch.no_grad()
def resnet_features(visual: Any, image: Tensor, attention: str) -> Tensor:
    """(3, H, W) of the native size -> (h * w, D); a ModifiedResNet."""
    tower = copy.deepcopy(visual).double().eval()
    seen: dict[str, Tensor] = {}
    tower.layer4.register_forward_hook(lambda module, inputs, output: seen.update(places=output))
    tower(image[None].double())
    pool, height, width = tower.attnpool, *seen["places"].shape[2:]
    places = [seen["places"][0, :, row, column] for row in range(height) for column in range(width)]
    if attention == "maskclip":
        return torch.stack([pool.c_proj(pool.v_proj(place)) for place in places])
    tokens = torch.stack([sum(places) / len(places), *places]) + pool.positional_embedding
    q, k, v = (p(tokens).unflatten(-1, (pool.num_heads, -1)) for p in (pool.q_proj, pool.k_proj, pool.v_proj))
    return pool.c_proj(_mixed(q, k, v, attention, (height, width), 1))[1:]


def _mixed(q: Tensor, k: Tensor, v: Tensor, kind: str, grid: tuple[int, int], prefix: int) -> Tensor:
    """Three of (L, heads, d) -> (L, heads * d), one head and one token at a time."""
    length, heads, size = q.shape
    mixed = torch.zeros_like(v)
    for head in range(heads):
        for i in range(length):
            weights = torch.zeros(length, dtype=v.dtype)
            if kind == "maskclip":
                weights[i] = 1
            pairs = {"vanilla": [(q, k)], "csa": [(q, q), (k, k)], "clearclip": [(q, q)], "naclip": [(k, k)]}
            for mine, others in pairs.get(kind, []):
                logits = torch.stack([mine[i, head] @ others[j, head] / math.sqrt(size) for j in range(length)])
                if kind == "naclip":
                    logits += torch.tensor([_nearness(i - prefix, j - prefix, grid[1]) for j in range(length)])
                weights += logits.softmax(0)
            mixed[i, head] = sum(weights[j] * v[j, head] for j in range(length))
    return mixed.flatten(1)


def _nearness(i: int, j: int, columns: int) -> float:
    if i < 0 or j < 0:  # a class token or register has no place
        return 0.0
    return math.exp(-(math.dist(divmod(i, columns), divmod(j, columns)) ** 2) / (2 * STANDARD_DEVIATION**2))
