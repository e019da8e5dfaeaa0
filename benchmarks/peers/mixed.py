"""In which arithmetic clip-benchmark can be compared with: float32, or the half precision of its autocast."""

from collections.abc import Mapping

from cosmos_core.errors import RequestError

MIXED = {"cpu": "bf16", "cuda": "fp16"}
"""What torch's autocast, which clip-benchmark gives no type, takes on each kind of device."""
FIGURES: Mapping[str, float] = {"fp32": 1e-4, "fp16": 2e-2, "bf16": 3e-2}
"""How far figures may be apart: with random weights many ranks hang on the last bits of half precision."""


def check_mixed(precision: str, device: str) -> None:
    """RequestError where clip-benchmark cannot measure in this precision."""
    mixed = MIXED[device.partition(":")[0]]
    if precision not in ("fp32", mixed):
        where = "a CPU" if device == "cpu" else "a GPU"
        raise RequestError(f"clip-benchmark's mixed precision on {where} is {mixed}; give --precision {mixed} or fp32")


def same_arithmetic() -> None:
    """Convolutions in true float32 on both sides: ours turn TF32 off, and torch has it on."""
    import torch

    torch.backends.cudnn.allow_tf32 = False
