"""What a run is at one step, as plain values and tensors: taken from it, and put back into it."""

import copy
import random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from cosmos_core.config import TrainConfig
from cosmos_core.errors import RequestError
from cosmos_core.layouts import plain_state
from cosmos_core.objective_state import captured_objective, check_objective, put_back_objective
from cosmos_core.overrides import updated
from cosmos_core.step import Run
from cosmos_core.world import World

NEEDED = ("student", "teacher", "optimizer", "step", "steps", "training", "data_state", "skipped", "rng")
"""What a checkpoint must hold for a run to go on from it."""
FREE = {
    *("name", "out", "workers", "device", "threads", "max_broken", "non_finite"),
    *("accumulate", "grad_checkpointing", "compile"),
    *("log_every", "tensorboard", "wandb", "save_every", "save_minutes", "keep", "keep_every"),
    *("eval_every", "eval_suite", "eval_data_root", "eval_networks", "eval_limit"),
}
"""Settings that may differ when a run goes on: they change no sample, no schedule and no formula."""
ABSOLUTE = re.compile(r"(?:^|(?<=[:,=\s]))(?:~[\w.-]*)?/(?:[^/,:\s]+/)*")
"""The folders of an absolute path: alone, behind the kind of a source, or in a command."""
LENGTH = ("steps", "epochs", "samples")


def captured(run: Run, data_state: Mapping[str, Any], world: World) -> dict[str, Any]:
    """What a checkpoint holds beside networks and optimizer. A collective: every rank calls it, all get the same.

    Args:
        data_state: where this rank's share of the data stands; the union over ranks is kept.
    """
    of_ranks = world.gather({"data": dict(data_state), "skipped": dict(run.skipped), "rng": rng_state(device_of(run))})
    training = unplaced_settings(run.config)
    if not training["objective_options"]:
        del training["objective_options"]  # the file is what it was before objectives had any
    scaler = {} if run.scaler is None else {"scaler": run.scaler.state_dict()}
    return {
        "step": run.step,
        "steps": run.steps,
        "training": training,
        "data_state": {lane: place for one in of_ranks for lane, place in one["data"].items()},
        "skipped": [one["skipped"] for one in of_ranks],
        "rng": [one["rng"] for one in of_ranks],
        "skipped_steps": run.skipped_steps,
        "skipped_in_a_row": run.skipped_in_a_row,
        "environment": environment(run, world),
        **captured_objective(run.config.objective, run.objective),
        **scaler,
    }


def put_back(run: Run, content: Mapping[str, Any], path: Path, world: World) -> dict[str, Any]:
    """Make `run` what it was when `content` was written; returns the position in the data, of all ranks.

    Raises:
        RequestError: the checkpoint is of another model or objective, or of a run of another length.
    """
    if content["steps"] != run.steps:
        raise RequestError(
            f"{path} is of a run of {content['steps']:,} steps, and this one has {run.steps:,}: schedules depend on "
            "the length; give the data it was started with, or another --out"
        )
    check_objective(run.config.objective, run.objective, content, path)
    for name, model in (("student", run.student), ("teacher", run.teacher)):
        fill(model, content[name], f"{path}: {name}")
    put_back_objective(run.objective, content, path)
    fill_optimizer(run.optimizer, content["optimizer"], path)
    if run.scaler is not None and content.get("scaler"):
        run.scaler.load_state_dict(dict(content["scaler"]))
    run.step, run.epoch = content["step"], content["epoch"]
    run.skipped_steps = content.get("skipped_steps", 0)
    run.skipped_in_a_row = content.get("skipped_in_a_row", 0)
    of_ranks = content["skipped"]
    if len(of_ranks) != world.size:  # counts are sums over ranks: one of them keeps all
        everything = {key: reason for one in of_ranks for key, reason in one.items()}
        of_ranks = [everything, *[{}] * (world.size - 1)]
    run.skipped.clear()
    run.skipped.update(of_ranks[world.rank])
    if world.rank < len(content["rng"]):
        set_rng_state(content["rng"][world.rank], device_of(run))
    return dict(content["data_state"])


def fill(model: nn.Module, state: Any, where: str) -> None:
    """Weights into a model, wrapped or not; RequestError naming the first key that differs."""
    weights = plain_state(state, Path(where))
    own = plain_state(model.state_dict(), Path(where))
    for key in own.keys() | weights.keys():
        if key not in own or key not in weights or own[key].shape != weights[key].shape:
            raise RequestError(f"{where} does not fit this model: {key} is missing or of another shape")
    with torch.no_grad():
        for key, value in own.items():
            value.copy_(weights[key])


def fill_optimizer(optimizer: torch.optim.Optimizer, state: Any, path: Path) -> None:
    """Momenta into an optimizer; its settings stay what this run says (rates are set at every step anyway)."""
    try:
        groups = [
            {**group, "params": old["params"]}
            for group, old in zip(optimizer.state_dict()["param_groups"], state["param_groups"], strict=True)
        ]
        # copied: tensors of a mapped file would be read from it for as long as the run lasts
        optimizer.load_state_dict({"state": copy.deepcopy(state["state"]), "param_groups": groups})
    except (ValueError, KeyError, TypeError) as error:
        raise RequestError(f"{path}: its optimizer does not fit this model: {error}") from error


def device_of(run: Run) -> torch.device:
    return next(run.student.parameters()).device


def rng_state(device: torch.device) -> dict[str, Any]:
    """The states of the global generators of this process. Nothing in training draws from them; callbacks may."""
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
    """What decides the last bits of every figure beside the configuration."""
    return {
        "ranks": world.size,
        "threads": torch.get_num_threads(),
        "device": device_of(run).type,
        "torch": str(torch.__version__),
        "accumulate": run.config.accumulate,
        "compile": run.config.compile,
    }


def other_bits(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What makes a continued run differ in the last bits from one that was never stopped; empty where nothing does."""
    changed = [f"{key} {before[key]} before and {now[key]} now" for key in now if before.get(key, now[key]) != now[key]]
    return ", ".join(changed)


def training_of(content: Mapping[str, Any], where: str) -> TrainConfig:
    """The configuration that a checkpoint carries.

    Raises:
        RequestError: it has settings that this version does not know.
    """
    return updated(TrainConfig(), dict(content["training"]), where)


def compatible(old: TrainConfig, new: TrainConfig) -> list[str]:
    """The settings that keep a run of `old` from going on as `new`, each as `lr 0.001 there and 0.002 here`."""
    there, here = flat(plain(old.to_dict())), flat(plain(new.to_dict()))
    if unplaced(there["data"]) == unplaced(here["data"]):
        del there["data"], here["data"]
    differing = [
        key
        for key in dict.fromkeys([*here, *there])
        if key.split(".")[0] not in FREE and there.get(key) != here.get(key)
    ]
    return [f"{key} {there.get(key, 'absent')!r} there and {here.get(key, 'absent')!r} here" for key in differing]


def unplaced_settings(config: TrainConfig) -> dict[str, Any]:
    """The settings without the folders of this machine: a checkpoint travels to others, and a run that goes on has its
    own. Relative paths stay."""
    values = config.to_dict()
    values["data"] = "::".join(map(unplaced_source, values["data"].split("::")))
    for key in ("out", "eval_data_root"):
        if Path(values[key]).is_absolute() or values[key].startswith("~"):
            values[key] = Path(values[key]).name
    return values


def unplaced_source(source: str) -> str:
    """A source of data without the folders of absolute paths in it; the address of a server stays."""
    return source if "://" in source else ABSOLUTE.sub("", source)


def unplaced(data: str) -> list[str]:
    """File names of the sources without folders and hosts: data that was moved is the same data, and a checkpoint has
    no folders. Whether its shards and its length are those of the checkpoint, the loader looks at."""
    names = [re.split(r"[/\s:=]", source.strip())[-1] for source in data.split("::")]
    # COCO's annotations stand before the images' folder
    coco = [source.strip().startswith("coco:") for source in data.split("::")]
    return [name.rpartition(",")[2] if is_coco else name for name, is_coco in zip(names, coco, strict=True)]


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under their dotted names."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            result.update(flat(value, f"{prefix}{key}."))
        else:
            result[f"{prefix}{key}"] = value
    return result


def plain(value: Any) -> Any:
    """Values as JSON would give them back: a tuple and the list that a file made of it are one setting."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value
