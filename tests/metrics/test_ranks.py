"""Ranks and recall@k: by hand, in every order of ties, against slow oracles, and on invalid input."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmos_eval.metrics.ranks import RankCounts, expected_hit, expected_rank
from cosmos_eval.metrics.similarity import deduplicate_features, is_collapsed
from tests.helpers.feature_metrics import rank_counts_of_features
from tests.oracles import ranks as oracle

SCORES = torch.tensor([[0.9, 0.1, 0.8, 0.2], [0.9, 0.1, 0.5, 0.7], [0.3, 0.3, 0.3, 0.3]])
TEXT_IMAGE = torch.tensor([0, 0, 1, 2])
EYE = torch.eye(3)


def single_query(better: int, tied: int, positives: int) -> RankCounts:
    """Counts of a single query."""
    return RankCounts(torch.tensor([better]), torch.tensor([tied]), torch.tensor([positives]))


def positives_of(query: torch.Tensor, candidate: torch.Tensor, queries: int) -> list[list[int]]:
    return [candidate[query == q].tolist() for q in range(queries)]


def test_three_images_and_four_texts_by_hand():
    counts = rank_counts_of_features(EYE, SCORES.T, TEXT_IMAGE, torch.arange(4))
    assert counts.above.tolist() == [0, 2, 0]
    assert counts.tied.tolist() == [1, 1, 4]
    assert counts.tied_positives.tolist() == [1, 1, 1]
    assert expected_rank(counts).tolist() == [1, 3, 2.5]
    assert expected_hit(counts, 1).tolist() == [1, 0, 0.25]
    assert expected_hit(counts, 3).tolist() == [1, 1, 0.75]


def test_the_other_direction_by_hand():
    counts = rank_counts_of_features(SCORES.T, EYE, torch.arange(4), TEXT_IMAGE)
    assert expected_rank(counts).tolist() == [1.5, 2.5, 2, 2]
    assert expected_hit(counts, 1).tolist() == [0.5, 0, 0, 0]
    assert expected_hit(counts, 2).tolist() == [1, 0.5, 1, 1]


def test_a_perfect_model_is_always_first():
    features = torch.eye(6)
    counts = rank_counts_of_features(
        features, features.repeat_interleave(3, 0), torch.arange(6).repeat_interleave(3), torch.arange(18)
    )
    # the three captions of an image tie, and each of them is right
    assert expected_rank(counts).tolist() == [1] * 6
    assert expected_hit(counts, 1).tolist() == [1] * 6


@pytest.mark.parametrize("k", [1, 5, 10])
def test_a_constant_model_scores_chance_with_five_positives_among_a_hundred(k):
    counts = rank_counts_of_features(
        torch.ones(20, 4), torch.ones(100, 4), torch.arange(20).repeat_interleave(5), torch.arange(100)
    )
    chance = float(oracle.expected_hit(0, 100, 5, k))
    assert expected_hit(counts, k).tolist() == pytest.approx([chance] * 20, abs=1e-12)
    assert expected_rank(counts).tolist() == [101 / 6] * 20


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_expectations_are_the_mean_over_every_order_of_tied_candidates(data):
    tied = data.draw(st.integers(1, 6))
    positives = data.draw(st.integers(1, tied))
    better = data.draw(st.integers(0, 5))
    k = data.draw(st.integers(1, 12))
    rank, hit = oracle.by_every_order(better, tied, positives, k)
    assert (rank, hit) == (
        oracle.expected_rank(better, tied, positives),
        oracle.expected_hit(better, tied, positives, k),
    )
    assert expected_rank(single_query(better, tied, positives)).item() == pytest.approx(float(rank), abs=1e-12)
    assert expected_hit(single_query(better, tied, positives), k).item() == pytest.approx(float(hit), abs=1e-12)


@given(st.integers(0, 3000), st.integers(1, 3000), st.integers(1, 40), st.integers(1, 200))
@settings(max_examples=150, deadline=None)
def test_large_ties_agree_with_exact_fractions(better, negatives, positives, k):
    tied = negatives + positives
    counts = single_query(better, tied, positives)
    assert expected_hit(counts, k).item() == pytest.approx(
        float(oracle.expected_hit(better, tied, positives, k)), abs=1e-12
    )
    rank = float(oracle.expected_rank(better, tied, positives))
    assert expected_rank(counts).item() == pytest.approx(rank, rel=1e-12)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_counting_agrees_with_the_slow_oracle_in_any_block_size(data):
    queries, candidates, width = (data.draw(st.integers(1, high)) for high in (7, 12, 3))
    rng = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31)))
    # Small whole numbers: exact in float32 in any order of summation, and full of ties.
    q = torch.randint(-2, 3, (queries, width), generator=rng).float()
    c = torch.randint(-2, 3, (candidates, width), generator=rng).float()
    owner = torch.cat(
        [torch.arange(queries), torch.randint(0, queries, (data.draw(st.integers(0, 9)),), generator=rng)]
    )
    candidate = torch.randint(0, candidates, (len(owner),), generator=rng)
    pairs = torch.stack([owner, candidate], 1).unique(dim=0)
    pairs = pairs[torch.randperm(len(pairs), generator=rng)]  # any order of the positives
    scores = (q.double() @ c.double().T).numpy()
    expected = oracle.count_by_loops(scores, positives_of(pairs[:, 0], pairs[:, 1], queries))
    counts = rank_counts_of_features(
        q, c, pairs[:, 0], pairs[:, 1], block_bytes=data.draw(st.sampled_from([1, 100, 10**6]))
    )
    by_query = torch.stack([counts.above, counts.tied, counts.tied_positives], dim=1)
    assert [tuple(query) for query in by_query.tolist()] == expected


def test_random_features_agree_with_float64_if_scores_differ_by_more_than_rounding():
    rng = torch.Generator().manual_seed(5)
    q = torch.nn.functional.normalize(torch.randn(200, 48, generator=rng), dim=1)
    c = torch.nn.functional.normalize(torch.randn(900, 48, generator=rng), dim=1)
    owner = torch.randint(0, 200, (900,), generator=rng)
    owner[:200] = torch.arange(200)
    counts = rank_counts_of_features(q, c, owner, torch.arange(900), block_bytes=50_000)
    scores = q.double() @ c.double().T
    clear = 0
    for i in range(200):
        best = scores[i][owner == i].max()
        others = scores[i][owner != i]
        if (others - best).abs().min() > 1e-6:
            clear += 1
            assert (counts.above[i], counts.tied[i]) == ((others > best).sum(), 1)
    assert clear > 150


CUDA = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"))


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("width", [1, 7, 48, 257])
@pytest.mark.parametrize("queries", [1, 5, 33])
def test_equal_features_tie_exactly_at_any_index(queries, width, device):
    rng = torch.Generator().manual_seed(queries * 1000 + width)
    c = torch.randn(311, width, generator=rng)
    copies = torch.randint(0, 311, (12,), generator=rng)
    c = torch.cat([c, c[copies]])
    q = torch.randn(queries, width, generator=rng)
    for j, original in enumerate(copies.tolist()):
        counts = rank_counts_of_features(
            q.to(device), c.to(device), torch.arange(queries), torch.full((queries,), 311 + j)
        )
        assert (counts.tied >= 1 + int((c[:311] == c[original]).all(1).sum())).all()
        assert (counts.tied_positives == 1).all()


def test_zero_and_minus_zero_are_equal():
    shared = deduplicate_features(torch.tensor([[0.0, 1.0], [-0.0, 1.0], [1.0, 0.0]]))
    assert shared.column.tolist() == [0, 0, 1]
    assert shared.copies.tolist() == [2, 1]
    assert shared.features.tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e30])
def test_a_query_that_is_not_finite_is_an_error_that_names_it(bad):
    q = torch.ones(4, 3)
    q[2, 1] = bad
    with pytest.raises(ValueError, match="query 2 are not finite"):
        rank_counts_of_features(q, torch.ones(4, 3), torch.arange(4), torch.arange(4))


def test_a_candidate_that_is_not_finite_is_an_error_that_names_it():
    c = torch.ones(4, 3)
    c[3, 0] = float("nan")
    with pytest.raises(ValueError, match="candidate 3 are not finite"):
        rank_counts_of_features(torch.ones(4, 3), c, torch.arange(4), torch.arange(4))


def test_a_query_without_a_positive_is_an_error_that_names_it():
    with pytest.raises(ValueError, match="query 1 has no positive"):
        rank_counts_of_features(torch.ones(3, 2), torch.ones(3, 2), torch.tensor([0, 2]), torch.tensor([0, 1]))


def test_a_positive_out_of_range_is_an_error_that_names_it():
    with pytest.raises(ValueError, match="positive 1 points at candidate 3, there are 3"):
        rank_counts_of_features(torch.ones(3, 2), torch.ones(3, 2), torch.arange(3), torch.tensor([0, 3, 1]))
    with pytest.raises(ValueError, match="points at query -1"):
        rank_counts_of_features(torch.ones(3, 2), torch.ones(3, 2), torch.tensor([0, -1, 2]), torch.arange(3))


def test_k_starts_at_one_and_may_exceed_the_candidates():
    assert expected_hit(single_query(2, 1, 1), 50).tolist() == [1.0]
    with pytest.raises(ValueError, match="at least 1"):
        expected_hit(single_query(0, 1, 1), 0)


def test_scores_do_not_depend_on_precision_settings_outside():
    rng = torch.Generator().manual_seed(0)  # without a seed two float32 scores tied in one of some hundred runs
    q, c = torch.randn(50, 64, generator=rng), torch.randn(900, 64, generator=rng)
    positives = torch.arange(50), torch.arange(50)
    reference = rank_counts_of_features(q, c, *positives)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            again = rank_counts_of_features(q, c, *positives)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert reference.above.tolist() == again.above.tolist()
    # in bfloat16, scores of 900 candidates would tie often, and counts above 256 would be inexact
    assert again.tied.max() == 1
    assert reference.above.max() > 256


def test_features_are_collapsed_if_they_differ_by_rounding_only():
    row = torch.nn.functional.normalize(torch.randn(1, 8), dim=1)
    assert is_collapsed(row.repeat(5, 1) + 4e-6 * torch.tensor([[0.0], [1], [-1], [1], [0]]))
    assert not is_collapsed(torch.cat([row.repeat(5, 1), row + 1e-3]))
    assert not is_collapsed(row)


def test_counts_do_not_depend_on_numpy_or_torch_integer_types():
    counts = rank_counts_of_features(
        EYE, SCORES.T, torch.from_numpy(np.array([0, 0, 1, 2], dtype=np.int32)), torch.arange(4)
    )
    assert expected_rank(counts).tolist() == [1, 3, 2.5]
