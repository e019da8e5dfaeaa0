"""What a checkpoint file of open_clip says about itself, read without running anything that is in it."""

import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import torch

from cosmos_core.errors import RequestError
from cosmos_core.json_text import read_json
from cosmos_core.text_files import LARGEST_TEXT

# OpenAI's own archives carry these three numbers among the weights; nothing else does, and all of them use QuickGELU.
_OPENAI_KEYS = {"input_resolution", "context_length", "vocab_size"}


def peek(path: Path) -> dict[str, Any]:
    """The top level of a checkpoint, its weights under `state_dict` with `module.` stripped, memory-mapped where that
    works.

    Raises:
        RequestError: not a torch or safetensors file, or one that holds objects which would run code.
    """
    if path.suffix == ".safetensors":
        return _peek_safetensors(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of archives and protocols that it then refuses
            content = _load(path)
    except Exception as error:  # a damaged stream can make its reader fail in any way
        raise RequestError(f"{path} {_reason(error)}") from error
    if not isinstance(content, dict):
        raise RequestError(f"{path} holds a {type(content).__name__}, not the weights of a model")
    weights = content.get("state_dict", content)
    if not isinstance(weights, dict) or not any(isinstance(value, torch.Tensor) for value in weights.values()):
        raise RequestError(f"{path} holds {', '.join(list(map(str, content))[:5])}, not the weights of a model")
    rest = {key: value for key, value in content.items() if key != "state_dict"} if weights is not content else {}
    return {**rest, "state_dict": {str(key).removeprefix("module."): value for key, value in weights.items()}}


def _load(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, ValueError) as error:
        if "mmap" not in str(error):
            raise
        return torch.load(path, map_location="cpu", weights_only=True)  # written by torch before 1.6


def _peek_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as content:
            weights = {key: content.get_tensor(key) for key in content.keys()}  # noqa: SIM118
            return {**(content.metadata() or {}), "state_dict": weights}
    except Exception as error:  # as above
        raise RequestError(f"{path} is not a whole safetensors file: {' '.join(str(error).split())[:200]}") from error


def _reason(error: BaseException) -> str:
    text = str(error)
    if "TorchScript" in text:
        return "is a TorchScript archive, which can run code; save its state_dict(), or name its registry tag"
    if isinstance(error, pickle.UnpicklingError):
        return "holds objects besides tensors, which could run code; save the state_dict alone"
    return f"is not a whole checkpoint: {' '.join(text.split())[:200] or type(error).__name__}"


def file_says(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Activation and preprocessing that a file declares: `quick_gelu` with `where` it says so, and `preprocessing`.

    Looks at open_clip's `open_clip_config.json` beside it, a configuration inside it, a run name inside it that ends in
    `-quickgelu` (open_clip's training writes `model_ARCH` into the name; one without the suffix proves nothing, as
    `--force-quick-gelu` and a start from OpenAI's weights leave it out), and the numbers that mark OpenAI's own
    archives. Empty where nothing is said.
    """
    said: dict[str, Any] = {}
    beside = path.parent / "open_clip_config.json"
    if beside.is_file():
        try:
            config = read_json(beside, finite=True, largest=LARGEST_TEXT)
            said["quick_gelu"] = bool(config.get("model_cfg", config).get("quick_gelu", False))
            said["where"] = beside.name
            said["preprocessing"] = config.get("preprocess_cfg", {})
        except (ValueError, AttributeError, TypeError) as error:
            raise RequestError(
                f"{beside} is not a configuration of open_clip: {error}; mend it or move it away"
            ) from error
    weights = content.get("state_dict", {})
    for key in ("model_cfg", "config"):
        inside = content.get(key)
        if isinstance(inside, dict) and "quick_gelu" in inside:
            said.update(quick_gelu=bool(inside["quick_gelu"]), where=f"{key} in {path.name}")
    if re.search(r"model_[A-Za-z0-9_-]+?-quickgelu-(?:lr|b)_", str(content.get("name", ""))):
        said.update(quick_gelu=True, where=f"the run name in {path.name}")
    if weights.keys() >= _OPENAI_KEYS:
        said.update(quick_gelu=True, where=f"{path.name}, an archive of OpenAI's,")
    return said


def check_grids(network: torch.nn.Module, content: dict[str, Any], path: Path, arch: str) -> None:
    """Refuse weights of another image size or context length: open_clip would resize their position embeddings
    silently.

    Raises:
        RequestError: a table of position embeddings of another length than the network's.
    """
    weights, own = content["state_dict"], network.state_dict()
    for key, what in (
        ("visual.positional_embedding", "image patches"),
        ("positional_embedding", "text positions"),
        ("text.positional_embedding", "text positions"),
    ):
        stored, built = weights.get(key), own.get(key, own.get(f"text.{key}"))
        if stored is not None and built is not None and stored.shape != built.shape:
            raise RequestError(
                f"{path} was trained with {stored.shape[0]} {what} and {arch} has {built.shape[0]}; "
                "name the architecture of that size"
            )
