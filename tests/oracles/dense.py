"""Patch features one image, one head and one token at a time, in float64, from a tower's parameters."""

import copy
import math

import torch
from torch import Tensor, nn

from cosmos_core.positions import run_time_positions

STANDARD_DEVIATION = 5


@torch.no_grad()
def patch_features(visual: nn.Module, image: Tensor, attention: str) -> Tensor:
    """(3, H, W) -> (h, w, D), by the sentences of `cosmos_core.dense`."""
    tower = copy.deepcopy(visual).double().eval()
    image = image.double()
    patch_height, patch_width = tower.patch_size
    height, width = image.shape[1] // patch_height, image.shape[2] // patch_width
    places = [(row, column) for row in range(height) for column in range(width)]
    square = image.shape[1] == image.shape[2]
    positions = run_time_positions(tower.positional_embedding, tower.grid_size, (height, width), square=square)
    tokens = [tower.class_embedding + positions[0]]
    for number, (row, column) in enumerate(places):
        top, left = row * patch_height, column * patch_width
        pixels = image[:, top : top + patch_height, left : left + patch_width]
        tokens.append((tower.conv1.weight * pixels).sum(dim=(1, 2, 3)) + positions[1 + number])
    hidden = [tower.ln_pre(token) for token in tokens]
    *trunk, last = tower.transformer.resblocks
    for block in trunk:
        hidden = _block(block, hidden, "vanilla", places)
    hidden = _block(last, hidden, attention, places)
    features = [tower.ln_post(token) for token in hidden[1:]]
    if tower.proj is not None:
        features = [token @ tower.proj for token in features]
    return torch.stack(features).reshape(height, width, -1)


def _block(block: nn.Module, hidden: list[Tensor], attention: str, places: list[tuple[int, int]]) -> list[Tensor]:
    normed = [block.ln_1(token) for token in hidden]
    attended = _attention(block.attn, normed, attention, places)
    if hasattr(block, "ln_attn"):
        attended = [block.ln_attn(token) for token in attended]
    attended = [_scaled(block.ls_1, token) for token in attended]
    if attention in ("clearclip", "naclip"):
        return attended
    hidden = [token + change for token, change in zip(hidden, attended, strict=True)]
    return [token + _scaled(block.ls_2, block.mlp(block.ln_2(token))) for token in hidden]


def _scaled(layer_scale: nn.Module, token: Tensor) -> Tensor:
    return token * layer_scale.gamma if hasattr(layer_scale, "gamma") else token


def _attention(attn: nn.Module, tokens: list[Tensor], kind: str, places: list[tuple[int, int]]) -> list[Tensor]:
    size = len(tokens[0]) // attn.num_heads
    weight, bias = attn.in_proj_weight.chunk(3), attn.in_proj_bias.chunk(3)
    mixed: list[list[Tensor]] = [[] for _ in tokens]
    for head in range(attn.num_heads):
        part = slice(head * size, (head + 1) * size)
        q, k, v = ([weight[i][part] @ token + bias[i][part] for token in tokens] for i in range(3))
        if hasattr(attn, "ln_q"):
            q, k = [attn.ln_q(vector) for vector in q], [attn.ln_k(vector) for vector in k]
        for i in range(len(tokens)):
            weights = _weights(i, q, k, kind, places)
            out = sum(w * vector for w, vector in zip(weights, v, strict=True))
            mixed[i].append(out * attn.head_scale[head] if getattr(attn, "head_scale", None) is not None else out)
    together = [torch.cat([out.flatten() for out in heads]) for heads in mixed]
    if hasattr(attn, "ln_inner"):
        together = [attn.ln_inner(vector) for vector in together]
    return [attn.out_proj(vector) for vector in together]


def _weights(i: int, q: list[Tensor], k: list[Tensor], kind: str, places: list[tuple[int, int]]) -> list[float]:
    """Weights of token i over all tokens."""

    def softmax(logits: list[float]) -> list[float]:
        powers = [math.exp(logit - max(logits)) for logit in logits]
        return [power / sum(powers) for power in powers]

    def logits(mine: Tensor, others: list[Tensor]) -> list[float]:
        return [(mine @ other).item() / math.sqrt(len(mine)) for other in others]

    if kind in ("vanilla", "raw"):
        return softmax(logits(q[i], k))
    if kind == "maskclip":
        return [float(j == i) for j in range(len(q))]
    if kind == "csa":
        both = zip(softmax(logits(q[i], q)), softmax(logits(k[i], k)), strict=True)
        return [by_query + by_key for by_query, by_key in both]
    if kind == "clearclip":
        return softmax(logits(q[i], q))
    return softmax([logit + _nearness(i, j, places) for j, logit in enumerate(logits(k[i], k))])


def _nearness(i: int, j: int, places: list[tuple[int, int]]) -> float:
    if i == 0 or j == 0:  # the class token has no place
        return 0.0
    return math.exp(-(math.dist(places[i - 1], places[j - 1]) ** 2) / (2 * STANDARD_DEVIATION**2))
