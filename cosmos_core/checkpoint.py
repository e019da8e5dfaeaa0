"""Checkpoints: loading a model from a file or a released name, and writing checkpoints atomically.

Our files have the original's keys (`epoch`, `name`, `student`, `teacher`, `optimizer`) and the model's `config`, so
that either project reads the other's files. A file without a config is matched to a preset by the shapes of its
weights.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn
from torch.optim import Optimizer

from cosmos_core import released
from cosmos_core.configs import PRESETS, Config, checked, find_config_problem, grid_of, preset
from cosmos_core.errors import RequestError
from cosmos_core.file_checks import user_path
from cosmos_core.files import atomic_path
from cosmos_core.layouts import NetworkName, StoredWeights, read_file, read_state, without_wrappers
from cosmos_core.model import COSMOS
from cosmos_core.positions import resize_image_positions, resize_text_positions
from cosmos_core.printable import one_line
from cosmos_core.tensor_files import describe_unusual_tensor
from cosmos_core.weight_layouts import COSMOS as COSMOS_NAMES
from cosmos_core.weight_layouts import explain_other_library
from cosmos_core.yaml_text import read_yaml

__all__ = ["load_checkpoint", "load_weights", "read_file", "read_state", "save_checkpoint", "save_safetensors"]

IGNORED_BUFFERS = ("attn_mask",)
"""Buffers that some files hold and that are not loaded."""
POSITIONS = ("visual.positional_embedding", "positional_embedding")
"""Position embeddings, which may be resized."""


def load_checkpoint(
    path_or_name: Path | str, weights: NetworkName = "teacher", config: Config | Path | str | None = None
) -> COSMOS:
    """A model in eval mode, on the CPU in float32, from a checkpoint file or a released checkpoint's name.

    Args:
        path_or_name: a file in any layout of `cosmos_core.layouts`, or a name such as `vitb16-merged30m`, which is
            fetched through huggingface_hub unless its cache holds it; nothing else is ever downloaded.
        weights: `teacher` (what the paper reports) or `student`.
        config: the architecture, as a dict, a preset's name or the path of a JSON or YAML file; needed if the
            checkpoint has no config and no preset has its shapes. If its grid or context differs, position embeddings
            are resized.

    Raises:
        RequestError: one line that names the file and the reason: missing, truncated, not a checkpoint, objects that
            could run code, another architecture, missing or unexpected keys, weights that are not finite, no network.
    """
    path = user_path(path_or_name)
    release = released.RELEASED.get(str(path_or_name))
    if release and not path.is_file():
        path = released.fetch(release.name)
        config = config if config is not None else release.arch
    elif not path.exists() and path.suffix == "" and len(path.parts) == 1:
        raise unknown_name_error(path_or_name)
    stored = read_network(path, weights)
    if config is not None:
        model_config = read_config(config)
        state = resize_positions(stored.state, model_config, str(path), stored.config)
    else:
        state, model_config = stored.state, stored.config or find_preset(stored.state, path)
    return load_weights(model_config, state, str(path))


def check_checkpoint(path: Path, weights: NetworkName = "teacher") -> None:
    """Check by names and shapes whether `load_checkpoint` will load a file; the weights are not read.

    Raises:
        RequestError: as `load_checkpoint`, except for flipped bits and values that are not finite.
    """
    if not path.exists() and path.suffix == "" and len(path.parts) == 1:
        raise unknown_name_error(path)
    stored = read_network(path, weights, check=False)
    config = stored.config or find_preset(stored.state, path)
    build_matching_model(config, stored.state, str(path))


def read_network(path: Path, weights: NetworkName, check: bool = True) -> StoredWeights:
    """One network's weights from a file; RequestError also if their names are those of another library."""
    stored = read_state(path, weights, check)
    problem = explain_other_library(stored.state, COSMOS_NAMES)
    if problem:
        raise RequestError(f"{path} {problem}")
    return stored


def unknown_name_error(name: Path | str) -> RequestError:
    return RequestError(
        f"no checkpoint file {name}, and no released checkpoint with this name; "
        f"released: {', '.join(released.RELEASED)}"
    )


def build_matching_model(config: Mapping[str, Any], state: Mapping[str, Tensor], name: str) -> COSMOS:
    """A model on the meta device whose parameters match these weights; RequestError if they do not match."""
    model = build_on_meta(config, f"{name}: its config")
    problem = difference(model, state)
    if problem:
        raise RequestError(f"{name} does not fit its architecture: {problem}")
    require_dense_weights({key: state[key] for key in model.state_dict()}, name)
    return model


def load_weights(config: Mapping[str, Any], state: Mapping[str, Tensor], name: str) -> COSMOS:
    """A model in eval mode with exactly these weights, copied to float32; RequestError if they do not match."""
    model = build_matching_model(config, state, name)
    expected = model.state_dict()
    copied = {key: state[key].to(torch.float32, copy=True).contiguous() for key in expected}
    not_finite = next((key for key, value in copied.items() if not torch.isfinite(value).all()), None)
    if not_finite:
        raise RequestError(f"{name} is broken: {not_finite} holds NaN or infinite values")
    model.load_state_dict(copied, assign=True)
    length = model.context_length
    model.attn_mask = torch.full((length, length), -torch.inf).triu_(1)
    return model.eval()


def build_on_meta(config: Mapping[str, Any], what: str) -> COSMOS:
    """A model on the meta device: it takes no memory and draws no random numbers, since its weights are replaced.

    Raises:
        RequestError: `what` cannot carry COSMOS, or open_clip cannot build its towers.
    """
    model_config = checked(config, what)
    try:
        with torch.device("meta"):
            return COSMOS.from_config(model_config)
    except RequestError:
        raise
    except Exception as error:  # keyword arguments of activations and norms are passed to torch unchecked
        raise RequestError(f"{what} makes no model: {one_line(error)}") from error


def require_dense_weights(state: Mapping[str, Tensor], name: str) -> None:
    """RequestError that names the first tensor that is not dense real floating point."""
    for key, value in state.items():
        problem = describe_unusual_tensor(value)
        if not problem and not value.is_floating_point():
            problem = f"{str(value.dtype).removeprefix('torch.')}, not dense floating point"
        if problem:
            raise RequestError(f"{name} is not a checkpoint to load: {one_line(key)} is {problem}")


def difference(model: COSMOS, state: Mapping[str, Tensor]) -> str:
    """How weights differ from what a model needs, in a few words; empty if they match."""
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    missing = [key for key in expected if key not in state]
    extra = [key for key in state if key not in expected and key.split(".")[-1] not in IGNORED_BUFFERS]
    shapes = [
        f"{key} is {tuple(state[key].shape)}, not {shape}"
        for key, shape in expected.items()
        if key in state and tuple(state[key].shape) != shape
    ]
    if any("attn_cross_pool" in key for key in missing) and not any("attn_cross_pool" in key for key in state):
        return "it has no cross-attention poolers: a plain CLIP (open_clip:ARCH/FILE loads those), or no COSMOS at all"
    parts = [("missing keys", missing), ("unexpected keys", extra), ("other shapes", shapes)]
    return "; ".join(f"{title}: {a_few(names)}" for title, names in parts if names)


def a_few(names: list[str], count: int = 3) -> str:
    return ", ".join(one_line(name) for name in names[:count]) + (
        f" and {len(names) - count} more" if len(names) > count else ""
    )


def find_preset(state: Mapping[str, Tensor], path: Path | str) -> Config:
    """Return the preset with the shapes of these weights; RequestError with the nearest preset if there is none."""
    problems: dict[str, str] = {}
    nearness: dict[str, int] = {}
    for name, config in PRESETS.items():
        with torch.device("meta"):
            model = COSMOS.from_config(config)
        problems[name] = difference(model, state)
        if not problems[name]:
            return preset(name)
        nearness[name] = sum(
            key in state and state[key].shape == value.shape for key, value in model.state_dict().items()
        )
    nearest = max(nearness, key=lambda name: nearness[name])
    if nearness[nearest] * 2 > len(state):
        reason = f"it is nearest to {nearest}, but {problems[nearest]}"
    else:
        reason = f"it has the shapes of none of {', '.join(PRESETS)} ({shapes_in_words(state)})"
    raise RequestError(f"{path} carries no config and {reason}; give its architecture (config=) if it is a COSMOS")


def shapes_in_words(state: Mapping[str, Tensor]) -> str:
    """Return the parts of the architecture that the shapes of the weights show, as text."""
    words = [f"{len(state)} tensors"]
    for key, size, axis in (
        ("visual.conv1.weight", "image width", 0),
        ("visual.conv1.weight", "patch", -1),
        ("text_projection", "text width", 0),
        ("positional_embedding", "context", 0),
        ("token_embedding.weight", "vocabulary", 0),
    ):
        if key in state and state[key].ndim > 0:
            words.append(f"{size} {state[key].shape[axis]}")
    if not any("attn_cross_pool" in key for key in state):
        words.append("no cross-attention poolers")
    return ", ".join(words)


def read_config(config: Config | Path | str) -> Config:
    """A model configuration from a dict, a preset's name, or a JSON or YAML file."""
    if isinstance(config, Mapping):
        return dict(config)
    if str(config) in PRESETS:
        return preset(str(config))
    path = Path(config)
    if not path.is_file():
        raise RequestError(f"no model config {config}: neither a file nor one of {', '.join(PRESETS)}")
    try:
        content = read_yaml(path)  # JSON is YAML
    except RequestError as error:
        raise RequestError(f"{path} is not a model config: neither JSON nor YAML ({error})") from error
    if not isinstance(content, Mapping):
        raise RequestError(f"{path} is not a model config: it holds a {type(content).__name__}")
    return dict(content)


def resize_positions(
    state: Mapping[str, Tensor], config: Mapping[str, Any], name: str, stored_config: Mapping[str, Any] | None = None
) -> dict[str, Tensor]:
    """The weights, with position embeddings resized to the grid and context of `config` if those differ.

    Args:
        stored_config: the config that came with the weights, which has their grid. Without it, the wanted grid is
            assumed if the number of patches is equal, else a square.
    """
    result = dict(state)
    model = build_on_meta(config, f"the config for {name}")
    image, text = result.get("visual.positional_embedding"), result.get("positional_embedding")
    require_dense_weights({key: result[key] for key in POSITIONS if key in result}, name)
    grid = model.visual.grid_size
    if image is not None and image.ndim == 2:
        if len(image) < 2:
            raise RequestError(f"{name} is broken: {len(image)} position embeddings of images, none of a patch")
        stored_grid = (
            grid_of(stored_config) if stored_config is not None and not find_config_problem(stored_config) else None
        )
        stored_grid = stored_grid if stored_grid and stored_grid[0] * stored_grid[1] == len(image) - 1 else None
        if (stored_grid or grid) != grid or len(image) != 1 + grid[0] * grid[1]:
            try:
                result["visual.positional_embedding"] = resize_image_positions(image.float(), grid, stored_grid)
            except ValueError as error:
                raise RequestError(f"{name}: {error}, so they cannot be resized to {grid[0]} x {grid[1]}") from error
    if text is not None and text.ndim == 2:
        if not len(text):
            raise RequestError(f"{name} is broken: no position embeddings of texts")
        result["positional_embedding"] = resize_text_positions(text.float(), model.context_length)
    return result


def save_checkpoint(
    path: Path | str,
    *,
    config: Mapping[str, Any],
    student: nn.Module | Mapping[str, Tensor],
    teacher: nn.Module | Mapping[str, Tensor] | None,
    optimizer: Optimizer | Mapping[str, Any] | None,
    epoch: int,
    name: str,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write a training checkpoint atomically; `read_file` returns it as a dictionary.

    Args:
        path: the file; its folder is created if absent.
        config: the model's configuration (`model.config`).
        student, teacher, optimizer: the objects or their state dicts; wrappers' prefixes are removed; None: not saved.
        epoch: completed epochs.
        name: the run's name.
        extra: further entries by key, needed to resume; plain values and tensors only.

    Raises:
        TypeError: an entry is not a plain value or tensor, and could not be read back safely (names the entry).
        OSError: the disk is full or not writable; an existing file is kept.
    """
    content: dict[str, Any] = {"epoch": epoch, "name": name, "config": dict(config)}
    for key, network in (("student", student), ("teacher", teacher)):
        if network is not None:
            state = network.state_dict() if isinstance(network, nn.Module) else network
            content[key] = without_wrappers(state, Path(path))
    if optimizer is not None:
        content["optimizer"] = optimizer.state_dict() if isinstance(optimizer, Optimizer) else dict(optimizer)
    duplicates = content.keys() & (extra or {}).keys()
    if duplicates:
        raise TypeError(f"extra keys that a checkpoint has already: {', '.join(sorted(duplicates))}")
    content.update(extra or {})
    require_plain_values(content, "checkpoint")
    with atomic_path(path) as temporary:
        write_torch(content, temporary)


def write_torch(content: Mapping[str, Any], path: Path) -> None:
    """`torch.save` that raises OSError on a full disk, where torch itself raises RuntimeError."""
    with path.open("wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:  # raised when the archive is closed after a failed write
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def require_plain_values(value: Any, path: str) -> None:
    """TypeError if a value holds anything but plain values and tensors, which a safe reader would refuse."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            require_plain_values(key, f"{path}'s key {key!r}")
            require_plain_values(item, f"{path}/{key}")
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            require_plain_values(item, f"{path}/{i}")
    elif type(value) not in (type(None), bool, int, float, str, bytes) and not isinstance(value, Tensor):
        raise TypeError(
            f"{path} is a {type(value).__module__}.{type(value).__name__}; only plain values and tensors are saved"
        )


def save_safetensors(
    path: Path | str,
    model: COSMOS,
    dtype: torch.dtype = torch.float32,
    weights: NetworkName = "teacher",
    notes: Mapping[str, str] | None = None,
) -> None:
    """Write one model's weights and config as safetensors, atomically.

    Args:
        path: the file; its folder is created if absent.
        model: the network; its config is stored in the file's metadata.
        dtype: of matrices; float16 halves the file. Vectors and temperatures, which are small, stay float32. Loading
            always gives float32.
        weights: which network it is, so that asking the file for the other one is refused.
        notes: information for people (seed, command), stored in the metadata; no code reads it.
    """
    state = {
        key: value.detach().cpu().to(dtype if value.ndim > 1 else torch.float32).contiguous()
        for key, value in model.state_dict().items()
    }
    metadata = {**(notes or {}), "format": "pt", "config": json.dumps(model.config), "weights": weights}
    with atomic_path(path) as temporary:
        # not its save_file, which raises its own kind of error on a full disk
        temporary.write_bytes(to_safetensors(state, metadata))
