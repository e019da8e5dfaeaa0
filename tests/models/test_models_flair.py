"""`flair:`: the authors' layout, the text-conditioned score against a slow oracle, and both scorers in the engine."""

import math

import numpy as np
import pytest
import torch

from cosmos_core.errors import RequestError
from cosmos_eval.datasets.data.retrieval import RetrievalData
from cosmos_eval.engine.engine import Engine
from cosmos_eval.models import load_model
from cosmos_eval.models.flair import with_one, without_one
from cosmos_eval.models.flair_network import FLAIR
from cosmos_eval.models.preflight import check_model
from cosmos_eval.models.spec import slug
from tests.helpers.stand_ins import random_images
from tests.oracles import flair as oracle

TEXTS = ["a red circle", "two blue squares beside a large green triangle, " * 9, "x"]


@pytest.fixture(scope="module")
def network() -> FLAIR:
    torch.manual_seed(0)
    network = FLAIR(
        32,
        {"image_size": 32, "patch_size": 8, "width": 64, "layers": 1},
        {"context_length": 20, "vocab_size": 512, "width": 64, "heads": 1, "layers": 1},
    ).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "visual_proj" in name or "_post" in name:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return network


@pytest.fixture(scope="module")
def checkpoint(network, tmp_path_factory):
    """As the authors' training code writes it."""
    path = tmp_path_factory.mktemp("flair") / "epoch_1.pt"
    state = {f"module.{key}": value for key, value in network.state_dict().items()}
    torch.save({"epoch": 1, "name": "flair", "state_dict": state}, path)
    return path


@pytest.fixture(scope="module")
def model(checkpoint):
    return load_model(f"flair:{checkpoint}")


@torch.no_grad()
def test_scores_are_the_slow_oracles_logits_without_scale_and_bias(model, network):
    images, ids = torch.randn(2, 3, 32, 32), model.tokenize(TEXTS)
    tokens, texts = network.image_features(images)[:, 1:], network.text_features(ids)
    state = network.state_dict()
    expected = torch.tensor([[oracle.logit(state, text, image) for text in texts] for image in tokens])
    # Through the adapter, as the engine does it: every vector at unit length.
    unit = [torch.nn.functional.normalize(x, dim=-1) for x in (model.encode_image(images), model.encode_text(TEXTS))]
    scores = model.similarity(*unit)
    scale, bias = math.exp(float(state["logit_scale"])), float(state["logit_bias"])
    assert torch.allclose(scores, (expected - bias) / scale, rtol=0, atol=1e-6)
    assert scores.std() > 1e-2


@torch.no_grad()
def test_scores_are_those_of_torchs_attention_as_the_authors_call_it(model, network):
    images, texts = torch.randn(3, 3, 32, 32), network.text_features(model.tokenize(TEXTS))
    tokens, pool = network.image_features(images)[:, 1:], network.visual_proj
    queries = pool.ln_q(texts.expand(3, -1, -1))
    pooled = pool.attn(queries, pool.ln_k(tokens), pool.ln_v(tokens), need_weights=False)[0]
    expected = torch.nn.functional.cosine_similarity(pooled, texts.expand(3, -1, -1), dim=-1)
    assert torch.allclose(pool.pooled_scores(texts, tokens), expected, rtol=0, atol=1e-6)


def test_lengths_survive_normalisation():
    features = torch.tensor([[3.0, 4.0], [0.0, 0.0], [300.0, -1e-3]])
    unit = torch.nn.functional.normalize(with_one(features), dim=-1)
    assert torch.allclose(without_one(unit), features, rtol=2e-6, atol=0)


@pytest.mark.parametrize("scorer", ["", "?scorer=clip"])
def test_retrieval_ranks_by_the_models_own_scores_and_batches_change_nothing(checkpoint, network, scorer):
    model = load_model(f"flair:{checkpoint}{scorer}")
    data = RetrievalData(random_images(3), TEXTS, np.array([0, 1, 2]))
    scores = Engine(model, batch_size=2).score(data.images, data.texts)
    pairs = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    actual = scores.of_pairs(pairs).view(3, 3)
    with torch.no_grad():
        pixels = torch.stack([model.preprocess(image.load()) for image in data.images])
        features, texts = network.image_features(pixels), network.text_features(model.tokenize(TEXTS))
        if scorer:
            normalised = [torch.nn.functional.normalize(x, dim=-1) for x in (features[:, 0], texts)]
            expected = normalised[0] @ normalised[1].T
        else:
            expected = network.visual_proj.pooled_scores(texts, features[:, 1:])
    assert torch.allclose(actual, expected, rtol=0, atol=2e-6)


def test_the_scorer_is_part_of_identity_and_record(checkpoint, model):
    clip = load_model(f"flair:{checkpoint}?scorer=clip")
    assert clip.digest != model.digest
    assert (clip.describe()["scorer"], model.describe()["scorer"]) == ("clip", "text-conditioned")
    assert model.describe()["arch"] == "FLAIR 1x64/8"
    assert slug(f"flair:{checkpoint}?scorer=clip") != slug(f"flair:{checkpoint}")


def test_texts_are_trimmed_without_effect_and_truncation_is_counted(model):
    inputs = model.trimmed_text.tokens(TEXTS)
    rows = torch.cat([model.trimmed_text.encode(inputs.batch(torch.tensor([j]))) for j in range(3)])
    assert torch.allclose(rows, model.encode_text(TEXTS), rtol=0, atol=1e-5)
    assert model.truncated(TEXTS) == [False, True, False]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("flair:nothing-here", "released: flair-cc3m-recap"),
        ("flair:x.pt?scorer=cross", "has the option scorer as 'cross'"),
        ("flair:{folder}/plain.pt", "plain CLIP"),
        ("flair:{folder}/less.pt", "missing, left over, or of another shape: visual_proj.ln_v.bias"),
        ("flair:{folder}/none.pt", "no architecture"),
        ("cosmos:{folder}/less.pt", "use flair:FILE"),
    ],
)
def test_other_files_are_refused_in_one_line(network, tmp_path, spec, message):
    state = network.state_dict()
    torch.save({key: value for key, value in state.items() if not key.startswith(("visual_proj", "image_post",
        "text_post"))}, tmp_path / "plain.pt")  # fmt: skip
    torch.save({key: value for key, value in state.items() if key != "visual_proj.ln_v.bias"}, tmp_path / "less.pt")
    torch.save({key: value for key, value in state.items() if "conv1" not in key}, tmp_path / "none.pt")
    problem = check_model(spec.format(folder=tmp_path)).problem
    assert "\n" not in problem
    with pytest.raises(RequestError, match=message):
        raise RequestError(problem)
