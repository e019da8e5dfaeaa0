"""Scores as the logits of "this text fits this image", for models that were trained to say so."""

from typing import Any

from torch import Tensor

from cosmos_eval.engine.scores import Scores
from cosmos_eval.models.abilities import sigmoid_scale_and_bias


def match_logits(engine: Any, scores: Scores, values: Tensor) -> Tensor | None:
    """Return scale * cosine + bias, in float64; None where the scores are not cosines, or the model has no such pair.

    Transforms of embeddings change the scores, and not what the model was trained with: there is no logit then.

    Args:
        engine: whose model scored.
        scores: the scores that `values` were taken from.
        values: (...) scores.
    """
    if not scores.averages_prompts or getattr(engine, "transforms", None):
        return None
    factors = sigmoid_scale_and_bias(getattr(engine, "model", None))
    return None if factors is None else values.double() * factors[0] + factors[1]
