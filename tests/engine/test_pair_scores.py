"""Scores of models that read an image and a text together equal those of one pair after the other."""

import numpy as np
import pytest
import torch

from cosmos_core.errors import RequestError
from cosmos_eval import tasks
from cosmos_eval.cache import feature_cache
from cosmos_eval.datasets.data import RetrievalData
from cosmos_eval.datasets.image_sources import ArrayImage
from cosmos_eval.engine import Engine, scores
from cosmos_eval.models.python import as_model
from tests.helpers import scoring_models
from tests.helpers.score_matrices import TEXTS, build_engine, read_matrix, score_one_by_one
from tests.helpers.stand_ins import benchmark, random_images


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
    with pytest.raises(RequestError, match=rf"^python:{__name__}:Wrong: {message}") as refusal:
        tasks.run(benchmark("retrieval"), data, Engine(as_model(Wrong())))
    assert "\n" not in str(refusal.value)


def test_a_pair_scorer_without_features_is_refused_where_features_are_needed():
    engine = build_engine("Pairs")
    for call in (lambda: engine.image_features(random_images(2)), lambda: engine.text_features(["a"])):
        with pytest.raises(RequestError, match="scores pairs of an image and a text and has no embeddings"):
            call()
