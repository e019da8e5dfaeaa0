"""Exporting a checkpoint: in the original project's layout, one network as safetensors, or for another library."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cosmos_core import released
from cosmos_core.checkpoint import load_checkpoint, read_file, require_plain_values, save_safetensors, write_torch
from cosmos_core.errors import RequestError
from cosmos_core.file_checks import user_path
from cosmos_core.files import atomic_path
from cosmos_core.layouts import NetworkName
from cosmos_core.library_folders import FOLDERS, write_folder
from cosmos_core.objective_state import stored_logit_bias

Format = Literal["original", "safetensors", "open_clip", "hf"]
FORMATS = ("original", "safetensors", *FOLDERS)
PLAIN_ADAMW = {"foreach": None, "fused": None, "capturable": False, "differentiable": False}
"""The original's AdamW options; ours may be fused, which does not matter to the stored moments."""

STUDENT_GROUPS = 2
"""The first groups hold the student's parameters; later ones an objective's own, which the original does not have."""


def export_checkpoint(
    checkpoint: Path | str,
    out: Path,
    layout: Format,
    weights: NetworkName = "teacher",
    half: bool = False,
    optimizer: bool = True,
    overwrite: bool = False,
) -> str:
    """Write `checkpoint` in another layout; returns what was written, in words.

    Args:
        checkpoint: a file in any layout, or a released checkpoint's name.
        layout: `original`: the keys epoch, name, student, teacher, optimizer, and scaler if there is one; no wrapper's
            prefixes. The original's training resumes from it in one process, and its evaluation and segmentation read
            it. `safetensors`: one network, with its architecture in the metadata. `open_clip`, `hf`: one network in a
            folder, as open_clip and transformers read it.
        weights: the network to export as safetensors; the original's layout holds both.
        half: matrices in float16, half the size. The optimizer's moments stay float32.
        optimizer: keep the optimizer and the scaler; without them the original can only evaluate the file. That of a
            run with `layer_decay` is left out, since the original has no such groups.

    Raises:
        RequestError: `out` exists, the checkpoint cannot be read, or lacks a network that the layout needs, or the
            library has no such model.
        OSError: the disk is full or not writable; no partial file is left.
    """
    is_empty_folder = layout in FOLDERS and out.is_dir() and not any(out.iterdir())
    if out.exists() and not overwrite and not is_empty_folder:
        raise RequestError(f"{out} exists already; give another name, or --overwrite")
    if layout in FOLDERS:
        model, path = load_checkpoint(checkpoint, weights), user_path(checkpoint)
        bias = stored_logit_bias(read_file(path), path) if path.is_file() else None
        left_out = write_folder(model, out, layout, half, bias)
        return f"{weights}, {'float16' if half else 'float32'} matrices; {left_out}"
    if layout == "safetensors":
        save_safetensors(
            out,
            load_checkpoint(checkpoint, weights),
            torch.float16 if half else torch.float32,
            weights,
            {"source": Path(checkpoint).name},
        )
        return f"{weights}, {'float16' if half else 'float32'} matrices"
    content = original_layout(checkpoint, half, optimizer)
    with atomic_path(out) as temporary:
        write_torch(content, temporary)
    return ", ".join(content)


def original_layout(checkpoint: Path | str, half: bool = False, optimizer: bool = True) -> dict[str, Any]:
    """The content of a checkpoint in the original project's layout.

    Raises:
        RequestError: the checkpoint holds one network only, or none.
    """
    path = user_path(checkpoint)
    if not path.is_file() and str(checkpoint) in released.RELEASED:
        path = released.fetch(str(checkpoint))
    content = read_file(path) if path.exists() else {}
    if content and not {"student", "teacher"} <= content.keys():
        raise RequestError(f"{path} holds one network, and the original's layout needs both; --format safetensors")
    networks = {name: network_state(load_checkpoint(checkpoint, name), half) for name in ("student", "teacher")}
    epoch, name = content.get("epoch"), content.get("name")
    result: dict[str, Any] = {
        "epoch": epoch if isinstance(epoch, int) else 0,
        "name": name if isinstance(name, str) else path.stem,
        **networks,
    }
    if optimizer and isinstance(content.get("optimizer"), Mapping) and has_plain_groups(content):
        result["optimizer"] = plain_optimizer(content["optimizer"])
        if content.get("scaler"):
            result["scaler"] = dict(content["scaler"])
    require_plain_values(result, str(path))
    return result


def network_state(model: nn.Module, half: bool) -> dict[str, Tensor]:
    """A network's weights; with `half`, matrices as float16, vectors and temperatures unchanged."""
    return {key: value.half() if half and value.ndim > 1 else value for key, value in model.state_dict().items()}


def has_plain_groups(content: Mapping[str, Any]) -> bool:
    """Whether the optimizer has the original's two groups: with `layer_decay` it has more, in another order."""
    training = content.get("training")
    return not isinstance(training, Mapping) or training.get("layer_decay", 1.0) == 1.0


def plain_optimizer(state: Mapping[str, Any]) -> dict[str, Any]:
    """The optimizer's state as the original's AdamW stores it: the student's two groups, with plain options."""
    groups = [
        {key: PLAIN_ADAMW.get(key, value) for key, value in group.items()}
        for group in list(state.get("param_groups", ()))[:STUDENT_GROUPS]
    ]
    student_parameters = {number for group in groups for number in group.get("params", ())}
    moments = {
        number: moment for number, moment in dict(state.get("state", {})).items() if number in student_parameters
    }
    return {"state": moments, "param_groups": groups}
