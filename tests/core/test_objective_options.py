"""Options of an objective: typed, merged, stored in checkpoints, refused where the objective does not take them."""

from collections.abc import Callable
from typing import Any

import pytest

from cosmos_core.config import load_preset
from cosmos_core.errors import RequestError
from cosmos_core.objective_state import plugin_facts
from cosmos_core.objectives.options import checked_options, options_of
from cosmos_core.prepare import initial_objective
from cosmos_core.rank_agreement import settings
from cosmos_core.run_state import MAY_CHANGE, incompatible_settings
from cosmos_core.train import train
from cosmos_core.world import World
from tests.core.siglip import SigLip
from tests.core.sigmoid_objective import siglip
from tests.helpers.tiny_runs import coloured

pytestmark = pytest.mark.usefixtures("one_thread", "plugin")


def test_options_are_typed_merged_and_taken_away():
    changes = ["objective_options.init_bias=-3", "objective=sigmoid", "objective_options.init_scale=5e-1"]
    config = load_preset("toybox", changes)  # in any order
    assert repr(config.objective_options) == "{'init_bias': -3.0, 'init_scale': 0.5}"
    built = initial_objective(config)
    assert (built.bias.item(), round(built.log_scale.exp().item(), 6)) == (-3.0, 0.5)
    assert load_preset("toybox", [*changes, "objective=cosmos", "objective_options={}"]).objective_options == {}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (["objective_options.bias=1"], "objective cosmos has no option 'bias': it has none"),
        (["objective=sigmoid", "objective_options.bias=1"], "has no option 'bias': it has init_bias, init_scale"),
        (["objective=sigmoid", "objective_options.init_bias=much"], "init_bias takes a number, got 'much'"),
        (["objective=sigmoid", "objective_options.init_bias=.nan"], "init_bias takes numbers that are finite"),
        (["objective=sigmoid", "objective_options=3"], "objective_options takes key: value pairs, got 3"),
        (["objective=projected"], "objective projected needs a value for objective_options.width"),
        (
            ["objective=sigmoidd"],
            "objective: 'sigmoidd' is not one of cosmos, .*siglip, forgetful, projected, sigmoid",
        ),
    ],
)
def test_options_that_an_objective_does_not_take_are_refused_in_one_line(changes: list[str], why: str):
    with pytest.raises(RequestError, match=why) as refused:
        load_preset("toybox", changes)
    assert "\n" not in str(refused.value)
    assert f"--set {changes[-1]}" in str(refused.value)


def test_options_may_be_optional_and_need_not_be_keyword_only():
    class Loose(SigLip):
        def __init__(self, world: World | None = None, margin: float | None = None, names: Any = ()) -> None:
            super().__init__(world)

    assert list(options_of(Loose)) == ["margin", "names"]
    given = {"margin": "5e-1", "names": ["a"]}
    assert checked_options("loose", Loose, given) == {"margin": 0.5, "names": ["a"]}
    assert checked_options("loose", Loose, {"margin": None}) == {"margin": None}
    with pytest.raises(RequestError, match="margin takes a number, got 'x'"):
        checked_options("loose", Loose, {"margin": "x"})
    with pytest.raises(RequestError, match="names takes numbers that are finite, text"):
        checked_options("loose", Loose, {"names": [object()]})
    with pytest.raises(RequestError, match="has no option 'world': it has margin, names"):
        checked_options("loose", Loose, {"world": 1})


def test_options_are_settings_on_which_a_resumed_run_and_ranks_must_agree():
    assert "objective_options" not in MAY_CHANGE
    one, other = (siglip(objective_options={"init_bias": bias}) for bias in (-10.0, -5.0))
    assert incompatible_settings(one, other) == ["objective_options.init_bias -10.0 there and -5.0 here"]
    assert settings(one)["objective_options.init_bias"] == "-10.0"
    facts = plugin_facts("sigmoid")
    assert facts["the plug-in of objective sigmoid"] == "learned-bias 1.0"
    assert len(facts["the code of objective sigmoid"]) == 8
    assert plugin_facts("cosmos") == {}


def test_values_that_a_constructor_refuses_are_told_in_one_line():
    with pytest.raises(
        RequestError, match=r"sigmoid of plug-in learned-bias 1.0 cannot be built with init_scale=-1"
    ) as no:
        train(siglip(objective_options={"init_scale": -1.0}), coloured(8))
    assert "\n" not in str(no.value)


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("tests.core.absent:SigLip", "ModuleNotFoundError: No module named 'tests.core.absent'"),
        ("tests.core.siglip:Absent", "AttributeError"),
        ("tests.core.siglip:put_distribution", "it is not a subclass of cosmos_core.objectives.Objective"),
        ("tests.core.siglip:Objective", "it has no forward"),
        ("tests.core.siglip:InstanceViews", "its views must be a classmethod"),
    ],
)
def test_an_objective_that_cannot_be_used_is_named_with_its_plugin(plugin: Callable[..., None], target: str, why: str):
    plugin("3.0", f"sigmoid = {target}\nprojected = tests.core.siglip:Projected")
    with pytest.raises(RequestError, match=f"objective sigmoid of plug-in learned-bias 3.0 .*{why}") as refused:
        load_preset("toybox", ["objective=sigmoid"])
    assert "\n" not in str(refused.value)
    load_preset("toybox", ["objective=projected", "objective_options.width=64"])
