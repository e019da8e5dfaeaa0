"""The state of a run at one step, as plain values and tensors: captured for a checkpoint, and restored from it."""

import copy
import random
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from cosmos_core.config import TrainConfig
from cosmos_core.errors import RequestError
from cosmos_core.fsdp import copy_whole, divided_groups, is_sharded, split_like, whole_moments, whole_weights
from cosmos_core.layouts import without_wrappers
from cosmos_core.objective_state import objective_entry, require_matching_objective, restore_objective
from cosmos_core.overrides import updated
from cosmos_core.printable import plural
from cosmos_core.step import Run
from cosmos_core.world import World

REQUIRED_KEYS = ("student", "teacher", "optimizer", "step", "steps", "training", "data_state", "skipped", "rng")
"""Keys that a checkpoint must have for a run to be resumed from it."""
MAY_CHANGE = {
    *("name", "out", "workers", "device", "threads", "max_broken", "non_finite"),
    *("accumulate", "grad_checkpointing", "fsdp", "compile"),
    *("log_every", "tensorboard", "wandb", "save_every", "save_minutes", "keep", "keep_every"),
    *("eval_every", "eval_suite", "eval_data_root", "eval_networks", "eval_limit"),
}
"""Settings that may differ when a run is resumed: they change no sample, no schedule and no formula."""
ABSOLUTE_FOLDERS = re.compile(r"(?:^|(?<=[:,=\s]))(?:~[\w.-]*)?/(?:[^/,:\s]+/)*")
"""The folders of an absolute path: alone, after the kind of a source (`coco:`), or inside a command."""
ADDED_SETTINGS: dict[str, Any] = {"objective_options": {}, "init": "", "freeze": "", "layer_decay": 1.0, "fsdp": False}
"""Settings that older checkpoints do not have, with the values that mean the same."""
LENGTH_SETTINGS = ("steps", "epochs", "samples")


def capture_run(run: Run, data_state: Mapping[str, Any], world: World) -> dict[str, Any]:
    """The entries of a checkpoint besides networks and optimizer. A collective: every rank calls it, all get the same.

    Args:
        data_state: `Batch.state` of this rank's last batch; the union over ranks is saved.
    """
    rank_states = world.gather(
        {"data": dict(data_state), "skipped": dict(run.skipped), "rng": rng_state(device_of(run))}
    )
    training = portable_settings(run.config)
    for key, default in ADDED_SETTINGS.items():
        if training[key] == default:
            del training[key]  # so that the file is as before this setting existed
    if training["augment"] != "device":
        del training["augment"]  # likewise; older runs changed their views on the CPU
    scaler = {} if run.scaler is None else {"scaler": run.scaler.state_dict()}
    return {
        "step": run.step,
        "steps": run.steps,
        "training": training,
        "data_state": {lane: position for state in rank_states for lane, position in state["data"].items()},
        "skipped": [state["skipped"] for state in rank_states],
        "rng": [state["rng"] for state in rank_states],
        "skipped_steps": run.skipped_steps,
        "skipped_in_a_row": run.skipped_in_a_row,
        "environment": environment(run, world),
        **objective_entry(run.config.objective, run.objective),
        **scaler,
        **({"init": dict(run.init)} if run.init else {}),
    }


def restore_run(run: Run, content: Mapping[str, Any], path: Path, world: World) -> dict[str, Any]:
    """Restore a run from a checkpoint's content; returns the position of all ranks in the data.

    Raises:
        RequestError: the checkpoint is of another model or objective, or of a run of another length.
    """
    if content["steps"] != run.steps:
        raise RequestError(
            f"{path} is of a run of {plural(content['steps'], 'step')}, and this one has {run.steps:,}: schedules "
            "depend on the length; give the data it was started with, or another --out"
        )
    run.config = replace(run.config, augment=content["training"].get("augment", "cpu"))
    require_matching_objective(run.config.objective, run.objective, content, path)
    for name, model in (("student", run.student), ("teacher", run.teacher)):
        load_weights(model, content[name], f"{path}: {name}")
    restore_objective(run.objective, content, path)
    load_optimizer(run.optimizer, content["optimizer"], path)
    if run.scaler is not None and content.get("scaler"):
        run.scaler.load_state_dict(dict(content["scaler"]))
    run.step, run.epoch = content["step"], content["epoch"]
    run.init = dict(content.get("init", {}))
    run.skipped_steps = content.get("skipped_steps", 0)
    run.skipped_in_a_row = content.get("skipped_in_a_row", 0)
    skipped_by_rank = content["skipped"]
    if len(skipped_by_rank) != world.size:  # another number of ranks: rank 0 gets all, since counts are sums over ranks
        everything = {key: reason for skipped in skipped_by_rank for key, reason in skipped.items()}
        skipped_by_rank = [everything, *[{}] * (world.size - 1)]
    run.skipped.clear()
    run.skipped.update(skipped_by_rank[world.rank])
    if world.rank < len(content["rng"]):
        set_rng_state(content["rng"][world.rank], device_of(run))
    return dict(content["data_state"])


def capture_networks(run: Run, keep: bool = True) -> dict[str, Any]:
    """Student, teacher and optimizer for a checkpoint: themselves, or state dicts of whole tensors if they are split.

    A collective if they are split: every rank calls it, and those with `keep` get the tensors.
    """
    networks = {"student": whole_weights(run.student, keep), "teacher": whole_weights(run.teacher, keep)}
    return {**networks, "optimizer": whole_moments(run.optimizer, keep) if is_sharded(run.student) else run.optimizer}


def load_weights(model: nn.Module, state: Any, where: str) -> None:
    """Load weights into a model, wrapped or not; RequestError that names a key that differs."""
    weights = without_wrappers(state, Path(where))
    current = without_wrappers(model.state_dict(), Path(where))
    for key in current.keys() | weights.keys():
        if key not in current or key not in weights or current[key].shape != weights[key].shape:
            raise RequestError(f"{where} does not fit this model: {key} is missing or of another shape")
    with torch.no_grad():
        for key, value in current.items():
            copy_whole(value, weights[key])


def load_optimizer(optimizer: torch.optim.Optimizer, state: Any, path: Path) -> None:
    """Load the moments into an optimizer; its settings stay those of this run (learning rates are set in every
    step)."""
    try:
        own_groups = optimizer.state_dict()["param_groups"]
        groups = [
            {**group, "params": stored["params"]}
            for group, stored in zip(own_groups, divided_groups(own_groups, state["param_groups"]), strict=True)
        ]
        parameters = {
            number: parameter
            for stored, group in zip(groups, optimizer.param_groups, strict=True)
            for number, parameter in zip(stored["params"], group["params"], strict=True)
        }
        # Copied, since the tensors are mapped from the file, which may be replaced while the run lasts; one by one, so
        # that a rank that keeps a part of each never has all of them.
        split = {
            number: split_like(copy.deepcopy(entry), parameters[number]) for number, entry in state["state"].items()
        }
        optimizer.load_state_dict({"state": split, "param_groups": groups})
    except (ValueError, KeyError, TypeError) as error:
        raise RequestError(f"{path}: its optimizer does not fit this model: {error}") from error


def device_of(run: Run) -> torch.device:
    return next(run.student.parameters()).device


def rng_state(device: torch.device) -> dict[str, Any]:
    """The states of this process's global random generators. Training does not draw from them, but callbacks may."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = cast(tuple, np.random.get_state(legacy=True))
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "python": [version, torch.tensor(words), gauss],
        "numpy": [str(name), torch.tensor(keys.tolist()), int(position), int(has_gauss), float(cached)],
    }


def set_rng_state(state: Mapping[str, Any], device: torch.device) -> None:
    torch.set_rng_state(cast(Tensor, state["torch"]).clone())
    if device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"].clone(), device)
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words.tolist()), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, np.array(keys.tolist(), np.uint32), position, has_gauss, cached))


def environment(run: Run, world: World) -> dict[str, Any]:
    """Everything besides the configuration that affects the last bits of the results."""
    return {
        "ranks": world.size,
        "threads": torch.get_num_threads(),
        "device": device_of(run).type,
        "torch": str(torch.__version__),
        "accumulate": run.config.accumulate,
        "compile": run.config.compile,
        **({"fsdp": True} if run.config.fsdp else {}),  # left out otherwise, as before this setting existed
    }


def describe_environment_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Changes that make a resumed run differ in the last bits from one that was never stopped; empty if there are
    none."""
    before, now = ({"fsdp": False, **each} for each in (before, now))
    changed = [f"{key} {before[key]} before and {now[key]} now" for key in now if before.get(key, now[key]) != now[key]]
    return ", ".join(changed)


def read_training_config(content: Mapping[str, Any], where: str) -> TrainConfig:
    """The training configuration in a checkpoint.

    Raises:
        RequestError: it has settings that are unknown to this version.
    """
    return updated(TrainConfig(), dict(content["training"]), where)


def incompatible_settings(old: TrainConfig, new: TrainConfig) -> list[str]:
    """The differing settings that prevent resuming a run of `old` as `new`, each as `lr 0.001 there and 0.002 here`."""
    old_values, new_values = flatten(to_json_types(old.to_dict())), flatten(to_json_types(new.to_dict()))
    if source_names(old_values["data"]) == source_names(new_values["data"]):
        del old_values["data"], new_values["data"]
    for values in (old_values, new_values):
        values["init"] = portable_source(values["init"])
    # `auto` takes what the run began with; one without this setting changed its views on the CPU
    if new_values["augment"] == "auto":
        new_values["augment"] = old_values["augment"]
    elif old_values["augment"] == "auto":
        old_values["augment"] = "cpu"
    differing = [
        key
        for key in dict.fromkeys([*new_values, *old_values])
        if key.split(".")[0] not in MAY_CHANGE and old_values.get(key) != new_values.get(key)
    ]
    return [
        f"{key} {old_values.get(key, 'absent')!r} there and {new_values.get(key, 'absent')!r} here" for key in differing
    ]


def portable_settings(config: TrainConfig) -> dict[str, Any]:
    """The settings without folders of this machine, since a checkpoint may be resumed on another. Relative paths
    stay."""
    values = config.to_dict()
    values["data"] = "::".join(map(portable_source, values["data"].split("::")))
    values["init"] = portable_source(values["init"])
    for key in ("out", "eval_data_root"):
        if Path(values[key]).is_absolute() or values[key].startswith("~"):
            values[key] = Path(values[key]).name
    return values


def portable_source(source: str) -> str:
    """A source of data without the folders of its absolute paths; the address of a server stays."""
    return source if "://" in source else ABSOLUTE_FOLDERS.sub("", source)


def source_names(data: str) -> list[str]:
    """The sources' file names without folders and hosts, for comparison: moved data count as the same.

    Whether shards and length are those of the checkpoint is checked by the loader, by its fingerprint.
    """
    names = [re.split(r"[/\s:=]", source.strip())[-1] for source in data.split("::")]
    # `coco:ANNOTATIONS.json,IMAGES_FOLDER`: the part after the comma
    coco = [source.strip().startswith("coco:") for source in data.split("::")]
    return [name.rpartition(",")[2] if is_coco else name for name, is_coco in zip(names, coco, strict=True)]


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            result.update(flatten(value, f"{prefix}{key}."))
        else:
            result[f"{prefix}{key}"] = value
    return result


def to_json_types(value: Any) -> Any:
    """Values as JSON would return them, so that a tuple equals the list that a file stores."""
    if isinstance(value, Mapping):
        return {str(key): to_json_types(item) for key, item in value.items()}
    return [to_json_types(item) for item in value] if isinstance(value, list | tuple) else value
