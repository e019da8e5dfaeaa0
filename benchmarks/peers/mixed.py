"""Precisions in which clip-benchmark can be compared: float32, or the half precision of its autocast."""

from collections.abc import Mapping

from cosmos_core.errors import RequestError

MIXED = {"cpu": "bf16", "cuda": "fp16"}
"""The half precision of torch's autocast on each kind of device. clip-benchmark does not choose another one."""
FIGURES: Mapping[str, float] = {"fp32": 1e-4, "fp16": 2e-2, "bf16": 3e-2}
"""Largest difference of figures that is allowed. With random weights, many ranks depend on the last bits."""


def check_mixed(precision: str, device: str) -> None:
    """Check that clip-benchmark can measure in this precision.

    Raises:
        RequestError: it cannot.
    """
    mixed = MIXED[device.partition(":")[0]]
    if precision not in ("fp32", mixed):
        where = "a CPU" if device == "cpu" else "a GPU"
        raise RequestError(f"clip-benchmark's mixed precision on {where} is {mixed}; give --precision {mixed} or fp32")


def same_arithmetic() -> None:
    """Compute convolutions in true float32 on both sides: cosmos-eval turns TF32 off, and torch's default is on."""
    import torch

    torch.backends.cudnn.allow_tf32 = False
