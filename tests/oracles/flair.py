"""FLAIR's score of one image and one text from its parameters, one head and one token at a time, in float64.

Written from arXiv 2412.03561, section 3.2, and the released configuration: 8 heads, norms before queries, keys and
values, an extra key and value of zeros (`add_zero_attn`), no residual.
"""

import math

import torch
from torch import Tensor

HEADS = 8


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    mean = x.mean()
    return (x - mean) / math.sqrt(((x - mean) ** 2).mean() + 1e-5) * weight + bias


def text_conditioned_image(state: dict[str, Tensor], text: Tensor, tokens: Tensor) -> Tensor:
    """(D,) projected text and (L, D) projected image tokens -> (D,) the image as it is pooled under the text."""
    state = {
        key.removeprefix("visual_proj."): value.double() for key, value in state.items() if key.startswith("visual_p")
    }
    text, tokens = text.double(), tokens.double()
    width = len(text)
    projections = {
        name: (state["attn.in_proj_weight"][start : start + width], state["attn.in_proj_bias"][start : start + width])
        for name, start in (("q", 0), ("k", width), ("v", 2 * width))
    }

    def project(name: str, x: Tensor) -> Tensor:
        weight, bias = projections[name]
        return weight @ layer_norm(x, state[f"ln_{name}.weight"], state[f"ln_{name}.bias"]) + bias

    query = project("q", text)
    keys = [project("k", token) for token in tokens] + [torch.zeros(width, dtype=torch.float64)]
    values = [project("v", token) for token in tokens] + [torch.zeros(width, dtype=torch.float64)]
    size = width // HEADS
    pooled = []
    for head in range(HEADS):
        part = slice(head * size, (head + 1) * size)
        logits = [float(query[part] @ key[part]) / math.sqrt(size) for key in keys]
        total = sum(math.exp(logit) for logit in logits)
        pooled.append(sum(math.exp(logit) / total * value[part] for logit, value in zip(logits, values, strict=True)))
    return state["attn.out_proj.weight"] @ torch.cat(pooled) + state["attn.out_proj.bias"]


def logit(state: dict[str, Tensor], text: Tensor, tokens: Tensor) -> float:
    """exp(scale) * cosine + bias"""
    pooled, text = text_conditioned_image(state, text, tokens), text.double()
    cosine = float(pooled @ text / (pooled.norm() * text.norm()))
    return math.exp(float(state["logit_scale"])) * cosine + float(state["logit_bias"])
