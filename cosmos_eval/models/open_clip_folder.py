"""`open_clip:local-dir:DIR`: a folder with `open_clip_config.json` and weights, the layout of open_clip's hub copies.

The file of weights has one of the names that open_clip's factory looks for. If the configuration names a tokenizer of
transformers, its files are in the same folder.
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
from cosmos_eval.models.open_clip_compat import why_no_dual_encoder

CONFIG = "open_clip_config.json"
WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
)
"""Names in the order in which open_clip looks for them."""
SUFFIXES = (".safetensors", ".bin", ".pth")


TOKENIZER_SETTINGS = frozenset(
    (
        "add_bos_token", "add_eos_token", "add_prefix_space", "additional_special_tokens", "clean", "do_lower_case",
        "language", "legacy", "padding_side", "reduction_mask", "src_lang", "strip_sep_token", "tgt_lang",
        "truncation_side", "use_fast",
    )
)  # fmt: skip
"""What `tokenizer_kwargs` may set. open_clip passes all of it to transformers, where other keys run code of the folder
(`trust_remote_code`) or read other files."""
TIMM_SETTINGS = frozenset(
    ("depth", "dynamic_img_size", "embed_dim", "img_size", "init_values", "num_heads", "patch_size")
)
"""What `timm_model_kwargs` (open_clip 4) may set; other keys of timm read files."""
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


@dataclass(frozen=True)
class OpenClipFolder:
    """The configuration of a folder, and its file of weights, which is not read yet."""

    path: Path
    config: dict[str, Any]
    """open_clip's `model_cfg`."""
    preprocessing: dict[str, Any]
    """open_clip's `preprocess_cfg`."""
    weights: Path

    def describe_architecture(self) -> str:
        """The architecture in a few words, for one that is not in open_clip's registry."""
        vision = self.config["vision_cfg"]
        if vision.get("timm_model_name"):
            return f"open_clip with {vision['timm_model_name']}"
        return f"open_clip {vision.get('layers', 12)}x{vision.get('width', 768)}/{vision.get('patch_size', 16)}"

    def check_sizes(self, state: Mapping[str, Tensor], spec: str) -> None:
        """RequestError if open_clip's own towers have other sizes in the configuration than in the weights.

        Checked before anything is built, so that a wrong size in a configuration does not use up all memory. Towers of
        timm and transformers are not checked, nor is a ResNet.
        """
        vision, text = self.config["vision_cfg"], self.config["text_cfg"]
        sizes: list[tuple[str, Any, int | None]] = []  # key, size in the configuration, size in the weights
        if not vision.get("timm_model_name") and not isinstance(vision.get("layers"), list):
            sizes += [
                ("vision_cfg.layers", vision.get("layers", 12), count_layers(state, r"visual\.transformer\.")),
                ("vision_cfg.width", vision.get("width", 768), first_size(state, "visual.conv1.weight")),
            ]
        if not text.get("hf_model_name"):
            vocabulary_size = first_size(state, "token_embedding.weight", "text.token_embedding.weight")
            width = first_size(state, "ln_final.weight", "text.ln_final.weight")
            sizes += [
                ("text_cfg.layers", text.get("layers", 12), count_layers(state, r"(text\.)?transformer\.")),
                ("text_cfg.vocab_size", text.get("vocab_size", 49408), vocabulary_size),
                ("text_cfg.width", text.get("width", 512), width),
            ]
        for key, configured, stored in sizes:
            if stored is not None and configured != stored:
                raise RequestError(
                    f"{spec}: {self.weights.name} does not fit {CONFIG}: it has {stored} where {key} says "
                    f"{short_repr(configured)}; they belong to different models"
                )


def read_folder(path: Path, spec: str) -> OpenClipFolder:
    """Read the configuration of a folder and find its file of weights.

    Raises:
        RequestError: no such folder, no configuration, one that is not open_clip's or has sizes beyond reason, no or
            several files of weights.
    """
    if not path.is_dir():
        problem = "is a file" if path.exists() else "does not exist"
        raise RequestError(f"{spec}: the folder {path} {problem}; give a folder with {CONFIG} and weights")
    if not (path / CONFIG).exists():
        is_transformers = (path / "config.json").exists()
        hint = f"; it has transformers' config.json: write hf:{path}" if is_transformers else ""
        raise RequestError(f"{spec}: {path} has no {CONFIG}{hint or ', which says how to build the model'}")
    content = read_json(path / CONFIG)
    config = content.get("model_cfg") if isinstance(content, dict) else None
    preprocessing = content.get("preprocess_cfg", {}) if isinstance(content, dict) else None
    if not isinstance(config, dict) or not isinstance(preprocessing, dict):
        raise RequestError(f"{spec}: {path / CONFIG} is not open_clip's: model_cfg and preprocess_cfg must be mappings")
    problem = find_config_problem(config)
    if problem:
        raise RequestError(f"{spec}: {path / CONFIG}: {problem}")
    return OpenClipFolder(path, config, preprocessing, find_weights(path, spec))


def find_weights(folder: Path, spec: str) -> Path:
    """The file of weights that open_clip would read; RequestError if there is none, or if open_clip would guess."""
    files = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)
    for name in WEIGHTS:
        if folder / name in files:
            return folder / name
    if len(files) == 1:
        return files[0]
    if files:
        names = ", ".join(path.name for path in files[:3])
        raise RequestError(
            f"{spec}: {folder} has {len(files)} files of weights ({names}); rename one of them to {WEIGHTS[0]}"
        )
    raise RequestError(f"{spec}: {folder} has no weights; put {WEIGHTS[0]} or {WEIGHTS[2]} there")


def find_config_problem(config: dict[str, Any]) -> str:
    """Why a `model_cfg` must not be built, in a few words; empty if nothing is wrong.

    Sizes must be whole numbers up to `MAX_COUNTS`. Names of timm and transformers models must not hold a colon, which
    would make these libraries read another folder or hub repository.
    """
    reason = why_no_dual_encoder(config)
    if reason:
        return f"this is not a model of images and texts that can be read: {reason}"
    towers = {key: config.get(key) for key in ("vision_cfg", "text_cfg")}
    missing = [key for key, tower in towers.items() if not isinstance(tower, dict)]
    if missing:
        return f"model_cfg has no {missing[0]}"
    sizes: list[tuple[str, Any, int]] = [("embed_dim", config.get("embed_dim"), LARGEST_EMBEDDING)]
    for part, tower in towers.items():
        for key, largest in MAX_COUNTS.items():
            value = tower.get(key, 1) if tower else 1
            if isinstance(value, list) and 0 < len(value) < 10:  # height and width of images, or layers of a ResNet
                sizes += [(f"{part}.{key}", item, largest) for item in value]
            elif value is not None or key != "patch_size":  # null for a ResNet
                sizes.append((f"{part}.{key}", value, largest))
    for key, value, largest in sizes:
        if type(value) is not int or not 0 < value <= largest:
            return f"{key} is {short_repr(value)}, not a whole number from 1 to {largest:,}"
    for part, key in (("vision_cfg", "timm_model_name"), ("text_cfg", "hf_model_name")):
        name = config[part].get(key)
        if name is not None and (not isinstance(name, str) or ":" in name):
            return f"{part}.{key} is {short_repr(name)}, not a name of its library"
    for key in ("hf_model_name", "hf_tokenizer_name"):  # a path would be read from anywhere on this machine
        name = config["text_cfg"].get(key) or "x"
        if not isinstance(name, str) or not HUB_NAME.fullmatch(name) or ".." in name:
            return f"text_cfg.{key} is {short_repr(name)}, not the name of a repository on the hub"
    settings = config["text_cfg"].get("tokenizer_kwargs") or {}
    unknown = sorted(map(str, set(settings) - TOKENIZER_SETTINGS)) if isinstance(settings, dict) else ["a list or text"]
    if unknown:
        return f"text_cfg.tokenizer_kwargs has {short_repr(unknown[0])}, which is not used: remove it"
    if (
        config["vision_cfg"].get("timm_model_kwargs")
        and not set(config["vision_cfg"]["timm_model_kwargs"]) <= TIMM_SETTINGS
    ):
        return "vision_cfg.timm_model_kwargs has more than settings of sizes, which is not used: remove it"
    return ""


def count_layers(state: Mapping[str, Tensor], prefix: str) -> int | None:
    """The number of transformer layers behind a prefix, which is a pattern; None if the state dict has none there."""
    pattern = re.compile(prefix + r"resblocks\.(\d+)\.")
    numbers = {int(match.groups()[-1]) for match in map(pattern.match, state) if match}
    return max(numbers) + 1 if numbers else None


def first_size(state: Mapping[str, Tensor], *keys: str) -> int | None:
    """The size of the first dimension of the first of these tensors that exists; None if none does."""
    return next((state[key].shape[0] for key in keys if key in state and state[key].ndim), None)
