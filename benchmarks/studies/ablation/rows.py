"""The rows of the ablation: five steps from CLIP to COSMOS, and the two other objectives that the paper compares."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cosmos_core.config import TrainConfig


@dataclass(frozen=True)
class Row:
    """One row of the ablation: its name, its title in tables, and how its settings differ from the preset."""

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
STEPS = ("clip", "image_views", "text_views", "distill", "cosmos")
"""Each of these rows adds one component to the row before it."""
OBJECTIVES = ("clip", "slip", "silc", "cosmos")
"""The four objectives that the paper compares; two of them are also in STEPS."""

PRESET = "toybox"
FULL = ("batch_size=64", "steps=260", "threads=1")
"""Half the batch of the preset, so that 21 trainings take an hour with one thread."""
QUICK = ("batch_size=16", "steps=8", "warmup=2", "threads=1")


def row(name: str) -> Row:
    """Return the row with this name."""
    return next(candidate for candidate in ROWS if candidate.name == name)


def settings(row: Row, seed: int, changes: Sequence[str] = FULL) -> "TrainConfig":
    """Return the complete configuration of a row with a seed."""
    from cosmos_core.config import load_preset

    return load_preset(PRESET, [f"name={row.name}", f"seed={seed}", *changes, *row.changes])
