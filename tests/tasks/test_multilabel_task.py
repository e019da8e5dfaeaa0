"""Multi-label classification: by hand, a perfect and a constant model, scikit-learn, clip-benchmark, bad input."""

import numpy as np
import pandas as pd
import pytest
import torch
from clip_benchmark.metrics import zeroshot_classification
from sklearn.metrics import average_precision_score
from torch.utils.data import DataLoader

from cosmos_core.errors import RequestError
from cosmos_eval import tasks
from cosmos_eval.datasets import take_images
from cosmos_eval.datasets.data import MultilabelData
from cosmos_eval.datasets.fingerprint import dataset_fingerprint
from cosmos_eval.engine import Engine
from cosmos_eval.tasks.multilabel.paired import paired
from tests.helpers.stand_ins import Constant, Given, RandomModel, benchmark, random_images, to_tensor

NAMES = ["cat", "dog", "owl"]
BENCHMARK = benchmark("multilabel")


def make_data(labels, names=NAMES, **fields):
    labels = np.array(labels, dtype=np.int8)
    return MultilabelData(random_images(len(labels)), labels, names, ["a {c}"], **fields)


def random_data(images=80, seed=0, names=NAMES):
    rng = np.random.default_rng(seed)
    labels = (rng.random((images, len(names))) < 0.3).astype(np.int8)
    labels[rng.random(labels.shape) < 0.1] = -1
    labels[0] = 1
    return make_data(labels, names)


def values(outcome):
    return {name: metric.value for name, metric in outcome.metrics.items()}


def test_four_images_by_hand():
    # the class embeddings are the axes, so that the cosines are the coordinates of the images
    rows = [[0.8, 0.6, 0], [0.6, 0, 0.8], [0, 0.6, 0.8], [0.8, 0, 0.6]]
    given = Given(
        {f"image-{i}": row for i, row in enumerate(rows)},
        dict(zip(["a cat", "a dog", "a owl"], np.eye(3), strict=True)),
    )
    data = make_data([[1, 0, 0], [1, 0, 1], [0, 1, 0], [-1, 0, 0]])
    outcome = tasks.run(BENCHMARK, data, given)
    # cat: image 3 left out, 0 and 1 first. dog: image 2 ties with 0. owl: image 1 ties with 2.
    assert values(outcome) == pytest.approx(
        {
            "mean_average_precision": (1 + 0.5 + 0.5) / 3,
            "cat/average_precision": 1,
            "dog/average_precision": 0.5,
            "owl/average_precision": 0.5,
        }
    )
    assert outcome.primary == "mean_average_precision"
    assert list(outcome.samples.columns) == ["image", "labels", "undecided", "scores"]
    assert outcome.samples["labels"].tolist() == ["0", "0 2", "1", ""]
    assert outcome.samples["undecided"].tolist() == ["", "", "", "0"]
    assert outcome.samples["scores"][0].tolist() == pytest.approx([0.8, 0.6, 0])


def test_a_perfect_model_has_one_hundred_percent_with_an_interval():
    labels = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 0], [0, 0, 1]])
    given = Given(
        {f"image-{i}": row for i, row in enumerate(labels)},
        {f"a {n}": v for n, v in zip(NAMES, np.eye(3), strict=True)},
    )
    outcome = tasks.run(BENCHMARK, make_data(labels), given)
    assert set(values(outcome).values()) == {1.0}
    for metric in outcome.metrics.values():  # four images say little, also where all are right
        assert metric.low < 0.8
        assert metric.high == 1


@pytest.mark.parametrize("engine", [Constant(), Constant(images=True, texts=False)])
def test_a_constant_model_scores_the_mean_prevalence(engine):
    data = random_data()
    outcome = tasks.run(BENCHMARK, data, engine)
    prevalence = [(column == 1).sum() / (column >= 0).sum() for column in data.labels.T]
    assert values(outcome)["mean_average_precision"] == pytest.approx(np.mean(prevalence))
    assert values(outcome)["dog/average_precision"] == pytest.approx(prevalence[1])
    assert any("collapsed" in warning for warning in outcome.warnings)


def test_equal_to_scikit_learn_on_the_scores_of_the_samples():
    data = random_data()
    outcome = tasks.run(BENCHMARK, data, Engine(RandomModel()))
    scores = np.stack(outcome.samples["scores"])
    expected = []
    for c, name in enumerate(NAMES):
        counted = data.labels[:, c] >= 0
        expected.append(average_precision_score(data.labels[counted, c], scores[counted, c]))
        assert values(outcome)[f"{name}/average_precision"] == pytest.approx(expected[-1], abs=1e-12)
    assert values(outcome)["mean_average_precision"] == pytest.approx(np.mean(expected), abs=1e-12)
    for metric in outcome.metrics.values():
        assert metric.low < metric.value < metric.high


class LikeClip(torch.nn.Module):
    """The model as clip-benchmark takes it: a tokenizer that leaves texts as they are numbers of."""

    def __init__(self):
        super().__init__()
        self.model, self.texts = RandomModel(), []

    def encode_image(self, x):
        return self.model.encode_image(x)

    def encode_text(self, tokens):
        return self.model.encode_text([self.texts[i] for i in tokens.flatten().tolist()])

    def tokenize(self, texts):
        first = len(self.texts)
        self.texts += texts
        return torch.arange(first, len(self.texts))[:, None]


def test_equal_to_clip_benchmark_without_ties():
    data = random_data()
    data = data.replaced(labels=np.maximum(data.labels, 0))
    net = LikeClip()
    pixels = [to_tensor(image.load()) for image in data.images]
    loader = DataLoader(list(zip(pixels, torch.from_numpy(data.labels), strict=True)), batch_size=32)
    theirs = zeroshot_classification.evaluate(net, loader, net.tokenize, NAMES, ["a {c}"], "cpu", amp=False)
    outcome = tasks.run(BENCHMARK, data, Engine(RandomModel()))
    assert values(outcome)["mean_average_precision"] == pytest.approx(theirs["mean_average_precision"], abs=1e-6)
    assert 0.2 < theirs["mean_average_precision"] < 0.8


def test_a_class_that_no_image_has_is_not_part_of_the_mean():
    data = make_data([[1, 0, 0], [0, 1, -1], [1, 0, 0]])
    outcome = tasks.run(BENCHMARK, data, Engine(RandomModel()))
    assert "owl/average_precision" not in outcome.metrics
    assert data.observations() == ["1 of 3 classes has no image and no average precision: owl"]
    assert data.counts() == {"images": 3, "classes": 3, "labels": 3, "undecided": 1}


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (make_data([[0, 0, 0], [0, 0, -1]]), "has no image with a label"),
        (make_data([[0, 2, 0]]), "1 image with a label other than 1, 0, -1: image-0"),
        (make_data([[0, 1]]), "labels of 1 x 2 for 1 image and 3 classes"),
        (make_data([[1, 0, 0]], ["cat", "cat", "owl"]), "1 class name twice: cat"),
        (make_data([[1, 0, 0]]).replaced(templates=["a photo"]), "no placeholder"),
        (make_data([[1, 0, 0]]).replaced(images=random_images(2)), "the same number of each"),
    ],
)
def test_unusable_data_are_refused_before_any_compute(data, line):
    model = RandomModel()
    with pytest.raises(RequestError, match=line):
        tasks.run(BENCHMARK, data, Engine(model))
    assert model.image_batches == model.text_batches == []


def test_a_metric_of_a_class_without_an_image_is_no_primary_one():
    data = make_data([[1, 0, 0]])
    tasks.validate(benchmark("multilabel", primary="cat/average_precision"), data)
    with pytest.raises(RequestError, match="no metric 'owl/average_precision' here"):
        tasks.validate(benchmark("multilabel", primary="owl/average_precision"), data)


class NotANumber(RandomModel):
    def encode_image(self, x):
        return super().encode_image(x) * torch.nan


def test_embeddings_that_are_no_numbers_are_refused_by_image():
    with pytest.raises(RequestError, match="image-0"):
        tasks.run(BENCHMARK, random_data(), Engine(NotANumber()))


def test_a_limit_keeps_all_classes_and_at_least_one_label():
    data = make_data([[0, 0, 0]] * 9 + [[0, 1, 0]])
    part = take_images(data, 2)
    assert part.class_names == NAMES
    assert len(part.images) == len(part.labels) == 1
    assert part.labels.tolist() == [[0, 1, 0]]
    spread = take_images(random_data(), 8)
    assert [image.key for image in spread.images] == [f"image-{10 * i}" for i in range(8)]


def test_the_fingerprint_covers_labels_undecided_ones_class_names_and_templates():
    data = random_data()
    changed = [
        data.replaced(labels=np.where(data.labels == -1, 0, data.labels)),
        data.replaced(class_names=["cat", "dog", "bird"]),
        data.replaced(templates=["the {c}"]),
        data.replaced(templates=[["a {c}"]] * 3),
    ]
    assert len({dataset_fingerprint(one) for one in (data, *changed)}) == 5


def outcomes_of(seeds, data):
    return [tasks.run(BENCHMARK, data, Engine(RandomModel(seed=seed))) for seed in seeds]


@pytest.mark.parametrize("metric", ["mean_average_precision", "cat/average_precision", "owl/average_precision"])
def test_the_paired_samples_give_the_metric_of_both_models(metric):
    data = random_data(names=["cat", "bird", "owl"])
    data = data.replaced(labels=np.where(np.arange(3) == 1, 0, data.labels))  # no image has the second class
    outcomes = outcomes_of((0, 1), data)
    pair = paired(metric, outcomes, [outcome.samples for outcome in outcomes])
    assert pair.bootstrap_drop(2, 0).values == pytest.approx([outcome.metrics[metric].value for outcome in outcomes])


def test_samples_that_do_not_fit_the_metrics_are_refused():
    outcomes = outcomes_of((0, 1), random_data())
    frames = [outcome.samples for outcome in outcomes]
    fewer = frames[1].assign(scores=[row[:2] for row in frames[1]["scores"]])
    with pytest.raises(RequestError, match="samples of 3 classes in the baseline and 2"):
        paired("mean_average_precision", outcomes, [frames[0], fewer])
    damaged = pd.concat([frames[0].iloc[:1].assign(scores=[np.array([np.nan] * 3)]), frames[0].iloc[1:]])
    with pytest.raises(RequestError, match="damaged"):
        paired("mean_average_precision", outcomes, [damaged, frames[1]])
