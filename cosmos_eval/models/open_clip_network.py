"""open_clip's networks: built without weights, then given those of a file after a look at each of them.

open_clip's own loader reads the file itself (no checksum, other rules for prefixes), resizes position embeddings in
silence, and copies integers into weights; here the file has been read, and what does not fit is named.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.convert import convert_state_dict
from open_clip.model import convert_to_custom_text_state_dict
from torch import Tensor, nn

from cosmos_core.checkpoint import a_few
from cosmos_core.errors import RequestError
from cosmos_core.weight_layouts import OPEN_CLIP, explain_other_library
from cosmos_eval.models.base import one_line
from cosmos_eval.models.open_clip_files import OPENAI_KEYS

COUNTED = "position_ids"
"""A buffer that old files hold: positions are counted, not learnt."""


def build(name: str, preprocessing: dict[str, Any], spec: str, **options: Any) -> nn.Module:
    """A network of open_clip with random weights; nothing is fetched for it but a text tower's configuration.

    Args:
        name: an architecture, or `local-dir:FOLDER`.
        preprocessing: open_clip's `preprocess_cfg`, which the network carries.
        options: of open_clip's `create_model`, as `device`, or changes of the configuration, as `quick_gelu`.

    Raises:
        RequestError: open_clip cannot build it.
    """
    try:
        with without_warnings():
            return open_clip.create_model(
                name,
                load_weights=False,
                pretrained_text=False,
                force_preprocess_cfg=preprocessing,
                weights_only=True,
                **options,
            )
    except Exception as error:
        raise RequestError(f"{spec}: open_clip cannot build {name}: {one_line(error)}") from error


def why_not_on_meta(name: str, state: Mapping[str, Tensor], path: Path, arch: str, spec: str) -> RequestError | None:
    """Why weights do not fit a network, told by names and shapes; None where they do, or where the network cannot be
    built without memory (timm's towers), so that only loading tells."""
    try:
        with torch.device("meta"):
            network = build(name, {}, spec, device="meta")
    except RequestError:
        return None
    try:
        refuse_misfit(network, state, path, arch, spec)
    except RequestError as error:
        return error
    return None


@contextmanager
def without_warnings() -> Iterator[None]:
    """Within it open_clip does not say that a network without weights has random ones."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def fill(network: nn.Module, state: Mapping[str, Tensor], path: Path, arch: str, spec: str) -> None:
    """Put the weights of a file into a network, in the forms that open_clip's own loader takes.

    Raises:
        RequestError: names or shapes that differ, another library's names, another image size or context, integers
            where weights are wanted, NaN or infinite values; one line that names the file.
    """
    weights = refuse_misfit(network, state, path, arch, spec)
    wanted = network.state_dict()
    for key, value in wanted.items():
        if value.is_floating_point():
            if not weights[key].is_floating_point():
                kind = str(weights[key].dtype).removeprefix("torch.")
                raise RequestError(f"{spec}: {path.name} is not a checkpoint to load: {key} is {kind}, not float")
            if not torch.isfinite(weights[key].float()).all():  # of float8 as it is, torch cannot tell
                raise RequestError(f"{spec}: {path.name} is broken: {key} holds NaN or infinite values")
    network.load_state_dict({key: weights[key] for key in wanted})


def refuse_misfit(
    network: nn.Module, state: Mapping[str, Tensor], path: Path, arch: str, spec: str
) -> dict[str, Tensor]:
    """Weights under the names that the network has; RequestError where names or shapes differ."""
    weights = in_open_clips_form(network, dict(state))
    wanted = network.state_dict()
    check_grids(wanted, weights, path, arch)
    problem = difference(wanted, weights)
    if problem:
        other = explain_other_library(state, OPEN_CLIP)
        if other:
            raise RequestError(f"{spec}: {path.name} {other}")
        raise RequestError(f"{spec}: {path.name} does not load as {arch}: {problem}")
    return weights


def in_open_clips_form(network: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of older files and of MobileCLIP under the names and shapes that the network has, as open_clip's
    `load_checkpoint` changes them."""
    if state.keys() >= OPENAI_KEYS:
        state = {key: value for key, value in state.items() if key not in OPENAI_KEYS}
    state = convert_state_dict(network, state)
    if "positional_embedding" in state and not hasattr(network, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)
    for key in ("logit_scale", "logit_bias"):
        own = getattr(network, key, None)
        if key in state and own is not None and own.ndim != state[key].ndim and state[key].numel() == own.numel():
            state[key] = state[key].reshape(own.shape)
    if getattr(network, "logit_bias", None) is not None and "logit_bias" not in state and "logit_scale" in state:
        state["logit_bias"] = torch.zeros_like(state["logit_scale"])
    return state


def difference(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """How weights differ from what a network needs, in a few words; empty where they do not."""
    missing = [key for key in wanted if key not in state]
    extra = [key for key in state if key not in wanted and key.split(".")[-1] != COUNTED]
    shapes = [
        f"{key} is {tuple(state[key].shape)}, not {tuple(value.shape)}"
        for key, value in wanted.items()
        if key in state and state[key].shape != value.shape
    ]
    parts = [("missing keys", missing), ("unexpected keys", extra), ("other shapes", shapes)]
    return "; ".join(f"{title}: {a_few(names)}" for title, names in parts if names)


def check_grids(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor], path: Path, arch: str) -> None:
    """Refuse weights of another image size or context length in words; open_clip would resize their position
    embeddings silently.

    Raises:
        RequestError: a table of position embeddings of another length than the network's.
    """
    for key, what in (
        ("visual.positional_embedding", "image patches"),
        ("positional_embedding", "text positions"),
        ("text.positional_embedding", "text positions"),
    ):
        stored, built = state.get(key), wanted.get(key, wanted.get(f"text.{key}"))
        if stored is None or built is None or not stored.ndim or stored.shape[-1] != built.shape[-1]:
            continue
        if stored.shape != built.shape:
            raise RequestError(
                f"{path} was trained with {stored.shape[0]} {what} and {arch} has {built.shape[0]}; "
                "name the architecture of that size"
            )
