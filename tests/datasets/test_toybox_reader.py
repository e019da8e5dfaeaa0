"""The reader `toybox`: the data of each task, and what is refused."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from cosmos_core.errors import RequestError
from cosmos_eval import datasets
from cosmos_eval.datasets.toybox import CLASSES, KINDS, TEMPLATES, distinct_scenes, instances, is_true, render
from cosmos_eval.protocol.benchmark import Benchmark, load_benchmark


def benchmark(task: str, prompts: dict | None = None, **dataset) -> Benchmark:
    dataset = {"reader": "toybox", "split": "test", "seed": 0, **dataset}
    return Benchmark("toybox-small", 1, task, dataset, {}, prompts or {})


def test_retrieval_gives_every_scene_with_its_two_descriptions():
    data = datasets.load(benchmark("retrieval", scenes=40))
    scenes = distinct_scenes(0, "test", 40)
    assert [image.key for image in data.images] == [scene.key for scene in scenes]
    assert len(data.texts) == 80
    assert Counter(data.image_of_text.tolist()) == dict.fromkeys(range(40), 2)
    for text, image in zip(data.texts, data.image_of_text, strict=True):
        assert is_true(text, scenes[image])
    np.testing.assert_array_equal(np.asarray(data.images[7].load()), render(scenes[7]))
    assert len({image.digest() for image in data.images}) == 40


def test_perception_gives_every_negative_with_its_kind():
    data = datasets.load(benchmark("perception", scenes=40))
    scenes = distinct_scenes(0, "test", 40)
    assert set(data.subsets) == set(KINDS)
    assert Counter(data.subsets)["replace_obj"] == 40
    for (image,), (positive, negative) in zip(data.item_images, data.item_texts, strict=True):
        assert is_true(data.texts[positive], scenes[image])
        assert not is_true(data.texts[negative], scenes[image])
    assert set(data.groups["of three"]) == {"replace", "swap", "add"}


def test_segmentation_gives_the_colour_of_every_pixel():
    data = datasets.load(benchmark("segmentation", scenes=40, size=96))
    scenes = distinct_scenes(0, "test", 40)
    assert (len(data.class_names), len(data.palette), data.class_names[:2]) == (9, 9, ("background", "red"))
    for scene, image, mask in zip(scenes, data.images, data.masks, strict=True):
        labels = mask.load()
        assert labels.shape == (96, 96) == image.load().size
        assert np.array_equal(labels > 0, instances(scene, 96) > 0)
        for number, scene_object in enumerate(scene.objects, start=1):
            assert {data.class_names[c] for c in labels[instances(scene, 96) == number]} == {scene_object.colour}


def test_classification_gives_balanced_classes_with_toyboxs_words():
    data = datasets.load(benchmark("classification", per_class=2, size=32))
    assert data.labels.tolist() == [label for label in range(48) for _ in range(2)]
    assert list(data.class_names) == list(CLASSES)
    assert list(data.templates) == list(TEMPLATES)
    assert data.images[0].load().size == (32, 32)


def test_prompts_of_the_definition_replace_toyboxs_own():
    names = [f"class {i}" for i in range(48)]
    data = datasets.load(benchmark("classification", {"class_names": names, "templates": ["one {}"]}, per_class=1))
    assert list(data.class_names) == names
    assert list(data.templates) == ["one {c}"]


def test_the_fingerprint_changes_with_the_content():
    fingerprint = datasets.load(benchmark("retrieval", scenes=12)).fingerprint
    assert fingerprint
    assert datasets.load(benchmark("retrieval", scenes=12)).fingerprint == fingerprint
    others = [benchmark("retrieval", scenes=n, seed=s, split=sp, size=z) for n, s, sp, z in
              ((11, 0, "test", 64), (12, 1, "test", 64), (12, 0, "val", 64), (12, 0, "test", 32))]  # fmt: skip
    assert len({fingerprint, *(datasets.load(other).fingerprint for other in others)}) == 5


def test_the_check_needs_no_files(tmp_path):
    report = datasets.check(benchmark("retrieval", scenes=5), tmp_path / "absent")
    assert not report.problems
    assert report.found == {"images": 5, "texts": 10}


@pytest.mark.parametrize("name", ["toybox-retrieval", "toybox-classification", "toybox-perception"])
def test_the_shipped_definitions_have_no_problems(name, tmp_path):
    assert not datasets.check(load_benchmark(name), tmp_path).problems


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        ("retrieval", {"split": "dev"}, "train, val, test"),
        ("retrieval", {"scenes": 0}, "dataset.scenes"),
        ("retrieval", {"seed": True}, "dataset.seed"),
        ("classification", {"per_class": "many"}, "dataset.per_class"),
        ("perception", {"size": 4}, "dataset.size"),
        ("captioning", {}, "'captioning' is not one of retrieval"),
    ],
)
def test_options_that_toybox_does_not_have_are_refused_in_one_line(task, options, message):
    with pytest.raises(RequestError, match=message) as refused:
        datasets.load(benchmark(task, **options))
    assert "\n" not in str(refused.value)


def test_wrong_class_names_and_counts_are_refused():
    with pytest.raises(RequestError, match="48 names"):
        datasets.load(benchmark("classification", {"class_names": ["one", "two"]}, per_class=1))
    with pytest.raises(RequestError, match="needs 9 images"):
        datasets.load(replace(benchmark("retrieval", scenes=8, expected={"images": 9})))


def test_no_test_can_change_the_scenes_that_tests_share():
    """`scenes_are_drawn_once` of tests/conftest.py."""
    first, again = (datasets.load(benchmark("retrieval", scenes=1)).images[0] for _ in range(2))
    assert first.pixels is again.pixels
    with pytest.raises(ValueError, match="read-only"):
        first.pixels[0] = 0
