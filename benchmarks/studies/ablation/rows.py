"""The rows: five steps from CLIP to COSMOS, and the two other objectives that the paper draws beside them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cosmos_core.config import TrainConfig


@dataclass(frozen=True)
class Row:
    """One training of the ablation: what it is called, and how its settings differ from the preset."""

    name: str
    title: str
    changes: tuple[str, ...]


ROWS = (
    Row("clip", "contrastive only (CLIP)", ("objective=clip",)),
    Row("image_views", "+ image views", ("objective=multiview", "captions=1")),
    Row("text_views", "+ text views", ("objective=multiview",)),
    Row("distill", "+ self-distillation", ("objective=distill",)),
    Row("cosmos", "+ cross-attention (COSMOS)", ("objective=cosmos",)),
    Row("slip", "SLIP", ("objective=slip",)),
    Row("silc", "SILC", ("objective=silc",)),
)
LADDER = ("clip", "image_views", "text_views", "distill", "cosmos")
"""Each row has what the row above it has, and one thing more."""
OBJECTIVES = ("clip", "slip", "silc", "cosmos")
"""The four that the paper draws side by side; two of them are rows of the ladder."""

PRESET = "toybox"
FULL = ("batch_size=64", "steps=260", "threads=1")
"""Half the preset's batch: 21 trainings fit into an hour of one thread."""
QUICK = ("batch_size=16", "steps=8", "warmup=2", "threads=1")


def row(name: str) -> Row:
    return next(one for one in ROWS if one.name == name)


def settings(one: Row, seed: int, changes: Sequence[str] = FULL) -> "TrainConfig":
    """The whole configuration of a row and a seed."""
    from cosmos_core.config import load_preset

    return load_preset(PRESET, [f"name={one.name}", f"seed={seed}", *changes, *one.changes])
