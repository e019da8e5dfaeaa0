"""The list of settings is read from the configuration: nothing can be set that it does not name and describe."""

import yaml

from cosmos_core.config import TrainConfig, load_preset
from cosmos_core.settings import settings


def flat(values: dict, prefix: str = "") -> dict:
    found = {}
    for key, value in values.items():
        found.update(flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {prefix + key: value})
    return found


def test_every_key_of_a_configuration_is_named_once_with_its_default_and_its_description():
    named = settings()
    assert {one.key: one.default for one in named} == flat(TrainConfig().to_dict())
    assert len({one.key for one in named}) == len(named)
    assert [one.key for one in named if not one.about] == []
    assert all("\n" not in one.about for one in named)


def test_types_are_said_in_words():
    kinds = {one.key: one.kind for one in settings()}
    assert kinds["batch_size"] == "whole number"
    assert kinds["lr"] == "number"
    assert kinds["fix_momentum"] == "true or false"
    assert kinds["out"] == "text"
    assert kinds["views.blur"] == "3 numbers"
    assert kinds["model"] == "name or keys"


def test_every_setting_can_be_set_to_its_default():
    changes = [f"{one.key}={yaml.safe_dump(plain(one.default), default_flow_style=True)}" for one in settings()]
    changes = [change.removesuffix("\n").removesuffix("...").strip() for change in changes]
    assert load_preset("cc3m", changes) == TrainConfig()


def plain(value):
    return list(value) if isinstance(value, tuple) else value
