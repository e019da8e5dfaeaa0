"""Data in several splits, for tasks that learn from one and are evaluated on another."""

from dataclasses import replace

import pytest

from cosmos_core.errors import RequestError
from cosmos_eval import datasets, tasks
from cosmos_eval.datasets.data import ClassificationData, SplitData
from cosmos_eval.protocol.benchmark import load_benchmark
from cosmos_eval.protocol.fingerprint import protocol_fingerprint
from cosmos_eval.protocol.task_registry import TASKS, task_info
from tests.helpers.datasets_on_disk import write_image

TEXT = """
name: probe
version: 1
task: learning
dataset:
  reader: image-folder
  path: val
  splits:
    train: {path: train}
metrics: {primary: top1}
prompts: {templates: ["a {c}"]}
"""


@pytest.fixture
def learning(monkeypatch):
    """A task on images with labels that needs a split to learn from."""
    classification = task_info("classification")
    info = replace(
        classification,
        name="learning",
        splits=("train",),
        validate=lambda benchmark, data: classification.check_data(benchmark, data.test),
    )
    monkeypatch.setitem(TASKS.built_in, "learning", info)
    return info


@pytest.fixture
def folder(tmp_path):
    for split, count, start in (("val", 2, 0), ("train", 3, 50)):
        for label, name in enumerate(("cat", "dog")):
            for i in range(count):
                write_image(tmp_path / split / name / f"{i}.png", seed=start + 10 * label + i)
    (tmp_path / "probe.yaml").write_text(TEXT)
    return tmp_path


def load(folder):
    return datasets.load(load_benchmark(folder / "probe.yaml"), folder)


def test_each_split_is_read_by_the_same_reader(learning, folder):
    data = load(folder)
    assert isinstance(data, SplitData)
    assert isinstance(data.test, ClassificationData)
    assert (len(data.test.images), len(data.other_splits["train"].images)) == (4, 6)
    assert data.other_splits["train"].labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert len(data.images) == 10
    assert data.counts() == {"images": 4, "classes": 2, "train_images": 6, "train_classes": 2}
    tasks.validate(load_benchmark(folder / "probe.yaml"), data)


def test_every_split_enters_the_fingerprint(learning, folder):
    before = load(folder).fingerprint
    assert load(folder).fingerprint == before
    write_image(folder / "train" / "cat" / "0.png", seed=99)
    assert load(folder).fingerprint != before


def test_the_path_of_a_split_is_not_in_the_protocols_fingerprint_and_its_options_are(learning, folder):
    benchmark = load_benchmark(folder / "probe.yaml")
    moved = replace(benchmark, dataset={**benchmark.dataset, "splits": {"train": {"path": "elsewhere"}}})
    turned = replace(benchmark, dataset={**benchmark.dataset, "splits": {"train": {"path": "train", "exif": "apply"}}})
    assert protocol_fingerprint(moved) == benchmark.fingerprint != protocol_fingerprint(turned)


def test_a_limit_is_of_each_split(learning, folder):
    data = datasets.load(load_benchmark(folder / "probe.yaml"), folder, limit=2)
    assert (len(data.test.images), len(data.other_splits["train"].images)) == (2, 2)


def test_an_image_in_both_splits_is_remarked(learning, folder):
    (folder / "train/cat/0.png").write_bytes((folder / "val/cat/1.png").read_bytes())
    (folder / "train/dog/0.png").write_bytes((folder / "val/cat/1.png").read_bytes())
    data = load(folder)
    assert any("1 of 4 evaluated images is in the split train, too: cat/1.png" in line for line in data.remarks)
    assert data.leaks("train") == [False, True, False, False]


def test_whatever_a_split_lacks_is_reported_with_its_name(learning, folder):
    for path in (folder / "train" / "dog").iterdir():
        path.unlink()
    report = datasets.check(load_benchmark(folder / "probe.yaml"), folder)
    assert "probe (train)" in report.problems[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("  splits:\n    train: {path: train}\n", ""), "learning needs the split train: write dataset.splits.train"),
        (("train: {path", "trian: {path"), "learning needs the split train"),
        (("    train: {path: train}\n", "    train: {path: train}\n    dev: {path: a}\n"), "has no split 'dev'"),
        (("train: {path: train}", "train: {paht: train}"), "unknown key 'paht' in train"),
        (("train: {path: train}", "train: {path: 3}"), "path must be a text"),
        (("{path: train}", "{path: train, expected: {imgs: 6}}"), "unknown key 'imgs' in expected; for learning it"),
        (("{path: train}", "{path: train, expected: {images: 0}}"), "expected images must be at least 1"),
        (("task: learning", "task: classification"), "unknown key 'splits' in dataset"),
        (("train: {path: train}", "train: train"), "the split train must be a map of options, such as {path: train}"),
        (("train: {path: train}", "train: {path: train}\n    test: test"), "the split test must be a map of options"),
        (
            ("  splits:\n    train: {", "  train: {"),
            "the split train belongs below splits: write dataset: {reader: ...",
        ),
        (("  splits:\n    train: {", "train: {"), "the split train belongs below splits: write dataset: {reader"),
    ],
)
def test_a_definition_names_the_splits_that_its_task_needs(learning, folder, change, message):
    (folder / "probe.yaml").write_text(TEXT.replace(*change))
    with pytest.raises(RequestError) as caught:
        load_benchmark(folder / "probe.yaml")
    assert message in str(caught.value)
