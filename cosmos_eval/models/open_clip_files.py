"""What a checkpoint file of open_clip says about itself, read without running anything that is in it."""

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

# OpenAI's own archives carry these three numbers among the weights; nothing else does, and all of them use QuickGELU.
OPENAI_KEYS = {"input_resolution", "context_length", "vocab_size"}


def peek(path: Path, check: bool = True) -> dict[str, Any]:
    """The top level of a checkpoint, its weights under `state_dict` without wrappers' prefixes, memory-mapped where
    that works.

    Raises:
        RequestError: as `cosmos_core.tensor_files.read_tensors`; or no weights of a model in it.
    """
    file = read_tensors(path, check)
    content = file.content
    if file.metadata is not None:
        return {**file.metadata, "state_dict": without_wrappers(content, path)}
    if not isinstance(content, dict):
        raise RequestError(f"{path} holds a {type(content).__name__}, not the weights of a model")
    if isinstance(content.get("student", content.get("teacher")), dict):
        raise RequestError(f"{path} is of a COSMOS training (it holds student or teacher): use cosmos:{path}")
    weights = content.get("state_dict", content)
    if not isinstance(weights, dict) or not any(isinstance(value, Tensor) for value in weights.values()):
        keys = ", ".join(one_line(key, 40) for key in list(content)[:5])
        raise RequestError(f"{path} holds {keys or 'nothing'}, not the weights of a model")
    rest = {str(key): value for key, value in content.items() if key != "state_dict"} if weights is not content else {}
    return {**rest, "state_dict": without_wrappers(weights, path)}


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
        except RequestError as error:
            what = f"{beside} is not a configuration of open_clip"
            raise RequestError(f"{what} ({error}); mend it or move it away") from error
        model = config.get("model_cfg", config) if isinstance(config, dict) else None
        if not isinstance(model, dict) or not isinstance(config.get("preprocess_cfg", {}), dict):
            raise RequestError(f"{beside} is not a configuration of open_clip; mend it or move it away")
        said["quick_gelu"] = bool(model.get("quick_gelu", False))
        said["where"] = beside.name
        said["preprocessing"] = config.get("preprocess_cfg", {})
    weights = content.get("state_dict", {})
    for key in ("model_cfg", "config"):
        inside = content.get(key)
        if isinstance(inside, dict) and "quick_gelu" in inside:
            said.update(quick_gelu=bool(inside["quick_gelu"]), where=f"{key} in {path.name}")
    if re.search(r"model_[A-Za-z0-9_-]+?-quickgelu-(?:lr|b)_", str(content.get("name", ""))):
        said.update(quick_gelu=True, where=f"the run name in {path.name}")
    if weights.keys() >= OPENAI_KEYS:
        said.update(quick_gelu=True, where=f"{path.name}, an archive of OpenAI's,")
    return said
