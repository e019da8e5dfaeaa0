"""Winoground on real CLIP embeddings whose scores are published: the three scores, by collapsed tag, to the item."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cosmos_eval.metrics.item_accuracy import compute_correctness
from tests.helpers.feature_metrics import pair_scores


@pytest.fixture(scope="module")
def winoground(real_dir: Path) -> Path:
    return real_dir / "winoground"


def test_the_three_scores_are_the_published_ones(winoground: Path):
    key = json.loads((winoground / "answer_key.json").read_text())
    with np.load(winoground / "embeddings_vitb32_laion2b.npz", allow_pickle=False) as stored:
        images, texts = (torch.from_numpy(stored[name]) for name in ("img", "cap"))
    with (winoground / "meta.csv").open(encoding="utf-8", newline="") as file:
        tags = np.array([row["collapsed_tag"] for row in csv.DictReader(file)])
    items = torch.arange(len(images)).view(-1, 2)
    unit = torch.nn.functional.normalize
    found = compute_correctness(pair_scores(unit(images, dim=1), unit(texts, dim=1), items, items))
    for name in ("text", "image", "group"):
        values = found[f"{name}_score"].strict.numpy()
        assert int(values.sum()) == key["overall"][name]["correct"]
        for tag, of_tag in key["by_collapsed_tag"].items():
            assert int(values[tags == tag].sum()) == of_tag[name]["correct"]
            assert (tags == tag).sum() == of_tag["n"]
        published = next(row for row in key["published"] if row["metric"] == f"{name} score")
        assert 100 * values.mean() == pytest.approx(published["published_percent"], abs=0.005)
