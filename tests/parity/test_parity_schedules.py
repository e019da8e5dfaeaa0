"""Learning rates, momentum and parameter groups equal the original's."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cosmos_core.model import COSMOS
from cosmos_core.schedule import const_lr, const_lr_cooldown, cosine_lr, cosine_momentum, parameter_groups
from cosmos_core.update import clamp_temperatures
from tests.parity.golden import Pack

FILE = "schedules/schedules.json"


@pytest.fixture(scope="module")
def pack(parity_dir: Path) -> Pack:
    return Pack.at(parity_dir)


def schedules(pack: Pack) -> dict[str, Any]:
    build: dict[str, Callable[[dict[str, Any]], Callable[[int], float]]] = {
        "cosine_lr": lambda c: cosine_lr(c["base_lr"], c["warmup"], c["steps"]),
        "const_lr": lambda c: const_lr(c["base_lr"], c["warmup"]),
        "const_lr_cooldown": lambda c: const_lr_cooldown(
            c["base_lr"], c["warmup"], c["steps"], c["cooldown_steps"], c["power"], c["end_lr"]
        ),
        "momentum": lambda c: cosine_momentum(c["base"], c["final"], c["steps"], c["warmup"]),
    }
    stored = pack.json(FILE)
    assert set(stored) == set(build)
    ours = {}
    for kind, cases in stored.items():
        for i, case in enumerate(cases):
            values = "value" if kind == "momentum" else "lr"
            ours[f"{kind}/{i}/{values}"] = [build[kind](case)(step) for step in case["at"]]
    return ours


FILES = {FILE: schedules}


def test_every_stored_schedule_comes_out_again(pack: Pack):
    pack.compare(FILE, schedules(pack))


def groups_of_the_pack(pack: Pack) -> dict[str, Any]:
    stored = pack.json("model/optimizer.json")
    model = COSMOS.from_config(pack.json("model/config.json"))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = parameter_groups(model, stored["group1"]["weight_decay"])
    ours: dict[str, Any] = {
        f"group{i}/names": [names[id(p)] for p in group["params"]] for i, group in enumerate(groups)
    }
    ours |= {f"group{i}/weight_decay": group["weight_decay"] for i, group in enumerate(groups)}
    return ours


def test_parameter_groups_hold_the_same_names_in_the_same_order(pack: Pack):
    pack.compare("model/optimizer.json", groups_of_the_pack(pack), only="group*")


@pytest.mark.parametrize("arch", ["ViT-B-16", "ViT-B-32"])
def test_parameter_groups_of_the_full_models_agree(pack: Pack, arch: str):
    with torch.device("meta"):
        model = COSMOS.from_config(arch)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = parameter_groups(model, 0.5)
    ours = {
        "optimizer_param_order": [names[id(p)] for group in groups for p in group["params"]],
        "optimizer_group_sizes": [len(group["params"]) for group in groups],
    }
    pack.compare(f"checkpoint/{arch}.json", ours, only="optimizer_*")


def clamp(pack: Pack) -> dict[str, Any]:
    stored = pack.json("model/optimizer.json")["clamp"]
    model = COSMOS.from_config(pack.json("model/config.json"))
    clamped = []
    for value in stored["input"]:
        with torch.no_grad():
            model.logit_scale.fill_(value)
            model.distill_logit_scale.fill_(value)
        clamp_temperatures(model)
        assert model.logit_scale.item() == model.distill_logit_scale.item()
        clamped.append(model.logit_scale.item())
    return {"clamp/output": clamped}


def test_temperatures_are_clamped_to_zero_and_the_logarithm_of_a_hundred(pack: Pack):
    pack.compare("model/optimizer.json", clamp(pack), only="clamp/*")
