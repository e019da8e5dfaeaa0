"""What a checkpoint holds of an objective: its parameters and buffers, and the plug-in that it came from.

An objective of ours without parameters and buffers leaves nothing: such checkpoints are what they were before
objectives could have any.
"""

import hashlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from cosmos_core.errors import RequestError
from cosmos_core.objectives import REGISTRY, Objective, objective_class
from cosmos_core.printable import one_line, printable

KEY = "objective"
"""Where it stands in a checkpoint."""


def refuse_odd_state(name: str, objective: Objective) -> None:
    """RequestError where an objective's state holds what a checkpoint cannot: it would fail at the first save."""
    lazy = next((key for key, value in objective.state_dict(keep_vars=True).items() if is_lazy(value)), None)
    if lazy is not None:
        raise RequestError(
            f"objective {printable(name)}: {lazy} has no shape before the first batch (a lazy module), and the "
            "optimizer needs it at the start; give its size in the constructor"
        )
    odd = next((key for key, value in objective.state_dict().items() if not isinstance(value, Tensor)), None)
    if odd is not None:
        raise RequestError(
            f"objective {printable(name)}: {odd} of its state is no tensor, and only tensors are saved; keep it in a "
            "buffer or out of the state"
        )


def captured_objective(name: str, objective: Objective | None) -> dict[str, Any]:
    """What a checkpoint holds of an objective, under one key; empty where there is nothing."""
    state = {} if objective is None else dict(objective.state_dict())
    plugin = REGISTRY.plugin(name)
    if not state and plugin is None:
        return {}
    source = {} if plugin is None else {"distribution": plugin.distribution, "version": plugin.version}
    return {KEY: {"name": name, "state": state, **source}}


def check_objective(name: str, objective: Objective | None, content: Mapping[str, Any], path: Path) -> None:
    """Whether `put_back_objective` will succeed; nothing is changed.

    Raises:
        RequestError: the checkpoint holds the state of an objective with other parameters or buffers, or none of it.
    """
    own = {} if objective is None else objective.state_dict()
    stored = stored_state(content, path)
    problem = next(filter(None, (difference(key, stored.get(key), own.get(key)) for key in [*own, *stored])), "")
    if problem:
        there = source_of(content)
        advice = f"install {there}, which it was trained with" if there != source_now(name) else "use the code it had"
        raise RequestError(
            f"{path} does not fit objective {printable(name)}: {problem}; {advice}, or give another --out"
        )


def put_back_objective(objective: Objective | None, content: Mapping[str, Any], path: Path) -> None:
    """Parameters and buffers of a checkpoint that `check_objective` has passed, to the bit."""
    if objective is not None:
        stored = stored_state(content, path)
        with torch.no_grad():
            for key, value in objective.state_dict().items():
                value.copy_(stored[key])


def stored_state(content: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    """The objective's state in a checkpoint, empty where it holds none; RequestError where it is damaged."""
    stored = content.get(KEY, {})
    state = stored.get("state", {}) if isinstance(stored, Mapping) else None
    if not isinstance(state, Mapping):
        raise RequestError(f"{path} is damaged: what it holds of its objective is no state; go on from another one")
    return state


def difference(key: Any, there: Any, here: Any) -> str:
    """How an entry of the state differs between checkpoint and objective, empty where it does not."""
    if here is None:
        return f"{one_line(key)} is in the file only"
    if not isinstance(there, Tensor):
        return f"{one_line(key)} is missing from the file"
    of_file, ours = (f"{tuple(value.shape)} of {value.dtype}" for value in (there, here))
    return f"{one_line(key)} is {of_file} in the file and {ours} here" if of_file != ours else ""


def source_of(content: Mapping[str, Any]) -> str:
    """Distribution and version that a checkpoint's objective came from; empty where it was one of ours."""
    stored = content.get(KEY)
    if not isinstance(stored, Mapping) or "distribution" not in stored:
        return ""
    return one_line(f"{stored['distribution']} {stored.get('version', '')}")


def source_now(name: str) -> str:
    """The same of the objective that runs now."""
    plugin = REGISTRY.plugin(name)
    return "" if plugin is None else one_line(f"{plugin.distribution} {plugin.version}")


def other_source(name: str, content: Mapping[str, Any]) -> str:
    """What to say where an objective came from another plug-in, or version of it, when the checkpoint was written."""
    before, now = (source or "cosmos_core" for source in (source_of(content), source_now(name)))
    return f"objective {printable(name)} is of {now} now, and was of {before} before" if before != now else ""


def plugin_facts(name: str) -> dict[str, str]:
    """Version and code of an objective from a plug-in, on which ranks must agree; empty for ours."""
    source = source_now(name)
    if not source:
        return {}
    facts = {f"the plug-in of objective {printable(name)}": source}
    try:
        code = Path(inspect.getfile(objective_class(name))).read_bytes()
    except (OSError, TypeError):  # a class that was made without a file, or one in an archive
        return facts
    return {**facts, f"the code of objective {printable(name)}": hashlib.blake2b(code, digest_size=4).hexdigest()}
