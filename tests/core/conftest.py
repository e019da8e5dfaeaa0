"""Fixtures of several files of this folder."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cosmos_core import COSMOS
from tests.core.siglip import put_distribution
from tests.core.sigmoid_objective import ENTRIES
from tests.core.test_model import TINY, tiny


@pytest.fixture
def model() -> COSMOS:
    """A tiny network, the same in every test."""
    return tiny().eval()


@pytest.fixture
def other() -> COSMOS:
    """Another one, with other weights."""
    torch.manual_seed(1)
    return COSMOS.from_config(TINY).eval()


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """The plug-in of objectives in version 1.0; called, another version of it in its place."""
    put = tmp_path / "plugins"
    monkeypatch.syspath_prepend(str(put_distribution(put / "1.0", ENTRIES)))

    def instead(version: str, entries: str = ENTRIES) -> None:
        monkeypatch.syspath_prepend(str(put_distribution(put / version, entries, version)))

    return instead
