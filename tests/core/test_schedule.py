"""Learning rate, momentum and parameter groups, with numbers that a person can check."""

import pytest
import torch
from torch import nn

from cosmos_core.errors import RequestError
from cosmos_core.schedule import (
    SCHEDULES,
    const_lr,
    const_lr_cooldown,
    cosine_lr,
    cosine_momentum,
    lr_schedule,
    parameter_groups,
)


def test_warm_up_ends_at_the_base_and_the_cosine_passes_its_half():
    lr = cosine_lr(1.0, warmup=4, steps=12)
    assert [lr(step) for step in range(5)] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert lr(8) == pytest.approx(0.5)
    assert 0 < lr(11) < 0.05  # zero lies one step past the end
    assert lr(12) == pytest.approx(0)


def test_a_run_of_warm_up_only_does_not_divide_by_zero():
    lr = cosine_lr(0.5, warmup=3, steps=3)
    assert [lr(step) for step in range(4)] == pytest.approx([0.5 / 3, 1 / 3, 0.5, 0.5])


def test_constant_rates():
    assert [const_lr(2.0, 2)(step) for step in (0, 1, 2, 99)] == [1.0, 2.0, 2.0, 2.0]
    lr = const_lr_cooldown(1.0, warmup=1, steps=10, cooldown_steps=4, power=1.0, end=0.2)
    assert [lr(step) for step in (0, 5, 6, 8, 10)] == pytest.approx([1.0, 1.0, 1.0, 0.6, 0.2])
    assert const_lr_cooldown(1.0, 1, 10, 4, power=0.5)(11) == pytest.approx(0)  # past the end it stays at its end


def test_momentum_rises_to_one():
    momentum = cosine_momentum(0.9, 1.0, steps=10)
    assert [momentum(step) for step in (0, 5, 10)] == pytest.approx([0.9, 0.95, 1.0])
    assert all(momentum(i) < momentum(i + 1) for i in range(10))


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_has_a_name(name):
    assert lr_schedule(name, 1.0, 2, 10, cooldown_steps=2)(1) == pytest.approx(1.0)


def test_an_unknown_schedule_and_a_cool_down_of_nothing_are_refused():
    with pytest.raises(RequestError, match="cosine, const"):
        lr_schedule("linear", 1.0, 0, 10)
    with pytest.raises(RequestError, match="lr_cooldown_steps"):
        lr_schedule("const-cooldown", 1.0, 0, 10)


def test_gains_biases_and_temperatures_are_not_decayed_and_every_parameter_is_in_one_group():
    model = nn.ModuleDict({"fc": nn.Linear(3, 2), "ln_1": nn.LayerNorm(2), "embedding": nn.Embedding(5, 2)})
    model.register_parameter("logit_scale", nn.Parameter(torch.tensor(1.0)))
    model.register_parameter("frozen", nn.Parameter(torch.ones(2, 2), requires_grad=False))
    names = {id(p): name for name, p in model.named_parameters()}
    free, decayed = parameter_groups(model, 0.5)
    assert [names[id(p)] for p in free["params"]] == ["logit_scale", "fc.bias", "ln_1.weight", "ln_1.bias"]
    assert [names[id(p)] for p in decayed["params"]] == ["fc.weight", "embedding.weight"]
    assert (free["weight_decay"], decayed["weight_decay"]) == (0.0, 0.5)
