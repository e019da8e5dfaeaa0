"""Checkpoint files on disk: read without running anything, told apart by what they hold.

Layouts: training (`student` and `teacher`, with or without `epoch`), `state_dict` with an optional `ema_state_dict`, a
bare state dict, and safetensors. `module.` is stripped key by key, since only the student of a distributed run has it.
"""

import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor

from cosmos_core.errors import RequestError

Which = Literal["teacher", "student"]
PREFIXES = ("module.", "_orig_mod.")
"""What wrappers (distributed, compiled) put before every key."""


@dataclass
class StoredWeights:
    """One set of weights as a file holds it; `config` where the file carries one."""

    state: dict[str, Tensor]
    config: dict[str, Any] | None
    epoch: int | None = None


def read_state(path: Path | str, weights: Which = "teacher") -> StoredWeights:
    """The weights of one network in a checkpoint file.

    Args:
        path: a file in one of the layouts above.
        weights: which network: `teacher` takes `teacher`, or `ema_state_dict` if there is one, else `state_dict`;
            `student` takes `student` or `state_dict`. A file with one set of weights gives that set for both, unless it
            says whose they are.

    Raises:
        RequestError: missing, truncated, not a checkpoint, objects that would run code, or no such weights in it.
    """
    path = Path(path)
    if weights not in ("teacher", "student"):
        raise RequestError(f"no weights called {weights!r} in a checkpoint: teacher (default) or student")
    content = read_file(path)
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


def read_file(path: Path | str) -> dict[str, Any]:
    """The dictionary that a checkpoint file holds, plain data only; one set of bare weights comes as `bare`."""
    path = Path(path)
    if not path.is_file():
        what = "is a folder, not a checkpoint file" if path.is_dir() else "does not exist"
        raise RequestError(f"checkpoint {path} {what}; give the path of a .pt or .safetensors file")
    with path.open("rb") as file:
        start = file.read(9)
    if not start:
        raise RequestError(f"{path} is empty; copy or download it again")
    if path.suffix == ".safetensors" or start[8:9] == b"{":
        return read_safetensors(path)
    content = read_pickle(path, start)
    if not isinstance(content, Mapping):
        raise RequestError(
            f"{path} is not a checkpoint: it holds a {type(content).__name__}, not a dictionary of weights"
        )
    if content.keys() & {"student", "teacher", "state_dict"}:
        return dict(content)
    if content and all(isinstance(value, Tensor) for value in content.values()):
        return {"bare": content}
    keys = ", ".join(map(str, list(content)[:5])) or "nothing"
    raise RequestError(f"{path} is not a checkpoint: neither weights nor student/teacher in it, but {keys}")


def read_safetensors(path: Path) -> dict[str, Any]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        state = load_file(path)
        config = json.loads(metadata["config"]) if "config" in metadata else None
    except Exception as error:  # damage can make the reader fail in any way
        raise RequestError(
            f"{path} is not a whole safetensors file ({one_line(error)}); copy or download it again"
        ) from error
    return {"bare": state, "config": config, "weights": metadata.get("weights")}


def read_pickle(path: Path, start: bytes) -> Any:
    """What torch wrote to `path`, tensors and plain values only: anything else in it is refused, never built."""
    zipped = start.startswith(b"PK\x03\x04")
    if not zipped and not start.startswith(b"\x80"):
        raise RequestError(f"{path} is not a checkpoint: it is neither a torch file nor safetensors")
    if zipped and any(name.endswith("/constants.pkl") for name in members(path)):
        raise RequestError(f"{path} is a TorchScript program, not a checkpoint; save its weights as safetensors")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles that are refused below
            # mapped, so that the optimizer's state of a full checkpoint is never read
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        found = re.search(
            r"(?:Unsupported global: GLOBAL|GLOBAL) ([\w.]+)|Unsupported (?:class|operand)[^\n]*", str(error)
        )
        what = f" ({found.group(1) or one_line(found.group(0))})" if found else ""
        if found or "Weights only load failed" in str(error):
            raise RequestError(
                f"{path} holds Python objects{what} that could run code and is not read: save weights as safetensors"
            ) from error
        raise RequestError(f"{path} is damaged ({one_line(error)}); copy or download it again") from error
    except Exception as error:  # a damaged stream can make its reader fail in any way
        raise RequestError(f"{path} is damaged or truncated ({one_line(error)}); copy or download it again") from error


def members(path: Path) -> list[str]:
    """The names in a zip archive; RequestError where its directory, which stands at the end, is missing or damaged."""
    try:
        if not zipfile.is_zipfile(path):
            raise RequestError(f"{path} is truncated: its end is missing; copy or download it again")
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except RequestError:
        raise
    except Exception as error:  # a damaged directory can make its reader fail in any way
        raise RequestError(f"{path} is damaged ({one_line(error)}); copy or download it again") from error


def plain_state(state: Any, path: Path) -> dict[str, Tensor]:
    """Weights with the wrappers' prefixes taken off, key by key; RequestError where they are no weights."""
    if not isinstance(state, Mapping) or not state:
        raise RequestError(f"{path} is not a checkpoint: its weights are a {type(state).__name__}")
    plain: dict[str, Tensor] = {}
    for key, value in state.items():
        name = str(key)
        while name.startswith(PREFIXES):
            name = name.removeprefix("module.").removeprefix("_orig_mod.")
        if not isinstance(value, Tensor):
            raise RequestError(f"{path} is not a checkpoint: {name} is a {type(value).__name__}, not a tensor")
        if name in plain:
            raise RequestError(f"{path} is damaged: {name} stands in it twice, with and without a wrapper's prefix")
        plain[name] = value
    return plain


def one_line(error: object) -> str:
    text = " ".join(str(error).split())
    return text[:120] + "..." if len(text) > 120 else text or type(error).__name__
