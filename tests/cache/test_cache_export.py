"""Cached features, exported for another machine: the same metrics without the weights."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cosmos_core.errors import RequestError
from cosmos_eval.cache.contents import (
    find_cache_folder,
    find_cached_models,
    find_damaged_files,
    list_cached_models,
    remove_cached_models,
)
from cosmos_eval.cache.export import export_features, find_without_texts
from cosmos_eval.cache.feature_cache import FeatureCache
from cosmos_eval.cache.shard import NAMES_PREFIX
from cosmos_eval.datasets.image_sources import ArrayImage
from cosmos_eval.engine import Engine
from cosmos_eval.models.embeddings import EmbeddingsModel
from cosmos_eval.run.evaluate import evaluate
from tests.helpers.datasets_on_disk import write_json
from tests.helpers.perception_on_disk import small, sugarcrepe
from tests.helpers.stand_ins import RandomModel, random_images
from tests.helpers.worlds import captions_world, classes_world

MODEL = "cosmos:untrained-toybox?seed=3"


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> tuple[Path, list]:
    """A data folder, and a benchmark of each task that uses features of whole images."""
    root = tmp_path_factory.mktemp("world")
    sugarcrepe(root)
    return root, [captions_world(root), classes_world(root), small("sugarcrepe")]


@pytest.fixture(scope="module")
def run(world, tmp_path_factory) -> tuple[Path, list]:
    """The results folder of a run on these benchmarks, and its results."""
    out = tmp_path_factory.mktemp("out")
    return out, evaluate(MODEL, world[1], world[0], out=out, batch_size=4)


def test_a_model_is_evaluated_without_its_weights_from_exported_features(world, run, tmp_path):
    out, results = run
    (cached_model,) = find_cached_models(find_cache_folder(out), MODEL)
    export_features(cached_model, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images.npz", "meta.json", "texts.npz"]
    results_from_export = evaluate(f"embeddings:{tmp_path}", world[1], world[0])
    assert [result.benchmark.task for result in results_from_export] == ["retrieval", "classification", "perception"]
    for actual, expected in zip(results_from_export, results, strict=True):
        assert actual.metrics.keys() == expected.metrics.keys()
        for name, metric in expected.metrics.items():
            assert actual.metrics[name].value == pytest.approx(metric.value, abs=1e-6)
            assert actual.metrics[name].low == pytest.approx(metric.low, abs=1e-6)
    meta = json.loads((tmp_path / "meta.json").read_text())
    assert (meta["exported_from"], meta["precision"]) == (MODEL, "fp32")
    assert EmbeddingsModel(tmp_path).describe()["arch"] == results[0].model.arch


def test_a_second_run_reads_all_features_from_the_cache(world, run):
    again = evaluate(MODEL, world[1], world[0], out=run[0], batch_size=4, overwrite=True)
    for second, first in zip(again, run[1], strict=True):
        assert second.metrics == first.metrics
        assert first.timing.encoded["texts"] > 0
        assert second.timing.encoded == {"images": 0, "texts": 0}


def test_one_benchmark_alone_is_exported_with_its_images_and_texts(world, run, tmp_path):
    (cached_model,) = list_cached_models(find_cache_folder(run[0]))
    assert export_features(cached_model, tmp_path, ["pairs"]) == (6, 12)
    (result,) = evaluate(f"embeddings:{tmp_path}", world[1][0], world[0])
    assert result.metrics["image_to_text_recall@1"] == run[1][0].metrics["image_to_text_recall@1"]
    with pytest.raises(RequestError, match=r"lacks 6 of 6 images"):
        evaluate(f"embeddings:{tmp_path}", world[1][1], world[0])
    with pytest.raises(RequestError, match=r"the cache has no images of mnist .*; benchmarks in this cache: classes"):
        export_features(cached_model, tmp_path, ["mnist"])


def fill_cache(folder: Path, *benchmarks: tuple[str, list]) -> None:
    """Cache the features of each benchmark (name, images), with one text for each."""
    engine = Engine(RandomModel(), cache=FeatureCache(folder))
    for name, images in benchmarks:
        engine.benchmark = name
        engine.image_features(images)
        engine.text_features([f"a text of {name}"])


def rename_first(images: list, name: str = "0.png") -> list:
    return [ArrayImage(name, images[0].pixels), *images[1:]]


def test_two_images_of_one_name_are_refused_unless_one_benchmark_is_named(tmp_path):
    fill_cache(tmp_path, ("mnist", rename_first(random_images(2))), ("svhn", rename_first(random_images(2, seed=1))))
    (cached_model,) = list_cached_models(tmp_path)
    with pytest.raises(RequestError, match=r"'0\.png' is an image of mnist and a different image of svhn.*--benchmark"):
        export_features(cached_model, tmp_path / "v")
    assert not (tmp_path / "v").exists()
    assert export_features(cached_model, tmp_path / "v", ["svhn"]) == (2, 1)
    features = EmbeddingsModel(tmp_path / "v").read_image_embeddings(rename_first(random_images(2, seed=1)))
    assert torch.equal(features, Engine(RandomModel()).image_features(rename_first(random_images(2, seed=1))))


def test_an_image_with_several_names_is_exported_under_each(tmp_path):
    images = random_images(3)
    fill_cache(tmp_path, ("one", images), ("two", rename_first(images, "twin.png")))
    assert export_features(list_cached_models(tmp_path)[0], tmp_path / "v") == (4, 2)
    features = EmbeddingsModel(tmp_path / "v").read_image_embeddings([*images, *rename_first(images, "twin.png")])
    assert torch.equal(features[:3], features[3:])


def test_images_alone_are_exported_where_a_benchmark_asks_no_texts(tmp_path):
    engine = Engine(RandomModel(), cache=FeatureCache(tmp_path))
    engine.benchmark = "probe"
    features = engine.image_features(random_images(3))
    (model,) = list_cached_models(tmp_path)
    assert export_features(model, tmp_path / "v", ["probe"]) == (3, 0)
    assert find_without_texts(model) == ["probe"]
    engine.benchmark = "both"
    engine.image_features(random_images(3))
    engine.text_features(["a dog"])
    assert find_without_texts(model) == ["probe"]
    assert find_without_texts(model, ["both"]) == []
    exported = EmbeddingsModel(tmp_path / "v")
    assert torch.equal(exported.read_image_embeddings(random_images(3)), features)
    with pytest.raises(RequestError, match=r"texts\.npz"):
        exported.read_text_embeddings(["a dog"])


def test_an_unfinished_run_is_not_exported(tmp_path):
    fill_cache(tmp_path, ("one", random_images(3)))
    for path in tmp_path.glob("*/pictures-*.safetensors"):
        path.unlink()
    with pytest.raises(RequestError, match="features of 3 of 3 images, the first is 'image-0'; run") as refusal:
        export_features(list_cached_models(tmp_path)[0], tmp_path / "v")
    assert "\n" not in str(refusal.value)


def test_a_model_is_chosen_by_spec_digest_or_id(tmp_path):
    fill_cache(tmp_path, ("one", random_images(3)))
    other_model = RandomModel(seed=1)
    other_model.digest, other_model.spec = "0123456789", "python:other:build"
    Engine(other_model, cache=FeatureCache(tmp_path)).image_features(random_images(2))
    (model_id,) = (model.id for model in list_cached_models(tmp_path) if model.info["spec"] == other_model.spec)
    for name in (other_model.spec, "01234", model_id):
        (cached_model,) = find_cached_models(tmp_path, name)
        assert cached_model.info["digest"] == "0123456789"
    with pytest.raises(RequestError, match=r"no cached features of '012' .*: python:other:build, python:st"):
        find_cached_models(tmp_path, "012")
    assert (cached_model.count_features("images"), cached_model.count_features("texts")) == (2, 0)
    assert cached_model.size() > 0


def test_a_damaged_file_of_names_is_written_again(tmp_path):
    fill_cache(tmp_path, ("one", random_images(3)))
    (cached_model,) = list_cached_models(tmp_path)
    (names,) = (path for path in cached_model.files() if path.name.startswith(NAMES_PREFIX["images"]))
    whole = names.read_bytes()
    names.write_bytes(whole[:20])
    fill_cache(tmp_path, ("one", random_images(3)))
    assert names.read_bytes() == whole


def test_clear_removes_the_files_of_the_cache_and_nothing_else(tmp_path):
    fill_cache(tmp_path / "cache", ("one", random_images(3)))
    (cached_model,) = list_cached_models(tmp_path / "cache")
    (cached_model.folder / "mine.txt").touch()
    size = cached_model.size()
    assert remove_cached_models([cached_model]) > size
    assert [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()] == ["mine.txt"]
    with pytest.raises(RequestError, match="no feature cache in"):
        find_cache_folder(tmp_path / "cache")


def test_a_damaged_file_of_any_kind_is_found(tmp_path):
    fill_cache(tmp_path, ("one", random_images(3)))
    (cached_model,) = list_cached_models(tmp_path)
    assert len(cached_model.files()) == 4
    for path in cached_model.files():
        whole = path.read_bytes()
        path.write_bytes(whole[:-2] + b"??")
        assert [file for file, _ in find_damaged_files(cached_model)] == [path]
        path.write_bytes(whole)
    assert list(find_damaged_files(cached_model)) == []
    (cached_model.folder / "space.json").write_text("{")
    (cached_model,) = list_cached_models(tmp_path)
    assert tuple(cached_model.info[key] for key in ("spec", "precision", "device")) == ("unknown", "fp32", "cpu")


def test_embeddings_written_with_numpy_alone_are_evaluated(tmp_path):
    """Another framework writes three files; the metrics are those computed here from its embeddings."""
    root = tmp_path / "data"
    sugarcrepe(root)
    benchmarks = [captions_world(root), classes_world(root, classes=3), small("sugarcrepe")]
    rng = np.random.default_rng(0)
    captions = [f"pairs image {i}, caption {j}" for i in range(6) for j in range(2)]
    ids = [f"{i:012d}.jpg" for i in range(6)]
    classes = [f"class{c}/{i}.png" for c in range(3) for i in range(2)]
    sugarcrepe_images = [(0, 139), (1, 285), (2, 632)]
    files = [json.loads(path.read_text()) for path in sorted((root / "sugarcrepe").glob("*.json"))]
    items = [item for file in files for item in file.values()]
    names = [*ids, *classes, *(f"{name:012d}.jpg" for _, name in sugarcrepe_images)]
    texts = [
        *captions, *(f"a photo of a thing {c}." for c in range(3)),
        *(item[key] for item in items for key in ("caption", "negative_caption")),
    ]  # fmt: skip
    image_embeddings = rng.normal(size=(len(names), 7)).astype(np.float32)
    text_embeddings = rng.normal(size=(len(texts), 7)).astype(np.float32)
    folder = tmp_path / "vectors"
    folder.mkdir()
    (folder / "meta.json").write_text('{"arch": "another framework"}')
    np.savez(folder / "images.npz", ids=np.array(names), embeddings=image_embeddings)
    np.savez(folder / "texts.npz", texts=np.array(texts), embeddings=text_embeddings)

    unit = {
        n: v / np.linalg.norm(v) for n, v in zip([*names, *texts], [*image_embeddings, *text_embeddings], strict=True)
    }
    by_text = [max(ids, key=lambda i: unit[i] @ unit[text]) == ids[j // 2] for j, text in enumerate(captions)]
    by_image = [captions.index(max(captions, key=lambda t: unit[t] @ unit[i])) // 2 == k for k, i in enumerate(ids)]
    prompts = [f"a photo of a thing {c}." for c in range(3)]
    top1 = [int(np.argmax([unit[p] @ unit[i] for p in prompts])) == j // 2 for j, i in enumerate(classes)]
    right = [unit[x["filename"]] @ (unit[x["caption"]] - unit[x["negative_caption"]]) > 0 for x in items]
    retrieval, classification, perception = evaluate(f"embeddings:{folder}", benchmarks, root, out=tmp_path / "out")
    assert retrieval.metrics["text_to_image_recall@1"].value == pytest.approx(np.mean(by_text))
    assert retrieval.metrics["image_to_text_recall@1"].value == pytest.approx(np.mean(by_image))
    assert classification.metrics["top1"].value == pytest.approx(np.mean(top1))
    assert perception.metrics["accuracy"].value == pytest.approx(np.mean(right))
    assert not (tmp_path / "out" / ".embeddings").exists()  # precomputed features are not cached
    assert retrieval.model.arch == "another framework"


def test_images_of_coco_are_encoded_once_for_two_runs_of_two_benchmarks(tmp_path):
    sugarcrepe(tmp_path)
    names = (139, 285, 632)
    content = {
        "images": [{"id": name, "file_name": f"{name:012d}.jpg"} for name in names],
        "annotations": [{"id": i, "image_id": name, "caption": f"image {name}"} for i, name in enumerate(names)],
    }
    write_json(tmp_path / "coco/annotations/captions_val2017.json", content)
    cache = tmp_path / "cache"
    encoded_images = []
    for name in ("coco-val2017-retrieval", "sugarcrepe"):
        (result,) = evaluate(MODEL, small(name), tmp_path, out=tmp_path / name, cache=cache)
        encoded_images.append(result.timing.encoded["images"])
        assert not (tmp_path / name / ".embeddings").exists()
    assert encoded_images == [3, 0]
    (result,) = evaluate(MODEL, small("sugarcrepe"), tmp_path, cache=False)
    assert result.timing.encoded["images"] == 3
