"""Checkpoints: a `.pt` is a zip archive with a checksum for each of its parts; safetensors has none."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from cosmos_core.layouts import read_state
from cosmos_eval.models.open_clip_files import read_open_clip_checkpoint
from tests.fuzz.running import Target


def _weights() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {f"layer{i}.weight": torch.randn(4, 3, generator=generator) for i in range(3)}


def _make(folder: Path) -> list[Path]:
    path = folder / "last.pt"
    config = {"embed_dim": 4, "vision_cfg": {"layers": 1}, "text_cfg": {"layers": 1}}
    torch.save({"student": _weights(), "teacher": _weights(), "epoch": 3, "config": config}, path)
    return [path]


def _make_open_clip(folder: Path) -> list[Path]:
    torch.save({"state_dict": _weights(), "name": "x", "epoch": 1}, folder / "last.pt")
    return [folder / "last.pt"]


def _make_bare(folder: Path) -> list[Path]:
    torch.save(_weights(), folder / "old.pt", _use_new_zipfile_serialization=False)
    save_file(_weights(), folder / "bare.safetensors", {"config": '{"embed_dim": 4}', "weights": "teacher"})
    return [folder / "old.pt", folder / "bare.safetensors"]


def _numbers(state: dict[str, Any]) -> dict[str, Any]:
    return {key: value.float().tolist() if isinstance(value, torch.Tensor) else value for key, value in state.items()}


def _load(folder: Path) -> Any:
    stored = read_state(folder / "last.pt")
    return _numbers(stored.state), stored.config, stored.epoch


def _load_open_clip(folder: Path) -> Any:
    return _numbers(read_open_clip_checkpoint(folder / "last.pt")["state_dict"])


def _load_bare(folder: Path) -> Any:
    return [_numbers(read_state(folder / name).state) for name in ("old.pt", "bare.safetensors")]


TARGETS = [
    Target("checkpoints", _make, _load, checked=True, weight=4),
    Target("checkpoints-open-clip", _make_open_clip, _load_open_clip, checked=True, weight=2),
    Target("checkpoints-bare", _make_bare, _load_bare, weight=2),
]
