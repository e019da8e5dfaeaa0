"""Retrieval with captions of several images and with distractors: by hand, slow oracle, clip-benchmark, chance."""

import numpy as np
import pytest
import torch
from clip_benchmark.metrics.zeroshot_retrieval import recall_at_k
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmos_core.errors import RequestError
from cosmos_eval import tasks
from cosmos_eval.datasets import take_images
from cosmos_eval.datasets.data import RetrievalData
from cosmos_eval.datasets.fingerprint import dataset_fingerprint
from cosmos_eval.engine import Engine
from cosmos_eval.metrics.query_scores import MatrixScores, SelectedQueries
from cosmos_eval.show.cases import retrieval_cases
from cosmos_eval.tasks.retrieval.paired import paired
from tests.helpers.stand_ins import Constant, Given, RandomModel, benchmark, random_images
from tests.oracles import ranks as oracle

BENCHMARK = benchmark("retrieval", k=[1, 2])


def make_data(images, texts, pairs, **fields):
    fields = {"distractors_allowed": True, **fields}
    return RetrievalData.from_pairs(random_images(images), [f"t{j}" for j in range(texts)], np.array(pairs), **fields)


def with_scores(scores):
    """A model with these (N, M) scores."""
    scores = np.asarray(scores, np.float32)
    return Given(
        {f"image-{i}": row for i, row in enumerate(np.eye(len(scores)))}, {f"t{j}": c for j, c in enumerate(scores.T)}
    )


def values(outcome):
    return {name: metric.value for name, metric in outcome.metrics.items()}


# caption 0 belongs to images 0 and 1, caption 1 to image 1; image 2 has no caption, caption 2 no image
DATA = make_data(3, 3, [(0, 0), (1, 0), (1, 1)])
SCORES = [[0.5, 0.1, 0.5], [0.5, 0.2, 0.9], [0.5, 0.8, 0.0]]


def test_three_images_and_three_texts_by_hand():
    outcome = tasks.run(BENCHMARK, DATA, with_scores(SCORES))
    samples = outcome.samples
    assert samples["direction"].tolist() == ["image_to_text"] * 2 + ["text_to_image"] * 2
    assert samples["query"].tolist() == ["image-0", "image-1", "0", "1"]
    assert samples["image"].tolist() == ["image-0", "image-1", "image-0", "image-1"]
    # Image 0: its caption ties with the distractor. Image 1: the distractor, then caption 0.
    # Caption 0: all three images tie, two are right. Caption 1: the distractor image, then image 1.
    assert samples["rank"].tolist() == pytest.approx([1.5, 2, 4 / 3, 2])
    assert samples["hit@1"].tolist() == pytest.approx([1 / 2, 0, 2 / 3, 0])
    assert samples["hit@2"].tolist() == [1, 1, 1, 1]
    assert values(outcome) == pytest.approx(
        {
            "image_to_text_recall@1": 1 / 4,
            "image_to_text_recall@2": 1,
            "image_to_text_mean_rank": 1.75,
            "image_to_text_median_rank": 1.75,
            "text_to_image_recall@1": 1 / 3,
            "text_to_image_recall@2": 1,
            "text_to_image_mean_rank": 5 / 3,
            "text_to_image_median_rank": 5 / 3,
        }
    )
    assert outcome.metrics["image_to_text_recall@1"].n == 2


@st.composite
def linked(draw):
    images, texts = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    every_pair = [(i, j) for i in range(images) for j in range(texts)]
    pairs = draw(st.lists(st.sampled_from(every_pair), min_size=1, max_size=12, unique=True))
    scores = draw(
        st.lists(st.lists(st.integers(0, 3), min_size=texts, max_size=texts), min_size=images, max_size=images)
    )
    return make_data(images, texts, pairs), np.array(scores, float)


@given(linked())
@settings(max_examples=60, deadline=None)
def test_ranks_and_hits_equal_the_slow_oracle(case):
    data, scores = case
    samples = tasks.run(BENCHMARK, data, with_scores(scores)).samples
    is_right = np.zeros(scores.shape, bool)
    is_right[tuple(data.pairs.T)] = True
    expected = []
    for matrix, right in ((scores, is_right), (scores.T, is_right.T)):
        queries = np.flatnonzero(right.any(1))
        expected += oracle.count_by_loops(matrix[queries], [np.flatnonzero(right[q]).tolist() for q in queries])
    assert samples["rank"].tolist() == pytest.approx([float(oracle.expected_rank(*counts)) for counts in expected])
    for k in (1, 2):
        hits = [float(oracle.expected_hit(*counts, k)) for counts in expected]
        assert samples[f"hit@{k}"].tolist() == pytest.approx(hits)


def test_recall_equals_clip_benchmark_without_ties():
    rng = np.random.default_rng(0)
    images, texts = 40, 90
    is_right = rng.random((texts, images)) < 0.05
    is_right[np.arange(40), np.arange(40)] = True  # clip-benchmark has no query without a positive
    is_right[np.arange(90), rng.integers(0, 40, 90)] = True
    scores = rng.permutation(images * texts).reshape(texts, images).astype(np.float32)
    data = make_data(images, texts, np.argwhere(is_right.T))
    assert len(data.further_pairs) > 50
    outcome = tasks.run(benchmark("retrieval"), data, with_scores(scores.T))
    for k in (1, 5, 10):
        for direction, matrix, right in (("text_to_image", scores, is_right), ("image_to_text", scores.T, is_right.T)):
            found = recall_at_k(torch.from_numpy(matrix.copy()), torch.from_numpy(right.copy()), k) > 0
            assert values(outcome)[f"{direction}_recall@{k}"] == pytest.approx(found.float().mean().item(), abs=1e-6)


def test_a_perfect_model_finds_a_positive_first_among_distractors():
    scores = np.zeros((3, 3))
    scores[tuple(DATA.pairs.T)] = 1
    outcome = tasks.run(BENCHMARK, DATA, with_scores(scores))
    assert set(values(outcome).values()) == {1.0}


def test_a_constant_model_scores_chance():
    data = make_data(12, 30, [(i, j) for j in range(24) for i in {j % 10, (j * 3) % 10}])
    outcome = tasks.run(BENCHMARK, data, Constant())
    for direction, side, candidates in (("image_to_text", 0, 30), ("text_to_image", 1, 12)):
        positives = np.bincount(data.pairs[:, side])
        for k in (1, 2):
            chance = np.mean([float(oracle.expected_hit(0, candidates, p, k)) for p in positives.tolist() if p])
            assert values(outcome)[f"{direction}_recall@{k}"] == pytest.approx(chance)


def test_one_image_for_each_caption_is_the_same_data_as_before():
    owner = np.array([2, 0, 1, 1])
    images, texts = random_images(3), list("abcd")
    before = RetrievalData(images, texts, owner)
    pairs = RetrievalData.from_pairs(images, texts, np.stack([owner, np.arange(4)], axis=1))
    assert pairs.image_of_text.tolist() == owner.tolist()
    assert not len(pairs.further_pairs)
    assert dataset_fingerprint(before) == dataset_fingerprint(pairs)
    assert before.pairs.tolist() == [[2, 0], [0, 1], [1, 2], [1, 3]]


def test_the_fingerprint_covers_further_images():
    changed = DATA.replaced(further_pairs=DATA.further_pairs[:0])
    assert dataset_fingerprint(changed) != dataset_fingerprint(DATA)


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (DATA.replaced(distractors_allowed=False), "text 2 refers to image -1"),
        (make_data(2, 1, [(0, 0)], distractors_allowed=False), "1 of 2 images have no caption: image-1"),
        (make_data(2, 1, np.zeros((0, 2), int)), "has no image with a caption"),
        (DATA.replaced(further_pairs=np.array([[0, 0]])), "a caption twice for one image"),
        (DATA.replaced(further_pairs=np.array([[3, 0]])), "an image or a text that does not exist"),
        (DATA.replaced(further_pairs=np.array([[0, 3]])), "an image or a text that does not exist"),
        (DATA.replaced(image_of_text=np.array([0, 1, 3])), "text 2 refers to image 3"),
    ],
)
def test_unusable_data_are_refused_before_any_compute(data, line):
    model = RandomModel()
    with pytest.raises(RequestError, match=line):
        tasks.run(BENCHMARK, data, Engine(model))
    assert model.image_batches == []


def test_distractors_are_a_remark():
    assert DATA.observations() == ["candidates only: 1 image without a caption, 1 text without an image"]
    assert make_data(1, 1, [(0, 0)]).observations() == []


def test_a_limit_keeps_pairs_and_a_share_of_the_distractors():
    # captions 0 to 9 belong to an image and the next one, captions 10 to 29 to none
    data = make_data(10, 30, [(i, j) for j in range(10) for i in (j, (j + 1) % 10)])
    part = take_images(data, 5)
    assert [image.key for image in part.images] == [f"image-{i}" for i in (0, 2, 4, 6, 8)]
    kept = {(part.images[i].key, part.texts[j]) for i, j in part.pairs.tolist()}
    assert kept == {(f"image-{i}", f"t{j}") for i in (0, 2, 4, 6, 8) for j in (i, (i - 1) % 10)}
    assert len([text for text in part.texts if int(text[1:]) >= 10]) == 10
    assert part.problems() == []
    with pytest.raises(RequestError, match="a limit of 1 image leaves none with a caption"):
        take_images(make_data(3, 1, [(2, 0)]), 1)


def test_selected_queries_are_those_of_all_in_any_block_size():
    matrix = torch.arange(35.0).view(7, 5)
    scores = MatrixScores(matrix, torch.arange(7), torch.arange(5))
    selected = SelectedQueries(scores, torch.tensor([1, 4, 6]))
    for block_bytes in (1, 60, 10**6):
        blocks = list(selected.blocks(block_bytes))
        assert torch.cat([block for _, _, block in blocks]).tolist() == matrix[[1, 4, 6]].tolist()
        assert [start for start, _, _ in blocks] == [0, *(stop for _, stop, _ in blocks[:-1])]
        assert blocks[-1][1] == selected.query_count == 3


@pytest.mark.parametrize("metric", ["image_to_text_recall@1", "text_to_image_recall@2"])
def test_the_paired_samples_give_the_metric(metric):
    outcome = tasks.run(BENCHMARK, DATA, with_scores(SCORES))
    hits = paired(metric, (None, None), (outcome.samples, outcome.samples))
    assert hits.values()[0] == pytest.approx(values(outcome)[metric])


def test_galleries_show_queries_with_a_positive_only():
    cases = retrieval_cases(DATA, with_scores(SCORES), 3)
    assert {query.index for query in cases["image to text, worst"]} == {0, 1}
    (first, *_) = cases["text to image, best"]
    assert (first.index, first.rank) == (0, 1)
    assert [right for _, _, right in first.candidates] == [True, True, False]
