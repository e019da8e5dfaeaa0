"""The files of a folder that `save_pretrained` wrote: there, whole, and of one model, before transformers reads them.

transformers fills in what is missing: random weights with a warning, a tokenizer of two tokens without one.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors

from cosmos_core.errors import RequestError
from cosmos_core.file_checks import require_file
from cosmos_core.json_text import read_json
from cosmos_core.printable import one_line
from cosmos_core.short_repr import short_repr
from cosmos_core.tensor_files import read_tensors
from cosmos_eval.models.tokenizer_checks import has_tokenizer, require_tokenizer_files

FAMILIES = ("clip", "siglip")
CONFIG = "config.json"
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""In the order in which transformers looks for them."""
LARGEST = {
    "num_hidden_layers": 512,
    "num_attention_heads": 4096,
    "hidden_size": 65536,
    "intermediate_size": 2**20,
    "projection_dim": 65536,
    "vocab_size": 2**24,
    "max_position_embeddings": 2**16,
    "image_size": 8192,
    "patch_size": 8192,
}
"""Of a configuration: ten times what any published model has."""


def is_whole(folder: Path) -> bool:
    """Whether a folder has files of each kind that a model needs; whether they are good is not looked at."""
    kinds = ((CONFIG,), PROCESSORS, WEIGHTS)
    return has_tokenizer(folder) and all(any((folder / name).exists() for name in names) for names in kinds)


def check_folder(folder: Path, spec: str, check: bool = True) -> None:
    """RequestError unless a folder holds configuration, image processor, tokenizer and whole weights of a model.

    Args:
        check: compare weights with their checksums; see `cosmos_core.tensor_files.read_tensors`.
    """
    config = read_model_config(folder, spec)
    processor = next((folder / name for name in PROCESSORS if (folder / name).exists()), None)
    if processor is None:
        raise RequestError(
            f"{spec}: {folder} has no {PROCESSORS[0]}; put this model's there (processor.save_pretrained writes it)"
        )
    read_json(processor)
    require_tokenizer_files(folder, spec)
    check_weights(folder, spec, config, check)


def read_model_config(folder: Path, spec: str) -> dict[str, Any]:
    """The content of config.json.

    Raises:
        RequestError: it is missing, not JSON, of another kind of model, or asks for sizes beyond reason.
    """
    if not (folder / CONFIG).exists():
        theirs = (folder / "open_clip_config.json").exists()
        hint = f"; it is a folder of open_clip: write open_clip:local-dir:{folder}" if theirs else ""
        raise RequestError(f"{spec}: {folder} has no {CONFIG}, so it is no folder of save_pretrained{hint}")
    config = read_json(folder / CONFIG)
    if not isinstance(config, dict):
        raise RequestError(f"{spec}: {folder / CONFIG} holds a {type(config).__name__}, not a configuration")
    refuse_other_family(config.get("model_type"), spec)
    for part in ("text_config", "vision_config"):
        tower = config.get(part)
        if tower is not None and not isinstance(tower, dict):
            raise RequestError(f"{spec}: {folder / CONFIG}: {part} is a {type(tower).__name__}, not a map")
        for key, value in {**config, **(tower or {})}.items():
            if key in LARGEST and value is not None and not (type(value) is int and 0 < value <= LARGEST[key]):
                raise RequestError(
                    f"{spec}: {folder / CONFIG}: {key} is {short_repr(value)}, not a whole number from 1 to "
                    f"{LARGEST[key]:,}"
                )
    return config


def refuse_other_family(kind: object, spec: str) -> None:
    """RequestError unless a `model_type` is one that is read here."""
    if kind not in FAMILIES:
        raise RequestError(
            f"{spec} is a {one_line(kind, 60)} model; this adapter reads {' and '.join(FAMILIES)} of one "
            "image size: write a python: adapter for it"
        )


def check_weights(folder: Path, spec: str, config: Mapping[str, Any] | None = None, check: bool = True) -> None:
    """RequestError unless the files of weights that transformers would take are there, whole, and of the sizes that
    `config` says."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path in weight_files(folder, spec):
        shapes.update(shapes_in(path, check))
    if config is not None and shapes:
        refuse_other_sizes(shapes, config, f"{spec}: {folder}")


def weight_files(folder: Path, spec: str) -> list[Path]:
    """The files that transformers would read."""
    name = next((name for name in WEIGHTS if (folder / name).exists()), None)
    if name is None:
        raise RequestError(f"{spec}: {folder} has no weights; put {WEIGHTS[0]} or {WEIGHTS[2]} there")
    if not name.endswith(".json"):
        return [folder / name]
    index = read_json(folder / name)
    parts = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(parts, dict) or not all(isinstance(part, str) for part in parts.values()):
        raise RequestError(f"{spec}: {folder / name} is no index of weights: it has no weight_map of file names")
    files = sorted(set(parts.values()))
    odd = [file for file in files if Path(file).name != file]
    if odd:
        raise RequestError(f"{spec}: {folder / name} names {one_line(odd[0])}, which is not a file beside it")
    return [folder / file for file in files]


def shapes_in(path: Path, check: bool) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors in a file; of safetensors the values are not read."""
    if path.suffix != ".safetensors":
        content = read_tensors(path, check).content
        state = content if isinstance(content, Mapping) else {}
        return {str(key): tuple(value.shape) for key, value in state.items() if hasattr(value, "shape")}
    require_file(path, "checkpoint", "copy or download it")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    except Exception as error:  # damage can make the reader fail in any way
        raise RequestError(
            f"{path} is not a whole safetensors file ({one_line(error)}); copy or download it again"
        ) from error


def refuse_other_sizes(shapes: Mapping[str, tuple[int, ...]], config: Mapping[str, Any], where: str) -> None:
    """RequestError where the weights have another number of layers or another width than the configuration."""
    for part, tower, embedding in (
        ("text_config", "text_model", "token_embedding"),
        ("vision_config", "vision_model", "patch_embedding"),
    ):
        said = config.get(part)
        if not isinstance(said, Mapping):
            continue
        layers = [re.match(rf"{tower}\.encoder\.layers\.(\d+)\.", key) for key in shapes]
        numbers = {int(found[1]) for found in layers if found}
        shape = shapes.get(f"{tower}.embeddings.{embedding}.weight")
        width = shape[-1] if embedding == "token_embedding" and shape else shape[0] if shape else None
        positions = shapes.get(f"{tower}.embeddings.position_embedding.weight")
        for key, stored in (
            ("num_hidden_layers", max(numbers) + 1 if numbers else None),
            ("hidden_size", width),
            ("vocab_size", shape[0] if embedding == "token_embedding" and shape else None),
            ("max_position_embeddings", positions[0] if embedding == "token_embedding" and positions else None),
        ):
            if stored is not None and key in said and said[key] != stored:
                told = f"{part}.{key} {short_repr(said[key])}"
                raise RequestError(
                    f"{where}: the weights have {stored:,} where {CONFIG} says {told}; they belong to different models"
                )
