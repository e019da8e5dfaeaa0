"""Tensors of a pretended card: they have real values, say that they are on the card and refuse what a card refuses."""

from typing import Any

import torch
from torch.utils import _pytree as pytree

from tests.device.card_record import Stream, calling_line, card

SIZE_FROM_VALUES = {
    "bincount",
    "masked_select",
    "nonzero",
    "repeat_interleave",
    "unique_consecutive",
    "unique_dim",
    "_unique2",
}
"""Operations whose result's size depends on values, so that the host waits for them."""
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
SCALARS_FROM_CPU = {"where", "masked_fill", "masked_fill_", "fill_", "lerp", "clamp"}
NO_FLOAT64 = "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64"


class CardTensor(torch.Tensor):
    """A tensor that says it is on the card; `inner` has its values, on the CPU."""

    inner: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "CardTensor":
        tensor: CardTensor = torch.Tensor._make_subclass(cls, inner, False)  # type: ignore[assignment]
        tensor.inner = inner
        return tensor

    def __init__(self, inner: torch.Tensor) -> None:
        super().__init__()

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return card().device

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return card().kind == "cuda"

    @property
    def is_mps(self) -> bool:  # type: ignore[override]
        return card().kind == "mps"

    @property
    def is_cpu(self) -> bool:  # type: ignore[override]
        return False

    def get_device(self) -> int:
        return 0

    def numpy(self, *args: Any, **options: Any) -> Any:
        raise TypeError(f"can't convert {self.device} device type tensor to numpy; use Tensor.cpu() first")

    __array__ = numpy

    def tolist(self) -> Any:
        card().wait("tolist")
        return self.inner.tolist()

    def record_stream(self, stream: Any) -> None:
        assert isinstance(stream, Stream)

    def pin_memory(self, *args: Any, **options: Any) -> Any:
        raise RuntimeError(f"cannot pin '{self.device}': only dense CPU tensors can be pinned")

    def __deepcopy__(self, memo: dict[int, Any]) -> "CardTensor":
        if id(self) not in memo:
            copied = CardTensor(self.inner.detach().clone()).requires_grad_(self.requires_grad)
            if getattr(self, "_is_param", False):
                copied._is_param = True  # type: ignore[attr-defined]
            memo[id(self)] = copied
        return memo[id(self)]

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.inner.detach().__reduce_ex__(protocol)

    def __repr__(self, **options: Any) -> str:  # type: ignore[override]
        return f"CardTensor({self.inner!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run an operator on the values, after the checks that a card makes."""
    leaves, structure = pytree.tree_flatten((args, kwargs))
    on_card = [leaf for leaf in leaves if isinstance(leaf, CardTensor)]
    on_host = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and not isinstance(leaf, CardTensor)]
    name = func._schema.name.split("::")[1]
    if on_card and on_host:
        _check_mixture(func, name, args, kwargs, on_card, on_host)
    types = {kwargs.get("dtype"), *(tensor.dtype for tensor in on_card)}
    if card().kind == "mps" and torch.float64 in types:
        raise TypeError(NO_FLOAT64)
    _count(name, args)
    by_inner = {id(tensor.inner): tensor for tensor in on_card}
    inner_args, inner_kwargs = pytree.tree_unflatten(
        [leaf.inner if isinstance(leaf, CardTensor) else leaf for leaf in leaves], structure
    )
    if inner_kwargs.get("device") is not None:
        inner_kwargs["device"] = torch.device("cpu")
    result = func(*inner_args, **inner_kwargs)
    if name == "_local_scalar_dense":
        return result
    if name == "copy_" and not isinstance(args[0], CardTensor):
        return args[0]

    def wrap(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        return by_inner[id(value)] if id(value) in by_inner else CardTensor(value)  # in place: the same tensor

    return pytree.tree_map(wrap, result)


def _check_mixture(func: Any, name: str, args: Any, kwargs: Any, on_card: list[Any], on_host: list[Any]) -> None:
    """RuntimeError if an operation takes tensors of both devices and CUDA would refuse it."""
    if name == "copy_":
        if isinstance(args[0], CardTensor):
            count_copy_to_card(args[1], bool(args[2]) if len(args) > 2 else bool(kwargs.get("non_blocking")))
        else:
            non_blocking = bool(args[2]) if len(args) > 2 else bool(kwargs.get("non_blocking"))
            _count_copy_to_host(args[0], non_blocking)
        return
    if name in INDEXING and isinstance(args[0], CardTensor):
        values = args[2] if "put" in name else None
        if not isinstance(values, torch.Tensor) or isinstance(values, CardTensor) or not values.dim():
            card().wait("index on the host")
            return
    is_pointwise = torch.Tag.pointwise in func.tags or name.startswith("_foreach") or name in SCALARS_FROM_CPU
    if not (is_pointwise and all(not tensor.dim() for tensor in on_host)):
        shapes = [tuple(tensor.shape) for tensor in (*on_card, *on_host)]
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices, {card().device} and cpu! "
            f"({func} of {shapes} at {calling_line()})"
        )


def _count(name: str, args: Any) -> None:
    card().launch(name)
    if name == "_local_scalar_dense":
        card().wait("item")
    elif name in SIZE_FROM_VALUES:
        card().wait(name)
    elif name in INDEXING and any(
        isinstance(index, torch.Tensor) and index.dtype in (torch.bool, torch.uint8) for index in args[1]
    ):
        card().wait("boolean index")


def count_copy_to_card(source: torch.Tensor, non_blocking: bool) -> None:
    if card().kind == "mps" and non_blocking:
        raise RuntimeError("a copy to MPS that the host does not wait for may read freed memory (pytorch#189690)")
    is_pinned = getattr(source, "is_pretended_pinned", False)
    card().copy(f"to card, {'pinned' if is_pinned else 'pageable'}")
    if not (is_pinned and non_blocking):
        card().wait("copy to card")


def _count_copy_to_host(target: torch.Tensor, non_blocking: bool) -> None:
    is_pinned = getattr(target, "is_pretended_pinned", False)
    card().copy(f"to host, {'pinned' if is_pinned else 'pageable'}")
    if not (is_pinned and non_blocking):
        card().wait("copy to host")
