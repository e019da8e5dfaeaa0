"""Damaged and foreign shards of the feature cache are dropped, and their features encoded again."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from cosmos_core.errors import RequestError
from cosmos_eval.cache.cached_features import CachedFeatures
from cosmos_eval.cache.contents import find_damaged_files, list_cached_models
from cosmos_eval.cache.feature_cache import FeatureCache
from cosmos_eval.cache.shard import KEY_BYTES, Shard, checksum, shard_bytes
from cosmos_eval.engine import Engine
from tests.helpers.cached_engines import Notes, build_engine, count_encoded, list_shards, other_model
from tests.helpers.stand_ins import RandomModel, random_images


def flip_bit(position: float):
    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[int(position * (len(content) - 1))] ^= 0x10
        path.write_bytes(content)

    return damage


def cut_to(share: float):
    return lambda path: path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def replace_by_shard_of_another_model(path: Path) -> None:
    """A shard with the right checksum, in the folder of another model."""
    foreign = Engine(other_model(digest="other"), cache=FeatureCache(path.parent.parent / "other"))
    foreign.image_features(random_images(9))
    (other_shard,) = list_shards(path.parent.parent / "other")
    path.unlink()
    other_shard.rename(path.parent / other_shard.name)


def replace_by_foreign_file(path: Path) -> None:
    """A safetensors file with the right checksum and other content."""
    content = save({"keys": np.zeros((2, 3), np.uint8), "rows": np.zeros((2, 3), np.float32)})
    path.unlink()
    (path.parent / f"pictures-{checksum(content)}.safetensors").write_bytes(content)


def replace_by_nan_features(path: Path) -> None:
    """A shard with the right checksum and features that are never stored."""
    features = np.full((9, 16), np.nan, np.float32)
    keys = np.stack([np.frombuffer(bytes.fromhex(image.digest()), np.uint8) for image in random_images(9)])
    assert keys.shape == (9, KEY_BYTES)
    content = shard_bytes("images", path.parent.name, Shard(keys, features))
    path.unlink()
    (path.parent / f"pictures-{checksum(content)}.safetensors").write_bytes(content)


def change_header(**changes: object) -> Callable[[Path], None]:
    """A shard with other values in its header."""

    def damage(path: Path) -> None:
        content = path.read_bytes()
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        header["keys"] |= changes
        new = json.dumps(header).encode()
        path.write_bytes(len(new).to_bytes(8, "little") + new + content[8 + length :])

    return damage


def replace_by_named_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGE = {
    "an offset of 20 digits": change_header(data_offsets=[10**20, 10**20 + 144]),
    "an offset of 400 digits": change_header(data_offsets=[0, 10**400]),
    "an offset before the start": change_header(data_offsets=[-1000, -856]),
    "a length of 2^60": change_header(data_offsets=[0, 2**60], shape=[2**56, 16]),
    "a negative shape": change_header(data_offsets=[16, 0], shape=[-1, 16]),
    "no shape": change_header(shape=None),
    "a shape of texts": change_header(shape=["a", "b"]),
    "three offsets": change_header(data_offsets=[0, 1, 2]),
    "a named pipe": replace_by_named_pipe,
    **{f"a bit flipped at {position}": flip_bit(position) for position in (0.0, 0.005, 0.1, 0.25, 0.4, 0.7, 1.0)},
    "one byte short": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "one byte long": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "half": cut_to(0.5),
    "a few bytes": cut_to(0.01),
    "empty": cut_to(0),
    "noise": lambda path: path.write_bytes(bytes(range(256)) * 9),
    "a huge header": lambda path: path.write_bytes(b"\xff" * 64),
    "features of another model": replace_by_shard_of_another_model,
    "a foreign file": replace_by_foreign_file,
    "not finite": replace_by_nan_features,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_shard_is_dropped_with_a_note_and_its_features_are_encoded_again(tmp_path, damage):
    images, notes = random_images(9), Notes()
    features = build_engine(tmp_path).image_features(images)
    (path,) = list_shards(tmp_path)
    whole = path.read_bytes()
    damage(path)
    again = build_engine(tmp_path, reporter=notes)
    assert torch.equal(again.image_features(images), features)
    assert count_encoded(again.model) == 9
    assert path.read_bytes() == whole
    assert list_shards(tmp_path) == [path]
    (line,) = notes.lines
    assert "dropped and computed again" in line
    assert not [file for model in list_cached_models(tmp_path) for file in find_damaged_files(model)]
    third = build_engine(tmp_path, reporter=notes)
    assert torch.equal(third.image_features(images), features)
    assert count_encoded(third.model) == 0


def test_features_of_a_shard_that_another_process_removed_are_encoded_again_without_a_note(tmp_path):
    images, notes = random_images(9), Notes()
    build_engine(tmp_path).image_features(images)
    engine = build_engine(tmp_path, reporter=notes)
    engine.image_features(images[:2])
    engine.cached_images = CachedFeatures("images", engine.model_cache)  # forget the features in memory
    for path in list_shards(tmp_path):
        path.unlink()
    engine.image_features(images)
    assert count_encoded(engine.model) == 9
    assert notes.lines == []


def test_features_of_another_length_under_the_same_digest_are_refused(tmp_path):
    build_engine(tmp_path).image_features(random_images(3))
    wider = build_engine(tmp_path, RandomModel(width=24))
    with pytest.raises(RequestError, match="24 numbers an item and gave 16 before under the same digest") as refusal:
        wider.image_features(random_images(5))
    assert "\n" not in str(refusal.value)
