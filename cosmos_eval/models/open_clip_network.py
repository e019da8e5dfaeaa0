"""open_clip's networks: built without weights, then filled with the weights of a file after each tensor was checked.

open_clip's own loader is not used for files: it reads the file itself (without a checksum, and with other rules for
prefixes), resizes position embeddings without a warning, and copies integers into floating-point weights.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import Tensor, nn

from cosmos_core.checkpoint import a_few
from cosmos_core.configs import checked
from cosmos_core.errors import RequestError
from cosmos_core.initial_weights import InitialWeights
from cosmos_core.weight_layouts import OPEN_CLIP, explain_other_library
from cosmos_eval.models.open_clip_compat import convert_state_dict, convert_to_custom_text_state_dict, text_config
from cosmos_eval.models.open_clip_files import OPENAI_KEYS
from cosmos_eval.models.open_clip_text import advise_on_text_tower, text_library
from cosmos_eval.models.returned_values import format_error
from cosmos_eval.models.spec import LOCAL_DIR

INITIAL_VALUES = ("init_logit_scale", "init_logit_bias", "custom_text")
"""Keys of a configuration that do not say which towers a filled network has."""
POSITION_IDS = "position_ids"
"""A buffer in old files; newer versions compute it."""


class TextTowerError(RequestError):
    """The configuration of a text tower of transformers is neither in the cache nor can it be fetched."""


def build(name: str, preprocessing: dict[str, Any], spec: str, online: bool = True, **options: Any) -> nn.Module:
    """Build a network of open_clip with random weights. At most the configuration of a text tower is downloaded.

    Args:
        name: an architecture, or `local-dir:FOLDER`.
        preprocessing: open_clip's `preprocess_cfg`; the network keeps it.
        online: whether the configuration of a text tower may be downloaded.
        options: arguments of open_clip's `create_model`, such as `device`, or changes of the configuration, such as
            `quick_gelu`.

    Raises:
        RequestError: open_clip cannot build it.
    """
    text = text_config(open_clip.get_model_config(name) or {})
    try:
        with without_warnings(), text_library(text, online):
            return open_clip.create_model(
                name,
                load_weights=False,
                pretrained_text=False,
                force_preprocess_cfg=preprocessing,
                weights_only=True,
                **options,
            )
    except Exception as error:
        is_folder = name.startswith(f"{LOCAL_DIR}:")
        is_missing = isinstance(error, OSError | ValueError) and "text_cfg" not in options
        advice = advise_on_text_tower(text, is_folder) if is_missing else ""
        what = "the folder's model" if is_folder else name
        kind = TextTowerError if advice else RequestError
        raise kind(f"{spec}: open_clip cannot build {what}: {format_error(error, 160)}{advice}") from error


@contextmanager
def without_warnings() -> Iterator[None]:
    """Silence open_clip's warning that a network without weights has random ones."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def fill(network: nn.Module, state: Mapping[str, Tensor], path: Path, arch: str, spec: str) -> None:
    """Load the weights of a file into a network, in all layouts that open_clip's own loader reads.

    Raises:
        RequestError: names or shapes that differ, another library's names, another image size or context length,
            integers in place of weights, NaN or infinite values; one line that names the file.
    """
    weights = match_weights(network, state, path, arch, spec)
    expected = network.state_dict()
    for key, value in expected.items():
        if value.is_floating_point():
            if not weights[key].is_floating_point():
                dtype = str(weights[key].dtype).removeprefix("torch.")
                raise RequestError(f"{spec}: {path.name} is not a checkpoint to load: {key} is {dtype}, not float")
            if not torch.isfinite(weights[key].float()).all():  # .float(), because isfinite does not take float8
                raise RequestError(f"{spec}: {path.name} is broken: {key} holds NaN or infinite values")
    network.load_state_dict({key: weights[key] for key in expected})


def check_shapes(
    name: str, state: Mapping[str, Tensor], path: Path, arch: str, spec: str, online: bool = True, **options: Any
) -> None:
    """Compare names and shapes of weights with a network that is built on the meta device, so without memory.

    Networks that cannot be built there are not checked: only loading shows whether they fit.

    Args:
        name: an architecture, or `local-dir:FOLDER`.
        online, options: as for `build`.

    Raises:
        RequestError: as `match_weights`; TextTowerError: as `build`.
    """
    try:
        with torch.device("meta"):
            network = build(name, {}, spec, online, device="meta", **options)
    except TextTowerError:
        raise
    except RequestError:
        return
    match_weights(network, state, path, arch, spec)


def match_weights(
    network: nn.Module, state: Mapping[str, Tensor], path: Path, arch: str, spec: str
) -> dict[str, Tensor]:
    """Return weights under the names that a network has; RequestError if names or shapes differ."""
    weights = convert_layout(network, dict(state))
    expected = network.state_dict()
    check_position_embeddings(expected, weights, path, arch)
    problem = describe_difference(expected, weights)
    if problem:
        other_library = explain_other_library(state, OPEN_CLIP)
        if other_library:
            raise RequestError(f"{spec}: {path.name} {other_library}")
        raise RequestError(f"{spec}: {path.name} does not load as {arch}: {problem}")
    return weights


def convert_layout(network: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convert weights of older files and of MobileCLIP to the names and shapes of a network.

    The same conversions as in `open_clip.load_checkpoint`, but for position embeddings: those are not resized.
    """
    if state.keys() >= OPENAI_KEYS:
        state = {key: value for key, value in state.items() if key not in OPENAI_KEYS}
    state = convert_state_dict(network, state)
    if "positional_embedding" in state and not hasattr(network, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)
    for key in ("logit_scale", "logit_bias"):  # some files hold (1,), others a scalar
        parameter = getattr(network, key, None)
        if (
            key in state
            and parameter is not None
            and parameter.ndim != state[key].ndim
            and parameter.numel() == state[key].numel()
        ):
            state[key] = state[key].reshape(parameter.shape)
    if getattr(network, "logit_bias", None) is not None and "logit_bias" not in state and "logit_scale" in state:
        state["logit_bias"] = torch.zeros_like(state["logit_scale"])
    return state


def describe_difference(expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """How names and shapes of weights differ from those of a network, in a few words; empty if they do not."""
    missing = [key for key in expected if key not in state]
    unexpected = [key for key in state if key not in expected and key.split(".")[-1] != POSITION_IDS]
    other_shapes = [
        f"{key} is {tuple(state[key].shape)}, not {tuple(value.shape)}"
        for key, value in expected.items()
        if key in state and state[key].shape != value.shape
    ]
    parts = [("missing keys", missing), ("unexpected keys", unexpected), ("other shapes", other_shapes)]
    return "; ".join(f"{title}: {a_few(names)}" for title, names in parts if names)


def check_position_embeddings(
    expected: Mapping[str, Tensor], state: Mapping[str, Tensor], path: Path, arch: str
) -> None:
    """Refuse weights of another image size or context length; open_clip would resize their position embeddings.

    Raises:
        RequestError: a table of position embeddings has another length than the network's.
    """
    for key, positions in (
        ("visual.positional_embedding", "image patches"),
        ("positional_embedding", "text positions"),
        ("text.positional_embedding", "text positions"),
    ):
        stored, built = state.get(key), expected.get(key, expected.get(f"text.{key}"))
        if stored is None or built is None or not stored.ndim or stored.shape[-1] != built.shape[-1]:
            continue  # the comparison of all names and shapes reports it
        if stored.shape != built.shape:
            raise RequestError(
                f"{path} was trained with {stored.shape[0]} {positions} and {arch} has {built.shape[0]}; "
                "name the architecture of that size"
            )


def initial_weights_of(network: nn.Module, config: Mapping[str, Any], spec: str) -> InitialWeights:
    """A network's weights as a COSMOS has them, whose towers are open_clip's own.

    A text tower in a module of its own has other names and the same weights. A bias of a sigmoid loss is left out: it
    belongs to the objective.

    Raises:
        RequestError: COSMOS's model cannot have such towers; says why.
    """
    model_config = checked({key: value for key, value in config.items() if key not in INITIAL_VALUES}, spec)
    state = {key.removeprefix("text."): value for key, value in network.state_dict().items() if key != "logit_bias"}
    state["logit_scale"] = state["logit_scale"].reshape(())
    return InitialWeights(spec, model_config, state)
