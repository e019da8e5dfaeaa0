"""Checks of what the methods of an adapter returned or raised, with messages that name the method."""

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from cosmos_core import printable
from cosmos_core.errors import RequestError


def as_features(values: Any, count: int, owner: str, allow_tokens: bool = False) -> Tensor:
    """Check what an encoder returned; return it as (count, D) float32 without gradients.

    Args:
        count: number of inputs that were encoded.
        owner: names the encoder in messages.
        allow_tokens: accept more dimensions, such as (count, L, D): right for a model with a `similarity`.

    Raises:
        RequestError: not a floating-point tensor of this shape.
    """
    if not isinstance(values, Tensor):
        raise RequestError(f"{owner} returned {type(values).__name__}; return a float tensor ({count}, D)")
    has_right_dimensions = values.ndim == 2 or (allow_tokens and values.ndim > 2)
    if not has_right_dimensions or values.shape[0] != count or 0 in values.shape[1:]:
        expected = f"({count}, D)" + (f" or ({count}, L, D)" if allow_tokens else "")
        hint = "" if allow_tokens or values.ndim < 3 else ", or define similarity(image_features, text_features)"
        raise RequestError(f"{owner} returned shape {tuple(values.shape)} for {count} inputs; return {expected}{hint}")
    if not values.is_floating_point():
        raise RequestError(f"{owner} returned {values.dtype}; return a float tensor ({count}, D)")
    return as_dense_float(values, owner)


def as_patches(values: Any, count: int, owner: str) -> Tensor:
    """Check what an encoder of patches returned; return it as (count, h, w, D) float32 without gradients.

    Args:
        count: number of images that were encoded.
        owner: names the encoder in messages.

    Raises:
        RequestError: not a floating-point tensor of this shape.
    """
    if not isinstance(values, Tensor):
        raise RequestError(f"{owner} returned {type(values).__name__}; return a float tensor ({count}, h, w, D)")
    if values.ndim != 4 or values.shape[0] != count or 0 in values.shape[1:]:
        raise RequestError(
            f"{owner} returned shape {tuple(values.shape)} for {count} inputs; return ({count}, h, w, D)"
        )
    if not values.is_floating_point():
        raise RequestError(f"{owner} returned {values.dtype}; return a float tensor ({count}, h, w, D)")
    return as_dense_float(values, owner)


def as_scores(values: Any, shape: tuple[int, ...], owner: str) -> Tensor:
    """Check what `similarity` or `score_pairs` returned; return it as float32 of `shape`, without gradients.

    Scores that are not finite pass: the caller refuses them, because it can name the image and the text.

    Args:
        owner: names the method in messages.

    Raises:
        RequestError: not a floating-point tensor of this shape.
    """
    expected = f"a float tensor {tuple(shape)}"
    if not isinstance(values, Tensor):
        raise RequestError(f"{owner} returned {type(values).__name__}; return {expected}")
    if tuple(values.shape) != tuple(shape):
        raise RequestError(f"{owner} returned shape {tuple(values.shape)}; return {expected}")
    if not values.is_floating_point():
        raise RequestError(f"{owner} returned {values.dtype}; return {expected}")
    return as_dense_float(values, owner)


def as_dense_float(values: Tensor, owner: str) -> Tensor:
    """The tensor in float32 without gradients; RequestError if it is sparse, or a meta tensor, which has no values."""
    if values.is_meta or values.layout is not torch.strided:
        kind = "a meta tensor, which has no values" if values.is_meta else "a sparse tensor"
        raise RequestError(f"{owner} returned {kind}; return a dense one")
    return values.detach().float()


def format_error(error: BaseException, max_length: int = 300) -> str:
    """Type and message of an exception in one line, for an exception that another library or an adapter raised."""
    return printable.one_line(f"{type(error).__name__}: {error}", max_length)


def require_json_values(values: Any, owner: str) -> dict[str, Any]:
    """Return a model's description of itself as plain JSON values, as a result stores it.

    Args:
        values: a mapping; `arch` and `activation` must be strings or None.
        owner: names the description in messages.

    Raises:
        RequestError: not a mapping, a key that is not a string, or a value that JSON cannot hold (NaN, infinity, a lone
            surrogate, an object); the message names the key.
    """
    if not isinstance(values, Mapping):
        raise RequestError(f"{owner} is a {type(values).__name__}; make it a dictionary of JSON values")
    json_values: dict[str, Any] = {}
    for key, value in values.items():
        if not isinstance(key, str):
            raise RequestError(f"{owner}: the key {key!r} is a {type(key).__name__}; make it a string")
        try:
            text = json.dumps([key, value], allow_nan=False, ensure_ascii=False)
            text.encode()  # fails on a lone surrogate, which json.dumps lets pass
            json_values[key] = json.loads(text)[1]
        except (TypeError, ValueError, RecursionError) as error:
            raise RequestError(f"{owner}: {key!r} is not a JSON value: {format_error(error)}") from error
        if key in ("arch", "activation") and not isinstance(value, str | None):
            raise RequestError(f"{owner}: {key!r} is a {type(value).__name__}; make it a string, or leave it out")
    return json_values
