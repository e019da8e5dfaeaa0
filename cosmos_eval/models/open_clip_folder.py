"""`open_clip:local-dir:DIR`: a folder with `open_clip_config.json` and weights, as open_clip's copies on the hub have.

The file of weights has one of the names that open_clip's factory looks for; the tokenizer, where the configuration
names one of transformers', lies in the same folder.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from cosmos_core.configs import LARGEST_EMBEDDING, MAX_COUNTS
from cosmos_core.errors import RequestError
from cosmos_core.json_text import read_json
from cosmos_core.short_repr import short_repr

CONFIG = "open_clip_config.json"
NAMES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
)
"""What open_clip looks for, in its order."""
ENDINGS = (".safetensors", ".bin", ".pth")


@dataclass(frozen=True)
class Folder:
    """What a folder holds."""

    path: Path
    config: dict[str, Any]
    """open_clip's `model_cfg`."""
    preprocessing: dict[str, Any]
    """Its `preprocess_cfg`."""
    weights: Path

    def described(self) -> str:
        """The architecture in words, where no name is known for it."""
        vision = self.config["vision_cfg"]
        if vision.get("timm_model_name"):
            return f"open_clip with {vision['timm_model_name']}"
        return f"open_clip {vision.get('layers', 12)}x{vision.get('width', 768)}/{vision.get('patch_size', 16)}"

    def refuse_other_sizes(self, state: Mapping[str, Tensor], spec: str) -> None:
        """RequestError where open_clip's own towers in the configuration are not those of the weights; looked at before
        anything is built, so that no size in a file decides how much memory is taken."""
        vision, text = self.config["vision_cfg"], self.config["text_cfg"]
        pairs: list[tuple[str, Any, int | None]] = []
        if not vision.get("timm_model_name") and not isinstance(vision.get("layers"), list):
            pairs.append(("vision_cfg.layers", vision.get("layers", 12), blocks(state, r"visual\.transformer\.")))
            pairs.append(("vision_cfg.width", vision.get("width", 768), first_size(state, "visual.conv1.weight")))
        if not text.get("hf_model_name"):
            pairs.append(("text_cfg.layers", text.get("layers", 12), blocks(state, r"(text\.)?transformer\.")))
            words = first_size(state, "token_embedding.weight", "text.token_embedding.weight")
            pairs.append(("text_cfg.vocab_size", text.get("vocab_size", 49408), words))
            width = first_size(state, "ln_final.weight", "text.ln_final.weight")
            pairs.append(("text_cfg.width", text.get("width", 512), width))
        for key, said, stored in pairs:
            if stored is not None and said != stored:
                raise RequestError(
                    f"{spec}: {self.weights.name} does not load by {CONFIG}: it has {stored} where {key} says "
                    f"{short_repr(said)}; they belong to different models"
                )


def read_folder(path: Path, spec: str) -> Folder:
    """The configuration and the file of weights in a folder; the weights are not read.

    Raises:
        RequestError: no such folder, no configuration, one that is not open_clip's or asks for sizes beyond reason, no
            or several files of weights.
    """
    if not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise RequestError(f"{spec}: the folder {path} {what}; give a folder with {CONFIG} and weights")
    if not (path / CONFIG).exists():
        theirs = "; it has transformers' config.json: write hf:" + str(path) if (path / "config.json").exists() else ""
        raise RequestError(f"{spec}: {path} has no {CONFIG}{theirs or ', which says how to build the model'}")
    content = read_json(path / CONFIG)
    config = content.get("model_cfg") if isinstance(content, dict) else None
    preprocessing = content.get("preprocess_cfg", {}) if isinstance(content, dict) else None
    if not isinstance(config, dict) or not isinstance(preprocessing, dict):
        raise RequestError(f"{spec}: {path / CONFIG} is not open_clip's: model_cfg and preprocess_cfg must be maps")
    problem = why_not(config)
    if problem:
        raise RequestError(f"{spec}: {path / CONFIG}: {problem}")
    return Folder(path, config, preprocessing, weights_file(path, spec))


def weights_file(folder: Path, spec: str) -> Path:
    """The file of weights that open_clip would take; RequestError where there is none, or open_clip would guess."""
    files = sorted(path for path in folder.iterdir() if path.suffix in ENDINGS)
    for name in NAMES:
        if folder / name in files:
            return folder / name
    if len(files) == 1:
        return files[0]
    if files:
        names = ", ".join(path.name for path in files[:3])
        raise RequestError(f"{spec}: {folder} has {len(files)} files of weights ({names}); call one of them {NAMES[0]}")
    raise RequestError(f"{spec}: {folder} has no weights; put {NAMES[0]} or {NAMES[2]} there")


def why_not(config: dict[str, Any]) -> str:
    """Why a `model_cfg` cannot be built here, in a few words; empty where it can."""
    towers = {key: config.get(key) for key in ("vision_cfg", "text_cfg")}
    lacking = [key for key, tower in towers.items() if not isinstance(tower, dict)]
    if lacking:
        return f"model_cfg has no {lacking[0]}"
    numbers: list[tuple[str, Any, int]] = [("embed_dim", config.get("embed_dim"), LARGEST_EMBEDDING)]
    for part, tower in towers.items():
        for key, largest in MAX_COUNTS.items():
            value = tower.get(key, 1) if tower else 1
            if isinstance(value, list) and 0 < len(value) < 10:  # sides of images, layers of a ResNet
                numbers += [(f"{part}.{key}", item, largest) for item in value]
            elif value is not None or key != "patch_size":  # a ResNet has none
                numbers.append((f"{part}.{key}", value, largest))
    for key, value, largest in numbers:
        if type(value) is not int or not 0 < value <= largest:
            return f"{key} is {short_repr(value)}, not a whole number from 1 to {largest:,}"
    for part, key in (("vision_cfg", "timm_model_name"), ("text_cfg", "hf_model_name")):
        name = config[part].get(key)
        if name is not None and (not isinstance(name, str) or ":" in name):
            return f"{part}.{key} is {short_repr(name)}, not a name of its library"
    return ""


def blocks(state: Mapping[str, Tensor], prefix: str) -> int | None:
    """How many transformer blocks stand in a state dict behind a prefix; None where it has another layout."""
    pattern = re.compile(prefix + r"resblocks\.(\d+)\.")
    numbers = {int(found[len(found.groups())]) for key in state if (found := pattern.match(key))}
    return max(numbers) + 1 if numbers else None


def first_size(state: Mapping[str, Tensor], *keys: str) -> int | None:
    """The first size of the first of these tensors that is there."""
    return next((state[key].shape[0] for key in keys if key in state and state[key].ndim), None)
