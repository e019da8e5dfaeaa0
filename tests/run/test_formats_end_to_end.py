"""toybox written in other formats and read by their readers has the same metrics as toybox in memory."""

from dataclasses import replace
from pathlib import Path

import pandas
import pytest

from cosmos_eval.datasets.toybox import prepare
from cosmos_eval.protocol.benchmark import load_benchmark
from cosmos_eval.run.evaluate import evaluate

MODEL = "cosmos:untrained-toybox?seed=3"
SCENES, PER_CLASS = 60, 1


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    return prepare(tmp_path_factory.mktemp("world") / "data", seed=0, train=4, val=4, test=SCENES, per_class=PER_CLASS)


def in_memory(name: str, expected: dict[str, int], **options):
    benchmark = load_benchmark(name)
    return replace(benchmark, dataset={**benchmark.dataset, **options, "expected": expected})


@pytest.fixture(scope="module")
def measure(tmp_path_factory):
    """A function: benchmark -> its metrics, and its samples in dataset order."""

    def measured(benchmark) -> tuple[dict, pandas.DataFrame]:
        out = tmp_path_factory.mktemp("out")
        (result,) = evaluate(MODEL, benchmark, out=out, batch_size=16)
        (path,) = out.rglob("samples.parquet")
        return result.metrics, pandas.read_parquet(path)

    return measured


def same_outcome(one: pandas.DataFrame, other: pandas.DataFrame) -> None:
    """All samples are equal, except for names and bytes of the images, which depend on the format."""
    names = [column for column in ("image", "query", "content") if column in one]
    pandas.testing.assert_frame_equal(one.drop(columns=names), other.drop(columns=names), check_exact=True)


@pytest.fixture(scope="module")
def retrieval(measure):
    return measure(in_memory("toybox-retrieval", {"images": SCENES, "texts": 2 * SCENES}, scenes=SCENES))


@pytest.mark.parametrize("name", ["coco", "flickr30k"])
def test_retrieval_formats_give_the_same_outcome_as_memory(world, measure, retrieval, name):
    metrics, samples = measure(world / f"toybox-{name}.yaml")
    assert metrics == retrieval[0]
    same_outcome(samples, retrieval[1])


@pytest.mark.parametrize(("name", "options"), [("imagenet", {}), ("cifar100", {"size": 32})])
def test_classification_formats_give_the_same_outcome_as_memory(world, measure, name, options):
    """Class folders, and CIFAR pickles by clip-benchmark. Samples are compared too: metrics may agree by chance."""
    memory = in_memory("toybox-classification", {"images": 48, "classes": 48}, per_class=PER_CLASS, **options)
    metrics, samples = measure(world / f"toybox-{name}.yaml")
    expected, expected_samples = measure(memory)
    assert metrics == expected
    assert samples["margin"].nunique() > 24
    assert samples["label"].nunique() == 48
    same_outcome(samples, expected_samples)


def test_the_metrics_are_not_trivial(retrieval):
    # an untrained model on 60 scenes: if every metric were 0 or 1, the equality above would show little
    metrics, samples = retrieval
    assert 1 < metrics["image_to_text_mean_rank"].value < 120
    assert metrics["image_to_text_mean_rank"].value != metrics["text_to_image_mean_rank"].value
    assert samples["rank"].nunique() > 20
