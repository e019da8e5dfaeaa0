"""How many bytes of tensors live at most while something runs."""

import weakref
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten


class TensorBytes(TorchDispatchMode):
    """Counts storages that operators made and that are still alive; `peak` is the most at any one time.

    Exact and the same on every machine, as resident memory is not. What an operator uses inside itself is not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.living: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {item.untyped_storage().data_ptr() for item in tree_flatten((args, kwargs))[0] if _real(item)}
        result = func(*args, **(kwargs or {}))
        for item in tree_flatten(result)[0]:
            if _real(item):
                self._watch(item, given)
        return result

    def _watch(self, tensor: Tensor, given: set[int]) -> None:
        storage = tensor.untyped_storage()
        address, size = storage.data_ptr(), storage.nbytes()
        if address not in self.living:
            if address in given:
                return  # was there before
            self.living[address] = 0
            self.now += size
            self.peak = max(self.peak, self.now)
        self.living[address] += 1
        weakref.finalize(tensor, self._left, address, size)

    def _left(self, address: int, size: int) -> None:
        self.living[address] -= 1
        if not self.living[address]:
            del self.living[address]
            self.now -= size


def _real(item: Any) -> bool:
    return isinstance(item, Tensor) and item.device.type != "meta" and item.untyped_storage().nbytes() > 0


def peak_bytes(work: Any) -> int:
    """Of the tensors that `work()` makes."""
    with TensorBytes() as mode:
        work()
    return mode.peak


def test_the_peak_is_that_of_what_lives_at_one_time():
    def work() -> None:
        a = torch.zeros(1000)
        b = a.view(10, 100)[2:]
        del a  # the view keeps all of it
        c = torch.ones(500)
        del b, c
        torch.zeros(200)

    assert peak_bytes(work) == 4 * 1500
