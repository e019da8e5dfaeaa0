"""All eight segmentation benchmarks from files in their original formats to results, with mmsegmentation's classes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas
import pytest

from cosmos_core.errors import RequestError
from cosmos_eval import datasets
from cosmos_eval.protocol.benchmark import Benchmark
from cosmos_eval.run.evaluate import evaluate
from tests.helpers.segmentation_on_disk import (
    FOLDERS,
    NAMES,
    files_of,
    raw_labels,
    small,
    write_labels,
    write_segmentation,
)

MODEL = "cosmos:untrained-toybox?seed=3"
TWIN = "cityscapes-csa"


def quick(name: str) -> Benchmark:
    """A smaller benchmark: one template, and (except for VOC20) images and windows of a quarter of the size."""
    benchmark = small(name)
    settings = dict(benchmark.settings)
    if name != "voc20":
        settings |= {key: settings[key] // 4 for key in ("short_side", "crop", "stride")}
    prompts = {**benchmark.prompts, "templates": ["a photo of a {c}."]}
    return replace(benchmark, prompts=prompts, settings=settings)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("world")
    for name in NAMES:
        write_segmentation(root, name)
    return root


@pytest.fixture(scope="module")
def results(world, tmp_path_factory):
    """Name -> its result and its samples."""
    out = tmp_path_factory.mktemp("out")
    benchmarks = [quick(name) for name in (*NAMES, TWIN)]
    results = evaluate(MODEL, benchmarks, data_root=world, out=out, batch_size=8)
    samples = {path.parent.name: pandas.read_parquet(path) for path in out.rglob("samples.parquet")}
    return {result.benchmark.name: (result, samples[result.benchmark.name]) for result in results}


@pytest.mark.parametrize("name", [*NAMES, TWIN])
def test_each_benchmark_runs_from_its_files_to_its_result(world, results, name):
    result, samples = results[name]
    assert result.dataset.n["images"] == 3
    assert result.primary == "miou"
    for metric in ("miou", "pixel_accuracy", "mean_accuracy"):
        value = result.metrics[metric]
        assert 0 <= value.low <= value.value <= value.high <= 1
    data = datasets.load(quick(name), world)
    classes = len(data.class_names)
    expected = np.zeros(classes, dtype=np.int64)
    for mask in data.masks:
        labels = mask.load()
        expected += np.bincount(labels[labels != 255], minlength=classes)
    for area in ("label", "prediction"):
        assert samples[area].sum() == expected.sum()
    label = np.zeros(classes, dtype=np.int64)
    np.add.at(label, samples["class"].to_numpy(), samples["label"].to_numpy())
    assert label.tolist() == expected.tolist()
    assert (samples["intersection"] <= samples[["label", "prediction"]].min(axis=1)).all()
    hits = samples["intersection"].sum() / expected.sum()
    assert result.metrics["pixel_accuracy"].value == pytest.approx(hits, abs=1e-9)


def test_two_attentions_are_two_benchmarks_on_the_same_data(results):
    (plain, of_plain), (csa, of_csa) = results["cityscapes"], results[TWIN]
    assert plain.dataset.fingerprint == csa.dataset.fingerprint
    assert plain.benchmark.fingerprint != csa.benchmark.fingerprint
    assert not of_plain.equals(of_csa)


def test_an_unknown_label_is_refused_with_its_file(tmp_path: Path):
    root = write_segmentation(tmp_path, "cityscapes")
    labels = raw_labels("cityscapes", 1)
    labels[0, 0] = 26
    path = write_labels(root / files_of("cityscapes", 1)[1], labels)
    with pytest.raises(RequestError) as caught:
        evaluate(MODEL, quick("cityscapes"), data_root=tmp_path, out=tmp_path / "out", batch_size=8)
    assert str(path) in str(caught.value)
    assert "label 26" in str(caught.value)


def test_a_mask_of_another_size_is_refused_before_the_model_is_loaded(tmp_path: Path):
    write_labels(write_segmentation(tmp_path, "voc21") / files_of("voc21", 1)[1], raw_labels("voc21", 1)[:-1])
    with pytest.raises(RequestError, match="of another size than the image"):
        evaluate("cosmos:nowhere.pt", quick("voc21"), data_root=tmp_path, out=tmp_path / "out")
    assert (tmp_path / FOLDERS["voc21"]).is_dir()
