"""Tasks on transformed embeddings: chance for a constant model, perfection for a perfect one, and slow versions."""

import numpy as np
import pytest
import torch

from cosmos_core.errors import RequestError
from cosmos_eval import tasks
from cosmos_eval.datasets.data import ClassificationData, PerceptionData, RetrievalData
from cosmos_eval.datasets.image_sources import ArrayImage
from cosmos_eval.engine import Engine
from cosmos_eval.models.python import as_model
from cosmos_eval.protocol.feature_transforms import FeatureTransforms
from cosmos_eval.tasks.prompts import ClassPrompts, score_classes
from tests.helpers import scoring_models
from tests.helpers.stand_ins import benchmark, to_tensor
from tests.oracles import transforms as oracle

COUNT, WIDTH = 12, 16
TRANSFORMS = [
    {"truncate_dim": 8},
    {"center": True},
    {"quantize": "int8"},
    {"quantize": "binary"},
    {"dual_softmax": 100.0},
    {"truncate_dim": 8, "center": True, "quantize": "binary", "dual_softmax": 30.0},
]
of_embeddings = pytest.mark.parametrize(
    "options", [{key: value for key, value in one.items() if key != "dual_softmax"} for one in TRANSFORMS[:4]]
)


class Table:
    """Embeds an image by the number in its first pixel and a text by the number in it: row i of a table."""

    digest = ""
    spec = "python:table:Table"
    preprocess = staticmethod(to_tensor)

    def __init__(self, images: torch.Tensor, texts: torch.Tensor) -> None:
        self.device = torch.device("cpu")
        self.images, self.texts = images, texts

    def encode_image(self, x: torch.Tensor) -> torch.Tensor:
        return self.images[(x[:, 0, 0, 0] * 255).round().long()]

    def encode_text(self, texts: list[str]) -> torch.Tensor:
        return self.texts[[int(text.split()[-1]) for text in texts]]

    def describe(self) -> dict:
        return {"arch": "table"}


def rows(seed: int, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(COUNT, WIDTH, generator=torch.Generator().manual_seed(seed)) + shift


IMAGES = [ArrayImage(f"image-{i}", np.full((8, 8, 3), i, dtype=np.uint8)) for i in range(COUNT)]
CAPTIONS = [f"caption {i}" for i in range(COUNT)]
RETRIEVAL = RetrievalData(IMAGES, CAPTIONS, np.arange(COUNT))
PAIRS = PerceptionData(
    IMAGES,
    CAPTIONS,
    np.arange(COUNT)[:, None],
    np.stack([np.arange(COUNT), np.roll(np.arange(COUNT), 1)], 1),
    ["all"] * COUNT,
)


def engine_for(model: Table, **options) -> Engine:
    engine = Engine(as_model(model), batch_size=5)
    engine.start_benchmark("some", FeatureTransforms(**options))
    return engine


def metric_values(task: str, data, model: Table, **options) -> dict[str, float]:
    outcome = tasks.run(benchmark(task, k=[1, 5]), data, engine_for(model, **options))
    return {name: metric.value for name, metric in outcome.metrics.items()}


def classes() -> ClassificationData:
    return ClassificationData(IMAGES, np.arange(COUNT) % 3, [str(i) for i in range(3)], ["photo {c}", "drawing of {c}"])


@pytest.mark.parametrize("options", TRANSFORMS)
def test_a_constant_model_scores_chance(options):
    constant = Table(torch.ones(COUNT, WIDTH), torch.ones(COUNT, WIDTH))
    values = metric_values("retrieval", RETRIEVAL, constant, **options)
    for direction in ("image_to_text", "text_to_image"):
        assert values[f"{direction}_recall@1"] == pytest.approx(1 / COUNT)
        assert values[f"{direction}_mean_rank"] == pytest.approx((COUNT + 1) / 2)
    if "dual_softmax" not in options:
        assert metric_values("classification", classes(), constant, **options)["top1"] == pytest.approx(1 / 3)
        assert metric_values("perception", PAIRS, constant, **options)["accuracy_expected"] == pytest.approx(1 / 2)


@pytest.mark.parametrize("options", TRANSFORMS)
def test_a_perfect_model_stays_perfect(options):
    perfect = Table(rows(0), rows(0))
    values = metric_values("retrieval", RETRIEVAL, perfect, **options)
    assert values["image_to_text_recall@1"] == values["text_to_image_recall@1"] == 1
    if "dual_softmax" not in options:
        assert metric_values("perception", PAIRS, perfect, **options)["accuracy"] == 1


def truncated_by_hand(model: Table, options: dict) -> list[np.ndarray]:
    dim = options.get("truncate_dim", WIDTH)
    return [oracle.truncated(features.numpy(), dim) for features in (model.images, model.texts)]


def transformed_by_hand(features: np.ndarray, options: dict) -> np.ndarray:
    """After truncation."""
    if options.get("center"):
        features = oracle.centered(features)
    if options.get("quantize") == "int8":
        return oracle.int8_restored(features.astype(np.float32))
    return np.where(features > 0, 1.0, -1.0) if options.get("quantize") == "binary" else features


@pytest.mark.parametrize("options", TRANSFORMS)
def test_scores_are_those_of_the_slow_version(options):
    model = Table(rows(0, 0.4), rows(1, -0.1))
    images, texts = (transformed_by_hand(features, options) for features in truncated_by_hand(model, options))
    expected = images @ texts.T
    scores = engine_for(model, **options).score(IMAGES, CAPTIONS)
    scale = options.get("dual_softmax", 0.0) / (images.shape[1] if options.get("quantize") == "binary" else 1)
    for direction, matrix in ((scores.image_to_text(), expected), (scores.text_to_image(), expected.T)):
        wanted = oracle.dual_softmax(matrix, scale) if scale else matrix
        (block,) = [block[:, direction.column].clone() for _, _, block in direction.blocks()]
        assert block.numpy() == pytest.approx(wanted, rel=1e-3, abs=1e-2 if "quantize" in options else 1e-6)


@of_embeddings
def test_prompts_are_averaged_before_centring_and_quantisation_and_after_truncation(options):
    model = Table(rows(0, 0.4), rows(1, -0.1))
    prompts = ClassPrompts([["a 0", "a 1"], ["a 2", "a 3"], ["a 4"]], [0, 1, 2])
    scores, _ = score_classes(engine_for(model, **options).score(IMAGES, prompts.texts), prompts)
    images, texts = truncated_by_hand(model, options)
    means = np.stack([oracle.unit(texts[[0, 1]].mean(0)), oracle.unit(texts[[2, 3]].mean(0)), texts[4]])
    expected = transformed_by_hand(images, options) @ transformed_by_hand(means, options).T
    (block,) = [block[:, scores.column].clone() for _, _, block in scores.blocks()]
    assert block.numpy() == pytest.approx(expected, abs=1e-2 if "quantize" in options else 1e-6)


@of_embeddings
def test_scores_of_pairs_are_those_of_the_matrix(options):
    scores = engine_for(Table(rows(0), rows(1)), **options).score(IMAGES, CAPTIONS)
    (block,) = [block[:, scores.image_to_text().column].clone() for _, _, block in scores.image_to_text().blocks()]
    pairs = torch.cartesian_prod(torch.arange(COUNT), torch.arange(COUNT))
    assert scores.of_pairs(pairs).numpy() == pytest.approx(block.flatten().numpy(), abs=1e-6)


def test_a_single_pair_has_no_dual_softmax():
    engine = engine_for(Table(rows(0), rows(1)), dual_softmax=100.0)
    with pytest.raises(RequestError, match="leave --dual-softmax out"):
        engine.score_pairs(IMAGES, CAPTIONS, torch.zeros(1, 2, dtype=torch.int64))


def test_features_stay_as_the_model_made_them():
    model = Table(rows(0), rows(1))
    engine = engine_for(model, truncate_dim=4, center=True)
    assert engine.image_features(IMAGES).shape == (COUNT, WIDTH)
    engine.start_benchmark("plain")
    assert engine.score(IMAGES, CAPTIONS).image_features.shape == (COUNT, WIDTH)


def test_a_collapsed_model_is_reported_although_centring_spreads_its_embeddings():
    collapsed = Table(1 + 1e-6 * rows(0), rows(1))
    outcome = tasks.run(benchmark("retrieval", k=[1]), RETRIEVAL, engine_for(collapsed, center=True))
    assert any("collapsed" in warning for warning in outcome.warnings)


def test_more_dimensions_than_there_are_and_zeros_are_refused():
    model = Table(rows(0), rows(1))
    with pytest.raises(RequestError, match=r"--truncate-dim 17: the embeddings of .* have 16 dimensions"):
        engine_for(model, truncate_dim=17).score(IMAGES, CAPTIONS)
    model.texts[3, :4] = 0
    with pytest.raises(RequestError, match=r"first 4 dimensions of the embedding of the text 'caption 3' are zero"):
        engine_for(model, truncate_dim=4).score(IMAGES, CAPTIONS)


@pytest.mark.parametrize(("name", "reason"), [("Late", "a similarity of its own"), ("Pairs", "scores pairs")])
def test_models_with_a_score_of_their_own_are_refused(name, reason):
    engine = Engine(as_model(getattr(scoring_models, name)()))
    engine.start_benchmark("plain")
    with pytest.raises(RequestError, match=rf"{reason}.*run it without --quantize int8$"):
        engine.start_benchmark("some", FeatureTransforms(quantize="int8"))
