"""The fingerprint covers everything that is read; a limit is spread evenly; a deep check finds undecodable images."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosmos_core.errors import RequestError
from cosmos_eval import datasets
from cosmos_eval.datasets import take_images
from cosmos_eval.datasets.data import ClassificationData, Data, PerceptionData, RetrievalData
from cosmos_eval.datasets.fingerprint import dataset_fingerprint
from cosmos_eval.datasets.image_sources import ArrayImage
from cosmos_eval.protocol.benchmark import load_benchmark
from tests.helpers.datasets_on_disk import COCO, coco_files, define, write_image


def make_images(n: int) -> list[ArrayImage]:
    return [ArrayImage(f"p{i}", np.full((2, 3, 3), i, np.uint8)) for i in range(n)]


def retrieval(n: int = 3) -> RetrievalData:
    return RetrievalData(make_images(n), [f"t{i}" for i in range(2 * n)], np.repeat(np.arange(n), 2))


def classification(n: int = 3) -> ClassificationData:
    return ClassificationData(make_images(n), np.arange(n) % 2, ["cat", "dog"], ["a {c}", "the {c}"])


def perception() -> PerceptionData:
    return PerceptionData.pairs(make_images(2), [1, 0, 1], ["a", "b", "c"], ["d", "e", "f"], ["x", "x", "y"])


def changes() -> list[tuple[Data, dict[str, Any]]]:
    other = ArrayImage("p0", np.full((2, 3, 3), 9, np.uint8))
    renamed = ArrayImage("q0", np.full((2, 3, 3), 0, np.uint8))
    turned = ArrayImage("p0", np.full((3, 2, 3), 0, np.uint8))
    return [(retrieval(), {"images": [image, *make_images(3)[1:]]}) for image in (other, renamed, turned)] + [
        (retrieval(), {"images": make_images(3)[::-1]}),
        (retrieval(), {"texts": ["T0", *(f"t{i}" for i in range(1, 6))]}),
        (retrieval(), {"texts": ["t0t1", "", *(f"t{i}" for i in range(2, 6))]}),
        (retrieval(), {"image_of_text": np.array([0, 1, 0, 1, 2, 2])}),
        (classification(), {"labels": np.array([1, 0, 1])}),
        (classification(), {"class_names": ["cat", "Dog"]}),
        (classification(), {"templates": ["the {c}", "a {c}"]}),
        (classification(), {"templates": [["a {c}"], ["the {c}"]]}),
        (perception(), {"item_images": np.array([[0], [0], [1]])}),
        (perception(), {"item_texts": np.array([[0, 3], [1, 4], [2, 4]])}),
        (perception(), {"item_texts": np.array([[0, 3, 1], [1, 4, 2]])}),
        (perception(), {"texts": ["a", "b", "d", "d", "e", "f"]}),
        (perception(), {"groups": {"kind": ["x", "x", "y"]}}),
        (perception(), {"subsets": ["x", "y", "y"]}),
    ]


@pytest.mark.parametrize("case", range(len(changes())))
def test_every_change_changes_the_fingerprint(case: int):
    data, change = changes()[case]
    assert dataset_fingerprint(data) == dataset_fingerprint(replace(data), workers=1)
    changed: Data = replace(data, **change)
    assert dataset_fingerprint(changed) != dataset_fingerprint(data)


def test_the_fingerprint_does_not_depend_on_the_folder_of_the_data(tmp_path: Path):
    fingerprints = []
    for name in ("one", "other"):
        coco_files(tmp_path / name)
        fingerprints.append(datasets.load(define(tmp_path / name, "retrieval", COCO)).fingerprint)
    benchmark = define(tmp_path, "retrieval", {**COCO, "expected": {"images": 2}})
    fingerprints.append(datasets.load(benchmark, tmp_path / "other").fingerprint)
    assert len(set(fingerprints)) == 1
    write_image(tmp_path / "other/coco/images/val2017/000000000003.jpg", seed=5)
    assert datasets.load(benchmark, tmp_path / "other").fingerprint != fingerprints[0]


def test_an_image_is_read_once_for_its_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    coco_files(tmp_path)
    data = datasets.load(define(tmp_path, "retrieval", COCO))
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} was read again"))
    assert dataset_fingerprint(data) == data.fingerprint


def test_an_image_that_cannot_be_read_is_named_and_ends_the_hashing(tmp_path: Path):
    coco_files(tmp_path)
    (tmp_path / "coco/images/val2017/000000000003.jpg").unlink()
    (tmp_path / "coco/images/val2017/000000000003.jpg").mkdir()
    with pytest.raises(RequestError, match=r"000000000003\.jpg"):
        datasets.load(define(tmp_path, "retrieval", COCO))


@given(total=st.integers(1, 300), n=st.integers(1, 400))
def test_a_limit_takes_that_many_different_images_spread_over_the_order(total: int, n: int):
    data = take_images(ClassificationData(make_images(1) * total, np.arange(total), ["x"], ["{c}"]), n)
    assert isinstance(data, ClassificationData)
    kept = data.labels.tolist()
    assert len(kept) == min(n, total)
    assert kept == sorted(set(kept))
    # The k-th of n indices is in the k-th of n equal parts.
    if n < total:
        assert all(k * total // n <= index < (k + 1) * total / n for k, index in enumerate(kept))


def test_a_limited_retrieval_set_keeps_the_captions_of_its_images():
    data = take_images(retrieval(4), 2)
    assert isinstance(data, RetrievalData)
    assert [image.key for image in data.images] == ["p0", "p2"]
    assert data.texts == ["t0", "t1", "t4", "t5"]
    assert data.image_of_text.tolist() == [0, 0, 1, 1]


def test_a_limited_classification_set_keeps_every_class():
    data = datasets.limit(classification(6), 2)
    assert isinstance(data, ClassificationData)
    assert data.class_names == ["cat", "dog"]
    assert data.labels.tolist() == [0, 1]
    assert data.empty_classes_allowed
    assert data.fingerprint == dataset_fingerprint(data) != dataset_fingerprint(classification(6))


def test_a_limited_perception_set_keeps_the_items_of_its_images():
    data = take_images(perception(), 1)
    assert isinstance(data, PerceptionData)
    assert (data.texts, data.subsets) == (["b", "e"], ["x"])
    assert (data.item_images.tolist(), data.item_texts.tolist()) == ([[0]], [[0, 1]])


def test_a_limit_above_the_number_of_images_changes_nothing_and_zero_is_refused():
    data = replace(retrieval(), fingerprint="known")
    assert datasets.limit(data, 3) is data
    with pytest.raises(RequestError, match="at least 1"):
        take_images(data, 0)


def test_data_that_cannot_be_limited_are_refused_by_the_name_of_their_kind():
    class Unlimited(RetrievalData):
        subset = Data.subset  # type: ignore[assignment]

    data = Unlimited(make_images(3), ["a", "b", "c"], np.arange(3))
    with pytest.raises(RequestError, match=r"^retrieval data cannot be limited: Unlimited has no subset; leave"):
        take_images(data, 2)


def test_loading_a_part_hashes_only_that_part(tmp_path: Path):
    coco_files(tmp_path)
    benchmark = define(tmp_path, "retrieval", COCO)
    part = datasets.load(benchmark, limit=1)
    assert len(part.images) == 1
    assert part.fingerprint == datasets.limit(datasets.load(benchmark), 1).fingerprint


def test_a_deep_check_names_every_image_that_cannot_be_decoded(tmp_path: Path):
    coco_files(tmp_path)
    path = tmp_path / "coco/images/val2017/000000000007.jpg"
    path.write_bytes(path.read_bytes()[:200])
    (tmp_path / "coco/images/val2017/000000000003.jpg").write_bytes(b"")
    benchmark = define(tmp_path, "retrieval", COCO)
    assert datasets.check(benchmark).problems == ()
    problems = datasets.check(benchmark, deep=True).problems
    assert len(problems) == 2
    assert "000000000003.jpg" in problems[0]
    assert "000000000007.jpg" in problems[1]
    assert all("\n" not in problem and problem.startswith("mine: cannot decode") for problem in problems)


def test_toybox_needs_no_data_root_and_the_others_do():
    data = datasets.load(load_benchmark("toybox-retrieval"), limit=3)
    assert len(data.images) == 3
    assert len(data.fingerprint) == 64
    for name in ("toybox-retrieval", "toybox-classification"):
        check = datasets.check(load_benchmark(name))
        assert check.problems == ()
        assert check.expected.items() <= check.found.items()
    with pytest.raises(RequestError, match="--data-root"):
        datasets.load(load_benchmark("imagenet1k"))


@pytest.mark.parametrize(
    ("name", "unused", "counted"),
    [("toybox-classification", "scenes", "per_class"), ("toybox-segmentation", "per_class", "scenes")],
)
def test_an_option_of_toybox_that_would_count_nothing_is_refused(name: str, unused: str, counted: str):
    benchmark = load_benchmark(name)
    changed = replace(benchmark, dataset={**benchmark.dataset, unused: 5})
    with pytest.raises(RequestError, match=rf"{name}: toybox has no dataset\.{unused} for .*; give {counted} instead"):
        datasets.load(changed)
    del changed.dataset[counted], changed.dataset["expected"]
    changed.dataset[counted] = changed.dataset.pop(unused)  # as advised
    datasets.load(changed, limit=2)
