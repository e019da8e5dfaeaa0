"""When two features are the same: to the bit only where the very same call was made twice.

Other shapes (a text alone or in a batch, trimmed or whole), other threads, and parameters with or without gradients
lead to other kernels, which round differently: on an AMD EPYC `torch.nn.MultiheadAttention` differs in the last bits
between a network whose parameters require gradients and its own copy whose parameters do not, under `no_grad` too.
"""

import torch
from torch import Tensor

FLOAT32 = {"rtol": 1e-5, "atol": 2e-6}
"""Some ten units in the last place of features near 1: far below any change of weights, tokens or pixels."""


def is_close(actual: Tensor, expected: Tensor) -> bool:
    """Whether two float32 tensors of one shape agree to the rounding of other kernels."""
    return actual.shape == expected.shape and torch.allclose(actual, expected, **FLOAT32)


def assert_close(actual: Tensor, expected: Tensor) -> None:
    """Fail, with the largest difference, where `is_close` does not hold; shapes and types must be the same."""
    torch.testing.assert_close(actual, expected, **FLOAT32)
