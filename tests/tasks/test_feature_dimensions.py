"""A model whose image and text features have different dimensions is refused by every task."""

import numpy as np
import pytest
import torch

from cosmos_core.errors import RequestError
from cosmos_eval import tasks
from cosmos_eval.datasets.data import ClassificationData, PerceptionData, RetrievalData
from cosmos_eval.engine import Engine
from tests.helpers.stand_ins import RandomModel, benchmark, random_images


class Wider(RandomModel):
    def encode_text(self, texts):
        return super().encode_text(texts).repeat(1, 2)


DATA = {
    "retrieval": RetrievalData(random_images(3), ["a", "b", "c"], np.arange(3)),
    "classification": ClassificationData(random_images(3), np.arange(3), ["a", "b", "c"], ["the {c}"]),
    "perception": PerceptionData.pairs(random_images(3), [0, 1, 2], ["a", "b", "c"], ["d", "e", "f"], ["x"] * 3),
}


@pytest.mark.parametrize("task", DATA)
def test_different_dimensions_are_refused_in_one_line(task: str):
    torch.manual_seed(0)
    with pytest.raises(RequestError, match="16 dimensions for each image and 32 for each text; the adapter"):
        tasks.run(benchmark(task), DATA[task], Engine(Wider()))


def test_the_engine_refuses_them_whichever_task_asks():
    """A plug-in's task that asked for pairs ended with torch's RuntimeError, as a bug of the task."""
    with pytest.raises(RequestError, match="16 dimensions for each image and 32 for each text; the adapter"):
        Engine(Wider()).score_pairs(random_images(2), ["a", "b"], torch.tensor([[0, 1]]))
