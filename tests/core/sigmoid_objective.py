"""The plug-in of objectives with parameters (`tests/core/siglip.py`), and a training with the first of them."""

from dataclasses import replace
from typing import Any

from cosmos_core.config import TrainConfig
from tests.core.test_train import CONFIG

CLASSES = {"sigmoid": "SigLip", "projected": "Projected", "forgetful": "Forgetful"}
ENTRIES = "\n".join(f"{name} = tests.core.siglip:{cls}" for name, cls in CLASSES.items())


def siglip(**changes: Any) -> TrainConfig:
    return replace(CONFIG, objective="sigmoid", **changes)
