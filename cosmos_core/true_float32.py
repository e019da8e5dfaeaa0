"""Switch off every reduced precision of float32 products, in all of torch's interfaces, and restore what was set.

torch has two interfaces: the old flags (`allow_tf32`, `set_float32_matmul_precision`) and, from 2.9 on,
`fp32_precision` for each backend. They are stored apart. Reading an old flag raises if somebody set the new one to
another value, and setting an old flag does not reach a new value that was set for all backends at once. torch calls
the old flags outdated since 2.9: one that a later torch no longer has is left alone.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch

_OLD_FLAGS: tuple[tuple[Callable[[], Any], Callable[[Any], object], Any], ...] = (
    (
        lambda: torch.get_float32_matmul_precision(),
        lambda value: torch.set_float32_matmul_precision(value),
        "highest",
    ),
    (
        lambda: torch.backends.cudnn.allow_tf32,
        lambda value: setattr(torch.backends.cudnn, "allow_tf32", value),
        False,
    ),
)
"""How a flag is read and set, and its value for true float32."""
_GONE = object()
"""The value of a flag that this torch does not have."""


def _backends() -> list[Any]:
    """The backends with a precision of their own; none before torch 2.9."""
    backends: Any = torch.backends
    places: tuple[Callable[[], Any], ...] = (
        lambda: backends.cuda.matmul,
        lambda: backends.cudnn.conv,
        lambda: backends.cudnn.rnn,
        lambda: backends.mkldnn.matmul,
        lambda: backends.mkldnn.conv,
    )
    found = []
    for place in places:
        with suppress(AttributeError):  # a torch without this interface
            backend = place()
            if isinstance(backend.fp32_precision, str):
                found.append(backend)
    return found


@contextmanager
def true_float32() -> Iterator[None]:
    """Compute matrix products, convolutions and RNNs inside in IEEE float32: no TF32, and no bfloat16.

    Afterwards both interfaces have the values from before. Autocast is another matter and is not touched.
    """
    backends = _backends()
    precisions = [backend.fp32_precision for backend in backends]
    values = [_read(read) for read, _, _ in _OLD_FLAGS]
    try:
        for (_, write, value), before in zip(_OLD_FLAGS, values, strict=True):
            if before is not _GONE:
                write(value)
        for backend in backends:
            backend.fp32_precision = "ieee"
        yield
    finally:
        for (_, write, _), value in zip(_OLD_FLAGS, values, strict=True):
            if value is not None and value is not _GONE:
                write(value)
        for backend, precision in zip(backends, precisions, strict=True):  # last: the old flags write here, too
            backend.fp32_precision = precision


def _read(read: Callable[[], Any]) -> Any:
    """The value of an old flag, or `_GONE`; None if torch does not tell: the new interface was set to another value."""
    try:
        return read()
    except AttributeError:
        return _GONE
    except RuntimeError:
        return None
