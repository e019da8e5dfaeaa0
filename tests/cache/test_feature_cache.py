"""The feature cache: features are read back bit for bit, damaged files are never used, and models are never mixed."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from cosmos_core.errors import RequestError
from cosmos_eval.cache import feature_cache
from cosmos_eval.cache.cached_features import CachedFeatures
from cosmos_eval.cache.contents import find_damaged_files, list_cached_models
from cosmos_eval.cache.feature_cache import FeatureCache, ModelCache
from cosmos_eval.cache.shard import FILE_PREFIX, KEY_BYTES, Shard, checksum, read_keys, read_shard, shard_bytes
from cosmos_eval.datasets.image_sources import ArrayImage
from cosmos_eval.engine import Engine
from cosmos_eval.models import load_model
from tests.helpers.fork_server import SERVER
from tests.helpers.stand_ins import RandomModel, random_images

TEXTS = [f"text {i}" for i in range(20)]


class Notes:
    """A reporter that keeps notes."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def task(self, description, total, unit="it"):
        return feature_cache.Silent().task(description, total, unit)

    def note(self, line):
        self.lines.append(line)


@pytest.fixture
def every_batch(monkeypatch):
    """Write a shard after every batch."""
    monkeypatch.setattr(feature_cache, "WRITE_INTERVAL", -1.0)
    monkeypatch.setattr(feature_cache, "WRITE_PAUSE_FACTOR", 0)


def build_engine(folder: Path, model=None, batch_size: int = 4, limit: int = feature_cache.LIMIT, **options) -> Engine:
    """An engine with a cache in `folder`."""
    return Engine(model or RandomModel(), batch_size=batch_size, cache=FeatureCache(folder, limit), **options)


def list_shards(folder: Path, kind: str = "images") -> list[Path]:
    return sorted(folder.glob(f"*/{FILE_PREFIX[kind]}-*.safetensors"))


def count_encoded(model: RandomModel) -> int:
    """The number of images and texts that passed a model."""
    return sum(map(len, model.image_batches)) + sum(map(len, model.text_batches))


def test_features_of_an_earlier_run_are_read_bit_for_bit_and_nothing_is_encoded(tmp_path):
    images = random_images(11)
    first = build_engine(tmp_path)
    image_features, text_features = first.image_features(images), first.text_features(TEXTS)
    again = build_engine(tmp_path)
    assert torch.equal(again.image_features(images[::-1]), image_features.flip(0))
    assert torch.equal(again.text_features([*TEXTS[5:], TEXTS[5]]), text_features[[*range(5, 20), 5]])
    assert count_encoded(again.model) == 0
    assert again.encoded == {"images": 0, "texts": 0}
    assert torch.equal(Engine(RandomModel(), batch_size=4).image_features(images), image_features)


def test_only_missing_features_are_encoded_and_added_to_the_cache(tmp_path):
    images = random_images(11)
    build_engine(tmp_path).image_features(images[:5])
    second = build_engine(tmp_path)
    features = second.image_features(images)
    assert [len(batch) for batch in second.model.image_batches] == [4, 2]
    assert second.encoded["images"] == 6
    assert torch.allclose(features, Engine(RandomModel()).image_features(images), atol=1e-6)
    third = build_engine(tmp_path)
    assert torch.equal(third.image_features(images), features)
    assert count_encoded(third.model) == 0


@pytest.mark.usefixtures("every_batch")
@pytest.mark.parametrize("lost", [[0], [1], [0, 2], [3], [0, 1, 2, 3]])
def test_lost_batches_are_encoded_again_with_the_same_members(tmp_path, lost):
    images = random_images(15)
    first = build_engine(tmp_path)
    features = first.image_features(images)
    shard_of_key = {first_key(path): path for path in list_shards(tmp_path)}
    for batch in lost:
        shard_of_key[bytes.fromhex(images[4 * batch].digest())].unlink()
    again = build_engine(tmp_path)
    assert torch.equal(again.image_features(images), features)
    for batch, number in zip(again.model.image_batches, lost, strict=True):
        assert torch.equal(batch, first.model.image_batches[number])


def first_key(path: Path) -> bytes:
    """The key of the first item in a shard."""
    return read_keys(path, path.parent.name)[0].tobytes()


@pytest.mark.usefixtures("every_batch")
@pytest.mark.parametrize("lost", [[0], [1], [0, 2], [1, 2, 3]])
def test_lost_batches_of_texts_of_similar_length_are_encoded_again_with_the_same_members(tmp_path, lost):
    texts = [" ".join(["cube"] * (1 + i % 9)) + f" {i}" for i in range(80)]

    def toybox_engine() -> Engine:
        return build_engine(tmp_path, load_model("cosmos:untrained-toybox?seed=3"), batch_size=1)

    features = toybox_engine().text_features(texts)
    shards = sorted(list_shards(tmp_path, "texts"), key=lambda path: path.stat().st_mtime_ns)
    assert len(shards) > 3
    for batch in lost:
        shards[batch].unlink()
    again = toybox_engine()
    assert torch.equal(again.text_features(texts), features)
    assert 0 < again.encoded["texts"] < 80


def test_texts_with_equal_tokens_share_the_cached_features(tmp_path):
    model = load_model("cosmos:untrained-toybox?seed=3")
    if getattr(model, "trimmed_text", None) is None:
        pytest.skip("the adapter reads texts as strings")
    first = build_engine(tmp_path, model).text_features(["a red cube", "two"])
    again = build_engine(tmp_path, model)
    assert torch.equal(again.text_features(["three spheres", "A Red  CUBE"])[1], first[0])
    assert again.encoded["texts"] == 1


def other_model(**changes) -> RandomModel:
    """A model with other weights, and with changed attributes."""
    model = RandomModel(seed=1)
    for name, value in changes.items():
        setattr(model, name, value)
    return model


def test_features_of_another_digest_precision_or_version_are_never_mixed(tmp_path, monkeypatch):
    images = random_images(3)
    build_engine(tmp_path).image_features(images)
    changed = build_engine(tmp_path, other_model(digest="other"))
    assert torch.equal(changed.image_features(images), Engine(other_model()).image_features(images))
    half = build_engine(tmp_path, precision="bf16")
    half.image_features(images)
    monkeypatch.setattr(feature_cache, "FEATURES_VERSION", 2)
    renewed = build_engine(tmp_path)
    renewed.image_features(images)
    monkeypatch.setattr(feature_cache.metadata, "version", lambda name: "0")
    upgraded = build_engine(tmp_path)
    upgraded.image_features(images)
    assert [count_encoded(engine.model) for engine in (changed, half, renewed, upgraded)] == [3] * 4
    assert len(list_cached_models(tmp_path)) == 5
    about = {"digest": "d", "precision": "fp32", "device": "cpu", "rows": 1, "packages": {}}
    assert feature_cache.model_cache_name(about) != feature_cache.model_cache_name({**about, "device": "cuda"})


def test_features_of_a_model_without_a_digest_and_precomputed_features_are_never_cached(tmp_path):
    class Precomputed(RandomModel):
        def read_image_embeddings(self, images):
            return torch.ones(len(images), 3)

        def read_text_embeddings(self, texts):
            return torch.ones(len(texts), 3)

    for model in (other_model(digest=""), Precomputed()):
        for _ in range(2):
            engine = build_engine(tmp_path, model)
            engine.image_features(random_images(3))
            engine.text_features(TEXTS)
    assert list(tmp_path.iterdir()) == []


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


@pytest.mark.usefixtures("every_batch")
def test_batches_before_one_that_is_not_finite_are_cached_and_that_one_is_not(tmp_path):
    images = random_images(9)
    model = RandomModel()
    original_encode = model.encode_image

    def broken_encode(x):
        features = original_encode(x)
        features[(x == 1).all(dim=(1, 2, 3)), 2] = float("nan")
        return features

    model.encode_image = broken_encode  # type: ignore[method-assign]
    images[6] = ArrayImage("white", np.full((8, 8, 3), 255, np.uint8))
    for _ in range(2):
        with pytest.raises(RequestError, match="image white is not finite"):
            build_engine(tmp_path, model).image_features(images)
    # the first batch was encoded once, the second one twice
    assert [len(batch) for batch in model.image_batches] == [4, 4, 4]
    cached = [features for path in list_shards(tmp_path) for features in read_shard(path, path.parent.name).features]
    assert len(cached) == 4
    assert np.isfinite(cached).all()


def test_features_that_are_not_written_yet_are_written_when_the_work_is_interrupted(tmp_path):
    model = RandomModel()
    original_encode = model.encode_image

    def interrupted_encode(x):
        if len(model.image_batches) == 2:
            raise KeyboardInterrupt
        return original_encode(x)

    model.encode_image = interrupted_encode  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        build_engine(tmp_path, model).image_features(random_images(12))
    again = build_engine(tmp_path)
    again.image_features(random_images(12))
    assert count_encoded(again.model) == 4


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


def test_features_of_another_length_under_the_same_digest_are_refused(tmp_path):
    build_engine(tmp_path).image_features(random_images(3))
    wider = build_engine(tmp_path, RandomModel(width=24))
    with pytest.raises(RequestError, match="24 numbers an item and gave 16 before under the same digest") as refusal:
        wider.image_features(random_images(5))
    assert "\n" not in str(refusal.value)


def fill_cache(folder: Path, seed: int, out: Path) -> None:
    torch.set_num_threads(1)
    feature_cache.WRITE_INTERVAL, feature_cache.WRITE_PAUSE_FACTOR = -1.0, 0  # type: ignore[assignment]
    images = random_images(60)
    order = np.random.default_rng(seed).permutation(60)
    engine = Engine(RandomModel(), batch_size=3, cache=FeatureCache(folder))
    for start in range(0, 60, 12):
        torch.save(engine.image_features([images[i] for i in order[start : start + 12]]), out / f"{seed}-{start}.pt")
    engine.text_features(TEXTS)


def test_two_processes_fill_one_cache_at_the_same_time(tmp_path):
    folder, out = tmp_path / "cache", tmp_path / "out"
    out.mkdir()
    processes = [SERVER.Process(target=fill_cache, args=(folder, seed, out)) for seed in (1, 2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    assert not list(folder.rglob("*.tmp"))
    (cached_model,) = list_cached_models(folder)
    assert list(find_damaged_files(cached_model)) == []
    assert (cached_model.count_features("images"), cached_model.count_features("texts")) == (60, 20)
    again = Engine(RandomModel(), batch_size=3, cache=FeatureCache(folder))
    features = again.image_features(random_images(60))
    assert count_encoded(again.model) == 0
    assert torch.allclose(features, Engine(RandomModel()).image_features(random_images(60)), atol=1e-6)
    for seed in (1, 2):
        order = np.random.default_rng(seed).permutation(60)
        for start in range(0, 60, 12):
            assert torch.allclose(
                torch.load(out / f"{seed}-{start}.pt", weights_only=True),
                features[order[start : start + 12]],
                atol=1e-6,
            )


def test_a_model_folder_describes_the_model_and_versions(tmp_path):
    engine = build_engine(tmp_path)
    engine.image_features(random_images(2))
    assert isinstance(engine.model_cache, ModelCache)
    about = json.loads((engine.model_cache.folder / "space.json").read_text())
    assert (about["digest"], about["precision"], about["device"]) == ("random", "fp32", "cpu")
    assert about["packages"]["torch"] == torch.__version__.split("+")[0] or about["packages"]["torch"]
    assert about["model"] == {"arch": "random"}
