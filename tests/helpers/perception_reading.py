"""Reads the small perception benchmarks of `tests.helpers.perception_on_disk`."""

from pathlib import Path
from typing import Any

import pytest

from cosmos_core.errors import RequestError
from cosmos_eval import datasets
from cosmos_eval.datasets.data import PerceptionData
from tests.helpers.perception_on_disk import small


def load(name: str, root: Path, **dataset: Any) -> PerceptionData:
    data = datasets.load(small(name, **dataset), root)
    assert isinstance(data, PerceptionData)
    return data


def shown(data: PerceptionData, item: int) -> tuple[list[str], list[str]]:
    """The keys of the images and the texts of one item."""
    images = [data.images[i].key for i in data.item_images[item]]
    return images, [data.texts[j] for j in data.item_texts[item]]


def refusal(name: str, root: Path, **dataset: Any) -> str:
    with pytest.raises(RequestError) as caught:
        load(name, root, **dataset)
    assert "\n" not in str(caught.value)
    check = datasets.check(small(name, **dataset), root)
    assert check.problems, "load refuses what check accepts"
    return str(caught.value)
