"""Scores in blocks, of features, equal those of one pair after the other."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmos_core.errors import RequestError
from cosmos_eval import tasks
from cosmos_eval.datasets.data import RetrievalData
from cosmos_eval.engine import Engine, tiles
from cosmos_eval.engine.tiles import SimilarityTiles
from cosmos_eval.metrics.ranks import compute_rank_counts
from cosmos_eval.models.python import as_model
from cosmos_eval.progress import Silent
from tests.helpers import scoring_models
from tests.helpers.score_matrices import TEXTS, build_engine, read_matrix
from tests.helpers.stand_ins import RandomModel, benchmark, random_images
from tests.oracles import ranks as rank_oracle
from tests.oracles import scores as oracle


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
    with pytest.raises(RequestError, match=rf"^python:{__name__}:Wrong: {message}") as refusal:
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
