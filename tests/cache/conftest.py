"""Settings of the feature cache for its tests."""

import pytest

from cosmos_eval.cache import feature_cache


@pytest.fixture
def every_batch(monkeypatch):
    """Write a shard after every batch."""
    monkeypatch.setattr(feature_cache, "WRITE_INTERVAL", -1.0)
    monkeypatch.setattr(feature_cache, "WRITE_PAUSE_FACTOR", 0)
