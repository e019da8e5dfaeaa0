"""Checkpoint files on disk: read without running anything, told apart by what they hold.

Layouts: training (`student` and `teacher`, with or without `epoch`), `state_dict` with an optional `ema_state_dict`, a
bare state dict, and safetensors. Wrappers' prefixes (`module.`, `model.`, `_orig_mod.`) are taken off key by key, since
only the student of a distributed run has them; a prefix of another name where all keys have it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_core.file_checks import user_path
from cosmos_core.json_text import parse_json
from cosmos_core.printable import one_line
from cosmos_core.tensor_files import check_content, read_tensors

Which = Literal["teacher", "student"]
WRAPPERS = ("module", "model", "_orig_mod")
"""What wrappers (distributed, Lightning's, compiled) put before every key; a compiled tower has the last one within."""
TEMPERATURE = "logit_scale"


@dataclass
class StoredWeights:
    """One set of weights as a file holds it; `config` where the file carries one."""

    state: dict[str, Tensor]
    config: dict[str, Any] | None
    epoch: int | None = None


def read_state(path: Path | str, weights: Which = "teacher", check: bool = True) -> StoredWeights:
    """The weights of one network in a checkpoint file.

    Args:
        path: a file in one of the layouts above.
        weights: which network: `teacher` takes `teacher`, or `ema_state_dict` if there is one, else `state_dict`;
            `student` takes `student` or `state_dict`. A file with one set of weights gives that set for both, unless it
            says whose they are.
        check: as in `cosmos_core.tensor_files.read_tensors`.

    Raises:
        RequestError: missing, truncated, not a checkpoint, objects that would run code, or no such weights in it.
    """
    path = user_path(path)
    if weights not in ("teacher", "student"):
        raise RequestError(f"no weights called {weights!r} in a checkpoint: teacher (default) or student")
    content = read_file(path, check)
    own = content.get("config")
    # other projects keep settings of their runs under this name
    config = dict(own) if isinstance(own, Mapping) and "embed_dim" in own else None
    epoch = content["epoch"] if isinstance(content.get("epoch"), int) else None
    if "student" in content or "teacher" in content:
        if weights not in content:
            other = "student" if weights == "teacher" else "teacher"
            raise RequestError(f"{path} holds no {weights}, only a {other}; ask for #{other}")
        state = content[weights]
    elif "state_dict" in content:
        averaged = content.get("ema_state_dict") if weights == "teacher" else None
        state = averaged if averaged is not None else content["state_dict"]
    else:
        holds = content.get("weights")
        if holds is not None and holds != weights:
            raise RequestError(f"{path} holds the {holds} only; ask for #{holds}")
        state = content["bare"]
    return StoredWeights(plain_state(state, path), config, epoch)


def read_file(path: Path | str, check: bool = True) -> dict[str, Any]:
    """The dictionary that a checkpoint file holds, plain data only; one set of bare weights comes as `bare`.

    Args:
        check: as in `cosmos_core.tensor_files.read_tensors`.
    """
    path = Path(path)
    file = read_tensors(path, check)
    content = file.content
    if file.metadata is not None:
        config = None
        if "config" in file.metadata:
            config = parse_json(file.metadata["config"], f"the config in {path}", finite=True)
            check_content(config, str(path))
        return {"bare": content, "config": config, "weights": file.metadata.get("weights")}
    if not isinstance(content, Mapping):
        raise RequestError(
            f"{path} is not a checkpoint: it holds a {type(content).__name__}, not a dictionary of weights"
        )
    if content.keys() & {"student", "teacher", "state_dict"}:
        return dict(content)
    if content and all(isinstance(value, Tensor) for value in content.values()):
        return {"bare": content}
    keys = ", ".join(one_line(key, 40) for key in list(content)[:5]) or "nothing"
    raise RequestError(f"{path} is not a checkpoint: neither weights nor student/teacher in it, but {keys}")


def plain_state(state: Any, path: Path) -> dict[str, Tensor]:
    """Weights with the wrappers' prefixes taken off, key by key; RequestError where they are no weights."""
    if not isinstance(state, Mapping) or not state:
        raise RequestError(f"{path} is not a checkpoint: its weights are a {type(state).__name__}")
    plain: dict[str, Tensor] = {}
    for key, value in state.items():
        name = unwrapped(str(key))
        if not isinstance(value, Tensor):
            what = f"{one_line(name)} is a {type(value).__name__}"
            raise RequestError(f"{path} is not a checkpoint: {what}, not a tensor")
        if name in plain:
            raise RequestError(
                f"{path} is damaged: {one_line(name)} stands in it twice, with and without a wrapper's prefix"
            )
        plain[name] = value
    return without_shared_prefix(plain)


def without_shared_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights without what a module of any name has put before all of them: `net.logit_scale` is `logit_scale`.

    Every COSMOS and CLIP has that temperature at its top, so that the prefix is known by it; weights of one tower have
    none, begin alike by their own names, and stay as they are.
    """
    scales = [name for name in state if name.endswith(f".{TEMPERATURE}")]
    prefix = scales[0].removesuffix(TEMPERATURE) if len(scales) == 1 else ""
    if not prefix or not all(name.startswith(prefix) for name in state):
        return state
    return {name.removeprefix(prefix): value for name, value in state.items()}


def unwrapped(key: str) -> str:
    """A key of a state dict without what wrappers put before it or into it, whatever their order."""
    parts = key.split(".")
    while len(parts) > 1 and parts[0] in WRAPPERS:
        del parts[0]
    return ".".join(part for part in parts if part != "_orig_mod")
