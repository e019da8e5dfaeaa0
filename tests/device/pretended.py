"""A pretended accelerator: tensors with real values that report `cuda:0` (or `mps:0`) and refuse what a card refuses.

    with pretended_card() as card:
        evaluate("cosmos:toybox", "toybox-retrieval", device="cuda")
    assert not card.waits_in("metrics/")

Seen: operations on tensors of two devices (0-dim CPU numbers in pointwise operations are allowed, as on CUDA),
`.numpy()` of a tensor on the card, float64 on MPS, copies to it that the host does not wait for. Counted: launched
kernels, copies, and the moments when the host waits for the card (`item`, boolean indexing, copies from memory that is
not page-locked).

Not seen: the numbers of other kernels, streams, real memory, compilation, NCCL. The lists of operations that autocast
changes are the CPU's.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any
from unittest import mock

import torch
from torch.utils import _pytree as pytree

from tests.device.card_moves import DeviceArguments
from tests.device.card_record import Card, Event, Stream, recorded
from tests.device.card_tensor import CardTensor


@contextmanager
def pretended_card(kind: str = "cuda", bf16: bool = True) -> Iterator[Card]:
    """A machine with one card inside: `cuda`, with or without bfloat16, or `mps`."""
    with ExitStack() as stack:
        seen = stack.enter_context(recorded(kind))
        replacements = _autocast_on(kind) | (_cuda(bf16, seen) if kind == "cuda" else _mps(seen))
        for target, value in replacements.items():
            stack.enter_context(mock.patch(target, value, create=True))
        for owner in ("torch.utils._foreach_utils", "torch.optim.optimizer", "torch.nn.utils.clip_grad"):
            stack.enter_context(mock.patch(f"{owner}._group_tensors_by_device_and_dtype", _grouping(seen)))
        before = torch.__future__.get_overwrite_module_params_on_conversion()
        torch.__future__.set_overwrite_module_params_on_conversion(True)  # Module.to replaces parameters
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, before)
        stack.enter_context(DeviceArguments())
        yield seen


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
