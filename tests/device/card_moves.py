"""Moves to and from a pretended card, and tensors that are made on it."""

from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from tests.device.card_record import card
from tests.device.card_tensor import NO_FLOAT64, CardTensor, count_copy_to_card

_to = torch.Tensor.to


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
        count_copy_to_card(x, non_blocking)
        converted = x if dtype is None and not options else _to(x, dtype=dtype or x.dtype, **options)
        return _ToCard.apply(converted) if keeps_gradient else CardTensor(converted.detach().clone())
    card().copy("to host")
    card().wait("copy to host")
    moved = _ToHost.apply(x) if keeps_gradient else x.inner.detach().clone()  # type: ignore[attr-defined]
    return moved if dtype is None and not options else _to(moved, dtype=dtype or moved.dtype, **options)


class DeviceArguments(TorchFunctionMode):
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
                count_copy_to_card(result, non_blocking=False)
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
