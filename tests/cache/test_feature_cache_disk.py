"""The feature cache keeps its limit and lives with a full disk, a folder that cannot be written and leftovers."""

import os
import time

import pytest
import torch

from cosmos_core.errors import RequestError
from cosmos_eval.cache import feature_cache
from cosmos_eval.cache.feature_cache import FeatureCache
from cosmos_eval.engine import Engine
from tests.helpers.cached_engines import TEXTS, Notes, build_engine, first_key, list_shards, other_model
from tests.helpers.stand_ins import RandomModel, random_images


@pytest.mark.usefixtures("every_batch")
def test_the_least_recently_used_files_are_removed_to_keep_the_limit(tmp_path):
    images = random_images(16)
    build_engine(tmp_path).image_features(images)
    shard_of_image = {
        images[i].key: path
        for path in list_shards(tmp_path)
        for i in range(0, 16, 4)
        if first_key(path) == key_bytes(images[i])
    }
    (names,) = tmp_path.glob("*/picture_names-*.json")
    now = time.time()
    for age, path in enumerate(
        [shard_of_image["image-4"], names, shard_of_image["image-12"], shard_of_image["image-0"]]
    ):
        os.utime(path, (now - 1000 + age, now - 1000 + age))
    size = shard_of_image["image-0"].stat().st_size
    size_before = sum(path.stat().st_size for path in [*shard_of_image.values(), names])
    # reading from the oldest shard makes it the newest
    build_engine(tmp_path).image_features(images[4:6])
    small = build_engine(tmp_path, limit=size_before - size)
    small.image_features(random_images(4, seed=9))
    remaining = list_shards(tmp_path)
    assert shard_of_image["image-4"] in remaining
    assert shard_of_image["image-12"] not in remaining
    assert not names.exists()
    assert sum(size for _, size, _ in FeatureCache(tmp_path).files()) <= size_before - size
    assert shard_of_image["image-8"] in remaining


def key_bytes(image) -> bytes:
    return bytes.fromhex(image.digest())


def test_a_limit_below_the_size_of_any_file_still_gives_the_features(tmp_path):
    images = random_images(9)
    assert torch.equal(
        build_engine(tmp_path, limit=1).image_features(images), Engine(RandomModel(), 4).image_features(images)
    )
    assert list_shards(tmp_path) == []
    with pytest.raises(RequestError, match="above 0"):
        FeatureCache(tmp_path, 0)


def test_a_full_disk_gives_one_note_and_the_run_goes_on(small_disk, monkeypatch):
    monkeypatch.setattr(feature_cache, "RESERVED_BYTES", 0)
    images, notes = random_images(64), Notes()
    (small_disk / "filler").write_bytes(bytes(500 * 1024))
    engine = build_engine(
        small_disk / "cache", other_model(digest="wide", of_pixels=torch.randn(192, 4096)), reporter=notes
    )
    assert engine.image_features(images).shape == (64, 4096)
    engine.text_features(TEXTS)
    (line,) = notes.lines
    assert "features are not stored in the cache from now on, and the run goes on: " in line
    assert "No space left on device" in line or "the disk has" in line
    assert not list(small_disk.rglob("*.tmp"))
    assert list_shards(small_disk / "cache") == []


def test_the_last_free_space_of_a_disk_is_left_to_results(tmp_path, monkeypatch):
    monkeypatch.setattr(feature_cache, "RESERVED_BYTES", 2**62)
    notes = Notes()
    build_engine(tmp_path, reporter=notes).image_features(random_images(5))
    (line,) = notes.lines
    assert "results may need" in line
    assert list_shards(tmp_path) == []


def test_a_folder_that_cannot_be_written_gives_one_note(tmp_path):
    (tmp_path / "file").touch()
    notes = Notes()
    engine = build_engine(tmp_path / "file" / "cache", reporter=notes)
    engine.image_features(random_images(5))
    engine.text_features(TEXTS)
    assert len(notes.lines) == 1
    assert "Not a directory" in notes.lines[0]
    with pytest.raises(RequestError, match="is not a folder"):
        FeatureCache(tmp_path / "file")


def test_a_temporary_file_of_a_killed_process_is_removed_after_an_hour(tmp_path):
    build_engine(tmp_path).image_features(random_images(2))
    folder = list_shards(tmp_path)[0].parent
    old_file, new_file = (folder / f".{list_shards(tmp_path)[0].name}.{end}.tmp" for end in ("a1", "b2"))
    foreign_file = folder / ".notes.tmp"
    for path in (old_file, new_file, foreign_file):
        path.write_bytes(b"half of it")
        os.utime(path, (time.time() - 4000 * (path != new_file),) * 2)
    FeatureCache(tmp_path)
    assert [path.exists() for path in (old_file, new_file, foreign_file)] == [False, True, True]


def test_foreign_files_in_the_cache_folder_are_left_alone(tmp_path):
    foreign_files = [
        tmp_path / "llm" / "model-00001-of-00002.safetensors",
        tmp_path / "foreign-cpu" / "pictures-1.safetensors",
    ]
    for path in foreign_files:
        path.parent.mkdir()
        path.write_bytes(bytes(5000))
        os.utime(path, (0, 0))
    build_engine(tmp_path, limit=1).image_features(random_images(9))
    shards = list_shards(tmp_path)
    assert all(path.exists() for path in foreign_files)
    assert shards == [foreign_files[1]]
