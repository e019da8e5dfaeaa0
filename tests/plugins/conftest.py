"""The distribution of plug-ins, built as its author would and installed for the tests of this folder only."""

import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.plugins.installed import build_wheel, forget, put_before, write_fruit


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the distribution is installed in: what `pip install --target` of a pure wheel makes."""
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(build_wheel(tmp_path_factory.mktemp("wheel"))) as wheel:
        wheel.extractall(folder)
    return folder


@pytest.fixture
def extras(target: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The distribution is installed, and nothing of it is imported yet."""
    forget()
    put_before(monkeypatch, target)
    yield target
    forget()
    assert "image_text_extras" not in sys.modules


@pytest.fixture(scope="session")
def fruit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data root of the distribution's benchmarks."""
    return write_fruit(tmp_path_factory.mktemp("fruit"))
