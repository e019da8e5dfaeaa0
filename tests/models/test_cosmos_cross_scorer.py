"""`cosmos:...?scorer=cross` through specs, engine and rerank."""

import numpy as np
import pytest
import torch

from cosmos_eval.datasets.data.retrieval import RetrievalData
from cosmos_eval.engine.engine import Engine
from cosmos_eval.models import load_model
from cosmos_eval.models.spec import parse_spec, slug
from tests.helpers.stand_ins import random_images

SPEC = "cosmos:untrained-toybox?scorer=cross"
TEXTS = ["a red circle", "two blue squares beside a large green triangle, " * 9, "x", "a dog"]


@pytest.fixture(scope="module")
def model():
    return load_model(SPEC)


def read_scores(model, rerank: int | None, batch_size: int = 5) -> list[torch.Tensor]:
    """The scores of all pairs, or the comparison keys of reranking, in both directions."""
    data = RetrievalData(random_images(3), TEXTS, np.array([0, 1, 2, 2]))
    engine = Engine(model, batch_size=batch_size)
    scores = engine.score(data.images, data.texts, rerank=rerank)
    blocks = []
    for direction in (scores.image_to_text(), scores.text_to_image()):
        blocks.append(torch.cat([block for _, _, block in direction.blocks()]))
    return blocks


def test_reranking_all_candidates_gives_the_bits_of_all_pairs(model):
    from cosmos_eval.engine.rerank import ABOVE, as_comparison_keys

    every_pair = read_scores(model, None)
    for reranked, scores in zip(read_scores(model, 4), every_pair, strict=True):
        assert torch.equal(reranked - ABOVE, as_comparison_keys(scores))
    # With other batches only the last bits differ.
    for scores, others in zip(read_scores(model, None, batch_size=12), every_pair, strict=True):
        assert torch.allclose(scores, others, rtol=0, atol=1e-6)


def test_images_are_encoded_once_for_their_pairs_with_the_scores_of_score_pairs(model):
    images = random_images(2)
    pixels = torch.stack([model.preprocess(image.load()) for image in images])
    scores = Engine(model, batch_size=8).score(images, TEXTS).image_to_text()
    expected = model.score_pairs(pixels.repeat_interleave(4, dim=0), TEXTS * 2).view(2, 4)
    assert torch.allclose(torch.cat([block for _, _, block in scores.blocks()]), expected, rtol=0, atol=1e-6)


def test_identity_and_embeddings(model):
    plain = load_model("cosmos:untrained-toybox")
    assert plain.digest != model.digest
    assert "scorer" not in plain.describe()
    assert model.describe()["scorer"] == "cross"
    assert torch.equal(plain.encode_text(TEXTS), model.encode_text(TEXTS))


def test_the_option_goes_with_every_form():
    for name, selector in (("x.pt", ""), ("a?b/*.pt", "#student"), ("untrained-toybox", "")):
        parsed = parse_spec(f"cosmos:{name}{selector}?scorer=cross")
        assert (parsed.name, parsed.options) == (name, {"scorer": "cross"})
        assert parsed.selector == (selector.removeprefix("#") or "teacher")
    both = parse_spec("cosmos:untrained-toybox?seed=3&scorer=cross")
    assert (both.seed, both.options) == (3, {"scorer": "cross"})
    assert slug("cosmos:runs/exp/last.pt#student?scorer=cross") == "cosmos-exp-last-student-cross"
