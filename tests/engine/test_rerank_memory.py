"""Memory of reranking, measured by hand: the pairs, their scores and a few blocks, for any number of candidates."""

import numpy as np
import pytest
import torch

from benchmarks.memory import peak_resident_bytes
from cosmos_eval.datasets.data.retrieval import RetrievalData
from cosmos_eval.engine.engine import Engine
from cosmos_eval.models.python import as_model
from cosmos_eval.protocol.benchmark import Benchmark
from cosmos_eval.tasks.retrieval.measure import run
from tests.helpers.scoring_models import Cosines
from tests.helpers.stand_ins import random_images

MOST_BYTES = 500 * 10**6


class Narrow(Cosines):
    """Embeddings of 8 numbers that differ for all texts, and cheap pair scores."""

    def encode_text(self, texts):
        numbers = torch.tensor([float(text) for text in texts])[:, None]
        return torch.sin((numbers + 0.3) * torch.arange(1, 9) * 0.7)

    def score_pairs(self, images, texts):
        numbers = torch.tensor([float(text) for text in texts])
        return torch.sin(images[:, :, 0, 0].sum(1) * 91.7 + numbers)


@pytest.mark.slow
def test_1000_images_with_5000_texts_rerank_100_candidates_within_500_megabytes():
    texts = [str(j) for j in range(5000)]
    data = RetrievalData(random_images(1000), texts, np.arange(5000) // 5)
    definition = Benchmark(name="large", version=1, task="retrieval", dataset={}, metrics={"k": [1, 5], "rerank": 100})
    engine = Engine(as_model(Narrow()), batch_size=1024)
    engine.text_features(texts[:8])  # whatever is loaded at first use
    before = peak_resident_bytes(reset=True)
    outcome = run(definition, data, engine)
    peak = peak_resident_bytes()
    print(f"{(peak - before) / 1e6:.0f} MB for {engine.encoded['pairs']:,} pairs")
    assert 300_000 < engine.encoded["pairs"] <= 600_000
    assert outcome.warnings == ()
    assert peak - before < MOST_BYTES
