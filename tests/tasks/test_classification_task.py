import numpy as np
import pytest
import torch

from cosmos_core.errors import RequestError
from cosmos_eval import tasks
from cosmos_eval.datasets.data import ClassificationData
from cosmos_eval.engine import Engine
from cosmos_eval.tasks.prompts import build_class_embeddings, build_class_prompts
from tests.helpers.stand_ins import Constant, Given, RandomModel, benchmark, random_images


def values(outcome):
    return {name: metric.value for name, metric in outcome.metrics.items()}


def test_four_images_and_four_classes_by_hand():
    # the class embeddings are the axes, so that the cosines are the coordinates of the images
    rows = np.array([[0.8, 0.6, 0, 0], [0.6, 0.8, 0, 0], [0.5, 0.5, 0.5, 0.5], [0, 0, 0, 1]])
    given = Given({f"image-{i}": row for i, row in enumerate(rows)}, dict(zip("wxyz", np.eye(4), strict=True)))
    data = ClassificationData(
        random_images(4), np.array([0, 0, 1, 2]), list("wxyz"), ["{c}"], empty_classes_allowed=True
    )
    outcome = tasks.run(benchmark("classification"), data, given)
    # 1, 0, one of four, 0; per class (1 + 0) / 2, 1/4, 0 over the three classes that have images
    assert values(outcome) == pytest.approx({"top1": 1.25 / 4, "mean_per_class": (0.5 + 0.25 + 0) / 3})
    samples = outcome.samples
    assert list(samples.columns) == ["image", "label", "prediction", "correct", "margin"]
    assert samples["correct"].tolist() == [1, 0, 0.25, 0]
    assert samples["prediction"].tolist() == [0, 1, 0, 3]
    assert samples["margin"].tolist() == pytest.approx([0.2, -0.2, 0, -1])
    assert outcome.primary == "top1"


def test_a_perfect_model_is_right_everywhere():
    labels = np.arange(30) % 6
    given = Given(
        {f"image-{i}": np.eye(6)[label] for i, label in enumerate(labels)},
        dict(zip("abcdef", np.eye(6), strict=True)),
    )
    data = ClassificationData(random_images(30), labels, list("abcdef"), ["{}"])
    outcome = tasks.run(benchmark("classification"), data, given)
    assert values(outcome) == {"top1": 1, "top5": 1, "mean_per_class": 1}
    assert outcome.warnings == ()


def test_a_constant_model_scores_chance_although_the_first_class_is_the_largest():
    labels = np.array([0] * 60 + list(range(1, 10)))
    data = ClassificationData(random_images(69), labels, [f"class {i}" for i in range(10)], ["a photo of a {c}."])
    outcome = tasks.run(benchmark("classification"), data, Constant())
    assert values(outcome) == pytest.approx({"top1": 0.1, "top5": 0.5, "mean_per_class": 0.1})
    assert (outcome.samples["prediction"] == labels).mean() == 60 / 69  # what a first-index argmax would report
    assert len(outcome.warnings) == 2


def test_class_embeddings_are_the_normalised_mean_of_normalised_prompts_encoded_in_one_batch():
    model = RandomModel()
    names, templates = ["cat", "dog", "cat", "owl"], ["a {c}.", "the {}.", "a big {c}."]
    weights = build_class_embeddings(Engine(model, batch_size=64), names, templates)
    for row, name in zip(weights, names, strict=True):
        prompts = [f"a {name}.", f"the {name}.", f"a big {name}."]
        rows = torch.nn.functional.normalize(model.encode_text(prompts), dim=1)
        assert torch.allclose(row, torch.nn.functional.normalize(rows.mean(0), dim=0), atol=1e-6)
    assert torch.equal(weights[0], weights[2])
    assert model.text_batches[0] == [f"{a} {n}." for n in ("cat", "dog", "owl") for a in ("a", "the", "a big")]


def test_two_classes_with_one_name_share_the_hits_of_their_images():
    data = ClassificationData(random_images(12), np.arange(12) % 3, ["missile", "rocket", "missile"], ["a {c}"])
    outcome = tasks.run(benchmark("classification"), data, Engine(RandomModel()))
    of_missiles = outcome.samples[outcome.samples["label"] != 1]
    assert set(of_missiles["correct"]) <= {0.0, 0.5}
    assert (of_missiles["margin"] <= 0).all()


def test_each_class_may_have_its_own_templates():
    prompts = build_class_prompts(["cat", "dog"], [["a {c}", "it purrs"], ["a {c}"]])
    assert prompts == [["a cat", "it purrs"], ["a dog"]]
    weights = build_class_embeddings(Engine(RandomModel()), ["cat", "dog"], [["a {c}", "it purrs"], ["a {c}"]])
    assert weights.shape == (2, 16)


def test_other_braces_in_names_and_templates_are_not_placeholders():
    assert build_class_prompts(["{}", "a{c}b"], ["<{c}> {x} {}"]) == [["<{}> {x} {}"], ["<a{c}b> {x} a{c}b"]]


@pytest.mark.parametrize(
    ("templates", "line"),
    [
        ([], "prompts need class names and templates"),
        (["a photo"], "no placeholder for the class"),
        ([["a {c}"]], "templates for 1 class and 2 class names"),
        ([["a {c}"], []], "'dog' needs a list of at least one template"),
        ([["a {c}"], "a {c}"], "'dog' needs a list"),
    ],
)
def test_unusable_templates_are_refused_before_any_compute(templates, line):
    model = RandomModel()
    data = ClassificationData(random_images(2), np.array([0, 1]), ["cat", "dog"], templates)
    with pytest.raises(RequestError, match=line):
        tasks.run(benchmark("classification"), data, Engine(model))
    assert model.text_batches == model.image_batches == []


@pytest.mark.parametrize(
    ("labels", "line"),
    [
        ([0, 2], "image 1 refers to class 2, but there are 2, numbered from 0"),
        ([-1, 0], "image 0 refers to class -1"),
        ([0, 0], "1 of 2 classes have no images: dog"),
        ([0], "the same number of each"),
    ],
)
def test_wrong_labels_are_refused_before_any_compute(labels, line):
    model = RandomModel()
    data = ClassificationData(random_images(2), np.array(labels), ["cat", "dog"], ["a {c}"])
    with pytest.raises(RequestError, match=line):
        tasks.run(benchmark("classification"), data, Engine(model))
    assert model.image_batches == []


def test_classes_without_images_are_candidates_but_not_part_of_the_mean_per_class():
    labels = np.array([0, 0, 3])
    data = ClassificationData(random_images(3), labels, list("abcde"), ["a {c}"], empty_classes_allowed=True)
    outcome = tasks.run(benchmark("classification"), data, Engine(RandomModel()))
    correct = outcome.samples["correct"].to_numpy()
    assert values(outcome)["mean_per_class"] == pytest.approx((correct[:2].mean() + correct[2]) / 2)
    assert "top5" in outcome.metrics


def test_top5_of_four_classes_is_not_a_metric():
    data = ClassificationData(random_images(4), np.arange(4), list("abcd"), ["a {c}"])
    with pytest.raises(RequestError, match=r"no metric 'top5' here; metrics\.primary may be top1, mean_per_class"):
        tasks.validate(benchmark("classification", primary="top5"), data)


def test_the_interval_of_mean_per_class_is_not_empty_with_one_image_per_class():
    names = [f"class {i}" for i in range(60)]
    given = Given({f"image-{i}": np.eye(60)[i - i % 2] for i in range(60)}, dict(zip(names, np.eye(60), strict=True)))
    data = ClassificationData(random_images(60), np.arange(60), names, ["{c}"])
    metric = tasks.run(benchmark("classification"), data, given).metrics["mean_per_class"]
    assert metric.value == 0.5
    assert 0.15 < metric.high - metric.low < 0.45
