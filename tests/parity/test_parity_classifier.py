"""Zero-shot classification with the pack's weights: prompts, class weights, logits and hits."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cosmos_core.tokenizer import build_tokenizer
from cosmos_eval.metrics.accuracy import expected_topk
from cosmos_eval.tasks.prompts import build_class_embeddings, build_class_prompts
from tests.helpers.feature_metrics import class_rank_counts_of_features
from tests.parity import ours
from tests.parity.golden import Pack


@pytest.fixture(scope="module")
def pack(parity_dir: Path) -> Pack:
    return Pack.at(parity_dir)


class PackFeatures:
    """Features of texts from the pack's student; its tokenizer is the folded one of its configuration."""

    def __init__(self, pack: Pack) -> None:
        self.model = ours.model(pack).eval()
        self.tokenize = build_tokenizer(pack.json("model/config.json")["text_cfg"])

    def image_features(self, images: Sequence[Any]) -> Tensor:
        raise AssertionError("the pack gives image features")

    @torch.no_grad()
    def text_features(self, texts: Sequence[str]) -> Tensor:
        return self.model.encode_text(self.tokenize(list(texts)), normalize=True)


def tensors(pack: Pack) -> dict[str, Tensor]:
    stored, case = pack.tensors("classification/classifier.safetensors"), pack.json("classification/expect.json")
    features = PackFeatures(pack)
    prompts = build_class_prompts(case["classnames"], case["templates"])
    weights = build_class_embeddings(features, case["classnames"], case["templates"])
    return {
        "token_ids": torch.stack([features.tokenize(own) for own in prompts]),
        "classifier": weights.T,
        "logits": case["temperature"] * stored["image_features"] @ weights.T,
    }


def numbers(pack: Pack) -> dict[str, Any]:
    stored, case = pack.tensors("classification/classifier.safetensors"), pack.json("classification/expect.json")
    weights = pack.ours("classification/classifier.safetensors", tensors)["classifier"].T.contiguous()
    places = class_rank_counts_of_features(stored["image_features"], weights, stored["targets"])
    top1, top5 = (expected_topk(places, k).sum().item() for k in (1, 5))
    ranked = (case["temperature"] * stored["image_features"] @ weights.T).sort(dim=1, descending=True).values
    return {
        "top1_count": top1,
        "top5_count": top5,
        "top1": top1 / len(stored["targets"]),
        "top5": top5 / len(stored["targets"]),
        "min_gap_top1_top2": (ranked[:, 0] - ranked[:, 1]).min().item(),
        "min_gap_top5_top6": (ranked[:, 4] - ranked[:, 5]).min().item(),
    }


FILES = {"classification/classifier.safetensors": tensors, "classification/expect.json": numbers}


@pytest.mark.parametrize("file", FILES)
def test_every_stored_value_of_the_classifier_comes_out_again(pack: Pack, file: str):
    pack.compare(file, pack.ours(file, FILES[file]))
