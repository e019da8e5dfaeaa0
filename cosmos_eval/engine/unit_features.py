"""Rows of unit length, and what errors call the items behind them."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_eval.datasets.base import ImageSource
from cosmos_eval.metrics.similarity import plain_float32
from cosmos_eval.models.base import out_of_memory


@contextmanager
def memory_for(doing: str) -> Iterator[None]:
    """Running out of memory inside is a refusal in one line."""
    try:
        yield
    except Exception as error:
        if out_of_memory(error):
            raise RequestError(f"out of memory {doing}") from error
        raise


def unit_rows(rows: Tensor, items: Sequence[Any], name: Callable[[Any], str]) -> Tensor:
    """(N, D) or (N, ..., D) of any float type as float32 with the last dimension of unit length.

    Where an item has several vectors (tokens), those that are zero stay zero: they may stand for padding. An item whose
    vectors are all zero is refused. `name(items[i])` says in an error whose features i are.

    Raises:
        RequestError: not one row an item, or features that hold NaN or infinity or are zero; names the first.
    """
    if rows.ndim < 2 or len(rows) != len(items):
        raise RequestError(
            f"the model gave embeddings of shape {tuple(rows.shape)} for {len(items)} inputs; make it ({len(items)}, D)"
        )
    with torch.no_grad(), plain_float32():
        rows = rows.float()
        norms = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
        of_item = norms.flatten(1)
        good = torch.isfinite(of_item).all(1) & (of_item > 0).any(1)
        if not good.all():
            first = int((~good).nonzero()[0])
            what = "zero" if bool((of_item[first] == 0).all()) else "not finite"
            raise RequestError(
                f"the embedding of {name(items[first])} is {what}; check the weights, or raise the precision to fp32"
            )
        return rows / norms if rows.ndim == 2 else rows / norms.masked_fill(norms == 0, 1.0)


def distinct_keys(keys: Iterable[Hashable]) -> tuple[list[int], Tensor]:
    """Where each distinct key first appears, in order, and for every key its place among them."""
    seen: dict[Hashable, int] = {}
    places: list[int] = []
    index: list[int] = []
    for i, key in enumerate(keys):
        place = seen.setdefault(key, len(seen))
        if place == len(places):
            places.append(i)
        index.append(place)
    return places, torch.tensor(index, dtype=torch.int64)


def refuse_none(items: Sequence[Any], what: str) -> None:
    if len(items) == 0:
        raise RequestError(f"there are no {what} to encode; the dataset is empty")


def image_name(image: ImageSource) -> str:
    return f"image {image.key}"


def text_name(text: str) -> str:
    return f"the text {text if len(text) <= 80 else text[:77] + '...'!r}"
