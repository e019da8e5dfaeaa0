"""The task `probe`: its figures, what it refuses, and that all commands know it."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from cosmos_core.errors import RequestError
from cosmos_eval import datasets, tasks
from cosmos_eval.datasets.data import ClassificationData, SplitData
from cosmos_eval.datasets.image_sources import ArrayImage
from cosmos_eval.engine import Engine
from cosmos_eval.metrics.proportion import estimate_proportion
from cosmos_eval.metrics.seed_variance import estimate_seeded_proportion, seeded_mean_estimator
from cosmos_eval.protocol.benchmark import load_benchmark
from cosmos_eval.protocol.task_registry import task_info
from cosmos_eval.run.in_memory import make_benchmark
from cosmos_eval.tasks.probe.paired import paired
from tests.helpers.datasets_on_disk import write_image
from tests.helpers.stand_ins import Constant, Given, RandomModel, benchmark

NAMES = list("abcdef")


def split(name: str, labels: np.ndarray, seed: int = 0) -> ClassificationData:
    """Images `name`-0, ... whose pixels say their class, and little else."""
    rng = np.random.default_rng([seed, len(labels), len(name)])
    pixels = rng.integers(0, 40, (len(labels), 8, 8, 3), dtype=np.uint8)
    pixels[np.arange(len(labels)), labels] += 60  # a row of pixels for each class
    images = [ArrayImage(f"{name}-{i}", one) for i, one in enumerate(pixels)]
    return ClassificationData(images, labels, NAMES, [])


def splits(per_class: int = 6, classes: int = 6, **others: int) -> SplitData:
    of_class = np.arange(classes)
    further = {name: split(name, np.repeat(of_class, n)) for name, n in {"train": per_class, **others}.items()}
    return SplitData(split("test", np.tile(of_class, 5)), further)


def values(outcome):
    return {name: metric.value for name, metric in outcome.metrics.items()}


def one_hot(data: SplitData, width: int = 6) -> Given:
    """A perfect model."""
    features = {}
    for one in (data.test, *data.other_splits.values()):
        features |= {image.key: np.eye(width)[label] for image, label in zip(one.images, one.labels, strict=True)}
    return Given(features, {})


@pytest.mark.parametrize("others", [{}, {"val": 2}])
def test_a_perfect_model_is_right_everywhere(others):
    data = splits(**others)
    outcome = tasks.run(benchmark("probe"), data, one_hot(data))
    train_images = 36 + 6 * others.get("val", 0)
    names = ["top1", "top5", "mean_per_class", *(f"few_shot_{k}" for k in (1, 2, 4, *([8] * bool(others))))]
    assert values(outcome) == dict.fromkeys([*names, *(f"knn_{k}" for k in (10, 20) if k < train_images)], 1.0)
    assert outcome.primary == "top1"
    assert all(0 < metric.low < metric.high == 1 for metric in outcome.metrics.values())
    assert {entry.metric.value for entry in outcome.classes.classes} == {1}
    part = "the split val" if others else "every 5th train image"
    assert part in outcome.warnings[0]


def test_a_constant_model_scores_chance():
    data = splits(val=2)
    outcome = tasks.run(benchmark("probe"), data, Constant())
    found = values(outcome)
    assert found.pop("top5") == pytest.approx(5 / 6)
    assert found == pytest.approx(dict.fromkeys(found, 1 / 6))
    assert any(line.startswith("collapsed: the features of all 78 images") for line in outcome.warnings)


class NotFinite(RandomModel):
    def encode_image(self, x):
        return super().encode_image(x) * torch.nan


def test_features_that_are_not_finite_are_refused():
    with pytest.raises(RequestError, match="test-0"):
        tasks.run(benchmark("probe"), splits(), Engine(NotFinite()))


@pytest.fixture(scope="module")
def measured():
    data = splits(per_class=9, val=3)
    model = RandomModel(seed=3)
    return data, model, tasks.run(benchmark("probe", shots=[2, 20], neighbours=[5], seeds=4), data, Engine(model))


def test_the_linear_probe_is_scikit_learns_with_the_strength_of_the_best_validation_accuracy(measured):
    data, model, outcome = measured
    features = Engine(model).image_features(list(data.images)).numpy()
    test, train, val = np.split(features, [30, 84])
    y, y_val = data.other_splits["train"].labels, data.other_splits["val"].labels
    strength = float(outcome.warnings[0].partition("C = ")[2].partition(")")[0])
    peer = LogisticRegression(C=strength, tol=1e-8, max_iter=5000)
    both = peer.fit(np.concatenate([train, val]), np.concatenate([y, y_val])).predict(test)
    assert (outcome.samples["prediction"] != both).sum() <= 1
    assert outcome.samples["correct"].mean() == outcome.metrics["top1"].value


def test_samples_have_a_row_for_each_test_image_and_few_shot_the_share_of_seeds(measured):
    data, _, outcome = measured
    samples = outcome.samples
    columns = ["image", "label", "prediction", "correct", "top5", "margin", "few_shot_2", "knn_5", "in_train"]
    assert list(samples.columns) == columns  # no class has 20 images
    assert samples["image"].tolist() == [image.key for image in data.test.images]
    assert set((4 * samples["few_shot_2"]).round(9)) <= {0, 1, 2, 3, 4}
    for name in ("few_shot_2", "knn_5"):
        assert samples[name].mean() == pytest.approx(outcome.metrics[name].value)
    assert not samples["in_train"].any()
    again = tasks.run(benchmark("probe", shots=[2, 20], neighbours=[5], seeds=4), data, Engine(RandomModel(seed=3)))
    pd.testing.assert_frame_equal(again.samples, samples)
    assert again.metrics == outcome.metrics


def test_regress_pairs_every_metric(measured):
    _, _, outcome = measured
    info = task_info("probe")
    for name, metric in outcome.metrics.items():
        assert info.reports(name, {"shots": [2, 20], "neighbours": [5]})
        hits = paired(name, (None, None), (outcome.samples, outcome.samples))
        assert hits.values() == pytest.approx((metric.value, metric.value))


def test_seeds_widen_the_interval_of_few_shot():
    rng = np.random.default_rng(0)
    agreeing = np.repeat(rng.random((1, 400)) < 0.6, 5, axis=0).astype(float)
    differing = (rng.random((5, 400)) < np.array([[0.4], [0.5], [0.6], [0.7], [0.8]])).astype(float)
    drawn = [np.bincount(rng.integers(0, 400, 400), minlength=400).astype(float) for _ in range(300)]
    spreads = []
    for values_of_seeds in (agreeing, differing):
        estimate = seeded_mean_estimator(values_of_seeds, 0)
        spreads.append(np.std([estimate(one) for one in drawn]))
    of_images, of_seeds = agreeing[0].std() / 20, differing.mean(1).std(ddof=1) / 5**0.5
    assert spreads[0] == pytest.approx(of_images, rel=0.15)
    assert spreads[1] == pytest.approx((differing.mean(0).var() / 400 + of_seeds**2) ** 0.5, rel=0.15)
    same = estimate_proportion(agreeing[0], np.arange(400))
    assert estimate_seeded_proportion(agreeing) == same
    assert estimate_seeded_proportion(differing).n_low < same.n_low / 5


def test_a_test_image_in_train_is_counted_and_marked():
    data = splits()
    train = data.other_splits["train"]
    leaked = replace(train, images=[replace(data.test.images[4], key="other name"), *train.images[1:]])
    data = datasets.with_fingerprint(data.replaced(other_splits={"train": leaked}))
    assert any("1 of 30 evaluated images is in the split train, too: test-4" in line for line in data.remarks)
    outcome = tasks.run(benchmark("probe"), data, Engine(RandomModel()))
    assert np.flatnonzero(outcome.samples["in_train"]).tolist() == [4]


def test_numbers_of_shots_and_neighbours_that_there_are_not_are_named():
    """They were left out without a word."""
    data = splits()
    definition = benchmark("probe", shots=[1, 50, 60], neighbours=[3, 1000])
    outcome = tasks.run(definition, data, one_hot(data))
    most = np.bincount(data.other_splits["train"].labels).max()
    assert {"few_shot_50", "few_shot_60", "knn_1000"}.isdisjoint(outcome.metrics)
    lines = [line for line in outcome.warnings if "not measured" in line]
    assert lines == [
        f"few_shot_50, few_shot_60 are not measured: no class has more than {most} train images",
        f"knn_1000 is not measured: there are only {len(data.other_splits['train'].labels)} train images",
    ]


def test_a_class_without_train_images_is_never_right():
    data = splits()
    train = data.other_splits["train"]
    train = replace(train, images=train.images[:30], labels=train.labels[:30], empty_classes_allowed=True)
    outcome = tasks.run(benchmark("probe"), data.replaced(other_splits={"train": train}), one_hot(data))
    assert values(outcome)["top1"] == pytest.approx(5 / 6)
    assert values(outcome)["few_shot_4"] == values(outcome)["knn_10"] == pytest.approx(5 / 6)
    assert "1 test class without a train image: f" in outcome.warnings


def test_data_in_memory_are_a_probe_if_they_have_a_split_train():
    data = splits(val=1)
    assert make_benchmark(data).task == "probe"
    assert make_benchmark(data.test).task == "classification"
    with pytest.raises(RequestError, match="the task probe needs the splits train and takes val, not one alone"):
        make_benchmark(data.test, task="probe")


def only_first_class(train: ClassificationData) -> ClassificationData:
    return replace(train, images=train.images[:6], labels=train.labels[:6])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (only_first_class, "needs train images of two classes"),
        (
            lambda train: replace(train, class_names=list("abcdeg")),
            "different classes: train lacks f, and test lacks g; give",
        ),
        (lambda train: replace(train, class_names=list("bacdef")), "different classes: in another order; give"),
        (lambda train: replace(train, images=train.images[::6], labels=train.labels[::6]), "no image is left"),
        (lambda train: replace(train, labels=train.labels + 1), "train image 30 refers to class 6"),
    ],
)
def test_data_that_cannot_be_probed_are_refused(change, message):
    data = splits()
    data = data.replaced(other_splits={"train": change(data.other_splits["train"])})
    with pytest.raises(RequestError, match=message):
        tasks.validate(benchmark("probe"), data)


OWN = """
name: own
version: 1
task: probe
dataset:
  reader: image-folder
  splits:
    train: {path: train}
    test: {path: held-out}
metrics: {primary: few_shot_2, shots: [2], seeds: 2, neighbours: [3]}
"""


@pytest.fixture
def own(tmp_path):
    for part, count, start in (("held-out", 2, 0), ("train", 3, 50)):
        for label, name in enumerate(("cat", "dog")):
            for i in range(count):
                write_image(tmp_path / part / name / f"{i}.png", seed=start + 10 * label + i)
    (tmp_path / "own.yaml").write_text(OWN)
    return tmp_path


def test_own_folders_train_and_test_are_a_probe(own):
    definition = load_benchmark(own / "own.yaml")
    data = datasets.load(definition)
    assert data.counts() == {"images": 4, "classes": 2, "train_images": 6, "train_classes": 2}
    assert [image.key for image in data.images][3:5] == ["dog/1.png", "train/cat/0.png"]
    outcome = tasks.run(definition, data, Engine(RandomModel()))
    assert set(outcome.metrics) == {"top1", "mean_per_class", "few_shot_2", "knn_3"}
    assert outcome.primary == "few_shot_2"


def test_a_split_may_have_its_own_reader(own):
    lines = [f'{{"image": "{name}/{i}.png", "label": "{name}"}}' for name in ("cat", "dog") for i in range(3)]
    (own / "train" / "labels.jsonl").write_text("\n".join(lines))
    text = OWN.replace("train: {path: train}", "train: {reader: jsonl, path: train/labels.jsonl}")
    (own / "own.yaml").write_text(text)
    definition = load_benchmark(own / "own.yaml")
    assert len(datasets.load(definition).other_splits["train"].images) == 6
    moved = text.replace("train/labels", "elsewhere/labels")
    (own / "own.yaml").write_text(moved)
    assert load_benchmark(own / "own.yaml").fingerprint == definition.fingerprint


def test_classes_that_a_split_lacks_are_classes_of_all_splits_if_that_is_allowed(own):
    """A reader that finds the classes in the labels does not know those of the other splits."""
    for name, labels in (("train", "dog dog cat cat bird bird"), ("test", "cat dog emu")):
        lines = [f'{{"image": "train/{"cat" if i % 2 else "dog"}/{i % 3}.png", "label": "{label}"}}'
                 for i, label in enumerate(labels.split())]  # fmt: skip
        (own / f"{name}.jsonl").write_text("\n".join(lines))
    text = OWN.replace("image-folder", "jsonl").replace("path: train", "path: train.jsonl")
    text = text.replace("path: held-out", "path: test.jsonl").replace("[2]", "[1]").replace("few_shot_2", "top1")
    (own / "own.yaml").write_text(text)
    definition = load_benchmark(own / "own.yaml")
    with pytest.raises(
        RequestError, match=r"train lacks emu, and test lacks bird; .* or write candidates_without_images"
    ):
        tasks.validate(definition, datasets.load(definition))
    (own / "own.yaml").write_text(text.replace("jsonl\n", "jsonl\n  candidates_without_images: allow\n", 1))
    definition = load_benchmark(own / "own.yaml")
    data = datasets.load(definition)
    assert list(data.test.class_names) == list(data.other_splits["train"].class_names) == ["cat", "dog", "emu", "bird"]
    assert (data.test.labels.tolist(), data.other_splits["train"].labels.tolist()) == ([0, 1, 2], [1, 1, 0, 0, 3, 3])
    assert list(data.remarks)[:2] == [
        "no image of the split test has the class bird", "no image of the split train has the class emu"
    ]  # fmt: skip
    outcome = tasks.run(definition, data, Engine(RandomModel()))
    assert "1 test class without a train image: emu" in outcome.warnings


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("    train: {path: train}\n", ""), "probe needs the split train"),
        (("test: {path: held-out}", "test: held-out"), "test must be a map"),
        (("test:", "tset:"), "own.yaml:7: probe is evaluated on the split test, which has no path: write"),
        (("{path: train}", "{reader: cocoa, path: train}"), "own.yaml:8: unknown reader 'cocoa'"),
        (("{path: train}", "{reader: karpathy, path: train}"), "the reader karpathy gives data for retrieval"),
        (("{path: train}", "{reader: jsonl}"), "'path' is missing in train"),
        (("shots: [2]", "shots: [0]"), "shots must be whole numbers of at least 1"),
        (("shots: [2]", "shots: [2, 2]"), "shots has 2 twice"),
        (("seeds: 2", "seeds: 0"), "seeds must be a number of seeds"),
        (("seeds: 2", "seeds: 1001"), "from 1 to 1,000"),
        (("neighbours: [3]", "neighbours: [x]"), "neighbours must be whole numbers"),
        (("few_shot_2", "few_shot_3"), "few_shot_3"),
    ],
)
def test_a_definition_that_is_wrong_is_refused_with_its_line(own, change, message):
    (own / "own.yaml").write_text(OWN.replace(*change))
    with pytest.raises(RequestError) as caught:
        load_benchmark(own / "own.yaml")
    assert message in str(caught.value)


def test_toybox_probe_has_other_images_in_each_split():
    definition = load_benchmark("toybox-probe")
    data = datasets.load(definition, limit=96)
    splits = ("", "train_", "val_")
    assert data.counts() == {f"{split}{noun}": n for split in splits for noun, n in (("images", 96), ("classes", 48))}
    assert not any(data.leaks("train") + data.leaks("val"))
    assert data.test.templates == []
    tasks.validate(definition, data)
