"""toybox through the real readers of real formats gives the numbers of toybox in memory."""

from dataclasses import replace
from pathlib import Path

import pytest

from cosmos_eval.datasets.toybox import prepare
from cosmos_eval.protocol import load_benchmark
from cosmos_eval.runner import evaluate

MODEL = "cosmos:untrained-toybox?seed=3"
SCENES, PER_CLASS = 60, 1


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    return prepare(tmp_path_factory.mktemp("world") / "data", seed=0, train=4, val=4, test=SCENES, per_class=PER_CLASS)


def in_memory(name: str, expected: dict[str, int], **options):
    benchmark = load_benchmark(name)
    return replace(benchmark, dataset={**benchmark.dataset, **options, "expected": expected})


def metrics(benchmark) -> dict:
    (result,) = evaluate(MODEL, benchmark, batch_size=16)
    return result.metrics


@pytest.fixture(scope="module")
def retrieval() -> dict:
    return metrics(in_memory("toybox-retrieval", {"images": SCENES, "texts": 2 * SCENES}, scenes=SCENES))


@pytest.mark.parametrize("name", ["coco", "flickr30k"])
def test_retrieval_formats_give_the_numbers_of_memory(world, retrieval, name):
    assert metrics(world / f"toybox-{name}.yaml") == retrieval


def test_class_folders_give_the_numbers_of_memory(world):
    memory = in_memory("toybox-classification", {"images": 48, "classes": 48}, per_class=PER_CLASS)
    assert metrics(world / "toybox-imagenet.yaml") == metrics(memory)


def test_cifar_s_pickles_through_clip_benchmark_give_the_numbers_of_memory(world):
    memory = in_memory("toybox-classification", {"images": 48, "classes": 48}, per_class=PER_CLASS, size=32)
    assert metrics(world / "toybox-cifar100.yaml") == metrics(memory)


def test_the_numbers_are_not_all_alike(retrieval):
    # an untrained model on 60 scenes: were every metric 0 or 1, equality above would show little
    assert 1 < retrieval["image_to_text_mean_rank"].value < 120
    assert retrieval["image_to_text_mean_rank"].value != retrieval["text_to_image_mean_rank"].value
