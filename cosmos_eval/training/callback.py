"""Trains from a configuration; provides the toybox dataset, which cosmos_core does not have."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cosmos_eval.progress import Reporter, Silent

if TYPE_CHECKING:
    from cosmos_core.config import TrainConfig
    from cosmos_core.data import Sample
    from cosmos_core.train import Callback, TrainResult


def records_of(config: "TrainConfig") -> "Sequence[Sample] | None":
    """The records that a configuration expects from its caller: toybox, rendered from the seed as they are read."""
    if "toybox" not in [source.strip() for source in config.data.split("::")]:
        return None
    from cosmos_eval.datasets.toybox import train_records

    return train_records(config.seed, config.samples)


def train_from(config: "TrainConfig", reporter: Reporter | None = None, *, overwrite: bool = False) -> "TrainResult":
    """Train what a configuration describes.

    With `init` it starts from the weights of that model spec (`cosmos_eval.training.initial`). A run that was stopped
    is resumed, unless `overwrite` replaces it. With `eval_every` the networks are evaluated during training
    (`cosmos_eval.training.evaluator`).
    """
    from cosmos_core.train import train

    reporter = reporter or Silent()
    initial = None
    if config.init:
        from cosmos_eval.training.initial import prepare_initial

        config, initial = prepare_initial(config, overwrite)
    callbacks: list[Callback] = []
    if config.eval_every:
        from cosmos_eval.training.evaluator import EvaluateEvery

        callbacks.append(EvaluateEvery(config, reporter))
    return train(
        config, records_of(config), callbacks=callbacks, reporter=reporter, overwrite=overwrite, initial=initial
    )
