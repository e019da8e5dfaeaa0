"""Score of one image-text pair by COSMOS's poolers, from their parameters, one head at a time in float64."""

import torch
from torch import Tensor

from cosmos_core.model import COSMOS
from tests.oracles.attention_maps import pooled


@torch.no_grad()
def cross_score(model: COSMOS, image: Tensor, ids: Tensor) -> float:
    """(3, H, W) and (L,) -> mean of cos(image + what it finds in the text, text) and cos(text + ..., image)."""
    image_feature, patches = (part[0] for part in model.image_tower(image[None]))
    text_feature, tokens = (part[0] for part in model.text_tower(ids[None]))
    found_in_text = pooled(model.text_attn_cross_pool, image_feature, model.text_token_mapping(tokens))[1]
    found_in_image = pooled(model.visual.attn_cross_pool, text_feature, model.image_token_mapping(patches))[1]
    cosines = cosine(image_feature + found_in_text, text_feature), cosine(text_feature + found_in_image, image_feature)
    return sum(cosines) / 2


def cosine(a: Tensor, b: Tensor) -> float:
    a, b = a.double(), b.double()
    return float((a @ b) / (a.norm() * b.norm()))
