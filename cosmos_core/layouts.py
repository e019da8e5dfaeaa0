"""Layouts of checkpoint files, recognised by their keys; reading them runs no code.

Layouts: training (`student` and `teacher`, with or without `epoch`), `state_dict` with an optional `ema_state_dict`, a
bare state dict, and safetensors. Wrappers' prefixes (`module.`, `model.`, `_orig_mod.`) are removed key by key, since
only the student of a distributed run has them; a prefix of another name is removed if all keys have it.
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

NetworkName = Literal["teacher", "student"]
WRAPPERS = ("module", "model", "_orig_mod")
"""Prefixes that wrappers (DDP, Lightning, torch.compile) add to every key; a compiled tower has the last one inside."""
TEMPERATURE = "logit_scale"


@dataclass
class StoredWeights:
    """One set of weights of a file, with its `config` if the file has one."""

    state: dict[str, Tensor]
    config: dict[str, Any] | None
    epoch: int | None = None


def read_state(path: Path | str, weights: NetworkName = "teacher", check: bool = True) -> StoredWeights:
    """The weights of one network in a checkpoint file.

    Args:
        path: a file in one of the layouts above.
        weights: which network: `teacher` takes `teacher`, or `ema_state_dict` if there is one, else `state_dict`;
            `student` takes `student` or `state_dict`. A file with a single set of weights
            gives that set for both, unless it records which network it is.
        check: as in `cosmos_core.tensor_files.read_tensors`.

    Raises:
        RequestError: missing, truncated, not a checkpoint, objects that could run code, or no such weights in it.
    """
    path = user_path(path)
    if weights not in ("teacher", "student"):
        raise RequestError(f"no weights called {weights!r} in a checkpoint: teacher (default) or student")
    content = read_file(path, check)
    stored_config = content.get("config")
    # other projects store the settings of their runs under this key
    config = dict(stored_config) if isinstance(stored_config, Mapping) and "embed_dim" in stored_config else None
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
        stored_network = content.get("weights")
        if stored_network is not None and stored_network != weights:
            raise RequestError(f"{path} holds the {stored_network} only; ask for #{stored_network}")
        state = content["bare"]
    return StoredWeights(without_wrappers(state, path), config, epoch)


def read_file(path: Path | str, check: bool = True) -> dict[str, Any]:
    """The dictionary in a checkpoint file, plain data only; a file of weights alone becomes {"bare": weights}.

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


def without_wrappers(state: Any, path: Path) -> dict[str, Tensor]:
    """Weights with the wrappers' prefixes removed, key by key; RequestError if they are not weights."""
    if not isinstance(state, Mapping) or not state:
        raise RequestError(f"{path} is not a checkpoint: its weights are a {type(state).__name__}")
    plain: dict[str, Tensor] = {}
    for key, value in state.items():
        name = remove_wrappers(str(key))
        if not isinstance(value, Tensor):
            problem = f"{one_line(name)} is a {type(value).__name__}"
            raise RequestError(f"{path} is not a checkpoint: {problem}, not a tensor")
        if name in plain:
            raise RequestError(
                f"{path} is damaged: it holds {one_line(name)} twice, with and without a wrapper's prefix"
            )
        plain[name] = value
    return without_shared_prefix(plain)


def without_shared_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights without a prefix that all their names share: `net.logit_scale` becomes `logit_scale`.

    Every COSMOS and CLIP has `logit_scale` at its top level, so whatever is before it is the prefix. The weights of a
    single tower have no `logit_scale`; their names share a beginning that is their own, and they stay as they are.
    """
    scales = [name for name in state if name.endswith(f".{TEMPERATURE}")]
    prefix = scales[0].removesuffix(TEMPERATURE) if len(scales) == 1 else ""
    if not prefix or not all(name.startswith(prefix) for name in state):
        return state
    return {name.removeprefix(prefix): value for name, value in state.items()}


def remove_wrappers(key: str) -> str:
    """A key of a state dict without the prefixes that wrappers add, in any order."""
    parts = key.split(".")
    while len(parts) > 1 and parts[0] in WRAPPERS:
        del parts[0]
    return ".".join(part for part in parts if part != "_orig_mod")
