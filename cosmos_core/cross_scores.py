"""Scores of image-text pairs by COSMOS's cross-attention poolers.

The paper evaluates the cosine of the two embeddings and leaves the poolers to training (Kim et al., CVPR 2025, arXiv
2412.01814). There, the cross-modal features of a pair are drawn to its plain features of both modalities (the
distillation loss, `cosmos_core.objectives.cosmos`). Two of its four terms compare across modalities: image features
informed by the caption with the caption, and caption features informed by the image with the image. The score of a pair
is the mean of these two cosines, with one network as both student and teacher. There are no published figures for it.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from cosmos_core.cross_pool import cross_modal_features
from cosmos_core.model import COSMOS


def image_states(model: COSMOS, images: Tensor) -> Tensor:
    """What scores need of images, so that each passes the tower once for all of its pairs.

    Args:
        images: (B, 3, H, W), normalised.

    Returns:
        (B, 1 + patches, D): the pooled feature, unnormalised, and the mapped patch tokens.
    """
    pooled, tokens = model.image_tower(images)
    return torch.cat([pooled[:, None], model.image_token_mapping(tokens)], dim=1)


def cross_scores(model: COSMOS, states: Tensor, ids: Tensor) -> Tensor:
    """Scores of pairs: the mean of cos(image informed by the text, text) and cos(text informed by the image, image).

    Args:
        states: (P, 1 + patches, D) of `image_states`, one for each text.
        ids: (P, L) token ids. The poolers attend to padding too, as in training, so L is the context length there.

    Returns:
        (P,) in [-1, 1].
    """
    pooled_images, image_tokens = states[:, 0], states[:, 1:]
    pooled_texts, text_tokens = model.text_tower(ids)
    informed_images = cross_modal_features(
        model.text_attn_cross_pool, pooled_images, model.text_token_mapping(text_tokens)
    )
    informed_texts = cross_modal_features(model.visual.attn_cross_pool, pooled_texts, image_tokens)
    # The cosines in float32, whatever type the towers compute in.
    image_cosine = F.cosine_similarity(informed_images.float(), pooled_texts.float(), dim=-1)
    text_cosine = F.cosine_similarity(informed_texts.float(), pooled_images.float(), dim=-1)
    return (image_cosine + text_cosine) / 2
