"""What identifies the Python code that an object runs: its bytecode, and the values that this is bound to.

For models that a caller holds in memory. Their weights say nothing of an edited `encode_image`, a patched `forward` or
a hook. Source files are not read: a module that was edited after it was imported does not run what its file says.

Functions that the code calls by a global name are identified by that name only.
"""

import functools
import hashlib
import json
import re
import types
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cosmos_eval.models.digest import weights_digest

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_SIMPLE = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device)
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
"""Attributes that torch keeps in each module; weights, buffers and submodules among them."""
_HOOKS = ("_forward_pre_hooks", "_forward_hooks")


def without_addresses(value: Any) -> str:
    """The text of an object without its place in memory."""
    return _ADDRESS.sub("", repr(value))


def identify_code(value: Any) -> str:
    """SHA-256 of the code of a function, or of the class of any other object with its simple attributes."""
    return _digest(_describe(value, set()) if is_code(value) else _describe_object(value, set()))


def identify_modules(network: nn.Module) -> str:
    """SHA-256 of the code of all classes of a network's modules, of functions that are bound to single modules (a
    patched `forward`) and of hooks."""
    seen = {id(module) for module in network.modules()}
    parts: list[Any] = [_describe_class(cls, seen) for cls in _classes(map(type, network.modules()))]
    for name, module in network.named_modules():
        own = {key: value for key, value in vars(module).items() if key not in _OF_EVERY_MODULE and is_code(value)}
        hooks = [hook for kind in _HOOKS for hook in getattr(module, kind, {}).values()]
        if own or hooks:
            bound = {key: _describe(value, seen) for key, value in sorted(own.items())}
            parts.append([name, bound, [_describe(hook, seen) for hook in hooks]])
    return _digest(parts)


def unsaved_tensors(network: nn.Module) -> dict[str, Tensor]:
    """Tensors that a network computes with and its state dict lacks: buffers that are not persistent, and tensors and
    arrays that are plain attributes."""
    saved = network.state_dict()
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    for name, module in network.named_modules():
        for key, value in vars(module).items():
            if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
                value = torch.from_numpy(np.ascontiguousarray(value))
            if isinstance(value, Tensor):
                tensors[f"{name}.{key}"] = value
    return {name: tensor for name, tensor in tensors.items() if name not in saved}


def settings_of(module: nn.Module) -> dict[str, str]:
    """Attributes of a module that are numbers, texts, or lists and maps of these, but for its mode."""
    kinds = (*_SIMPLE, tuple, list, dict)
    return {
        key: without_addresses(value)
        for key, value in sorted(vars(module).items())
        if isinstance(value, kinds) and key not in _OF_EVERY_MODULE
    }


def is_code(value: Any) -> bool:
    """Whether a value is called as a function is."""
    return isinstance(
        value, types.FunctionType | types.MethodType | types.BuiltinFunctionType | functools.partial
    ) or hasattr(value, "__wrapped__")


def _digest(parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()


def _classes(classes: Iterable[type]) -> list[type]:
    """These classes and those they inherit from, without torch's own, in an order of their names."""
    found = {base for cls in classes for base in cls.__mro__}
    return sorted(
        (cls for cls in found if cls.__module__.partition(".")[0] not in ("torch", "builtins", "abc", "typing")),
        key=lambda cls: (cls.__module__, cls.__qualname__),
    )


def _describe_class(cls: type, seen: set[int]) -> list[Any]:
    """The code of a class itself: functions, properties, and simple attributes."""
    members = {key: _describe(value, seen) for key, value in sorted(vars(cls).items()) if _is_own(key)}
    return ["class", cls.__module__, cls.__qualname__, members]


def _is_own(key: str) -> bool:
    """Whether an attribute of a class was written there, and does not come from Python."""
    return key in ("__init__", "__call__") or not (key.startswith("__") or key == "_abc_impl")


def _describe_object(value: Any, seen: set[int]) -> list[Any]:
    """The classes of an object and its attributes, but for maps, which are often caches."""
    simple = (*_SIMPLE, tuple, list)
    own = {
        key: item for key, item in getattr(value, "__dict__", {}).items() if isinstance(item, simple) or is_code(item)
    }
    attributes = {key: _describe(item, seen) for key, item in sorted(own.items())}
    return [[_describe_class(cls, seen) for cls in _classes([type(value)])], attributes]


def _describe(value: Any, seen: set[int]) -> Any:
    """JSON values that identify a function, or what it is bound to."""
    if isinstance(value, _SIMPLE):
        return repr(value)
    if id(value) in seen:
        return "seen"
    if isinstance(value, tuple | list | Mapping) or is_code(value):
        seen = {*seen, id(value)}  # a function may be bound to itself
    if isinstance(value, types.FunctionType):
        cells = [_cell(cell, seen) for cell in value.__closure__ or ()]
        return [_describe_bytecode(value.__code__), _describe([value.__defaults__, value.__kwdefaults__], seen), cells]
    if isinstance(value, types.MethodType):
        return _describe(value.__func__, seen)
    if isinstance(value, functools.partial):
        return ["partial", *(_describe(part, seen) for part in (value.func, value.args, value.keywords))]
    if isinstance(value, staticmethod | classmethod):
        return _describe(value.__func__, seen)
    if isinstance(value, property):
        return _describe([value.fget], seen)
    if isinstance(value, functools.cached_property):
        return _describe(value.func, seen)
    if hasattr(value, "__wrapped__"):  # for example of a cache
        return _describe(value.__wrapped__, seen)
    if isinstance(value, tuple | list):
        return [_describe(item, seen) for item in value]
    if isinstance(value, Mapping):
        return [[without_addresses(key), _describe(item, seen)] for key, item in value.items()]
    if isinstance(value, Tensor):
        return weights_digest({"": value})
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        return weights_digest({"": torch.from_numpy(np.ascontiguousarray(value))})
    if isinstance(value, nn.Module):  # one that is not part of the network
        return [weights_digest(value.state_dict()), without_addresses(value)]
    return f"{type(value).__module__}.{type(value).__qualname__} {getattr(value, '__name__', '')}"


def _cell(cell: Any, seen: set[int]) -> Any:
    try:
        return _describe(cell.cell_contents, seen)
    except ValueError:  # not filled yet
        return None


def _describe_bytecode(code: types.CodeType) -> list[Any]:
    """Bytecode and its constants and names, without lines and file, which an edit elsewhere changes."""
    constants = [_describe_constant(constant) for constant in code.co_consts]
    return [code.co_code.hex(), code.co_names, code.co_varnames, constants]


def _describe_constant(value: Any) -> Any:
    if isinstance(value, types.CodeType):
        return _describe_bytecode(value)
    if isinstance(value, frozenset):  # in no fixed order
        return sorted(map(repr, value))
    if isinstance(value, tuple):
        return [_describe_constant(item) for item in value]
    return repr(value)
