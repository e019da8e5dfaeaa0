"""The attention variants of a tower's last attention block, and how a block is run with one of them.

A variant says how values are mixed, and whether the block keeps its residual and MLP; `cosmos_core.dense` describes
them. Queries and keys are those that the block compares: after its norms and rotary positions.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

NEIGHBOURHOOD = 5.0
"""Standard deviation of NACLIP's neighbourhood, in patches, as its authors set it."""


class Mixer(Protocol):
    """How attention mixes values."""

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int], scale: float | None = None) -> Tensor:
        """Mix the values of P prefix tokens (class token, registers) and h * w patches.

        Args:
            q, k, v: (B, heads, P + h * w, d).
            grid: (h, w).
            scale: factor of the products of queries and keys; None: 1 / sqrt(d).

        Returns:
            Mixed values of the same shape as v.
        """
        ...


def correlative_attention(q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int], scale: float | None = None) -> Tensor:
    """SCLIP's: (softmax(q q^T) + softmax(k k^T)) v."""
    # the sum of two attentions is the attention with the sum of their weights; no weight matrix has to be computed
    return F.scaled_dot_product_attention(q, q, v, scale=scale) + F.scaled_dot_product_attention(k, k, v, scale=scale)


def values_alone(q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int], scale: float | None = None) -> Tensor:
    """MaskCLIP's: every token keeps its own value."""
    return v


def query_query_attention(q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int], scale: float | None = None) -> Tensor:
    """ClearCLIP's: softmax(q q^T) v."""
    return F.scaled_dot_product_attention(q, q, v, scale=scale)


def neighbourhood_attention(
    q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int], scale: float | None = None
) -> Tensor:
    """NACLIP's: softmax(k k^T + n) v, with a Gaussian n of the distance between patches."""
    prefix = k.shape[-2] - grid[0] * grid[1]
    return F.scaled_dot_product_attention(k, k, v, attn_mask=neighbourhood(grid, k, prefix), scale=scale)


def neighbourhood(grid: tuple[int, int], like: Tensor, prefix: int = 1) -> Tensor:
    """(P + h * w, P + h * w): NACLIP's bias of the attention logits, with device and type of `like`.

    It is 0 to and from the P `prefix` tokens, which have no place in the image.
    """
    rows, columns = (torch.arange(side, device=like.device, dtype=torch.float32) for side in grid)
    by_row, by_column = (
        torch.exp(-((side[:, None] - side[None, :]) ** 2) / (2 * NEIGHBOURHOOD**2)) for side in (rows, columns)
    )
    return F.pad(torch.kron(by_row, by_column), (prefix, 0, prefix, 0)).to(like.dtype)


MIXERS: dict[str, Mixer] = {
    "csa": correlative_attention,
    "maskclip": values_alone,
    "clearclip": query_query_attention,
    "naclip": neighbourhood_attention,
}
"""The variants that replace the attention of the last block."""
KEEP_RESIDUAL = frozenset(("csa", "maskclip"))
"""Of these, the variants that keep residual and MLP; the others give the block's attention alone."""
ATTENTIONS = ("vanilla", *MIXERS, "raw")
"""All variants."""


class _Replaced(TorchFunctionMode):
    """Replaces torch's attention function while it is active."""

    def __init__(self, mixer: Mixer, grid: tuple[int, int]) -> None:
        super().__init__()
        self.mixer = mixer
        self.grid = grid
        self.calls = 0

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        return self._mix(*args, **(kwargs or {}))

    def _mix(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        self.calls += 1
        if attn_mask is not None or is_causal or enable_gqa:
            raise RuntimeError("a block whose attention is replaced has masked or grouped attention")
        return self.mixer(query, key, value, self.grid, scale)


@contextmanager
def replaced_attention(attention: str, grid: tuple[int, int]) -> Iterator[None]:
    """Within it, torch's `scaled_dot_product_attention` mixes values by a variant of MIXERS.

    What a library computes around that function (norms of queries and keys, rotary positions, gates, the output
    projection) is left to the library, so all of its blocks are served by the same few lines.

    Raises:
        RuntimeError: the function was not called exactly once, so that another attention than the block's was replaced,
            or none; or it was called with a mask.
    """
    mode = _Replaced(MIXERS[attention], grid)
    with mode:
        yield
    if mode.calls != 1:
        raise RuntimeError(f"a block called scaled_dot_product_attention {mode.calls} times instead of once")


def with_changes(module: nn.Module, **attributes: Any) -> Any:
    """A copy of a module with some attributes set; it shares all weights, and the module itself is not changed."""
    clone = copy.copy(module)
    for registry in ("_modules", "_buffers", "_parameters"):
        clone.__dict__[registry] = dict(clone.__dict__[registry])
    for name, value in attributes.items():
        setattr(clone, name, value)
    return clone


BlockRun = Callable[[], Tensor]


def run_block(attention: str, grid: tuple[int, int], whole: BlockRun, attention_alone: BlockRun) -> Tensor:
    """(B, L, width): output of the last block of a tower with an attention variant.

    Args:
        attention: one of ATTENTIONS.
        grid: rows and columns of patches.
        whole: runs the block.
        attention_alone: runs what the block adds to its input first: its attention, with norm and layer scale.
    """
    if attention not in MIXERS:
        return whole()
    with replaced_attention(attention, grid):
        return whole() if attention in KEEP_RESIDUAL else attention_alone()
