"""A streamed dataset for the tests of `--stream`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.streamed_shards import World, world


@pytest.fixture
def served(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path, "classification") as made:
        yield made
