"""Measure the distillation loss and its gradients in the towers, at the end of training.

    python -m benchmarks.studies.ablation.distillation --out DIR [--rows distill cosmos] [--seeds 0 1 2]

The scenes are not in any training; views and batch size are those of the training. The figures are the distillation
terms, the cosine of cross-modal and plain features, and the gradient of each of the two losses in the towers (without
poolers, token maps and temperatures). The output is a Markdown table with means over seeds.
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

from benchmarks.studies.ablation.collect import Trial, finished_trials
from benchmarks.studies.ablation.report import table
from cosmos_core.checkpoint import load_checkpoint
from cosmos_core.config import TrainConfig
from cosmos_core.data import Batch
from cosmos_core.loss import Losses
from cosmos_core.model import COSMOS, Features
from cosmos_core.objectives import build_objective
from cosmos_core.overrides import updated

UNSEEN = 1000
"""Added to the seed, so that the scenes are not those of any training."""
BATCHES = 4
NOT_TOWERS = ("cross_pool", "token_mapping", "logit_scale")
FIGURES = {
    "clip_loss": "contrastive loss",
    "distill_loss": "distillation loss",
    "from_image": "part of it: images",
    "from_text": "part of it: texts",
    "plain_distill_loss": "the same on plain features",
    "image_cosine": "cos(cross, plain), images",
    "text_cosine": "cos(cross, plain), texts",
    "clip_gradient": "gradient of the contrastive loss",
    "distill_gradient": "gradient of the distillation loss",
    "cosine": "cosine of the two gradients",
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"), help="folder of the trials")
    parser.add_argument("--rows", nargs="+", default=["distill", "cosmos"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    trials = finished_trials(options.out)
    figures_of = {name: [figures(trials[name][seed]) for seed in options.seeds] for name in options.rows}
    header = ["", *options.rows]
    body = [[title, *(format_mean(figures_of[name], key) for name in options.rows)] for key, title in FIGURES.items()]
    print(table(header, body))
    print(json.dumps({"name": "ablation-why", "figures": figures_of}))


def format_mean(figures_of_seeds: list[dict[str, float]], key: str) -> str:
    """Format the mean over seeds, and the value of each seed."""
    values = [seed_figures[key] for seed_figures in figures_of_seeds]
    return f"{fmean(values):.3f} ({', '.join(f'{value:.3f}' for value in values)})"


def figures(trial: Trial) -> dict[str, float]:
    """Return the values of FIGURES for one finished trial: means over BATCHES unseen batches."""
    config = updated(TrainConfig(), trial.record["config"], str(trial.folder))
    student, teacher = (load_checkpoint(trial.folder / "last.pt", weights=name) for name in ("student", "teacher"))
    of_batches = [batch_figures(config, student, teacher, batch) for batch in unseen_batches(config, student)]
    return {key: fmean(values[key] for values in of_batches) for key in FIGURES}


def unseen_batches(config: TrainConfig, model: COSMOS) -> list[Batch]:
    """Return BATCHES batches of scenes that no training uses, with the views of the training."""
    from dataclasses import replace
    from itertools import islice

    from cosmos_core.train import view_loader
    from cosmos_eval.datasets.toybox import train_records

    size = BATCHES * config.batch_size
    config = replace(config, samples=size)
    loader: Any = view_loader(config, model, train_records(config.seed + UNSEEN, size))
    return list(islice(loader.batches(), BATCHES))


def batch_figures(config: TrainConfig, student: COSMOS, teacher: COSMOS, batch: Batch) -> dict[str, float]:
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
    features: Features = student(
        batch.images, texts, size
    )  # computes cross features even if the loss does not use them
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


def flat_gradient(loss: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Return the gradient of a loss as one vector; zero for weights that the loss does not use."""
    gradients = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
    pairs = zip(gradients, weights, strict=True)
    return torch.cat([(torch.zeros_like(w) if g is None else g).flatten() for g, w in pairs])


if __name__ == "__main__":
    main()
