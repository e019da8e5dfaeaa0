"""Tasks with scores of every kind: constant, perfect and broken models, and means over prompts."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmos_core.errors import RequestError
from cosmos_eval import tasks
from cosmos_eval.datasets.data import ClassificationData, PerceptionData, RetrievalData
from cosmos_eval.datasets.image_sources import ArrayImage
from cosmos_eval.engine import Engine
from cosmos_eval.engine.scores import DotProductScores
from cosmos_eval.metrics.accuracy import compute_class_rank_counts
from cosmos_eval.metrics.item_accuracy import dot_products
from cosmos_eval.metrics.query_scores import DotProducts, MatrixScores, MeanOverPrompts
from cosmos_eval.metrics.ranks import compute_rank_counts, expected_hit
from cosmos_eval.models.python import as_model
from tests.helpers import scoring_models
from tests.helpers.score_matrices import build_engine, run_retrieval, score_one_by_one
from tests.helpers.stand_ins import benchmark, random_images
from tests.oracles import ranks as rank_oracle
from tests.oracles import scores as oracle


@pytest.mark.parametrize("name", ["ConstantLate", "ConstantPairs"])
def test_a_model_with_constant_scores_is_at_chance_in_every_task(name):
    texts = [f"text {j}" for j in range(20)]
    engine = build_engine(name)
    retrieval = tasks.run(benchmark("retrieval"), RetrievalData(random_images(10), texts, np.arange(20) // 2), engine)
    for k in (1, 5):
        chance = float(rank_oracle.expected_hit(0, 20, 2, k))
        assert retrieval.metrics[f"image_to_text_recall@{k}"].value == pytest.approx(chance)
        assert retrieval.metrics[f"text_to_image_recall@{k}"].value == pytest.approx(k / 10)
    data = ClassificationData(random_images(8), np.arange(8), list("abcdefgh"), ["a {c}", "the {c}"])
    assert tasks.run(benchmark("classification"), data, engine).metrics["top1"].value == pytest.approx(1 / 8)
    items = PerceptionData(
        random_images(4),
        texts[:8],
        np.arange(4)[:, None],
        np.arange(8).reshape(4, 2),
        ["one"] * 4,
        groups={},
        left_out=(),
    )
    metrics = tasks.run(benchmark("perception"), items, engine).metrics
    assert metrics["accuracy"].value == 0
    assert metrics["accuracy_expected"].value == pytest.approx(0.5)
    assert bool(retrieval.warnings) == (name == "ConstantLate")  # a pair scorer has no features that could collapse


class Perfect(scoring_models.Pairs):
    """A model whose best text for the image of grey value j is text j."""

    def score_pairs(self, images, texts):
        grey = (images.mean((1, 2, 3)) * 255).round()
        return -(grey - torch.tensor([float(text.split()[-1]) for text in texts])).abs()


class PerfectLate(scoring_models.Late):
    def encode_image(self, x):
        grey = (x.mean((1, 2, 3)) * 255).round().long()
        return torch.stack([torch.eye(16)[grey], torch.ones(len(x), 16)], dim=1)

    def encode_text(self, texts):
        return torch.stack([torch.eye(16)[[int(text.split()[-1]) for text in texts]]] * 2, dim=1)


@pytest.mark.parametrize("model", [Perfect, PerfectLate])
def test_a_perfect_model_is_perfect_in_every_task(model):
    greys = [ArrayImage(f"grey-{i}", np.full((8, 8, 3), i, dtype=np.uint8)) for i in range(8)]
    texts = [f"grey {i}" for i in range(8)]
    engine = Engine(as_model(model()), batch_size=4)
    retrieval = tasks.run(benchmark("retrieval"), RetrievalData(greys, texts, np.arange(8)), engine)
    assert {metric.value for metric in retrieval.metrics.values()} == {1.0}
    data = ClassificationData(greys, np.arange(8), [str(i) for i in range(8)], ["grey {c}", "a grey of {c}"])
    assert {m.value for m in tasks.run(benchmark("classification"), data, engine).metrics.values()} == {1.0}
    places = np.stack([np.arange(8), (np.arange(8) + 1) % 8], axis=1)
    items = PerceptionData(greys, texts, places, places, ["one"] * 8, groups={}, left_out=())
    metrics = tasks.run(benchmark("perception"), items, engine).metrics
    assert {metrics[name].value for name in ("text_score", "image_score", "group_score")} == {1.0}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("NanLate", "the score of image image-0 with the text 'a red circle' is not finite"),
        ("NanPairs", "the score of image image-0 with the text 'a red circle' is not finite"),
    ],
)
def test_the_first_pair_with_a_score_that_is_not_finite_is_named(name, message):
    with pytest.raises(RequestError, match=rf"scoring_models:{name}: {message}; check the weights"):
        run_retrieval(name)


def test_a_class_has_the_mean_score_of_its_prompts_if_the_score_is_not_the_dot_product():
    images, names, templates = random_images(6), ["cat", "dog", "cat", "ox"], ["a {c}", "the {c}!", "one {c} here"]
    labels = np.array([0, 1, 2, 3, 0, 1])
    data = ClassificationData(images, labels, names, templates)
    outcome = tasks.run(benchmark("classification"), data, build_engine("Pairs"))
    prompts = [template.format(c=name) for name in names for template in templates]
    expected = score_one_by_one("Pairs", images, prompts).reshape(6, 4, 3).mean(2)
    for row, (label, prediction, correct) in enumerate(
        zip(labels, outcome.samples["prediction"], outcome.samples["correct"], strict=True)
    ):
        assert prediction == expected[row].argmax()
        right = bool(np.isclose(expected[row, label], expected[row].max()))
        assert correct == (right and (0.5 if names[label] == "cat" else 1.0))  # two classes with the same name tie


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_means_over_prompts_agree_with_exact_fractions(data):
    classes = data.draw(st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=4), min_size=1, max_size=5))
    rng = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31)))
    values = 12.0 * torch.randint(-3, 4, (4, 7), generator=rng)  # divisible by 1 to 4: every mean is exact
    column = torch.arange(len(classes))
    averaged = MeanOverPrompts(MatrixScores(values, torch.arange(4), torch.arange(7)), classes, column)
    labels = torch.randint(0, len(classes), (4,), generator=rng)
    counts = compute_class_rank_counts(averaged, labels, len(classes), data.draw(st.sampled_from([1, 10**6])))
    for i in range(4):
        means = oracle.mean_of_prompts(values[i].tolist(), classes)
        label_mean = means[labels[i]]
        assert counts.above[i] == sum(mean > label_mean for mean in means)
        assert counts.tied[i] == sum(mean == label_mean for mean in means)


def test_dot_product_scores_are_those_of_the_metrics():
    rng = torch.Generator().manual_seed(1)
    images, texts = (torch.nn.functional.normalize(torch.randn(count, 24, generator=rng), dim=1) for count in (30, 90))
    scores = DotProductScores(images, texts)
    assert isinstance(scores.image_to_text(), DotProducts)
    owner = torch.arange(90) % 30
    places = compute_rank_counts(scores.text_to_image(), torch.arange(90), owner, 30)
    assert expected_hit(places, 30).tolist() == [1.0] * 90
    pairs = torch.stack([owner, torch.arange(90)], dim=1)
    assert torch.equal(scores.of_pairs(pairs), dot_products(images, texts, pairs))
