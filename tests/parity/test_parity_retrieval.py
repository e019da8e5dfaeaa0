"""Retrieval of the golden pack: untied cases equal to 1e-5, tied ones between the bounds, and the bounds themselves.

The reference sorts and takes `floor(median) + 1`; ours is the median of expected ranks, whose whole part is the same.
"""

import math
from typing import Any

import numpy as np
import pytest
import torch

from cosmos_eval.metrics.ranks import RankCounts, expected_hit, expected_rank
from tests.helpers.feature_metrics import rank_counts_of_features
from tests.oracles.ranks import lowest_index_first
from tests.parity.golden import Pack

METRICS = "retrieval/metrics.json"
FEATURES = "retrieval/features.safetensors"
KS = (1, 5, 10)


@pytest.fixture(scope="module")
def pack(parity_dir):
    return Pack.at(parity_dir)


def cases(pack: Pack) -> list[str]:
    return [name for name, case in pack.json(METRICS).items() if "reference_metrics" in case]


def positives(pack: Pack, case: str) -> tuple[torch.Tensor, list[list[int]]]:
    """The image of each caption, and the captions of each image."""
    ids = pack.json(METRICS)[case]["image_ids_in_loader_order"]
    owner = torch.tensor([ids.index(i) for i in pack.json(METRICS)[case]["caption_image_id"]])
    return owner, [(owner == i).nonzero()[:, 0].tolist() for i in range(len(ids))]


def both_ways(pack: Pack, case: str) -> dict[str, RankCounts]:
    features = pack.tensors(FEATURES)
    images, texts = features[f"{case}.image_features"], features[f"{case}.text_features"]
    text = torch.arange(len(texts))
    owner = positives(pack, case)[0] if f"{case}.similarity" in features else text
    return {
        "text_to_image": rank_counts_of_features(texts, images, text, owner),
        "image_to_text": rank_counts_of_features(images, texts, owner, text),
    }


def of_ranks(ranks: np.ndarray) -> dict[str, float]:
    """Metrics of ranks that a sort gave."""
    recall = {f"R@{k}": float((ranks <= k).mean()) for k in KS}
    return recall | {"mean_rank": float(ranks.mean()), "median_rank": math.floor(np.median(ranks))}


def under(prefix: str, metrics: dict[str, float]) -> dict[str, float]:
    return {f"{prefix}{name}": value for name, value in metrics.items()}


def expectations(places: RankCounts) -> dict[str, float]:
    ranks = expected_rank(places)
    recall = {f"R@{k}": expected_hit(places, k).mean().item() for k in KS}
    return recall | {"mean_rank": ranks.mean().item(), "median_rank": math.floor(np.median(ranks))}


def metrics(pack: Pack) -> dict[str, Any]:
    ours: dict[str, Any] = {}
    for case in cases(pack):
        for direction, places in both_ways(pack, case).items():
            ours |= under(f"{case}/reference_metrics/{direction}_", expectations(places))
    return ours


def bounds(pack: Pack) -> dict[str, Any]:
    """Metrics of the best and the worst order of ties, and of the one that a stable sort gives."""
    ours: dict[str, Any] = {}
    for case in cases(pack):
        scores = pack.tensors(FEATURES)[f"{case}.similarity"].numpy()
        owner, captions = positives(pack, case)
        in_order = {
            "image_to_text": lowest_index_first(scores, captions),
            "text_to_image": lowest_index_first(scores.T, [[i] for i in owner.tolist()]),
        }
        for direction, places in both_ways(pack, case).items():
            best = places.above + 1
            orders = {
                "optimistic": best.numpy(),
                "pessimistic": (best + places.tied - places.tied_positives).numpy(),
                "lowest_index_first": in_order[direction],
            }
            for order, ranks in orders.items():
                ours |= under(f"{case}/tie_bounds/{order}/{direction}_", of_ranks(ranks))
    return ours


def owners(pack: Pack) -> dict[str, Any]:
    """Which caption belongs to which image, and how many there are."""
    ours: dict[str, Any] = {}
    for case in cases(pack):
        owner, captions = positives(pack, case)
        ours |= {f"{case}/remapped_img2txt/{i}": own for i, own in enumerate(captions)}
        ours |= {f"{case}/remapped_txt2img/{j}": i for j, i in enumerate(owner.tolist())}
        ours |= {f"{case}/num_images": len(captions), f"{case}/num_texts": len(owner)}
    return ours


def ties(pack: Pack) -> dict[str, Any]:
    return {
        f"{case}/tied": any(bool((p.tied > p.tied_positives).any()) for p in both_ways(pack, case).values())
        for case in cases(pack)
    }


def similarities(pack: Pack) -> dict[str, Any]:
    features = pack.tensors(FEATURES)
    return {
        f"{case}.similarity": (pack.json(METRICS)[case]["logit_scale"] * features[f"{case}.image_features"])
        @ features[f"{case}.text_features"].T
        for case in cases(pack)
    }


def paired(pack: Pack) -> dict[str, Any]:
    ours: dict[str, Any] = {}
    for direction, places in both_ways(pack, "paired").items():
        ours |= under(f"paired_get_clip_metrics/metrics/{direction}_", expectations(places))
    return ours


def numbers(pack: Pack) -> dict[str, Any]:
    return {k: v for part in (metrics, bounds, owners, ties, paired) for k, v in part(pack).items()}


FILES = {METRICS: numbers, FEATURES: similarities}


def test_metrics_equal_the_reference_or_lie_between_the_best_and_the_worst_order_of_ties(pack):
    pack.compare(METRICS, metrics(pack), only="*/reference_metrics/*")


def test_counts_give_the_best_and_the_worst_order_of_ties(pack):
    pack.compare(METRICS, bounds(pack), only="*/tie_bounds/*")


@pytest.mark.parametrize("file", FILES)
def test_every_stored_value_of_retrieval_comes_out_again(pack, file):
    pack.compare(file, pack.ours(file, FILES[file]))
