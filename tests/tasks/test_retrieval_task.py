import numpy as np
import pytest
import torch

from cosmos_core.errors import RequestError
from cosmos_eval import tasks
from cosmos_eval.datasets.data import ClassificationData, RetrievalData
from cosmos_eval.engine import Engine
from cosmos_eval.metrics.ranks import expected_rank
from cosmos_eval.protocol.task_registry import TASKS, task_info
from cosmos_eval.tasks.retrieval import retrieval_info
from cosmos_eval.tasks.retrieval.paired import paired
from tests.helpers.stand_ins import Constant, Given, RandomModel, benchmark, random_images
from tests.oracles import ranks as oracle

SCORES = np.array([[0.9, 0.1, 0.8, 0.2], [0.9, 0.1, 0.5, 0.7], [0.3, 0.3, 0.3, 0.3]])
TEXTS = ["a", "b", "c", "d"]
DATA = RetrievalData(random_images(3), TEXTS, np.array([0, 0, 1, 2]))
BY_HAND = Given(
    {f"image-{i}": row for i, row in enumerate(np.eye(3))},
    dict(zip(TEXTS, SCORES.T, strict=True)),
)


def values(outcome):
    return {name: metric.value for name, metric in outcome.metrics.items()}


def test_three_images_and_four_texts_by_hand():
    outcome = tasks.run(benchmark("retrieval"), DATA, BY_HAND)
    assert values(outcome) == pytest.approx(
        {
            "image_to_text_recall@1": (1 + 0 + 0.25) / 3,
            "image_to_text_recall@5": 1,
            "image_to_text_recall@10": 1,
            "image_to_text_mean_rank": (1 + 3 + 2.5) / 3,
            "image_to_text_median_rank": 2.5,
            "text_to_image_recall@1": 0.5 / 4,
            "text_to_image_recall@5": 1,
            "text_to_image_recall@10": 1,
            "text_to_image_mean_rank": (1.5 + 2.5 + 2 + 2) / 4,
            "text_to_image_median_rank": 2,
        }
    )
    assert outcome.primary == "image_to_text_recall@1"
    assert {outcome.metrics[name].n for name in outcome.metrics if name.startswith("image")} == {3}
    assert {outcome.metrics[name].n for name in outcome.metrics if name.startswith("text")} == {4}


def test_samples_by_hand():
    samples = tasks.run(benchmark("retrieval", k=[1, 2]), DATA, BY_HAND).samples
    assert list(samples.columns) == ["direction", "query", "image", "rank", "hit@1", "hit@2"]
    assert samples["direction"].tolist() == ["image_to_text"] * 3 + ["text_to_image"] * 4
    assert samples["query"].tolist() == ["image-0", "image-1", "image-2", "0", "1", "2", "3"]
    assert samples["image"].tolist() == [f"image-{i}" for i in (0, 1, 2, 0, 0, 1, 2)]
    assert samples["rank"].tolist() == [1, 3, 2.5, 1.5, 2.5, 2, 2]
    assert samples["hit@1"].tolist() == [1, 0, 0.25, 0.5, 0, 0, 0]
    assert samples["hit@2"].tolist() == [1, 0, 0.5, 1, 0.5, 1, 1]


def reciprocal_of_expected_rank(queries):
    return 1 / expected_rank(queries.rank_counts)


@pytest.fixture
def with_metric(monkeypatch):
    """Registers a task `wider`: retrieval with one more metric."""

    def add(metric):
        monkeypatch.setitem(TASKS.built_in, "wider", retrieval_info("wider", {"reciprocal": metric}))

    return add


def test_a_further_metric_is_reported_in_both_directions_and_has_samples_and_a_paired_test(with_metric):
    with_metric("tests.tasks.test_retrieval_task:reciprocal_of_expected_rank")
    outcome = tasks.run(benchmark("wider", primary="text_to_image_reciprocal"), DATA, BY_HAND)
    plain = tasks.run(benchmark("retrieval"), DATA, BY_HAND)
    assert outcome.primary == "text_to_image_reciprocal"
    # the ranks by hand: 1, 3, 2.5 of images and 1.5, 2.5, 2, 2 of texts
    assert outcome.metrics["image_to_text_reciprocal"].value == pytest.approx((1 + 1 / 3 + 1 / 2.5) / 3)
    assert outcome.metrics["text_to_image_reciprocal"].value == pytest.approx((1 / 1.5 + 1 / 2.5 + 1 / 2 + 1 / 2) / 4)
    assert {name: outcome.metrics[name] for name in plain.metrics} == plain.metrics
    assert outcome.samples["reciprocal"].tolist() == pytest.approx((1 / outcome.samples["rank"]).tolist())
    hits = paired("text_to_image_reciprocal", (None, None), (outcome.samples, outcome.samples))
    assert hits.baseline.tolist() == pytest.approx([1 / 1.5, 1 / 2.5, 1 / 2, 1 / 2])
    assert task_info("wider").scoring_version == 2


@pytest.mark.parametrize(
    ("metric", "shape"),
    [(lambda queries: 2 * torch.ones(len(queries.rank_counts.above)), r"\(3,\)"), (lambda queries: 0.5, r"\(\)")],
    ids=["outside [0, 1]", "one number"],
)
def test_a_further_metric_must_return_a_number_for_each_query(with_metric, metric, shape):
    with_metric(metric)
    with pytest.raises(RequestError, match=rf"the metric reciprocal of retrieval gives values of the shape {shape}"):
        tasks.run(benchmark("wider"), DATA, BY_HAND)


def test_a_perfect_model_has_rank_1_everywhere_with_any_number_of_captions():
    rows = np.eye(4)
    owner = np.array([3, 0, 0, 1, 2, 2, 2])
    texts = [f"text {j}" for j in range(7)]
    given = Given({f"image-{i}": rows[i] for i in range(4)}, {t: rows[i] for t, i in zip(texts, owner, strict=True)})
    outcome = tasks.run(benchmark("retrieval"), RetrievalData(random_images(4), texts, owner), given)
    assert set(values(outcome).values()) == {1.0}
    for name, metric in outcome.metrics.items():
        if (
            "recall" in name
        ):  # four images: p ** 4 / 2 = 0.025; captions of one image are one, and weigh as they are many
            assert metric.low == pytest.approx(0.05**0.25) if "to_text" in name else 0.2 < metric.low < 0.05**0.25
            assert (metric.high, metric.method) == (1, "mid-p")
        else:
            assert metric.low == 1 < metric.high
    assert outcome.warnings == ()


def test_a_constant_model_scores_chance_in_both_directions_and_is_reported_as_collapsed():
    texts = [f"text {j}" for j in range(100)]
    data = RetrievalData(random_images(20), texts, np.arange(100) // 5)
    outcome = tasks.run(benchmark("retrieval"), data, Constant())
    metrics = values(outcome)
    for k in (1, 5, 10):
        assert metrics[f"image_to_text_recall@{k}"] == pytest.approx(float(oracle.expected_hit(0, 100, 5, k)))
        assert metrics[f"text_to_image_recall@{k}"] == pytest.approx(k / 20)
    assert metrics["image_to_text_mean_rank"] == pytest.approx(101 / 6)
    assert metrics["text_to_image_median_rank"] == pytest.approx(10.5)
    assert [line.split(":")[0] for line in outcome.warnings] == ["collapsed", "collapsed"]


def test_a_model_with_equal_image_features_has_ties_in_text_to_image_only():
    texts = [f"text {j}" for j in range(100)]
    outcome = tasks.run(
        benchmark("retrieval"), RetrievalData(random_images(20), texts, np.arange(100) // 5), Constant(texts=False)
    )
    assert values(outcome)["text_to_image_recall@1"] == pytest.approx(1 / 20)
    # Every image ranks the captions in the same order, without ties: the first caption belongs to exactly one image.
    assert values(outcome)["image_to_text_recall@1"] == 1 / 20
    assert len(outcome.warnings) == 1
    assert "images" in outcome.warnings[0]


def test_two_images_with_the_same_caption_share_the_hit():
    data = RetrievalData(random_images(2), ["same", "same"], np.array([0, 1]))
    outcome = tasks.run(benchmark("retrieval"), data, Engine(RandomModel()))
    assert values(outcome)["image_to_text_recall@1"] == 0.5
    assert values(outcome)["image_to_text_mean_rank"] == 1.5


def test_intervals_resample_images_and_contain_the_value():
    rng = np.random.default_rng(0)
    owner = np.arange(400) % 80
    rows, noise = rng.standard_normal((80, 8)), rng.standard_normal((400, 8))
    texts = [f"text {j}" for j in range(400)]
    given = Given(
        {f"image-{i}": row for i, row in enumerate(rows)},
        {text: rows[i] + n for text, i, n in zip(texts, owner, noise, strict=True)},
    )
    data = RetrievalData(random_images(80), texts, owner)
    first, again = (tasks.run(benchmark("retrieval"), data, given, seed=3) for _ in range(2))
    assert first.metrics == again.metrics
    assert tasks.run(benchmark("retrieval"), data, given, seed=4).metrics != first.metrics
    assert all(metric.low <= metric.value <= metric.high for metric in first.metrics.values())
    recall = first.metrics["text_to_image_recall@1"]
    assert 0.02 < recall.high - recall.low < 0.3


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (
            RetrievalData(random_images(2), ["a", "b"], np.array([0, 2])),
            "text 1 refers to image 2, but there are 2, ",
        ),
        (RetrievalData(random_images(2), ["a", "b"], np.array([0, -1])), "text 1 refers to image -1"),
        (RetrievalData(random_images(5), ["a", "b"], np.array([0, 3])), "3 of 5 images have no caption: image-1, "),
        (RetrievalData(random_images(2), [], np.array([], int)), "at least one"),
        (RetrievalData(random_images(2), ["a"], np.array([0, 1])), "the same number of each"),
        (ClassificationData(random_images(2), np.array([0, 1]), ["a", "b"], ["{c}"]), "needs RetrievalData"),
    ],
)
def test_broken_data_is_refused_before_any_compute(data, line):
    model = RandomModel()
    with pytest.raises(RequestError, match=line) as caught:
        tasks.run(benchmark("retrieval"), data, Engine(model))
    assert str(caught.value).startswith("some-retrieval: ")
    assert model.image_batches == model.text_batches == []


def test_an_unknown_primary_metric_is_refused():
    with pytest.raises(RequestError, match=r"no metric 'image_to_text_recall@7' here; .* image_to_text_recall@1, "):
        tasks.validate(benchmark("retrieval", primary="image_to_text_recall@7"), DATA)
    tasks.validate(benchmark("retrieval", primary="image_to_text_recall@7", k=[7]), DATA)
    with pytest.raises(RequestError, match="whole numbers of at least 1"):
        tasks.validate(benchmark("retrieval", k=[0, 1]), DATA)


def test_an_unknown_task_is_refused():
    with pytest.raises(RequestError, match="unknown task 'cooking'; choose one of retrieval"):
        tasks.run(benchmark("cooking"), DATA, BY_HAND)


def test_nan_weights_are_refused_with_the_first_image():
    model = RandomModel()
    model.of_pixels[0, 0] = float("nan")
    with pytest.raises(RequestError, match="image image-0 is not finite"):
        tasks.run(benchmark("retrieval"), DATA, Engine(model))
