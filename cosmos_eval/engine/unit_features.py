"""Features of unit length, equal inputs that share their features, and the names of inputs in error messages."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_core.host_copy import HostCopy
from cosmos_eval.datasets.image_sources import ImageSource
from cosmos_eval.metrics.similarity import plain_float32


@dataclass(frozen=True)
class FeatureCheck:
    """The check that the features of each item are finite and not zero; the device may still compute it."""

    items: Sequence[Any]
    """The N inputs that the features belong to."""
    name: Callable[[Any], str]
    """Returns how an error message calls an item."""
    first_bad: HostCopy
    """(2,) int64: the first item whose features are refused, and `_ZERO`, `_NOT_FINITE` or, without one, `_VALID`."""

    def require_valid(self) -> None:
        """Wait for the check.

        Raises:
            RequestError: features of an item are NaN, infinite or all zero; the message names the first such item.
        """
        first, reason = self.first_bad.read().tolist()
        if reason != _VALID:
            raise RequestError(
                f"the embedding of {self.name(self.items[first])} is {_REASONS[reason]}; check the weights, or raise "
                "the precision to fp32"
            )


_VALID, _NOT_FINITE, _ZERO = range(3)
_REASONS = {_NOT_FINITE: "not finite", _ZERO: "zero"}


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
    normalised, check = normalise_and_check_later(features, items, name)
    check.require_valid()
    return normalised


def normalise_and_check_later(
    features: Tensor, items: Sequence[Any], name: Callable[[Any], str]
) -> tuple[Tensor, FeatureCheck]:
    """As `normalise_features`, but without waiting for the device: the caller reads the check before it uses features.

    Raises:
        RequestError: the number of features is not N.
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
        reasons = (~is_valid).long() + (item_norms == 0).all(1).long()  # `_VALID`, `_NOT_FINITE` or `_ZERO` of each
        first = is_valid.logical_not().long().argmax(0, keepdim=True)
        check = FeatureCheck(items, name, HostCopy(torch.cat([first, reasons.gather(0, first)])))
        if features.ndim == 2:
            return features / norms, check
        return features / norms.masked_fill(norms == 0, 1.0), check


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
