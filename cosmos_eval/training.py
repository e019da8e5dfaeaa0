"""Training from a configuration: the toybox world is rendered here, because cosmos_core does not know it."""

from typing import TYPE_CHECKING

from cosmos_eval.progress import Reporter, Silent

if TYPE_CHECKING:
    from cosmos_core.config import TrainConfig
    from cosmos_core.train import TrainResult


def train_from(config: "TrainConfig", reporter: Reporter | None = None) -> "TrainResult":
    """Train what a configuration describes; `data: toybox` renders its scenes from the seed as they are read."""
    from cosmos_core.train import train
    from cosmos_eval.datasets.toybox import train_records

    data = train_records(config.seed, config.samples) if config.data == "toybox" else None
    return train(config, data, reporter=reporter or Silent())
