"""Reranking: the best candidates of a first stage, scored again as pairs."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmos_core.errors import RequestError
from cosmos_eval import tasks
from cosmos_eval.datasets.data import RetrievalData
from cosmos_eval.engine import Engine
from cosmos_eval.engine.rerank import Reranked, as_comparison_keys
from cosmos_eval.metrics.query_scores import MatrixScores
from cosmos_eval.metrics.ranks import compute_rank_counts
from cosmos_eval.models.python import as_model
from tests.helpers import scoring_models
from tests.helpers.score_matrices import TEXTS, run_retrieval
from tests.helpers.stand_ins import RandomModel, benchmark, random_images
from tests.oracles import scores as oracle


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_reranking_equals_sorting_where_ties_are_rescored_together_or_not_at_all(data):
    n, m = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 9))
    rng = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31)))
    first = torch.randint(-2, 3, (n, m), generator=rng).float()
    second = torch.randint(-2, 3, (n, m), generator=rng).float() * data.draw(st.sampled_from([-1e30, 0.0, 1e-40]))
    row = torch.randint(0, n, (n + 2,), generator=rng)
    row[:n] = torch.arange(n)
    column = torch.randint(0, m, (m + 3,), generator=rng)
    column[:m] = torch.arange(m)
    k = data.draw(st.integers(1, m + 4))
    for by_image in (True, False):
        a, b = (first, second) if by_image else (first.T, second.T)
        query, candidate = (row, column) if by_image else (column, row)
        direction = Reranked(MatrixScores(a, query, candidate), query, candidate, k, by_image)
        direction.pairs = direction.wanted
        assert len(direction.pairs) <= k * len(a)
        direction.scores = torch.tensor([second[p // m, p % m] for p in direction.pairs.tolist()])
        positive = torch.randint(0, len(candidate), (len(query),), generator=rng)
        places = compute_rank_counts(
            direction, torch.arange(len(query)), positive, len(candidate), data.draw(st.sampled_from([1, 200, 10**6]))
        )
        for q, place in enumerate(zip(places.above, places.tied, places.tied_positives, strict=True)):
            keys = oracle.rerank(a[query[q]][candidate].tolist(), b[query[q]][candidate].tolist(), k)
            assert tuple(map(int, place)) == oracle.places(keys, [int(positive[q])])


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=2, max_size=20))
def test_comparison_keys_have_the_order_and_the_ties_of_the_scores(values):
    keys = as_comparison_keys(torch.tensor(values)).tolist()
    for a, x in zip(values, keys, strict=True):
        for b, y in zip(values, keys, strict=True):
            assert (a < b, a == b) == (x < y, x == y)


@pytest.mark.parametrize("name", ["Both", "Cosines"])
def test_reranking_all_candidates_equals_scoring_all_pairs(name):
    _, all_pairs = run_retrieval(name)
    _, all_reranked = run_retrieval(name, rerank=6)
    outcome, two_reranked = run_retrieval(name, rerank=2)
    assert all_reranked == all_pairs
    assert two_reranked != all_pairs
    assert outcome.warnings == ()


def test_rerank_by_hand():
    # For the only image, embeddings rank the texts 0, 1, 2. The pair scores rank them 2, 1, 0, but only the best two by
    # embeddings, 0 and 1, are rescored. So the final order is 1, 0, 2.
    class Model(RandomModel):
        def encode_image(self, x):
            return torch.tensor([[1.0, 0.0]]).expand(len(x), 2)

        def encode_text(self, texts):
            return torch.tensor([[1.0, float(text)] for text in texts])

        def score_pairs(self, images, texts):
            return torch.tensor([float(text) for text in texts])

    data = RetrievalData(random_images(1), ["0", "1", "2"], np.array([0, 0, 0]))
    engine = Engine(Model(), batch_size=2)
    direction = engine.score(data.images, data.texts, rerank=2).image_to_text()
    better_candidates = [
        compute_rank_counts(direction, torch.tensor([0]), torch.tensor([text]), 3).above.item() for text in range(3)
    ]
    assert better_candidates == [1, 0, 2]
    assert (
        engine.encoded["pairs"] == 3
    )  # two for the image; each text has a single candidate, and these pairs are among them or are scored as well


def test_a_first_stage_with_equal_scores_rescores_nothing_and_is_at_chance():
    class Collapsed(scoring_models.Cosines):
        def encode_text(self, texts):
            return torch.ones(len(texts), 8)

        def encode_image(self, x):
            return torch.ones(len(x), 8)

    data = RetrievalData(random_images(5), TEXTS[:3] + TEXTS[4:], np.arange(5))
    model = Collapsed()
    outcome = tasks.run(benchmark("retrieval", k=[1], rerank=3), data, Engine(as_model(model)))
    assert model.batches == []
    assert outcome.metrics["image_to_text_recall@1"].value == pytest.approx(1 / 5)


@pytest.mark.parametrize("value", [0, 2.5, True, "3"])
def test_a_rerank_that_is_not_a_positive_integer_is_refused(value):
    data = RetrievalData(random_images(2), ["a", "b"], np.array([0, 1]))
    with pytest.raises(RequestError, match=r"metrics\.rerank must be a whole number of at least 1"):
        tasks.validate(benchmark("retrieval", rerank=value), data)


def test_a_model_that_cannot_rerank_gets_a_warning():
    outcome, values = run_retrieval("Late", rerank=3)
    assert outcome.warnings == ("rerank: 3 had no effect: the model has no score_pairs",)
    assert values == run_retrieval("Late")[1]
    outcome, values = run_retrieval("Pairs", rerank=3)
    assert outcome.warnings == ("rerank: 3 was not needed: the model has no embeddings, and all pairs were scored",)
    assert values == run_retrieval("Pairs")[1]
