"""Training from a configuration: the toybox world is rendered here, because cosmos_core does not know it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cosmos_eval.progress import Reporter, Silent

if TYPE_CHECKING:
    from cosmos_core.config import TrainConfig
    from cosmos_core.data import Sample
    from cosmos_core.train import Callback, TrainResult


def records_of(config: "TrainConfig") -> "Sequence[Sample] | None":
    """The records that a configuration asks its caller for: toybox's, rendered from the seed as they are read."""
    if "toybox" not in [source.strip() for source in config.data.split("::")]:
        return None
    from cosmos_eval.datasets.toybox import train_records

    return train_records(config.seed, config.samples)


def train_from(config: "TrainConfig", reporter: Reporter | None = None, *, overwrite: bool = False) -> "TrainResult":
    """Train what a configuration describes.

    A run that was stopped goes on, unless `overwrite` starts it anew. With `eval_every` the networks are evaluated
    along the way (`cosmos_eval.training.evaluator`).
    """
    from cosmos_core.train import train

    reporter = reporter or Silent()
    callbacks: list[Callback] = []
    if config.eval_every:
        from cosmos_eval.training.evaluator import EvaluateEvery

        callbacks.append(EvaluateEvery(config, reporter))
    return train(config, records_of(config), callbacks=callbacks, reporter=reporter, overwrite=overwrite)
