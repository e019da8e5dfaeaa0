"""The state of an objective in a checkpoint: its parameters and buffers, and the plug-in that provides it.

A built-in objective without parameters and buffers adds no entry, so such checkpoints are as before objectives could
have any.
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
"""Its key in a checkpoint."""


def require_savable_state(name: str, objective: Objective) -> None:
    """RequestError if a checkpoint cannot hold the objective's state: the first save would fail."""
    lazy = next((key for key, value in objective.state_dict(keep_vars=True).items() if is_lazy(value)), None)
    if lazy is not None:
        raise RequestError(
            f"objective {printable(name)}: {lazy} has no shape before the first batch (a lazy module), and the "
            "optimizer needs it at the start; give its size in the constructor"
        )
    not_a_tensor = next((key for key, value in objective.state_dict().items() if not isinstance(value, Tensor)), None)
    if not_a_tensor is not None:
        raise RequestError(
            f"objective {printable(name)}: {not_a_tensor} of its state is not a tensor, and only tensors are "
            "saved; keep it in a buffer or out of the state"
        )


def objective_entry(name: str, objective: Objective | None) -> dict[str, Any]:
    """The entry of an objective in a checkpoint; empty if it has no state and is not a plug-in's."""
    state = {} if objective is None else dict(objective.state_dict())
    plugin = REGISTRY.plugin(name)
    if not state and plugin is None:
        return {}
    source = {} if plugin is None else {"distribution": plugin.distribution, "version": plugin.version}
    return {KEY: {"name": name, "state": state, **source}}


def require_matching_objective(name: str, objective: Objective | None, content: Mapping[str, Any], path: Path) -> None:
    """Check that `restore_objective` will succeed; changes nothing.

    Raises:
        RequestError: the checkpoint holds the state of an objective with other parameters or buffers, or none of it.
    """
    current = {} if objective is None else objective.state_dict()
    stored = stored_state(content, path)
    problem = next(
        filter(None, (difference(key, stored.get(key), current.get(key)) for key in [*current, *stored])), ""
    )
    if problem:
        source = stored_source(content)
        advice = (
            f"install {source}, which it was trained with" if source != current_source(name) else "use the code it had"
        )
        raise RequestError(
            f"{path} does not fit objective {printable(name)}: {problem}; {advice}, or give another --out"
        )


def restore_objective(objective: Objective | None, content: Mapping[str, Any], path: Path) -> None:
    """Copy parameters and buffers from a checkpoint that `require_matching_objective` has passed."""
    if objective is not None:
        stored = stored_state(content, path)
        with torch.no_grad():
            for key, value in objective.state_dict().items():
                value.copy_(stored[key])


def stored_state(content: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    """The objective's state in a checkpoint, empty if it has none; RequestError if it is damaged."""
    stored = content.get(KEY, {})
    state = stored.get("state", {}) if isinstance(stored, Mapping) else None
    if not isinstance(state, Mapping):
        raise RequestError(f"{path} is damaged: what it holds of its objective is not a state; go on from another one")
    return state


def stored_logit_bias(content: Mapping[str, Any], path: Path) -> Tensor | None:
    """The number () that a checkpoint's objective adds to scaled cosines (`Objective.logit_bias`); None if it adds
    none, or is of a plug-in that cannot be loaded here."""
    state = stored_state(content, path)
    try:
        bias = state.get(objective_class(str(content[KEY].get("name"))).logit_bias) if state else None
    except RequestError:
        return None
    return bias.detach().float().reshape(()) if isinstance(bias, Tensor) and bias.numel() == 1 else None


def difference(key: Any, stored: Any, current: Any) -> str:
    """How an entry of the state differs between checkpoint and objective; empty if it does not."""
    if current is None:
        return f"{one_line(key)} is in the file only"
    if not isinstance(stored, Tensor):
        return f"{one_line(key)} is missing from the file"
    stored_text, current_text = (f"{tuple(value.shape)} of {value.dtype}" for value in (stored, current))
    return (
        f"{one_line(key)} is {stored_text} in the file and {current_text} here" if stored_text != current_text else ""
    )


def stored_source(content: Mapping[str, Any]) -> str:
    """Distribution and version of the plug-in of a checkpoint's objective; empty if it was a built-in one."""
    stored = content.get(KEY)
    if not isinstance(stored, Mapping) or "distribution" not in stored:
        return ""
    return one_line(f"{stored['distribution']} {stored.get('version', '')}")


def current_source(name: str) -> str:
    """The same for the objective that is installed now."""
    plugin = REGISTRY.plugin(name)
    return "" if plugin is None else one_line(f"{plugin.distribution} {plugin.version}")


def describe_source_change(name: str, content: Mapping[str, Any]) -> str:
    """A note if the checkpoint was written with another plug-in, or another version of it; else empty."""
    before, now = (source or "cosmos_core" for source in (stored_source(content), current_source(name)))
    return f"objective {printable(name)} is of {now} now, and was of {before} before" if before != now else ""


def plugin_facts(name: str) -> dict[str, str]:
    """Version and code of a plug-in's objective, on which ranks must agree; empty for a built-in one."""
    source = current_source(name)
    if not source:
        return {}
    facts = {f"the plug-in of objective {printable(name)}": source}
    try:
        code = Path(inspect.getfile(objective_class(name))).read_bytes()
    except (OSError, TypeError):  # the class has no source file, or is in an archive
        return facts
    return {**facts, f"the code of objective {printable(name)}": hashlib.blake2b(code, digest_size=4).hexdigest()}
