"""A pretended accelerator: tensors with real values that report `cuda:0` (or `mps:0`) and refuse what a card refuses.

    with pretended_card() as card:
        evaluate("cosmos:toybox", "toybox-retrieval", device="cuda")
    assert card.blocking_copies == 0

Seen: operations on tensors of two devices (0-dim CPU numbers in pointwise operations are allowed, as on CUDA),
`.numpy()` of a tensor on the card, float64 on MPS, copies to it that the host does not wait for. Counted: launched
kernels, copies, and the moments when the host waits for the card (`item`, boolean indexing, copies from memory that is
not page-locked).

Not seen: the numbers of other kernels, streams, real memory, compilation, NCCL. The lists of operations that autocast
changes are the CPU's.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

ROOT = Path(__file__).resolve().parents[2]
VIEW_OPERATIONS = {
    "_reshape_alias", "_unsafe_view", "alias", "as_strided", "chunk", "detach", "diagonal", "expand", "lift_fresh",
    "permute", "select", "slice", "split", "split_with_sizes", "squeeze", "t", "transpose", "unbind", "unfold",
    "unsqueeze", "view",
}  # fmt: skip
"""Operations that launch nothing."""
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
_to = torch.Tensor.to


class Card:
    """What happened on the pretended card: counts by what and where."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.device = torch.device(kind, 0)
        self.kernels: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()
        """Moments when the host waits for the card, as `reason at file:line`."""
        self.late_waits: Counter[str] = Counter()
        """Moments when the host waits for earlier work, while the card computes what was queued after it."""
        self.launched_before_waits: list[int] = []
        """For each wait of both kinds, in their order, how many kernels were launched before it."""
        self.copies: Counter[str] = Counter()
        """Copies to and from the card, as `direction at file:line`."""

    def launch(self, name: str) -> None:
        if name not in VIEW_OPERATIONS:
            self.kernels[name] += 1

    def wait_for_event(self, launched_before: int) -> None:
        """Waiting for earlier work is late if the card has other work to do meanwhile, else the card waits, too."""
        if self.launched() > launched_before:
            self.launched_before_waits.append(self.launched())
            self.late_waits[f"event at {calling_line()}"] += 1
        else:
            self.wait("event")

    def launched(self) -> int:
        return self.kernels.total()

    def wait(self, reason: str) -> None:
        self.launched_before_waits.append(self.launched())
        self.waits[f"{reason} at {calling_line()}"] += 1

    def copy(self, direction: str) -> None:
        self.copies[f"{direction} at {calling_line()}"] += 1

    def waits_in(self, part: str) -> int:
        """The number of waits whose place contains `part`, such as a file's name."""
        return sum(count for place, count in self.waits.items() if part in place)


def calling_line() -> str:
    """File and line of the project's innermost frame outside of this module."""
    frame = sys._getframe(2)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(ROOT) and path.name != Path(__file__).name and "tests" not in path.parts[:-1]:
            return f"{path.relative_to(ROOT)}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return "elsewhere"


_card: Card | None = None
"""The card of the surrounding `pretended_card`."""


def card() -> Card:
    assert _card is not None
    return _card


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
            _count_copy_to_card(args[1], bool(args[2]) if len(args) > 2 else bool(kwargs.get("non_blocking")))
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


def _count_copy_to_card(source: torch.Tensor, non_blocking: bool) -> None:
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


class Event:
    """A mark in the queue of the card."""

    def __init__(self, *_args: Any, **_options: Any) -> None:
        self.launched = 0

    def record(self, _stream: Any = None) -> None:
        self.launched = card().launched()

    def synchronize(self) -> None:
        card().wait_for_event(self.launched)


class Stream:
    """A stream of the pretended card; there is one queue all the same."""

    def __init__(self, *_args: Any, **_options: Any) -> None:
        pass

    def wait_stream(self, stream: Any) -> None:
        assert isinstance(stream, Stream)


class _ToCard(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return CardTensor(x.detach().clone())

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:  # type: ignore[override]
        return gradient.inner


class _ToHost(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> torch.Tensor:  # type: ignore[override]
        return x.inner.detach().clone()

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:  # type: ignore[override]
        return CardTensor(gradient)


def _is_card(device: Any) -> bool:
    if device is None:
        return False
    return isinstance(device, int) or torch.device(device).type == card().kind


def _move(x: torch.Tensor, to_card: bool, dtype: Any, non_blocking: bool, copy: bool, layout: Any) -> torch.Tensor:
    options = {} if layout is None else {"memory_format": layout}
    if to_card and card().kind == "mps" and (dtype or x.dtype) == torch.float64:
        raise TypeError(NO_FLOAT64)
    if to_card == isinstance(x, CardTensor):
        if dtype is None and not options and not copy:
            return x
        return _to(x, dtype=dtype or x.dtype, copy=copy, **options)
    keeps_gradient = x.requires_grad and torch.is_grad_enabled()
    if to_card:
        _count_copy_to_card(x, non_blocking)
        converted = x if dtype is None and not options else _to(x, dtype=dtype or x.dtype, **options)
        return _ToCard.apply(converted) if keeps_gradient else CardTensor(converted.detach().clone())
    card().copy("to host")
    card().wait("copy to host")
    moved = _ToHost.apply(x) if keeps_gradient else x.inner.detach().clone()  # type: ignore[attr-defined]
    return moved if dtype is None and not options else _to(moved, dtype=dtype or moved.dtype, **options)


class _DeviceArguments(TorchFunctionMode):
    """Moves and factories with `device=` of the card, which C++ would refuse on a machine without one."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.Tensor.to:
            return self._to(func, args, kwargs)
        if func is torch.Tensor.cpu:
            return _move(args[0], False, None, False, False, kwargs.get("memory_format"))
        if func is torch.Tensor.cuda:
            return _move(args[0], True, None, bool(kwargs.get("non_blocking")), False, None)
        if func is torch.Tensor.pin_memory and not isinstance(args[0], CardTensor):
            pinned = args[0].clone()
            pinned.is_pretended_pinned = True  # type: ignore[attr-defined]
            return pinned
        if func is torch.Tensor.is_pinned:
            return getattr(args[0], "is_pretended_pinned", False)
        if func is torch.empty and kwargs.pop("pin_memory", False):
            pinned = func(*args, **kwargs)
            pinned.is_pretended_pinned = True
            return pinned
        if func is torch.Tensor.flatten and getattr(args[0], "is_pretended_pinned", False):
            flat = func(*args, **kwargs)
            flat.is_pretended_pinned = True  # the same memory
            return flat
        if func is torch.nn.functional.one_hot and isinstance(args[0], CardTensor):  # its range is made in C++
            return CardTensor(func(args[0].inner, *args[1:], **kwargs))
        has_card_tensor = any(isinstance(leaf, CardTensor) for leaf in pytree.tree_leaves(args))
        if _is_card(kwargs.get("device")) and not has_card_tensor:
            result = func(*args, **{**kwargs, "device": "cpu"})
            if card().kind == "mps" and result.dtype == torch.float64:
                raise TypeError(NO_FLOAT64)
            if func in (torch.tensor, torch.as_tensor):
                _count_copy_to_card(result, non_blocking=False)
            else:
                card().launch(getattr(func, "__name__", "factory"))
            return CardTensor(result)
        return func(*args, **kwargs)

    @staticmethod
    def _to(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        x, *rest = args
        device, dtype, other = kwargs.get("device"), kwargs.get("dtype"), kwargs.get("other")
        switches = [value for value in rest if isinstance(value, bool)]
        for value in rest:
            if isinstance(value, torch.dtype):
                dtype = value
            elif isinstance(value, torch.Tensor):
                other = value
            elif isinstance(value, str | torch.device | int) and not isinstance(value, bool):
                device = value
        if other is not None:
            device, dtype = other.device, other.dtype
        if device is not None and not _is_card(device) and torch.device(device).type != "cpu":
            return func(*args, **kwargs)
        target = isinstance(x, CardTensor) if device is None else _is_card(device)
        non_blocking = bool(kwargs.get("non_blocking", switches[0] if switches else False))
        copy = bool(kwargs.get("copy", switches[1] if len(switches) > 1 else False))
        return _move(x, target, dtype, non_blocking, copy, kwargs.get("memory_format"))


@contextmanager
def pretended_card(kind: str = "cuda", bf16: bool = True) -> Iterator[Card]:
    """A machine with one card inside: `cuda`, with or without bfloat16, or `mps`."""
    global _card
    _card = Card(kind)
    with ExitStack() as stack:
        replacements = _autocast_on(kind) | (_cuda(bf16, _card) if kind == "cuda" else _mps(_card))
        for target, value in replacements.items():
            stack.enter_context(mock.patch(target, value, create=True))
        for owner in ("torch.utils._foreach_utils", "torch.optim.optimizer", "torch.nn.utils.clip_grad"):
            stack.enter_context(mock.patch(f"{owner}._group_tensors_by_device_and_dtype", _grouping(_card)))
        before = torch.__future__.get_overwrite_module_params_on_conversion()
        torch.__future__.set_overwrite_module_params_on_conversion(True)  # Module.to replaces parameters
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, before)
        stack.enter_context(_DeviceArguments())
        try:
            yield _card
        finally:
            _card = None


def _autocast_on(kind: str) -> dict[str, Any]:
    real = torch.amp.autocast_mode.autocast

    class Autocast(real):  # type: ignore[misc, valid-type]
        def __init__(self, device_type: str, *args: Any, **options: Any) -> None:
            super().__init__("cpu" if device_type == kind else device_type, *args, **options)

    return dict.fromkeys(("torch.autocast", "torch.amp.autocast", "torch.amp.autocast_mode.autocast"), Autocast)


def _cuda(bf16: bool, seen: Card) -> dict[str, Any]:
    generator = torch.random.default_generator
    functions: dict[str, Callable[..., Any]] = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda device: None,
        "synchronize": lambda device=None: seen.wait("synchronize"),
        "empty_cache": lambda: None,
        "mem_get_info": lambda device=None: (2**36, 2**36),
        "memory_allocated": lambda device=None: 0,
        "max_memory_allocated": lambda device=None: 2**20,
        "reset_peak_memory_stats": lambda device=None: None,
        "get_device_name": lambda device=None: "Pretended card",
        "is_bf16_supported": lambda including_emulation=True: bf16 or including_emulation,
        "get_rng_state": lambda device=None: generator.get_state(),
        "get_rng_state_all": lambda: [generator.get_state()],
        "set_rng_state": lambda state, device=None: None,
        "set_rng_state_all": lambda states: None,
        "is_initialized": lambda: True,
        "device": lambda device=None: nullcontext(),
        "_lazy_init": lambda: None,
        "Event": Event,
        "Stream": Stream,
        "current_stream": lambda device=None: Stream(),
        "stream": lambda stream: nullcontext(),
        "is_current_stream_capturing": lambda: False,
    }
    # Loaders with workers would pin memory in a thread of their own.
    return {f"torch.cuda.{name}": function for name, function in functions.items()} | {
        "torch.accelerator.is_available": lambda: False
    }


def _mps(seen: Card) -> dict[str, Any]:
    return {"torch.backends.mps.is_available": lambda: True, "torch.mps.synchronize": lambda: seen.wait("synchronize")}


def _grouping(seen: Card) -> Callable[..., Any]:
    """torch's grouping of tensors by device; C++ sees the device of the values."""
    from torch.utils._foreach_utils import _group_tensors_by_device_and_dtype as group

    def grouped(lists: Any, with_indices: bool = False) -> Any:
        return {
            (
                seen.device if any(isinstance(leaf, CardTensor) for leaf in pytree.tree_leaves(found[0])) else device,
                dtype,
            ): found
            for (device, dtype), found in group(lists, with_indices).items()
        }

    return grouped
