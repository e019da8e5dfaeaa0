"""Schedules of learning rate and teacher momentum, and parameter groups, exactly as in the original (float64)."""

import math
from collections.abc import Callable

from torch import nn

from cosmos_core.errors import RequestError
from cosmos_core.parts import count_blocks, steps_below_head

Schedule = Callable[[int], float]

SCHEDULES = ("cosine", "const", "const-cooldown")
NO_DECAY = ("bn", "ln", "bias", "logit_scale")


def warmup_value(base: float, warmup: int, step: int) -> float:
    """Linear warm-up: 1/warmup of `base` at step 0, all of it at step warmup - 1."""
    return base * (step + 1) / warmup


def cosine_lr(base: float, warmup: int, steps: int) -> Schedule:
    """Linear warm-up, then half a cosine towards 0, which would be reached one step after the last.

    A run of warm-up only (steps == warmup) keeps the last warm-up value for steps past its end.
    """

    def at(step: int) -> float:
        if step < warmup:
            return warmup_value(base, warmup, step)
        if steps == warmup:
            return base
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) * base

    return at


def const_lr(base: float, warmup: int) -> Schedule:
    """Linear warm-up, then `base`."""
    return lambda step: warmup_value(base, warmup, step) if step < warmup else base


def const_lr_cooldown(
    base: float, warmup: int, steps: int, cooldown_steps: int, power: float = 1.0, end: float = 0.0
) -> Schedule:
    """Linear warm-up, then `base`, then a polynomial fall to `end` over the last `cooldown_steps` steps."""
    start = steps - cooldown_steps

    def at(step: int) -> float:
        if step < warmup:
            return warmup_value(base, warmup, step)
        if step < start:
            return base
        return (base - end) * max(0.0, 1 - (step - start) / cooldown_steps) ** power + end

    return at


def cosine_momentum(base: float, final: float, steps: int, warmup: int = 0) -> Schedule:
    """Teacher momentum: linear rise to `base` over `warmup`, then half a cosine from `base` to `final`."""

    def at(step: int) -> float:
        if step < warmup:
            return warmup_value(base, warmup, step)
        return final - 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup))) * (final - base)

    return at


def lr_schedule(
    name: str, base: float, warmup: int, steps: int, cooldown_steps: int = 0, power: float = 1.0, end: float = 0.0
) -> Schedule:
    """The schedule called `name`: cosine, const or const-cooldown.

    Raises:
        RequestError: another name, or a cool-down of no steps.
    """
    if name == "cosine":
        return cosine_lr(base, warmup, steps)
    if name == "const":
        return const_lr(base, warmup)
    if name == "const-cooldown":
        if cooldown_steps < 1:
            raise RequestError("lr_schedule const-cooldown needs lr_cooldown_steps of at least 1")
        return const_lr_cooldown(base, warmup, steps, cooldown_steps, power, end)
    raise RequestError(f"unknown lr_schedule {name!r}; there are: {', '.join(SCHEDULES)}")


def is_decayed(name: str, parameter: nn.Parameter) -> bool:
    """Whether weight decay applies: to matrices, including position and token embeddings; not to gains, biases and
    temperatures. By substrings of the name, as in the original, so that the groups are equal parameter by parameter."""
    return parameter.ndim >= 2 and not any(part in name for part in NO_DECAY)


def parameter_groups(model: nn.Module, weight_decay: float, layer_decay: float = 1.0) -> list[dict]:
    """Two optimizer groups in the model's own order: the undecayed parameters, then the decayed ones.

    With a `layer_decay` below 1 there are two for each depth, from the head down, and `lr_scale` is the factor of their
    learning rate; those without parameters are left out.
    """
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    if layer_decay != 1.0:
        blocks = count_blocks(name for name, _ in named)
        depths = {name: steps_below_head(name, blocks) for name, _ in named}
        groups = [
            {
                "params": [p for name, p in named if depths[name] == depth and is_decayed(name, p) == decayed],
                "weight_decay": weight_decay if decayed else 0.0,
                "lr_scale": layer_decay**depth,
            }
            for depth in sorted(set(depths.values()))
            for decayed in (False, True)
        ]
        return [group for group in groups if group["params"]]
    return [
        {"params": [p for name, p in named if not is_decayed(name, p)], "weight_decay": 0.0},
        {"params": [p for name, p in named if is_decayed(name, p)], "weight_decay": weight_decay},
    ]
