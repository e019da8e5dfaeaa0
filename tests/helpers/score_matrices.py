"""Small engines of models with their own score, and their scores as matrices."""

import numpy as np
import torch

from cosmos_eval import tasks
from cosmos_eval.datasets.data import RetrievalData
from cosmos_eval.datasets.image_sources import ArrayImage
from cosmos_eval.engine import Engine
from cosmos_eval.models.python import as_model
from tests.helpers import scoring_models
from tests.helpers.stand_ins import benchmark, random_images
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


def score_one_by_one(name: str, images, texts) -> np.ndarray:
    """The scores (images, texts) of a model that gets one pair at a time."""
    model = getattr(scoring_models, name)()

    def score(i: int, j: int) -> float:
        return float(model.score_pairs(model.preprocess(images[i].load())[None], [texts[j]]))

    return oracle.score_all(len(images), len(texts), score)
