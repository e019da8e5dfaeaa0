"""What distillation asks of the towers at the end of a training, with the cross-attention and without.

    python -m benchmarks.studies.ablation.distillation --out DIR [--rows distill cosmos] [--seeds 0 1 2]

On scenes that no row has trained on, in the views and the batch size of the training: the distillation terms, how far
cross-modal features lie from plain ones, and the gradient that each of the two losses sends into the towers (poolers,
token maps and temperatures left out). Prints a Markdown table: means over seeds.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from benchmarks.studies.ablation.collect import Leg, finished_legs
from benchmarks.studies.ablation.report import table
from cosmos_core.checkpoint import load_checkpoint
from cosmos_core.config import TrainConfig
from cosmos_core.data import Batch
from cosmos_core.loss import Losses
from cosmos_core.model import COSMOS, Features
from cosmos_core.objectives import build_objective
from cosmos_core.overrides import updated

UNSEEN = 1000
"""Added to the seed of the scenes: others than any training's."""
BATCHES = 4
NOT_TOWERS = ("cross_pool", "token_mapping", "logit_scale")
FIGURES = {
    "clip_loss": "contrastive loss",
    "distill_loss": "distillation loss",
    "from_image": "of it: images",
    "from_text": "of it: texts",
    "plain_distill_loss": "the same on plain features",
    "image_cosine": "cos(cross, plain), images",
    "text_cosine": "cos(cross, plain), texts",
    "clip_gradient": "gradient of the contrastive loss",
    "distill_gradient": "gradient of distillation",
    "cosine": "cosine of the two",
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"), help="folder of the legs")
    parser.add_argument("--rows", nargs="+", default=["distill", "cosmos"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    legs = finished_legs(options.out)
    found = {name: [figures(legs[name][seed]) for seed in options.seeds] for name in options.rows}
    header = ["", *options.rows]
    body = [[title, *(shown(found[name], key) for name in options.rows)] for key, title in FIGURES.items()]
    print(table(header, body))
    print(json.dumps({"name": "ablation-why", "figures": found}))


def shown(found: list[dict[str, float]], key: str) -> str:
    """Mean over seeds, and each seed's value."""
    values = [one[key] for one in found]
    return f"{fmean(values):.3f} ({', '.join(f'{value:.3f}' for value in values)})"


def figures(leg: Leg) -> dict[str, float]:
    """The values of FIGURES for one finished leg: means over BATCHES unseen batches."""
    config = updated(TrainConfig(), leg.record["config"], str(leg.folder))
    networks = [load_checkpoint(leg.folder / "last.pt", weights=weights) for weights in ("student", "teacher")]
    rows = [of_batch(config, *networks, batch) for batch in unseen_batches(config, networks[0])]
    return {key: fmean(row[key] for row in rows) for key in FIGURES}


def unseen_batches(config: TrainConfig, model: COSMOS) -> list[Batch]:
    from dataclasses import replace
    from itertools import islice

    from cosmos_core.train import view_loader
    from cosmos_eval.datasets.toybox import train_records

    size = BATCHES * config.batch_size
    config = replace(config, samples=size)
    loader: Any = view_loader(config, model, train_records(config.seed + UNSEEN, size))
    return list(islice(loader.batches(), BATCHES))


def of_batch(config: TrainConfig, student: COSMOS, teacher: COSMOS, batch: Batch) -> dict[str, float]:
    size = len(batch.texts)
    texts = batch.texts.transpose(0, 1).flatten(0, 1)
    towers = [
        weight
        for name, weight in student.named_parameters()
        if not any(part in name for part in NOT_TOWERS) and weight.requires_grad
    ]
    objective = build_objective(config.objective)
    with torch.no_grad():
        targets = teacher(batch.images[:2], texts[: 2 * size])
    features: Features = student(batch.images, texts, size)  # with cross features, whether the loss reads them or not
    losses: Losses = objective(features, targets, size)
    gradients = [flat_gradient(loss, towers) for loss in (losses.clip_loss, losses.distill_loss)]
    terms = {name: term.item() for name, term in losses.distill_terms.items()}
    assert features.image_cross_features is not None
    assert features.text_cross_features is not None
    return {
        "clip_loss": losses.clip_loss.item(),
        "distill_loss": losses.distill_loss.item(),
        "from_image": fmean(value for name, value in terms.items() if name.startswith("img")),
        "from_text": fmean(value for name, value in terms.items() if name.startswith("txt")),
        "plain_distill_loss": build_objective("distill")(features, targets, size).distill_loss.item(),
        "image_cosine": cosine_similarity(features.image_cross_features, features.image_features).mean().item(),
        "text_cosine": cosine_similarity(features.text_cross_features, features.text_features).mean().item(),
        "clip_gradient": gradients[0].norm().item(),
        "distill_gradient": gradients[1].norm().item(),
        "cosine": cosine_similarity(gradients[0], gradients[1], dim=0).item(),
    }


def flat_gradient(loss: Tensor, weights: list[Tensor]) -> Tensor:
    found = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
    pairs = zip(found, weights, strict=True)
    return torch.cat([(torch.zeros_like(w) if g is None else g).flatten() for g, w in pairs])


if __name__ == "__main__":
    main()
