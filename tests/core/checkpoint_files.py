"""Checkpoints on disk, and how tests compare and refuse them."""

from pathlib import Path
from typing import Any

import pytest
import torch

from cosmos_core import COSMOS, load_checkpoint
from cosmos_core.checkpoint import save_checkpoint
from cosmos_core.errors import RequestError
from tests.core.test_model import TINY


def write(path: Path, student: Any, teacher: Any, **changes: Any) -> Path:
    """Our own training checkpoint."""
    settings: dict[str, Any] = {"config": TINY, "optimizer": None, "epoch": 3, "name": "run"}
    save_checkpoint(path, student=student, teacher=teacher, **{**settings, **changes})
    return path


def same(a: Any, b: Any) -> bool:
    a, b = (x.state_dict() if isinstance(x, COSMOS) else x for x in (a, b))
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def refusal(path: Path | str, **options: Any) -> str:
    with pytest.raises(RequestError) as caught:
        load_checkpoint(path, **options)
    line = str(caught.value)
    assert "\n" not in line
    return line
