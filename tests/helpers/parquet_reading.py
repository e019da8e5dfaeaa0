"""Reads parquet files of a test with the reader `parquet`."""

from pathlib import Path
from typing import Any

import pytest

from cosmos_core.errors import RequestError
from cosmos_eval import datasets
from tests.helpers.datasets_on_disk import define

READER = {"reader": "parquet", "path": "data"}
A = {"templates": ["a {c}"]}
TASKS = {"retrieval": None, "classification": A, "perception": None}


def load(root: Path, task: str = "retrieval", prompts: dict[str, Any] | None = None, **options: Any) -> Any:
    return datasets.load(define(root, task, {**READER, **options}, prompts or TASKS[task]))


def refusal(root: Path, task: str = "retrieval", prompts: dict[str, Any] | None = None, **options: Any) -> str:
    with pytest.raises(RequestError) as caught:
        load(root, task, prompts, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert message.count("mine ") <= 1
    return message
