"""Checks of a folder that `save_pretrained` wrote: all files exist, are whole, and belong to one model.

They come before transformers reads the folder, because transformers replaces what is missing: weights by random ones
with a warning, a tokenizer by one of two tokens without a warning.
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
from cosmos_eval.models.hf_families import family_of
from cosmos_eval.models.hf_remote import remote_advice
from cosmos_eval.models.tokenizer_checks import has_tokenizer, require_tokenizer_files

CONFIG = "config.json"
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""Names in the order in which transformers looks for them."""
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
"""The largest accepted value of each size in a configuration: ten times that of any published model."""


def has_all_files(folder: Path) -> bool:
    """Whether a folder has every kind of file that a model needs; the files are not read."""
    alternatives = ((CONFIG,), PROCESSORS, WEIGHTS)
    return has_tokenizer(folder) and all(any((folder / name).exists() for name in names) for names in alternatives)


def check_folder(folder: Path, spec: str, check: bool = True, remote: bool = False) -> None:
    """RequestError unless a folder holds configuration, image processor, tokenizer and whole weights of one model.

    Args:
        check: compare weights with their checksums; see `cosmos_core.tensor_files.read_tensors`.
        remote: the model brings its own code, so that its family need not be known.
    """
    config = read_model_config(folder, spec, remote)
    processor = next((folder / name for name in PROCESSORS if (folder / name).exists()), None)
    if processor is None:
        raise RequestError(
            f"{spec}: {folder} has no {PROCESSORS[0]}; put this model's there (processor.save_pretrained writes it)"
        )
    read_json(processor)
    require_tokenizer_files(folder, spec)
    check_weights(folder, spec, config, check)


def read_model_config(folder: Path, spec: str, remote: bool = False) -> dict[str, Any]:
    """Read config.json.

    Raises:
        RequestError: it is missing or not JSON, the model is of another family or for another task, or a size in it
            exceeds `LARGEST`.
    """
    if not (folder / CONFIG).exists():
        is_open_clip = (folder / "open_clip_config.json").exists()
        hint = f"; it is a folder of open_clip: write open_clip:local-dir:{folder}" if is_open_clip else ""
        raise RequestError(f"{spec}: {folder} has no {CONFIG}, so save_pretrained did not write it{hint}")
    config = read_json(folder / CONFIG)
    if not isinstance(config, dict):
        raise RequestError(f"{spec}: {folder / CONFIG} holds a {type(config).__name__}, not a configuration")
    parts = ("text_config", "vision_config")
    if not remote:
        family = family_of(config, spec, remote_advice(config))
        parts = (family.text_part, family.image_part)
    for part in parts:
        tower = config.get(part)
        if tower is not None and not isinstance(tower, dict):
            raise RequestError(f"{spec}: {folder / CONFIG}: {part} is a {type(tower).__name__}, not a mapping")
        for key, value in {**config, **(tower or {})}.items():
            if key in LARGEST and value is not None and not (type(value) is int and 0 < value <= LARGEST[key]):
                raise RequestError(
                    f"{spec}: {folder / CONFIG}: {key} is {short_repr(value)}, not a whole number from 1 to "
                    f"{LARGEST[key]:,}"
                )
    return config


def check_weights(folder: Path, spec: str, config: Mapping[str, Any] | None = None, check: bool = True) -> None:
    """Check the files of weights that transformers would read.

    Args:
        config: if given, sizes in it are compared with the weights.
        check: compare weights with their checksums.

    Raises:
        RequestError: a file is missing or not whole, or the weights have other sizes than `config`.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for path in find_weight_files(folder, spec):
        shapes.update(read_shapes(path, check))
    if config is not None and shapes:
        check_sizes(shapes, config, f"{spec}: {folder}")


def find_weight_files(folder: Path, spec: str) -> list[Path]:
    """The files of weights that transformers would read: one file, or all that an index names.

    Raises:
        RequestError: there is none, or an index is damaged or names files in other folders.
    """
    name = next((name for name in WEIGHTS if (folder / name).exists()), None)
    if name is None:
        raise RequestError(f"{spec}: {folder} has no weights; put {WEIGHTS[0]} or {WEIGHTS[2]} there")
    if not name.endswith(".json"):
        return [folder / name]
    index = read_json(folder / name)
    file_of_tensor = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(file_of_tensor, dict) or not all(isinstance(file, str) for file in file_of_tensor.values()):
        raise RequestError(f"{spec}: {folder / name} is not an index of weights: it has no weight_map of file names")
    files = sorted(set(file_of_tensor.values()))
    elsewhere = [file for file in files if Path(file).name != file]
    if elsewhere:
        raise RequestError(f"{spec}: {folder / name} names {one_line(elsewhere[0])}, which is not a file beside it")
    return [folder / file for file in files]


def read_shapes(path: Path, check: bool) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors in a file, by name; of a safetensors file only the header is read."""
    if path.suffix != ".safetensors":
        content = read_tensors(path, check).content
        state = content if isinstance(content, Mapping) else {}
        return {str(key): tuple(value.shape) for key, value in state.items() if hasattr(value, "shape")}
    require_file(path, "checkpoint", "copy or download it")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    except Exception as error:  # a damaged file makes safetensors fail in any way
        raise RequestError(
            f"{path} is not a whole safetensors file ({one_line(error)}); copy or download it again"
        ) from error


def check_sizes(shapes: Mapping[str, tuple[int, ...]], config: Mapping[str, Any], where: str) -> None:
    """Compare the sizes of both towers in a configuration with the shapes of the weights.

    Args:
        where: spec and folder, for the message.

    Raises:
        RequestError: another number of layers, width, vocabulary or context length; names the first that differs.
    """
    for part, stored_sizes in (("text_config", text_sizes(shapes)), ("vision_config", vision_sizes(shapes))):
        tower = config.get(part)
        if not isinstance(tower, Mapping):
            continue
        for key, stored_size in stored_sizes.items():
            if stored_size is not None and key in tower and tower[key] != stored_size:
                configured = f"{part}.{key} {short_repr(tower[key])}"
                raise RequestError(
                    f"{where}: the weights have {stored_size:,} where {CONFIG} says {configured}; "
                    "they belong to different models"
                )


def text_sizes(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int | None]:
    """Sizes of the text tower by their key in its configuration; None if the tensor that shows a size is missing."""
    tokens = shapes.get("text_model.embeddings.token_embedding.weight")  # (vocabulary, width)
    positions = shapes.get("text_model.embeddings.position_embedding.weight")  # (context, width)
    return {
        "num_hidden_layers": count_layers(shapes, "text_model"),
        "hidden_size": tokens[-1] if tokens else None,
        "vocab_size": tokens[0] if tokens else None,
        "max_position_embeddings": positions[0] if positions else None,
    }


def vision_sizes(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int | None]:
    """Sizes of the image tower by their key in its configuration; None if the tensor that shows a size is missing."""
    patches = shapes.get("vision_model.embeddings.patch_embedding.weight")  # (width, 3, patch, patch)
    return {
        "num_hidden_layers": count_layers(shapes, "vision_model"),
        "hidden_size": patches[0] if patches else None,
    }


def count_layers(shapes: Mapping[str, tuple[int, ...]], tower: str) -> int | None:
    """The number of transformer layers of a tower by the numbers in tensor names, None if no name has one."""
    matches = [re.match(rf"{tower}\.encoder\.layers\.(\d+)\.", key) for key in shapes]
    numbers = [int(match[1]) for match in matches if match]
    return max(numbers) + 1 if numbers else None
