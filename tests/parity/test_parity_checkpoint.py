"""Checkpoints in the original's layouts: what is read from them, and the keys and shapes of the full models."""

from pathlib import Path
from typing import Any

import pytest
import torch

from cosmos_core.checkpoint import load_checkpoint, read_file, read_state, save_checkpoint
from cosmos_core.model import COSMOS
from cosmos_core.schedule import parameter_groups
from tests.parity.golden import EXACT, Pack, compare, flatten

TRAINED, AVERAGED = "checkpoint/train_format.pt", "checkpoint/ema_format.pt"
CONFIG, AVERAGED_CONFIG = "model/config.json", "checkpoint/ema_format_config.json"


@pytest.fixture(scope="module")
def pack(parity_dir: Path) -> Pack:
    return Pack.at(parity_dir)


def full_model(arch: str) -> dict[str, Any]:
    with torch.device("meta"):
        model = COSMOS.from_config(arch)
    state = model.state_dict()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = parameter_groups(model, weight_decay=0.5)
    tree = {
        "num_keys": len(state),
        "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "num_elements_in_state_dict": sum(value.numel() for value in state.values()),
        "state_dict": [
            {"key": key, "shape": list(value.shape), "dtype": str(value.dtype).removeprefix("torch.")}
            for key, value in state.items()
        ],
        "optimizer_param_order": [names[id(parameter)] for group in groups for parameter in group["params"]],
        "optimizer_group_sizes": [len(group["params"]) for group in groups],
        "non_persistent_buffers": [name for name, _ in model.named_buffers() if name not in state],
    }
    return dict(flatten(tree))


def expectations(pack: Pack) -> dict[str, Any]:
    trained = read_file(pack.path(TRAINED))
    steps = {int(entry["step"]) for entry in trained["optimizer"]["state"].values()}
    assert len(steps) == 1
    groups = [
        {**{key: value for key, value in group.items() if key != "params"}, "num_params": len(group["params"])}
        for group in trained["optimizer"]["param_groups"]
    ]
    return dict(
        flatten(
            {
                "train_format": {
                    "epoch": read_state(pack.path(TRAINED)).epoch,
                    "optimizer_steps": steps.pop(),
                    "param_groups": [
                        {key: list(value) if isinstance(value, tuple) else value for key, value in group.items()}
                        for group in groups
                    ],
                },
                "ema_format": {"epoch": read_state(pack.path(AVERAGED)).epoch},
            }
        )
    )


@torch.no_grad()
def averaged_outputs(pack: Pack) -> dict[str, Any]:
    inputs = pack.tensors("checkpoint/ema_format_outputs.safetensors")
    ours = {}
    for layout, weights in (("state_dict", "student"), ("ema_state_dict", "teacher")):
        model = load_checkpoint(pack.path(AVERAGED), weights=weights, config=pack.json(AVERAGED_CONFIG))
        ours[f"{layout}.image_features"] = model.encode_image(inputs["image"].float(), normalize=True)
        ours[f"{layout}.text_features"] = model.encode_text(inputs["text"], normalize=True)
    return ours


def trained_file(pack: Pack) -> dict[str, Any]:
    content = read_file(pack.path(TRAINED))
    states = {which: read_state(pack.path(TRAINED), which).state for which in ("student", "teacher")}
    return dict(flatten({**content, **states}))


def averaged_file(pack: Pack) -> dict[str, Any]:
    """Back under the names that the file has, prefixes included."""
    prefix = pack.json("checkpoint/expect.json")["ema_format"]["key_prefix"]
    tree: dict[str, Any] = dict(read_file(pack.path(AVERAGED)))
    for layout, weights in (("state_dict", "student"), ("ema_state_dict", "teacher")):
        state = read_state(pack.path(AVERAGED), weights).state
        tree[layout] = {prefix + key: value for key, value in state.items()}
    return dict(flatten(tree))


def required_keys(pack: Pack) -> dict[str, Any]:
    """The keys of a whole file of each layout: the one that we write, and two read with nothing else in them."""
    import tempfile

    config = pack.json(AVERAGED_CONFIG)
    model = COSMOS.from_config(config)
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.5))
    state = model.state_dict()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "last.pt"
        save_checkpoint(path, config=config, student=model, teacher=model, optimizer=optimizer, epoch=1, name="run")
        written = [key for key in read_file(path) if key != "config"]
        torch.save({"epoch": 7, "state_dict": state}, path)
        alternative = read_file(path)
        assert read_state(path).epoch == 7
        assert load_checkpoint(path, config=config).state_dict().keys() == state.keys()
        torch.save({"student": state, "teacher": state}, path)
        bare = read_file(path)
        for weights in ("student", "teacher"):
            assert load_checkpoint(path, weights=weights, config=config).state_dict().keys() == state.keys()
    order = ["epoch", "name", "student", "teacher", "optimizer"]
    return {
        "training_checkpoint/required": sorted(written, key=order.index),
        "segmentation_alternative/required": list(alternative),
        "bare/required": list(bare),
    }


FILES = {
    "checkpoint/ViT-B-16.json": lambda pack: full_model("ViT-B-16"),
    "checkpoint/ViT-B-32.json": lambda pack: full_model("ViT-B-32"),
    "checkpoint/expect.json": expectations,
    "checkpoint/ema_format_outputs.safetensors": averaged_outputs,
    "checkpoint/train_format.pt": trained_file,
    "checkpoint/ema_format.pt": averaged_file,
    "checkpoint/format.json": required_keys,
}


@pytest.mark.parametrize("file", FILES)
def test_every_stored_value_of_the_checkpoints_comes_out_again(pack: Pack, file: str):
    pack.compare(file, pack.ours(file, FILES[file]))


@pytest.mark.parametrize("weights", ["student", "teacher"])
def test_a_training_checkpoint_gives_the_weights_after_its_step(pack: Pack, weights: str):
    expected = pack.json("checkpoint/expect.json")["train_format"][f"{weights}_equals"]
    model = load_checkpoint(pack.path(TRAINED), weights=weights, config=pack.json(CONFIG))
    stored, state = pack.tensors(expected), model.state_dict()
    assert list(state) == file_order(pack, weights)
    assert set(state) == set(stored)
    for key, value in stored.items():
        compare(f"{weights}/{key}", state[key], value, EXACT)


def file_order(pack: Pack, weights: str) -> list[str]:
    """The keys in the order of the training checkpoint itself: safetensors files sort theirs."""
    content = torch.load(pack.path(TRAINED), map_location="cpu", weights_only=True)
    return [key.removeprefix("module.") for key in content[weights]]


def test_the_teacher_is_the_default(pack: Pack):
    config = pack.json(CONFIG)
    default = load_checkpoint(pack.path(TRAINED), config=config).state_dict()
    teacher = load_checkpoint(pack.path(TRAINED), weights="teacher", config=config).state_dict()
    student = load_checkpoint(pack.path(TRAINED), weights="student", config=config).state_dict()
    assert all(torch.equal(default[key], teacher[key]) for key in default)
    assert not all(torch.equal(default[key], student[key]) for key in default)


def test_a_file_with_student_and_teacher_only_is_read(pack: Pack, tmp_path: Path):
    torch.save({key: read_file(pack.path(TRAINED))[key] for key in ("student", "teacher")}, tmp_path / "bare.pt")
    model = load_checkpoint(tmp_path / "bare.pt", config=pack.json(CONFIG))
    stored = read_state(pack.path(TRAINED)).state
    assert all(torch.equal(value, stored[key]) for key, value in model.state_dict().items())


def test_our_own_file_can_be_read_by_who_knows_only_the_originals_keys(pack: Pack, tmp_path: Path):
    trained = read_file(pack.path(TRAINED))
    save_checkpoint(
        tmp_path / "ours.pt",
        config=pack.json(CONFIG),
        student={f"module.{key}": value for key, value in trained["student"].items()},
        teacher=trained["teacher"],
        optimizer=trained["optimizer"],
        epoch=trained["epoch"],
        name=trained["name"],
    )
    written = torch.load(tmp_path / "ours.pt", weights_only=True)
    for key, value in flatten(trained):
        compare(key, dict(flatten(written))[key], value, EXACT)
