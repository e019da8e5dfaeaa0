"""Tokens of a window's patches against the golden pack, for each attention that it holds."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from cosmos_core.dense import patch_features, patch_tokens
from tests.parity import ours
from tests.parity.golden import Pack, compare

FILE = "segmentation/segmentation.safetensors"
TOKENS = "window0_tokens."


def first_windows(pack: Pack) -> dict[str, tuple[Tensor, str]]:
    """For each `window0_tokens.IMAGE.ATTENTION`: the window at the image's top left, and the attention."""
    crop = pack.json("segmentation/segmentation.json")["crop"]
    windows = {}
    for key in pack.leaves(FILE):
        if key.startswith(TOKENS):
            image, attention = key.removeprefix(TOKENS).split(".")
            windows[key] = pack.tensors(FILE)[f"image.{image}"].float()[:, :, :crop, :crop], attention
    return windows


@torch.no_grad()
def window_tokens(pack: Pack) -> dict[str, Tensor]:
    """What our code gives for `window0_tokens.IMAGE.ATTENTION`: (1, h * w, width) after the final norm."""
    visual = ours.model(pack).eval().visual
    windows = first_windows(pack)
    return {key: patch_tokens(visual, window, name).flatten(1, 2) for key, (window, name) in windows.items()}


@pytest.fixture(scope="module")
def pack(parity_dir: Path) -> Pack:
    return Pack.at(parity_dir)


def test_tokens_of_the_first_window_by_both_attentions(pack: Pack):
    tokens = window_tokens(pack)
    assert {attention for _, attention in first_windows(pack).values()} == {"vanilla", "csa"}
    for key, mine in tokens.items():
        compare(key, mine, pack.tensors(FILE)[key], pack.rule(FILE, key))


def test_neither_attention_passes_for_the_other(pack: Pack):
    tokens = window_tokens(pack)
    for key, (_, attention) in first_windows(pack).items():
        other = key.removesuffix(attention) + ("csa" if attention == "vanilla" else "vanilla")
        with pytest.raises(AssertionError):
            compare(key, tokens[other], pack.tensors(FILE)[key], pack.rule(FILE, key))


@torch.no_grad()
def test_features_are_the_stored_tokens_in_the_shared_space(pack: Pack):
    visual = ours.model(pack).eval().visual
    for key, (window, attention) in first_windows(pack).items():
        features = patch_features(visual, window, attention)
        stored = pack.tensors(FILE)[key] @ visual.proj
        torch.testing.assert_close(features.flatten(1, 2), stored, atol=1e-4, rtol=0)
