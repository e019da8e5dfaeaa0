"""Features of unit length, equal inputs that share their features, and the names of inputs in error messages."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_eval.datasets.image_sources import ImageSource
from cosmos_eval.metrics.similarity import plain_float32


def normalise_features(features: Tensor, items: Sequence[Any], name: Callable[[Any], str]) -> Tensor:
    """Normalise features (N, D) or (N, ..., D) of any float type to unit length of the last dimension, in float32.

    If an item has several vectors (tokens), vectors of zeros stay zero: they may be padding. An item with nothing but
    zeros is refused.

    Args:
        items: the N inputs that the features belong to.
        name: returns how an error message calls an item.

    Raises:
        RequestError: the number of features is not N, or features of an item are NaN, infinite or all zero; the message
            names the first such item.
    """
    if features.ndim < 2 or len(features) != len(items):
        raise RequestError(
            f"the model returned embeddings of shape {tuple(features.shape)} for {len(items)} inputs; return "
            f"({len(items)}, D)"
        )
    with torch.no_grad(), plain_float32():
        features = features.float()
        norms = torch.linalg.vector_norm(features, dim=-1, keepdim=True)
        item_norms = norms.flatten(1)  # (N, number of vectors of an item)
        is_valid = torch.isfinite(item_norms).all(1) & (item_norms > 0).any(1)
        if not is_valid.all():
            first = int((~is_valid).nonzero()[0])
            reason = "zero" if bool((item_norms[first] == 0).all()) else "not finite"
            raise RequestError(
                f"the embedding of {name(items[first])} is {reason}; check the weights, or raise the precision to fp32"
            )
        if features.ndim == 2:
            return features / norms
        return features / norms.masked_fill(norms == 0, 1.0)


def find_distinct(keys: Iterable[Hashable]) -> tuple[list[int], Tensor]:
    """Group equal keys.

    For the keys a, b, a, c it returns [0, 1, 3] and (0, 1, 0, 2).

    Returns:
        The position at which each distinct key occurs first, in this order, and for each of the N keys the index (N,)
        int64 of its distinct key. So features of the distinct items, indexed by the second, are those of all items.
    """
    index_of_key: dict[Hashable, int] = {}
    first_positions: list[int] = []
    index: list[int] = []
    for position, key in enumerate(keys):
        distinct_index = index_of_key.setdefault(key, len(index_of_key))
        if distinct_index == len(first_positions):
            first_positions.append(position)
        index.append(distinct_index)
    return first_positions, torch.tensor(index, dtype=torch.int64)


def require_items(items: Sequence[Any], plural: str) -> None:
    """Raise RequestError if there are no items; `plural` is "images" or "texts"."""
    if len(items) == 0:
        raise RequestError(f"there are no {plural} to encode; the dataset is empty")


def image_name(image: ImageSource) -> str:
    """Return how error messages call an image."""
    return f"image {image.key}"


def text_name(text: str) -> str:
    """Return how error messages call a text: its first 80 characters, quoted."""
    return f"the text {text if len(text) <= 80 else text[:77] + '...'!r}"
