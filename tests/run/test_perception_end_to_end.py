"""Every benchmark of perception and composition from files in their original formats to results."""

from pathlib import Path

import pandas
import pytest
import torch
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_eval import datasets, tasks
from cosmos_eval.datasets.data import PerceptionData
from cosmos_eval.protocol.benchmark import load_suite
from cosmos_eval.report.frame import to_frame
from cosmos_eval.report.tables import markdown
from cosmos_eval.run.evaluate import evaluate
from tests.helpers.perception_on_disk import NAMES, small, write_all
from tests.helpers.stand_ins import Constant, FeatureScoring

MODEL = "cosmos:untrained-toybox?seed=3"
ITEMS = {
    "sugarcrepe": 14, "svo-probes": 6, "mmvp-vlm": 135, "winoground": 3, "aro-relation": 4, "aro-attribution": 4,
    "aro-coco-order": 2, "aro-flickr30k-order": 2,
}  # fmt: skip
CHANCE = {"text_score": 1 / 4, "image_score": 1 / 4, "group_score": 1 / 6, "accuracy": 1 / 2, "match_accuracy": 1 / 2}


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    return write_all(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def data(world) -> dict[str, PerceptionData]:
    return {name: datasets.load(small(name), world) for name in NAMES}  # type: ignore[misc]


class Perfect(FeatureScoring):
    """Each text has an axis of its own; the feature of an image is the sum of its texts."""

    def __init__(self, data: PerceptionData) -> None:
        self.texts = {text: i for i, text in enumerate(data.texts)}
        self.images = {image.key: torch.zeros(len(self.texts)) for image in data.images}
        for images, texts in zip(data.item_images.tolist(), data.item_texts.tolist(), strict=True):
            for i, j in zip(images, texts, strict=False):  # the first with the first, the second with the second
                self.images[data.images[i].key][j] = 1

    def image_features(self, images) -> Tensor:
        rows = torch.stack([self.images[image.key] for image in images])
        return torch.nn.functional.normalize(rows + 1e-3, dim=1)

    def text_features(self, texts) -> Tensor:
        return torch.eye(len(self.texts))[[self.texts[text] for text in texts]]


def test_all_benchmarks_of_the_suite_are_tested_here():
    assert tuple(one.name for one in load_suite("compositional")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_perfect_model_is_right_by_every_rule(data, name):
    metrics = tasks.run(small(name), data[name], Perfect(data[name])).metrics
    assert {key: metric.value for key, metric in metrics.items() if metric.value != 1} == {}


@pytest.mark.parametrize("name", NAMES)
def test_a_constant_model_never_exceeds_chance(data, name):
    metrics = tasks.run(small(name), data[name], Constant()).metrics
    texts = data[name].item_texts.shape[1]
    for key, metric in metrics.items():
        reading = key.rpartition("/")[2].removeprefix("macro_")
        chance = 1 / texts if texts > 2 else CHANCE[reading.removesuffix("_expected")]
        assert metric.value == pytest.approx(chance if reading.endswith("_expected") else 0), key


@pytest.fixture(scope="module")
def results(world, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    results = evaluate(MODEL, [small(name) for name in NAMES], data_root=world, out=out, batch_size=32)
    samples = {path.parent.name: pandas.read_parquet(path) for path in out.rglob("samples.parquet")}
    return {result.benchmark.name: (result, samples[result.benchmark.name]) for result in results}


@pytest.mark.parametrize("name", NAMES)
def test_each_benchmark_runs_from_its_files_to_its_result(results, name):
    result, samples = results[name]
    assert result.dataset.n["items"] == ITEMS[name] == len(samples)
    assert result.primary == small(name).metrics["primary"]
    assert result.primary in result.metrics
    for metric in result.metrics.values():
        assert 0 <= metric.low <= metric.value <= metric.high <= 1
    assert samples["scores"].map(lambda scores: len(set(scores))).max() > 1  # images and texts have different features


def test_the_table_shows_each_benchmarks_primary_metric_first(results):
    head = markdown(to_frame([result for result, _ in results.values()])).splitlines()[4]
    for name in NAMES:
        assert f"{name} {small(name).metrics['primary']}" in head


def test_the_table_shows_how_many_items_are_left_out(world, tmp_path):
    benchmark = small("svo-probes", images="elsewhere")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "svo_probes").symlink_to(world / "svo_probes")
    for path in (world / "svo_probes/images").iterdir():
        if path.stem not in ("12", "25"):
            (tmp_path / "elsewhere" / path.name).symlink_to(path)
    (result,) = evaluate(MODEL, benchmark, data_root=tmp_path, out=tmp_path / "out")
    assert result.dataset.n == {"images": 8, "items": 4, "left_out": 2}
    text = markdown(to_frame([result]))
    assert "8 images, 4 of 6 items," in text
    assert result.warnings == ("2 of 6 items left out, the first: line 4: 12.jpg does not exist",)


@pytest.mark.parametrize("name", ["mmvp-vlm", "svo-probes", "winoground"])
def test_a_limit_keeps_items_with_all_of_their_images(world, name):
    limited = datasets.load(small(name), world, limit=5)
    assert isinstance(limited, PerceptionData)
    assert limited.item_images.tolist() == [[0, 1], [2, 3]]
    assert len(limited.images) == 4
    assert len(set(limited.subsets)) == 2 or name != "mmvp-vlm"  # spread, not the first ones
    with pytest.raises(RequestError, match="a limit of 1 image leaves no item of 2 images"):
        datasets.load(small(name), world, limit=1)
