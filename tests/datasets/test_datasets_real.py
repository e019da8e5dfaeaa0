"""Real files: counts, order and captions equal those that are stored with the embeddings of the same data."""

import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cosmos_core.errors import RequestError
from cosmos_eval import datasets
from cosmos_eval.datasets.data import ClassificationData, RetrievalData
from cosmos_eval.protocol.benchmark import Benchmark, load_benchmark
from tests.helpers.datasets_on_disk import COCO, define


def load_stored(real_dir: Path, name: str) -> Any:
    return np.load(real_dir / "lit/embeddings" / f"{name}.npz", allow_pickle=False)


def test_coco(real_dir: Path, tmp_path: Path):
    benchmark = define(tmp_path, "retrieval", {**COCO, "expected": {"images": 159, "texts": 795}})
    data = datasets.load(benchmark, real_dir)
    assert isinstance(data, RetrievalData)
    expected = load_stored(real_dir, "coco159")
    assert [image.key for image in data.images] == expected["image_ids"].tolist()
    assert list(data.texts) == expected["texts"].tolist()
    assert data.image_of_text.tolist() == expected["text_image_index"].tolist()
    assert datasets.check(benchmark, real_dir, deep=True).problems == ()


def test_all_of_coco_needs_all_of_its_images(real_dir: Path, tmp_path: Path):
    full = {
        **COCO,
        "annotations": "coco/annotations/captions_val2017.full.json",
        "expected": {"images": 5000, "texts": 25014},
    }
    check = datasets.check(define(tmp_path, "retrieval", full), real_dir)
    assert check.found == {"images": 159, "texts": 25014}
    assert len(check.problems) == 1
    assert "found 159; missing: 000000000285.jpg, 000000000632.jpg" in check.problems[0]
    assert "and 4,838 more" in check.problems[0]


def test_flickr8k(real_dir: Path, tmp_path: Path):
    with tarfile.open(real_dir / "flickr8k/test-0000.tar") as tar:
        tar.extractall(tmp_path / "images", filter="data")
    (tmp_path / "dataset_flickr8k.json").symlink_to(real_dir / "flickr8k/dataset_flickr8k.json")
    dataset = {"reader": "karpathy", "images": "images", "annotations": "dataset_flickr8k.json", "split": "test"}
    data = datasets.load(define(tmp_path, "retrieval", {**dataset, "expected": {"images": 1000, "texts": 5000}}))
    assert isinstance(data, RetrievalData)
    expected = load_stored(real_dir, "flickr8k_test")
    assert [image.key for image in data.images] == expected["image_ids"].tolist()
    assert list(data.texts) == expected["texts"].tolist()
    assert data.image_of_text.tolist() == expected["text_image_index"].tolist()


def test_the_list_that_flair_ships_has_the_counts_of_its_protocol(real_dir: Path, tmp_path: Path):
    (tmp_path / "flickr30k/flickr30k-images").mkdir(parents=True)
    (tmp_path / "flickr30k/flickr30k_val.json").symlink_to(real_dir / "flickr30k/flickr30k_val.json")
    check = datasets.check(load_benchmark("flickr30k-val-retrieval"), tmp_path)
    assert check.found == {"images": 0, "texts": 5070}
    assert len(check.problems) == 1
    assert "needs 1,014 images" in check.problems[0]
    assert "found 0; missing: 1018148011.jpg" in check.problems[0]


def imagenet(tmp_path: Path) -> Benchmark:
    dataset = {"reader": "imagenet", "path": "imagenet", "expected": {"images": 1000, "classes": 1000}}
    return define(tmp_path, "classification", dataset, {"class_names": "imagenet1k", "templates": "openai-80"})


def test_imagenet(real_dir: Path, tmp_path: Path):
    data = datasets.load(imagenet(tmp_path), real_dir)
    assert isinstance(data, ClassificationData)
    expected = load_stored(real_dir, "imagenet1000")
    assert [image.key for image in data.images] == expected["image_ids"].tolist()
    assert data.labels.tolist() == expected["labels"].tolist()
    assert list(data.class_names) == expected["class_names"].tolist()
    assert list(data.templates) == expected["templates"].tolist()


def test_a_limit_of_imagenet_shows_many_classes(real_dir: Path, tmp_path: Path):
    data = datasets.load(imagenet(tmp_path), real_dir, limit=50)
    assert isinstance(data, ClassificationData)
    assert len(set(data.labels.tolist())) == 50
    assert len(data.class_names) == 1000


def test_a_thousand_images_are_not_the_validation_set(real_dir: Path):
    with pytest.raises(RequestError, match=r"needs 50,000 images in .*imagenet, found 1,000"):
        datasets.load(load_benchmark("imagenet1k"), real_dir)


def test_cifar_10_as_an_image_folder(real_dir: Path, tmp_path: Path):
    dataset = {"reader": "image-folder", "path": "cifar10_test2000", "expected": {"images": 2000, "classes": 10}}
    benchmark = define(tmp_path, "classification", dataset, {"templates": "clip-benchmark:cifar10"})
    data = datasets.load(benchmark, real_dir)
    assert isinstance(data, ClassificationData)
    expected = load_stored(real_dir, "cifar10_test2000")
    assert [image.key for image in data.images] == expected["image_ids"].tolist()
    assert data.labels.tolist() == expected["labels"].tolist()
    assert list(data.class_names) == expected["class_names"].tolist()
    names = data.class_names
    prompts = [[str(template).replace("{c}", name) for template in data.templates] for name in names]
    assert prompts == expected["prompts"].tolist()
