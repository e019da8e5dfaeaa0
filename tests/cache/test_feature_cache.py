"""The feature cache: features are read back bit for bit, damaged files are never used, and models are never mixed."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cosmos_core.errors import RequestError
from cosmos_eval.cache import feature_cache
from cosmos_eval.cache.contents import find_damaged_files, list_cached_models
from cosmos_eval.cache.feature_cache import FeatureCache, ModelCache
from cosmos_eval.cache.shard import read_shard
from cosmos_eval.datasets.image_sources import ArrayImage
from cosmos_eval.engine import Engine
from cosmos_eval.models import load_model
from tests.helpers.cached_engines import TEXTS, build_engine, count_encoded, first_key, list_shards, other_model
from tests.helpers.fork_server import SERVER
from tests.helpers.killing import ended
from tests.helpers.stand_ins import RandomModel, random_images


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
    assert [ended(process) for process in processes] == [0, 0]
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
