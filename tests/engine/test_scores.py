"""Scores in blocks, of every kind, equal those of one pair after the other."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmos_core.errors import RequestError
from cosmos_eval import tasks
from cosmos_eval.cache import feature_cache
from cosmos_eval.datasets.data import ClassificationData, PerceptionData, RetrievalData
from cosmos_eval.datasets.image_sources import ArrayImage
from cosmos_eval.engine import Engine, scores, tiles
from cosmos_eval.engine.rerank import Reranked, as_comparison_keys
from cosmos_eval.engine.scores import DotProductScores
from cosmos_eval.engine.tiles import SimilarityTiles
from cosmos_eval.metrics.accuracy import compute_class_rank_counts
from cosmos_eval.metrics.item_accuracy import dot_products
from cosmos_eval.metrics.query_scores import DotProducts, MatrixScores, MeanOverPrompts
from cosmos_eval.metrics.ranks import compute_rank_counts, expected_hit
from cosmos_eval.models.python import as_model
from cosmos_eval.progress import Silent
from tests.helpers import scoring_models
from tests.helpers.stand_ins import RandomModel, benchmark, random_images
from tests.oracles import ranks as rank_oracle
from tests.oracles import scores as oracle

TEXTS = ["a red circle", "a blue square", "two green dots", "a red circle", "nothing", "a very long text of words"]


def build_engine(name: str, **options) -> Engine:
    """An engine with a model of `tests.helpers.scoring_models`."""
    return Engine(as_model(getattr(scoring_models, name)()), batch_size=4, **options)


def read_matrix(direction, candidates: int, block_bytes: int = 2**20) -> torch.Tensor:
    """Read all scores (Q, C) of one direction from its blocks."""
    blocks = [block[:, direction.column].clone() for _, _, block in direction.blocks(block_bytes)]
    scores = torch.cat(blocks)
    assert scores.shape == (direction.query_count, candidates)
    return scores


def run_retrieval(name: str, **metrics) -> tuple[dict, dict]:
    """The outcome of a retrieval benchmark, and its metrics. Two of its images, and two of its texts, are equal."""
    images = random_images(5)
    images.append(ArrayImage("again", images[0].pixels))
    data = RetrievalData(images, TEXTS, np.array([0, 1, 2, 3, 4, 5]))
    outcome = tasks.run(benchmark("retrieval", k=[1, 2], **metrics), data, build_engine(name))
    return outcome, {key: metric.value for key, metric in outcome.metrics.items()}


# --- the dot product -------------------------------------------------------------------------------------------------


def test_the_dot_product_has_the_bits_of_the_matrix_product_in_both_directions():
    images, texts = random_images(9), [f"text {j}" for j in range(30)]
    engine = Engine(RandomModel(), batch_size=4)
    image_features, text_features = engine.image_features(images), engine.text_features(texts)
    scores = Engine(RandomModel(), batch_size=4).score(images, texts)
    assert torch.equal(read_matrix(scores.image_to_text(), 30), image_features @ text_features.T)
    assert torch.equal(read_matrix(scores.text_to_image(), 9), text_features @ image_features.T)
    pairs = torch.tensor([[0, 3], [8, 29], [0, 3], [2, 1]])
    expected = (image_features[pairs[:, 0]] * text_features[pairs[:, 1]]).sum(1)
    assert torch.equal(engine.score_pairs(images, texts, pairs), expected)


def test_vectors_of_different_lengths_are_refused():
    class DifferentLengths(RandomModel):
        def encode_text(self, texts):
            return super().encode_text(texts)[:, :-1]

    data = RetrievalData(random_images(2), ["a", "b"], np.array([0, 1]))
    with pytest.raises(RequestError, match="16 dimensions for each image and 15 for each text"):
        tasks.run(benchmark("retrieval"), data, Engine(DifferentLengths()))


# --- similarity ------------------------------------------------------------------------------------------------------


def late_interaction_tiles(images: torch.Tensor, texts: torch.Tensor, **options) -> SimilarityTiles:
    class Model:
        spec = "python:some:late"

        def similarity(self, a, b):
            return torch.einsum("nkd,mld->nmlk", a, b).amax(3).mean(2)

    names = (lambda i: f"image {i}"), (lambda j: f"text {j}")
    return SimilarityTiles(options.pop("model", Model()), images, texts, *names, Silent())


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_tiles_of_any_size_give_the_scores_of_single_pairs_and_their_ties(data):
    n, m, tokens = (data.draw(st.integers(1, high)) for high in (7, 9, 3))
    rng = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31)))
    # Small whole numbers: sums are exact in float32 in any order, and there are many ties. A text has two tokens, so
    # that means are exact, too.
    images = torch.randint(-2, 3, (n, tokens, 2), generator=rng).float()
    texts = torch.randint(-2, 3, (m, 2, 2), generator=rng).float()
    expected = oracle.score_all(n, m, lambda i, j: oracle.late_interaction(images[i].numpy(), texts[j].numpy()))
    owner = torch.randint(0, n, (m,), generator=rng)
    owner[: min(n, m)] = torch.arange(min(n, m))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "LARGEST_TILE", data.draw(st.sampled_from([1, 2, 3, 1024])))
        patch.setattr(tiles, "WHOLE_BYTES", data.draw(st.sampled_from([0, 2**20])))
        block_bytes = data.draw(st.sampled_from([1, 40, 10**6]))
        by_image, by_text = late_interaction_tiles(images, texts).directions()
        assert read_matrix(by_image, m, block_bytes).tolist() == expected.tolist()
        assert read_matrix(by_text, n, block_bytes).tolist() == expected.T.tolist()
        pairs = torch.cartesian_prod(torch.arange(n), torch.arange(m))
        pairs = pairs[torch.randint(0, len(pairs), (2 * len(pairs),), generator=rng)]
        assert late_interaction_tiles(images, texts).of_pairs(pairs).tolist() == [
            expected[i, j] for i, j in pairs.tolist()
        ]
        places = compute_rank_counts(by_text, torch.arange(m), owner, n, block_bytes)
    counts = zip(places.above.tolist(), places.tied.tolist(), places.tied_positives.tolist(), strict=True)
    assert list(counts) == rank_oracle.count_by_loops(expected.T, [[i] for i in owner.tolist()])


@pytest.mark.parametrize("name", ["Late", "Pooling"])
def test_a_pair_has_the_same_bits_in_both_directions_stored_or_recomputed_and_in_any_block(name, monkeypatch):
    images = random_images(11)
    texts = [f"text {j} {'x' * (j % 4)}" for j in range(40)]
    monkeypatch.setattr(tiles, "LARGEST_TILE", 4)
    stored = build_engine(name).score(images, texts)
    by_image, by_text = read_matrix(stored.image_to_text(), 40), read_matrix(stored.text_to_image(), 11)
    assert torch.equal(by_image, by_text.T)
    monkeypatch.setattr(tiles, "WHOLE_BYTES", 0)
    for block_bytes in (1, 500, 10**6):
        recomputed = build_engine(name).score(images, texts)
        assert torch.equal(read_matrix(recomputed.image_to_text(), 40, block_bytes), by_image)
        assert torch.equal(read_matrix(recomputed.text_to_image(), 11, block_bytes), by_text)


def test_late_interaction_equals_that_of_single_unit_tokens_without_padding():
    model = scoring_models.Late()
    images = random_images(4)
    pixels = torch.stack([model.preprocess(image.load()) for image in images])
    image_tokens, text_tokens = (
        oracle.unit(model.encode_image(pixels).numpy()),
        oracle.unit(model.encode_text(TEXTS).numpy()),
    )
    assert not text_tokens[0, 2].any()  # padding
    unpadded = [np.array([token for token in text if token.any()]) for text in text_tokens]
    expected = oracle.score_all(4, 6, lambda i, j: oracle.late_interaction(image_tokens[i], unpadded[j]))
    assert read_matrix(build_engine("Late").score(images, TEXTS).image_to_text(), 6).numpy() == pytest.approx(
        expected, abs=1e-6
    )


def test_a_tile_that_does_not_fit_in_memory_is_halved():
    class Large:
        spec, sizes = "python:some:large", []

        def similarity(self, a, b):
            self.sizes.append((len(a), len(b)))
            if len(a) * len(b) > 6:
                raise torch.OutOfMemoryError("no")
            return torch.einsum("nkd,mld->nmlk", a, b).amax(3).mean(2)

    rng = torch.Generator().manual_seed(0)
    images, texts = (torch.randint(-2, 3, (count, 2, 3), generator=rng).float() for count in (9, 7))
    scores = read_matrix(late_interaction_tiles(images, texts, model=Large()).directions()[0], 7)
    assert torch.equal(scores, read_matrix(late_interaction_tiles(images, texts).directions()[0], 7))
    assert Large.sizes[0] == (9, 7)

    class TooLarge(Large):
        def similarity(self, a, b):
            raise torch.OutOfMemoryError("no")

    with pytest.raises(RequestError, match="out of memory scoring an image and a text on cpu"):
        late_interaction_tiles(images, texts, model=TooLarge()).directions()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("torch.ones(len(a), len(b), 1)", r"similarity returned shape \(5, 5, 1\); return a float tensor \(5, 5\)"),
        ("torch.ones(len(b))", r"similarity returned shape \(5,\)"),
        ("[[0.0]]", r"similarity returned list; return a float tensor \(5, 5\)"),
        ("torch.ones(len(a), len(b)).long()", r"similarity returned torch\.int64"),
        ("a.nonsense", "similarity failed: AttributeError"),
    ],
)
def test_a_wrong_return_value_of_similarity_is_reported_in_one_line_that_names_the_model(value, message):
    class Wrong(scoring_models.Late):
        def similarity(self, a, b):
            return eval(value)

    data = RetrievalData(random_images(5), TEXTS[:3] + TEXTS[4:], np.arange(5))
    with pytest.raises(RequestError, match=rf"^python:tests.engine.test_scores:Wrong: {message}") as refusal:
        tasks.run(benchmark("retrieval"), data, Engine(as_model(Wrong())))
    assert "\n" not in str(refusal.value)


def test_tokens_without_a_similarity_are_refused_with_advice():
    class Tokens(scoring_models.Late):
        similarity = None

    with pytest.raises(RequestError, match=r"returned shape \(3, 4, 4\) for 3 inputs; .* define similarity"):
        Engine(as_model(Tokens())).image_features(random_images(3))


def test_texts_with_different_numbers_of_tokens_are_refused_with_the_advice_to_pad_them():
    class Ragged(scoring_models.Late):
        def encode_text(self, texts):
            return torch.ones(len(texts), len(texts[0]), 4)

    with pytest.raises(RequestError, match=r"gives 5 x 4 numbers an item and gave 3 x 4 before .* pad all items"):
        Engine(as_model(Ragged()), batch_size=1).text_features(["one", "two", "and", "six", "seven"])


def test_a_zero_token_is_padding_and_an_item_of_zeros_is_refused():
    class Zero(scoring_models.Late):
        def encode_text(self, texts):
            tokens = super().encode_text(texts)
            tokens[[text == "empty" for text in texts]] = 0
            return tokens

    features = build_engine("Late").text_features(TEXTS)
    assert features.shape == (6, 3, 4)
    assert set(features.norm(dim=2).round(decimals=5).unique().tolist()) == {0.0, 1.0}
    with pytest.raises(RequestError, match="the embedding of the text 'empty' is zero"):
        Engine(as_model(Zero())).text_features(["full", "empty"])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_the_item_of_a_token_that_is_not_finite_is_named(bad):
    class Bad(scoring_models.Late):
        def encode_image(self, x):
            tokens = super().encode_image(x)
            tokens[-1, 2, 1] = bad
            return tokens

    with pytest.raises(RequestError, match="the embedding of image image-3 is not finite"):
        Engine(as_model(Bad()), batch_size=4).image_features(random_images(9))


def test_precomputed_tokens_are_scored_like_encoded_ones():
    class Precomputed(scoring_models.Late):
        def read_image_embeddings(self, images):
            return self.encode_image(torch.stack([self.preprocess(image.load()) for image in images]))

        def read_text_embeddings(self, texts):
            return self.encode_text(texts)

    images = random_images(5)
    precomputed = Engine(as_model(Precomputed())).score(images, TEXTS).image_to_text()
    assert torch.equal(
        read_matrix(precomputed, 6), read_matrix(build_engine("Late").score(images, TEXTS).image_to_text(), 6)
    )


# --- pairs -----------------------------------------------------------------------------------------------------------


def score_one_by_one(name: str, images, texts) -> np.ndarray:
    """The scores (images, texts) of a model that gets one pair at a time."""
    model = getattr(scoring_models, name)()

    def score(i: int, j: int) -> float:
        return float(model.score_pairs(model.preprocess(images[i].load())[None], [texts[j]]))

    return oracle.score_all(len(images), len(texts), score)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_pairs_in_batches_have_the_scores_of_single_pairs(batch_size, workers):
    images = random_images(5)
    expected = score_one_by_one("Pairs", images, TEXTS)
    scores = Engine(as_model(scoring_models.Pairs()), batch_size=batch_size, workers=workers).score(images, TEXTS)
    assert read_matrix(scores.image_to_text(), 6).tolist() == expected.tolist()
    assert read_matrix(scores.text_to_image(), 5).tolist() == expected.T.tolist()
    pairs = torch.tensor([[4, 0], [0, 5], [4, 3], [2, 2], [4, 0]])
    assert scores.of_pairs(pairs).tolist() == [expected[i, j] for i, j in pairs.tolist()]


def test_each_distinct_pair_is_scored_once_and_each_image_is_decoded_once():
    decoded = []

    class Counted(ArrayImage):
        def load(self):
            decoded.append(self.key)
            return super().load()

    images = [Counted(image.key, image.pixels) for image in random_images(3)]
    images.append(Counted("again", images[0].pixels))
    model = scoring_models.Pairs()
    engine = Engine(as_model(model), batch_size=4)
    scores = engine.score(images, TEXTS)  # 3 distinct images of 4, and 5 distinct texts of 6
    by_image, by_text = read_matrix(scores.image_to_text(), 6), read_matrix(scores.text_to_image(), 4)
    assert torch.equal(by_image, by_text.T)
    assert torch.equal(by_image[0], by_image[3])
    assert torch.equal(by_image[:, 0], by_image[:, 3])
    assert model.batches == [4, 4, 4, 3]
    assert engine.encoded == {"images": 0, "texts": 0, "pairs": 15}
    assert sorted(decoded) == ["image-0", "image-1", "image-2"]


def test_an_interrupted_run_continues_with_the_missing_batches_of_pairs(tmp_path, monkeypatch):
    monkeypatch.setattr(feature_cache, "WRITE_INTERVAL", -1.0)  # one shard for each batch
    monkeypatch.setattr(feature_cache, "WRITE_PAUSE_FACTOR", 0)

    class Interrupted(scoring_models.Pairs):
        def score_pairs(self, images, texts):
            if len(self.batches) == 3:
                raise KeyboardInterrupt
            return super().score_pairs(images, texts)

    images = random_images(5)
    options = {"batch_size": 4, "cache": feature_cache.FeatureCache(tmp_path)}
    first, second, other_batch_size = Interrupted(), scoring_models.Pairs(), scoring_models.Pairs()
    with pytest.raises(KeyboardInterrupt):
        Engine(as_model(first), **options).score(images, TEXTS).image_to_text()
    expected = score_one_by_one("Pairs", images, TEXTS)
    scores = Engine(as_model(second), **options).score(images, TEXTS)
    assert read_matrix(scores.image_to_text(), 6).tolist() == expected.tolist()
    assert (first.batches, second.batches) == ([4, 4, 4], [4, 4, 4, 1])  # 25 pairs
    scores = Engine(as_model(other_batch_size), **{**options, "batch_size": 5}).score(images, TEXTS)
    assert read_matrix(scores.image_to_text(), 6).tolist() == expected.tolist()
    assert other_batch_size.batches == [5] * 5  # other batches, so none was in the cache


def test_a_batch_of_pairs_that_does_not_fit_in_memory_is_halved():
    class Large(scoring_models.Pairs):
        def score_pairs(self, images, texts):
            if len(texts) > 3:
                raise torch.OutOfMemoryError("no")
            return super().score_pairs(images, texts)

    images = random_images(4)
    engine = Engine(as_model(Large()), batch_size=8)
    expected = score_one_by_one("Pairs", images, TEXTS)
    assert read_matrix(engine.score(images, TEXTS).image_to_text(), 6).tolist() == expected.tolist()
    assert engine.batch_splitter.sizes == {"images": 8, "texts": 32, "windows": 8, "pairs": 2}


def test_too_many_pairs_are_refused_before_any_is_scored(monkeypatch):
    monkeypatch.setattr(scores, "MAX_PAIRS", 20)
    model = scoring_models.Pairs()
    data = RetrievalData(random_images(5), TEXTS[:3] + TEXTS[4:], np.arange(5))
    with pytest.raises(RequestError, match=r"5 images with 5 texts are 25 pairs, more than 20; give rerank: k"):
        tasks.run(benchmark("retrieval"), data, Engine(as_model(model)))
    assert model.batches == []
    both = scoring_models.Cosines()
    tasks.run(benchmark("retrieval", rerank=2), data, Engine(as_model(both)))  # as the message advises
    assert 10 <= sum(both.batches) <= 20


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("torch.ones(len(texts), 1)", r"score_pairs returned shape \(25, 1\); return a float tensor \(25,\)"),
        ("None", "score_pairs returned NoneType"),
        ("1 / 0", "score_pairs failed: ZeroDivisionError"),
    ],
)
def test_a_wrong_return_value_of_score_pairs_is_reported_in_one_line(value, message):
    class Wrong(scoring_models.Pairs):
        def score_pairs(self, images, texts):
            return eval(value)

    data = RetrievalData(random_images(5), TEXTS[:3] + TEXTS[4:], np.arange(5))
    with pytest.raises(RequestError, match=rf"^python:tests.engine.test_scores:Wrong: {message}") as refusal:
        tasks.run(benchmark("retrieval"), data, Engine(as_model(Wrong())))
    assert "\n" not in str(refusal.value)


def test_a_pair_scorer_without_features_is_refused_where_features_are_needed():
    engine = build_engine("Pairs")
    for call in (lambda: engine.image_features(random_images(2)), lambda: engine.text_features(["a"])):
        with pytest.raises(RequestError, match="scores pairs of an image and a text and has no embeddings"):
            call()


# --- rerank ----------------------------------------------------------------------------------------------------------


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


# --- tasks -----------------------------------------------------------------------------------------------------------


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
