"""Fixtures of several files of this folder."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.core.siglip import put_distribution
from tests.core.sigmoid_objective import ENTRIES


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """The plug-in of objectives in version 1.0; called, another version of it in its place."""
    put = tmp_path / "plugins"
    monkeypatch.syspath_prepend(str(put_distribution(put / "1.0", ENTRIES)))

    def instead(version: str, entries: str = ENTRIES) -> None:
        monkeypatch.syspath_prepend(str(put_distribution(put / version, entries, version)))

    return instead
