"""A model's stored vectors, written for another machine: the same figures without the weights."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cosmos_core.errors import RequestError
from cosmos_eval.cache.contents import chosen, clear, damaged, held, store_at
from cosmos_eval.cache.export import export_rows
from cosmos_eval.cache.shard import NAMES_PREFIX
from cosmos_eval.cache.store import Store
from cosmos_eval.datasets.base import ArrayImage
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
    """A benchmark of each family that asks for whole images."""
    root = tmp_path_factory.mktemp("world")
    sugarcrepe(root)
    return root, [captions_world(root), classes_world(root), small("sugarcrepe")]


@pytest.fixture(scope="module")
def run(world, tmp_path_factory) -> tuple[Path, list]:
    out = tmp_path_factory.mktemp("out")
    return out, evaluate(MODEL, world[1], world[0], out=out, batch_size=4)


def test_a_model_is_evaluated_elsewhere_without_its_weights(world, run, tmp_path):
    out, own = run
    (one,) = chosen(store_at(out), MODEL)
    export_rows(one, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images.npz", "meta.json", "texts.npz"]
    elsewhere = evaluate(f"embeddings:{tmp_path}", world[1], world[0])
    assert [result.benchmark.task for result in elsewhere] == ["retrieval", "classification", "perception"]
    for ours, theirs in zip(elsewhere, own, strict=True):
        assert ours.metrics.keys() == theirs.metrics.keys()
        for name, metric in theirs.metrics.items():
            assert ours.metrics[name].value == pytest.approx(metric.value, abs=1e-6)
            assert ours.metrics[name].low == pytest.approx(metric.low, abs=1e-6)
    meta = json.loads((tmp_path / "meta.json").read_text())
    assert (meta["exported_from"], meta["precision"]) == (MODEL, "fp32")
    assert EmbeddingsModel(tmp_path).describe()["arch"] == own[0].model.arch


def test_measuring_again_takes_every_row_from_the_store(world, run):
    again = evaluate(MODEL, world[1], world[0], out=run[0], batch_size=4, overwrite=True)
    for ours, theirs in zip(again, run[1], strict=True):
        assert ours.metrics == theirs.metrics
        assert theirs.timing.encoded["texts"] > 0
        assert ours.timing.encoded == {"images": 0, "texts": 0}


def test_one_benchmark_alone_is_exported_with_what_it_asked_for(world, run, tmp_path):
    (one,) = held(store_at(run[0]))
    assert export_rows(one, tmp_path, ["pairs"]) == (6, 12)
    (result,) = evaluate(f"embeddings:{tmp_path}", world[1][0], world[0])
    assert result.metrics["image_to_text_recall@1"] == run[1][0].metrics["image_to_text_recall@1"]
    with pytest.raises(RequestError, match=r"lacks 6 of 6 images"):
        evaluate(f"embeddings:{tmp_path}", world[1][1], world[0])
    with pytest.raises(RequestError, match=r"no images of mnist are stored for .*; there are those of classes"):
        export_rows(one, tmp_path, ["mnist"])


def store_of(folder: Path, *calls: tuple[str, list]) -> Store:
    own = Engine(RandomModel(), store=Store(folder))
    for benchmark, some in calls:
        own.benchmark = benchmark
        own.image_features(some)
        own.text_features([f"a text of {benchmark}"])
    return Store(folder)


def renamed(some: list, name: str = "0.png") -> list:
    return [ArrayImage(name, some[0].pixels), *some[1:]]


def test_two_images_of_one_name_are_refused_unless_one_benchmark_is_named(tmp_path):
    store_of(tmp_path, ("mnist", renamed(random_images(2))), ("svhn", renamed(random_images(2, seed=1))))
    (one,) = held(tmp_path)
    with pytest.raises(RequestError, match=r"'0\.png' is an image of mnist and another one of svhn.*--benchmark"):
        export_rows(one, tmp_path / "v")
    assert not (tmp_path / "v").exists()
    assert export_rows(one, tmp_path / "v", ["svhn"]) == (2, 1)
    rows = EmbeddingsModel(tmp_path / "v").image_rows(renamed(random_images(2, seed=1)))
    assert torch.equal(rows, Engine(RandomModel()).image_features(renamed(random_images(2, seed=1))))


def test_a_image_of_several_names_has_its_row_under_each(tmp_path):
    some = random_images(3)
    store_of(tmp_path, ("one", some), ("two", renamed(some, "twin.png")))
    assert export_rows(held(tmp_path)[0], tmp_path / "v") == (4, 2)
    rows = EmbeddingsModel(tmp_path / "v").image_rows([*some, *renamed(some, "twin.png")])
    assert torch.equal(rows[:3], rows[3:])


def test_an_unfinished_run_is_not_exported_as_if_it_were_whole(tmp_path):
    store_of(tmp_path, ("one", random_images(3)))
    for path in tmp_path.glob("*/pictures-*.safetensors"):
        path.unlink()
    with pytest.raises(RequestError, match="3 of 3 images have no stored row, 'image-0' first; run") as refusal:
        export_rows(held(tmp_path)[0], tmp_path / "v")
    assert "\n" not in str(refusal.value)


def test_a_model_is_chosen_by_spec_digest_or_id(tmp_path):
    store_of(tmp_path, ("one", random_images(3)))
    other = RandomModel(seed=1)
    other.digest, other.spec = "0123456789", "python:other:build"
    Engine(other, store=Store(tmp_path)).image_features(random_images(2))
    for word in (other.spec, "01234", next(one.id for one in held(tmp_path) if one.about["spec"] == other.spec)):
        (one,) = chosen(tmp_path, word)
        assert one.about["digest"] == "0123456789"
    with pytest.raises(RequestError, match=r"no stored embeddings of '012' .* those of python:other:build, python:st"):
        chosen(tmp_path, "012")
    assert (one.rows("images"), one.rows("texts")) == (2, 0)
    assert one.size() > 0


def test_names_that_are_damaged_are_written_again(tmp_path):
    store_of(tmp_path, ("one", random_images(3)))
    (one,) = held(tmp_path)
    (names,) = (path for path in one.files() if path.name.startswith(NAMES_PREFIX["images"]))
    whole = names.read_bytes()
    names.write_bytes(whole[:20])
    store_of(tmp_path, ("one", random_images(3)))
    assert names.read_bytes() == whole


def test_clear_removes_what_a_store_wrote_and_nothing_else(tmp_path):
    store_of(tmp_path / "store", ("one", random_images(3)))
    (one,) = held(tmp_path / "store")
    (one.folder / "mine.txt").touch()
    size = one.size()
    assert clear([one]) > size
    assert [path.name for path in (tmp_path / "store").rglob("*") if path.is_file()] == ["mine.txt"]
    with pytest.raises(RequestError, match="no stored embeddings in"):
        store_at(tmp_path / "store")


def test_a_damaged_file_of_any_kind_is_found(tmp_path):
    store_of(tmp_path, ("one", random_images(3)))
    (one,) = held(tmp_path)
    assert len(one.files()) == 4
    for path in one.files():
        whole = path.read_bytes()
        path.write_bytes(whole[:-2] + b"??")
        assert [found for found, _ in damaged(one)] == [path]
        path.write_bytes(whole)
    assert list(damaged(one)) == []
    (one.folder / "space.json").write_text("{")
    (one,) = held(tmp_path)
    assert (one.about["spec"], one.about["precision"], one.about["device"]) == ("unknown", "fp32", "cpu")


def test_vectors_written_by_hand_with_numpy_alone_are_evaluated(tmp_path):
    """Another framework has three files to write; the figures are those of its own vectors, by hand."""
    root = tmp_path / "data"
    sugarcrepe(root)
    benchmarks = [captions_world(root), classes_world(root, classes=3), small("sugarcrepe")]
    rng = np.random.default_rng(0)
    captions = [f"pairs image {i}, caption {j}" for i in range(6) for j in range(2)]
    ids = [f"{i:012d}.jpg" for i in range(6)]
    classes = [f"class{c}/{i}.png" for c in range(3) for i in range(2)]
    crepe = [(0, 139), (1, 285), (2, 632)]
    rows = [json.loads(path.read_text()) for path in sorted((root / "sugarcrepe").glob("*.json"))]
    items = [row for file in rows for row in file.values()]
    names = [*ids, *classes, *(f"{name:012d}.jpg" for _, name in crepe)]
    texts = [
        *captions, *(f"a photo of a thing {c}." for c in range(3)),
        *(item[key] for item in items for key in ("caption", "negative_caption")),
    ]  # fmt: skip
    images = rng.normal(size=(len(names), 7)).astype(np.float32)
    words = rng.normal(size=(len(texts), 7)).astype(np.float32)
    folder = tmp_path / "vectors"
    folder.mkdir()
    (folder / "meta.json").write_text('{"arch": "another framework"}')
    np.savez(folder / "images.npz", ids=np.array(names), embeddings=images)
    np.savez(folder / "texts.npz", texts=np.array(texts), embeddings=words)

    unit = {n: v / np.linalg.norm(v) for n, v in zip([*names, *texts], [*images, *words], strict=True)}
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
    assert not (tmp_path / "out" / ".embeddings").exists()  # such vectors are stored already
    assert retrieval.model.arch == "another framework"


def test_images_of_coco_are_encoded_once_for_two_runs_of_two_benchmarks(tmp_path):
    sugarcrepe(tmp_path)
    names = (139, 285, 632)
    content = {
        "images": [{"id": name, "file_name": f"{name:012d}.jpg"} for name in names],
        "annotations": [{"id": i, "image_id": name, "caption": f"image {name}"} for i, name in enumerate(names)],
    }
    write_json(tmp_path / "coco/annotations/captions_val2017.json", content)
    cache = tmp_path / "store"
    encoded = []
    for name in ("coco-val2017-retrieval", "sugarcrepe"):
        (result,) = evaluate(MODEL, small(name), tmp_path, out=tmp_path / name, cache=cache)
        encoded.append(result.timing.encoded["images"])
        assert not (tmp_path / name / ".embeddings").exists()
    assert encoded == [3, 0]
    (result,) = evaluate(MODEL, small("sugarcrepe"), tmp_path, cache=False)
    assert result.timing.encoded["images"] == 3
