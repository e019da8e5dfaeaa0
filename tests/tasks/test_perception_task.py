import numpy as np
import pytest

from cosmos_core.errors import RequestError
from cosmos_eval import tasks
from cosmos_eval.datasets.data import PerceptionData
from cosmos_eval.engine import Engine
from tests.helpers.stand_ins import Constant, Given, RandomModel, benchmark, random_images

GIVEN = Given(
    {"image-0": [1, 0], "image-1": [0, 1]},
    {"right": [0.8, 0.6], "wrong": [0.6, 0.8], "level": [0.8, 0.6], "worse": [1, 0]},
)


def data(**changed):
    fields = {
        "images": random_images(2),
        "item_image": np.array([0, 0, 1, 1]),
        "positives": ["right", "right", "right", "right"],
        "negatives": ["wrong", "level", "wrong", "worse"],
        "subsets": ["add", "add", "swap", "add"],
    }
    return PerceptionData.pairs(**(fields | changed))


def values(outcome):
    return {name: metric.value for name, metric in outcome.metrics.items()}


def test_four_items_by_hand():
    outcome = tasks.run(benchmark("perception"), data(), GIVEN)
    # 0.8 > 0.6 right; 0.8 = 0.8 tie; 0.6 < 0.8 wrong; 0.6 > 0 right
    assert values(outcome) == pytest.approx(
        {
            "add/accuracy": 2 / 3,
            "swap/accuracy": 0,
            "accuracy": 2 / 4,
            "macro_accuracy": 1 / 3,
            "add/accuracy_expected": 2.5 / 3,
            "swap/accuracy_expected": 0,
            "accuracy_expected": 2.5 / 4,
            "macro_accuracy_expected": 2.5 / 6,
        }
    )
    assert outcome.primary == "accuracy"
    assert outcome.metrics["add/accuracy"].n == 3
    samples = outcome.samples
    assert samples["image"].tolist() == ["image-0", "image-0", "image-1", "image-1"]
    assert samples["subset"].tolist() == ["add", "add", "swap", "add"]
    assert samples["margin"].tolist() == pytest.approx([0.2, 0, -0.2, 0.6])
    for scores, (right, wrong) in zip(samples["scores"], [(0.8, 0.6), (0.8, 0.8), (0.6, 0.8), (0.6, 0)], strict=True):
        assert list(scores) == pytest.approx([right, wrong])
    assert samples["correct"].tolist() == [1, 0, 0, 1]
    assert samples["expected"].tolist() == [1, 0.5, 0, 1]


def test_a_perfect_model_is_right_everywhere():
    perfect = Given({"image-0": [1, 0], "image-1": [1, 0]}, {"right": [1, 0], "wrong": [0, 1]})
    outcome = tasks.run(benchmark("perception"), data(negatives=["wrong"] * 4), perfect)
    assert set(values(outcome).values()) == {1.0}


def test_a_constant_model_scores_0_strictly_and_one_half_in_expectation():
    outcome = tasks.run(benchmark("perception"), data(), Constant())
    for name, value in values(outcome).items():
        assert value == (0.5 if name.endswith("_expected") else 0), name
    assert len(outcome.warnings) == 2


def test_the_interval_resamples_images_not_items():
    many = random_images(40)
    item_image = np.repeat(np.arange(40), 25)
    given = Given({image.key: [1, 0] if i % 2 else [0, 1] for i, image in enumerate(many)}, {"x": [1, 0], "y": [0, 1]})
    items = PerceptionData.pairs(many, item_image, ["x"] * 1000, ["y"] * 1000, ["all"] * 1000)
    metrics = tasks.run(benchmark("perception"), items, given).metrics
    for name in ("accuracy", "macro_accuracy", "all/accuracy", "all/accuracy_expected"):
        assert metrics[name].value == 0.5
        # the width of 40 tosses (0.31), not that of 1,000 (0.06)
        assert 0.2 < metrics[name].high - metrics[name].low < 0.4, name


@pytest.mark.parametrize(
    ("broken", "line"),
    [
        (data(item_image=np.array([0, 1, 2, 0])), "item 2 refers to image 2, but there are 2, numbered from 0"),
        (data(subsets=["add"]), "4 images of items, 4 texts of items, 1 subsets of items"),
        (data(item_image=np.array([], int), positives=[], negatives=[], subsets=[]), "at least one"),
    ],
)
def test_broken_items_are_refused_before_any_compute(broken, line):
    model = RandomModel()
    with pytest.raises(RequestError, match=line):
        tasks.run(benchmark("perception"), broken, Engine(model))
    assert model.image_batches == []


def test_the_primary_metric_may_be_a_subset_or_the_mean_over_subsets():
    for primary in ("swap/accuracy", "macro_accuracy", "accuracy_expected"):
        assert tasks.run(benchmark("perception", primary=primary), data(), GIVEN).primary == primary
    with pytest.raises(RequestError, match="no metric 'replace/accuracy'"):
        tasks.validate(benchmark("perception", primary="replace/accuracy"), data())


def test_a_match_counts_each_image_and_text_once():
    """As in the notebook of SVO-Probes: the average of the means over matches and over non-matches, in subsets too."""
    given = Given({"image-0": [1, 0], "image-1": [0, 1], "image-2": [0.6, 0.8], "image-3": [0.8, 0.6]}, {"x": [1, 0]})
    items = PerceptionData(
        random_images(4), ["x"], np.array([[0, 1], [0, 2], [0, 3], [1, 3]]), np.zeros((4, 1), int), ["s", "s", "v", "v"]
    )
    metrics = values(tasks.run(benchmark("perception"), items, given))
    # Matches score 1 and 0, non-matches 0, .6 and .8, each pair once; two scores are above the threshold of .7. Image 0
    # is called a match, image 1 is not; of the non-matches, 0 and .6 are below the threshold.
    assert metrics["match_accuracy"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert metrics["match_accuracy_expected"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert metrics["s/match_accuracy"] == 1
    assert metrics["v/match_accuracy"] == pytest.approx((1 / 2 + 0) / 2)
    assert metrics["macro_match_accuracy"] == pytest.approx((1 + 1 / 4) / 2)
    assert metrics["accuracy"] == 3 / 4


def recurring() -> PerceptionData:
    """One match and three non-matches for each text, as for most texts of SVO-Probes."""
    images = np.array([[4 * i, 4 * i + k] for i in range(3) for k in (1, 2, 3)])
    texts = np.repeat(np.arange(3), 3)[:, None]
    return PerceptionData(random_images(12), ["x", "y", "z"], images, texts, ["subject", "verb", "object"] * 3)


def test_a_repeated_match_does_not_change_the_scores_of_perfect_and_constant_models():
    axes = np.eye(4)
    images = {f"image-{i}": axes[3 if i % 4 else i // 4] for i in range(12)}
    perfect = Given(images, dict(zip("xyz", axes, strict=False)))
    assert set(values(tasks.run(benchmark("perception"), recurring(), perfect)).values()) == {1.0}
    constant = Given({f"image-{i}": [1, 0] for i in range(12)}, {text: [1, 0] for text in "xyz"})
    for name, value in values(tasks.run(benchmark("perception"), recurring(), constant)).items():
        assert value == (0.5 if name.endswith("_expected") else 0), name
