"""Features of transformers' models where the library has no method for them, or one that gives more than is compared.

Each function takes the network and the tensors of its input, and returns (B, D), or (B, Q, D) where an image has
several vectors; unnormalised. A family names its functions in `hf_families`.
"""

from typing import Any

import torch
from torch import Tensor

from cosmos_eval.models.hf_families import Family

Inputs = dict[str, Tensor]


def image_features(family: Family, network: Any, inputs: Inputs) -> Tensor:
    """Embed images: `pixel_values`, and what else the family's image tower takes."""
    return FUNCTIONS[family.image_features](network, inputs)


def text_features(family: Family, network: Any, inputs: Inputs) -> Tensor:
    """Embed texts: `input_ids` (B, L), and `attention_mask` (B, L) where the family uses it."""
    return FUNCTIONS[family.text_features](network, inputs)


def best_query_scores(image_features: Tensor, text_features: Tensor) -> Tensor:
    """Score (n, Q, D) images with (m, D) texts: (n, m), the largest dot product over the Q vectors of an image."""
    scores = image_features.flatten(0, 1) @ text_features.T  # (n * Q, m)
    return scores.view(*image_features.shape[:2], len(text_features)).amax(dim=1)


def pooled(output: Any) -> Tensor:
    """The features in what `get_image_features` returns: a tensor or, in newer versions, a model output."""
    return output if isinstance(output, Tensor) else output.pooler_output


def _get_image_features(network: Any, inputs: Inputs) -> Tensor:
    return pooled(network.get_image_features(**inputs))


def _get_text_features(network: Any, inputs: Inputs) -> Tensor:
    return pooled(network.get_text_features(**inputs))


def _first_image_token(network: Any, inputs: Inputs) -> Tensor:
    # FLAVA projects every token; its contrastive loss uses the first (FlavaForPreTraining.forward).
    return pooled(network.get_image_features(**inputs))[:, 0]


def _first_text_token(network: Any, inputs: Inputs) -> Tensor:
    return pooled(network.get_text_features(**inputs))[:, 0]


def _blip_image(network: Any, inputs: Inputs) -> Tensor:
    if hasattr(network, "get_image_features"):  # BlipModel
        return _get_image_features(network, inputs)
    # BlipForImageTextRetrieval.forward(use_itm_head=False), one tower at a time
    return network.vision_proj(network.vision_model(**inputs).last_hidden_state[:, 0])


def _blip_text(network: Any, inputs: Inputs) -> Tensor:
    if hasattr(network, "get_text_features"):
        return _get_text_features(network, inputs)
    return network.text_proj(network.text_encoder(**inputs).last_hidden_state[:, 0])


def _blip2_image(network: Any, inputs: Inputs) -> Tensor:
    # Blip2ForImageTextRetrieval.forward(use_image_text_matching_head=False), one tower at a time
    tokens = network.vision_model(**inputs).last_hidden_state  # (B, patches, width)
    queries = network.qformer(
        query_embeds=network.query_tokens.expand(len(tokens), -1, -1),
        encoder_hidden_states=tokens,
        encoder_attention_mask=torch.ones(tokens.shape[:2], dtype=torch.long, device=tokens.device),
    ).last_hidden_state
    return network.vision_projection(queries)


def _blip2_text(network: Any, inputs: Inputs) -> Tensor:
    tokens = network.qformer(
        query_embeds=network.embeddings(input_ids=inputs["input_ids"]),
        query_length=0,
        attention_mask=inputs["attention_mask"],
    ).last_hidden_state
    return network.text_projection(tokens[:, 0])


FUNCTIONS: dict[str, Any] = {
    "get_image_features": _get_image_features,
    "get_text_features": _get_text_features,
    "first_image_token": _first_image_token,
    "first_text_token": _first_text_token,
    "blip_image": _blip_image,
    "blip_text": _blip_text,
    "blip2_image": _blip2_image,
    "blip2_text": _blip2_text,
}
