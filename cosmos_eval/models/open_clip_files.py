"""Reading checkpoint files of open_clip: the weights, and what a file says about its activation and preprocessing.

Nothing in a file is executed.
"""

import re
from pathlib import Path
from typing import Any

from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_core.json_text import read_json
from cosmos_core.layouts import without_wrappers
from cosmos_core.printable import one_line
from cosmos_core.tensor_files import read_tensors
from cosmos_core.text_files import LARGEST_TEXT

OPENAI_KEYS = {"input_resolution", "context_length", "vocab_size"}
"""Numbers that OpenAI's own archives hold among the weights. No other checkpoints have them, and all of OpenAI's models
use QuickGELU."""
QUICK_GELU_RUN_NAME = re.compile(r"model_[A-Za-z0-9_-]+?-quickgelu-(?:lr|b)_")
"""Matches the default name of an open_clip training run, if its architecture ends in `-quickgelu`."""


def read_open_clip_checkpoint(path: Path, check: bool = True) -> dict[str, Any]:
    """Read a checkpoint: its top level, with the weights under `state_dict`.

    Prefixes that wrappers such as DataParallel add to the names of weights are removed. Weights are memory-mapped if
    the file's format allows it.

    Args:
        check: compare the file with its checksums; see `cosmos_core.tensor_files.read_tensors`.

    Raises:
        RequestError: as `read_tensors`, or the file does not hold the weights of a model.
    """
    file = read_tensors(path, check)
    content = file.content
    if file.metadata is not None:  # a safetensors file: all of it is weights
        return {**file.metadata, "state_dict": without_wrappers(content, path)}
    if not isinstance(content, dict):
        raise RequestError(f"{path} holds a {type(content).__name__}, not the weights of a model")
    if isinstance(content.get("student", content.get("teacher")), dict):
        raise RequestError(f"{path} is a COSMOS training checkpoint (it holds student or teacher): use cosmos:{path}")
    weights = content.get("state_dict", content)
    if not isinstance(weights, dict) or not any(isinstance(value, Tensor) for value in weights.values()):
        keys = ", ".join(one_line(key, 40) for key in list(content)[:5])
        raise RequestError(f"{path} holds {keys or 'nothing'}, not the weights of a model")
    is_bare_state_dict = weights is content
    rest = {} if is_bare_state_dict else {str(key): value for key, value in content.items() if key != "state_dict"}
    return {**rest, "state_dict": without_wrappers(weights, path)}


def find_declared_settings(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Find the activation and preprocessing that a checkpoint declares.

    Looked at are, each overruling those before it:

    1. `open_clip_config.json` beside the file;
    2. a configuration in the file, under `model_cfg` or `config`;
    3. a run name in the file that ends in `-quickgelu`: open_clip's training writes `model_ARCH` into it. A name
       without the suffix proves nothing, because `--force-quick-gelu` and a start from OpenAI's weights do not
       change the name;
    4. the numbers that mark OpenAI's own archives.

    Args:
        content: the checkpoint as `read_open_clip_checkpoint` returns it; empty to look beside the file only.

    Returns:
        `quick_gelu` (bool) and `declared_in` (the place that says so, for messages), if any does; `preprocessing`
        (open_clip's `preprocess_cfg`), if there is a file beside the checkpoint. Empty if nothing is declared.

    Raises:
        RequestError: `open_clip_config.json` is not a configuration of open_clip.
    """
    declared: dict[str, Any] = {}
    config_path = path.parent / "open_clip_config.json"
    if config_path.is_file():
        try:
            config = read_json(config_path, finite=True, largest=LARGEST_TEXT)
        except RequestError as error:
            raise RequestError(
                f"{config_path} is not a configuration of open_clip ({error}); correct it or move it away"
            ) from error
        model = config.get("model_cfg", config) if isinstance(config, dict) else None
        if not isinstance(model, dict) or not isinstance(config.get("preprocess_cfg", {}), dict):
            raise RequestError(f"{config_path} is not a configuration of open_clip; correct it or move it away")
        declared["quick_gelu"] = bool(model.get("quick_gelu", False))
        declared["declared_in"] = config_path.name
        declared["preprocessing"] = config.get("preprocess_cfg", {})
    for key in ("model_cfg", "config"):
        config_in_file = content.get(key)
        if isinstance(config_in_file, dict) and "quick_gelu" in config_in_file:
            declared.update(quick_gelu=bool(config_in_file["quick_gelu"]), declared_in=f"{key} in {path.name}")
    if QUICK_GELU_RUN_NAME.search(str(content.get("name", ""))):
        declared.update(quick_gelu=True, declared_in=f"the run name in {path.name}")
    if content.get("state_dict", {}).keys() >= OPENAI_KEYS:
        declared.update(quick_gelu=True, declared_in=f"{path.name}, an archive of OpenAI's,")
    return declared
