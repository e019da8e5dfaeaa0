"""`--rerank`: the fingerprint of a definition with the same `metrics.rerank`."""

import pytest
import yaml

from cosmos_core.errors import RequestError
from cosmos_eval.protocol.benchmark import load_benchmark
from cosmos_eval.protocol.metric_changes import set_rerank

RETRIEVAL = {
    "name": "small", "version": 1, "task": "retrieval",
    "dataset": {"reader": "toybox", "split": "test", "seed": 7, "scenes": 20},
    "metrics": {"primary": "text_to_image_recall@1", "k": [1, 5]},
}  # fmt: skip


def test_rerank_counts_as_if_it_stood_in_the_definition(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(RETRIEVAL))
    plain, classification = load_benchmark(path), load_benchmark("toybox-classification")
    changed, same = set_rerank([plain, classification], 5)
    assert same == classification  # classes are all scored
    path.write_text(yaml.safe_dump({**RETRIEVAL, "metrics": {**RETRIEVAL["metrics"], "rerank": 5}}))
    assert changed.fingerprint == load_benchmark(path).fingerprint != plain.fingerprint


@pytest.mark.parametrize(
    ("names", "k", "message"),
    [
        (["toybox-retrieval"], 0, "give at least 1, not 0"),
        (["toybox-classification"], 5, "toybox-classification rank no candidates; leave it out"),
    ],
)
def test_a_rerank_without_effect_is_refused(names, k, message):
    with pytest.raises(RequestError, match=message):
        set_rerank([load_benchmark(name) for name in names], k)
