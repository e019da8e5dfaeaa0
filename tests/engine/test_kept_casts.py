"""Casts of weights that are kept over batches: fewer casts, the same bits, and nothing is left behind."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from cosmos_eval.engine.kept_casts import keeps_casts, kept_casts


class Adapter:
    def __init__(self):
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.Linear(16, 4)).requires_grad_(False)


class CountCasts(TorchDispatchMode):
    """Counts casts of the weights of an adapter, by their memory: what is cast may be a view of a parameter."""

    def __init__(self, adapter):
        super().__init__()
        self.weights = {weight.data_ptr() for weight in adapter.network.parameters()}
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func._schema.name in ("aten::to", "aten::_to_copy") and result.dtype is torch.bfloat16:
            self.count += args[0].data_ptr() in self.weights
        return result


def encode(adapter, batches):
    with CountCasts(adapter) as casts:
        results = []
        for batch in batches:
            with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):  # as `tower_precision` on CUDA
                results.append(adapter.network(batch))
    return torch.cat(results), casts.count


def test_each_weight_is_cast_once_for_all_batches_and_the_numbers_are_the_same():
    adapter, batches = Adapter(), torch.randn(3, 5, 8).unbind()
    expected, casts = encode(adapter, batches)
    with kept_casts(adapter):
        found, casts_once = encode(adapter, batches)
    assert torch.equal(found, expected)
    assert (casts, casts_once) == (12, 4)  # weights and biases of two layers
    assert encode(adapter, batches)[1] == 12  # nothing is kept afterwards


def test_new_weights_are_used_afterwards_and_none_requires_gradients():
    adapter, batch = Adapter(), torch.randn(2, 8)
    with kept_casts(adapter):
        before, _ = encode(adapter, [batch])
    assert not any(weight.requires_grad for weight in adapter.network.parameters())
    with torch.no_grad():
        adapter.network[0].weight.zero_()
        adapter.network[2].bias.fill_(3)
    after, _ = encode(adapter, [batch])
    assert not torch.equal(before, after)


def test_a_caller_that_trains_within_its_own_autocast_gets_gradients():
    adapter = Adapter()
    adapter.network.requires_grad_(True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with kept_casts(adapter):
            encode(adapter, [torch.randn(2, 8)])
        adapter.network(torch.randn(2, 8)).sum().backward()
    assert adapter.network[0].weight.grad is not None


@pytest.mark.parametrize(
    ("precision", "device", "compiled", "expected"),
    [
        ("bf16", "cuda", False, True),
        ("fp16", "cuda:1", False, True),
        ("bf16+torchvision", "cuda", False, True),
        ("fp32", "cuda", False, False),
        ("bf16+compile", "cuda", True, False),
        ("bf16", "cpu", False, False),
    ],
)
def test_casts_are_kept_on_cuda_only(precision, device, compiled, expected):
    assert keeps_casts(precision, torch.device(device), compiled) is expected
