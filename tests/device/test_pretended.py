"""The pretended card itself: it computes, refuses what a card refuses, and counts."""

import pytest
import torch
from torch import nn

from tests.device.card_tensor import CardTensor
from tests.device.pretended import pretended_card


def test_a_network_moves_computes_and_learns_as_on_the_cpu():
    torch.manual_seed(0)
    here = nn.Linear(4, 3)
    x = torch.randn(5, 4)
    here(x).sum().backward()
    with pretended_card() as card:
        there = nn.Linear(4, 3)
        there.load_state_dict({name: value.detach().clone() for name, value in here.state_dict().items()})
        there = there.to("cuda")
        optimizer = torch.optim.AdamW(there.parameters(), lr=0.1)
        y = there(x.to("cuda"))
        assert y.device == torch.device("cuda:0")
        y.sum().backward()
        assert torch.equal(there.weight.grad.cpu(), here.weight.grad)
        optimizer.step()
        assert not torch.equal(there.weight.detach().cpu(), here.weight)
        assert card.kernels["addmm"] == 1


def test_two_devices_in_one_operation_are_refused_but_not_a_number_of_the_host():
    with pretended_card():
        x = torch.ones(3, device="cuda")
        with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
            x + torch.ones(3)
        assert (x * torch.tensor(2.0)).tolist() == [2.0] * 3
        with pytest.raises(TypeError, match="can't convert cuda:0 device type tensor to numpy"):
            x.numpy()
        assert isinstance(x, CardTensor)


def test_mps_has_no_float64():
    with pretended_card("mps"):
        x = torch.ones(3, device="mps")
        with pytest.raises(TypeError, match="float64"):
            x.double()
        with pytest.raises(TypeError, match="float64"):
            torch.zeros(2, dtype=torch.float64, device="mps")


def test_waits_and_copies_are_counted():
    with pretended_card() as card:
        pinned = torch.ones(3).pin_memory()
        x = pinned.to("cuda", non_blocking=True)
        assert not card.waits
        x.sum().item()
        x[x > 0]
        x.cpu()
        torch.ones(3).to("cuda", non_blocking=True)  # pageable memory: the host waits all the same
        assert sorted(place.split(" at ")[0] for place in card.waits.elements()) == [
            "boolean index", "copy to card", "copy to host", "item",
        ]  # fmt: skip
        assert sum(card.copies.values()) == 3
