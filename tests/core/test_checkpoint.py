"""Checkpoints: every layout is read, and nothing is left half-written."""

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from cosmos_core import COSMOS, export, load_checkpoint
from cosmos_core.checkpoint import read_file, read_state, save_safetensors
from tests.closeness import assert_close
from tests.core.checkpoint_files import refusal, same, write
from tests.core.test_model import TINY, some_images, some_texts


def test_our_own_checkpoint_comes_back_as_the_same_model(tmp_path: Path, model: COSMOS, other: COSMOS):
    path = write(tmp_path / "runs/last.pt", model, other)
    loaded = load_checkpoint(path)
    assert same(loaded, other)
    assert same(load_checkpoint(path, weights="student"), model)
    assert not loaded.training
    assert loaded.config == TINY
    images, texts = some_images(2), some_texts(2)
    with torch.no_grad():
        assert_close(loaded.encode_image(images), other.encode_image(images))
        assert_close(loaded.encode_text(texts), other.encode_text(texts))
    loaded.encode_text(texts).sum().backward()  # its parameters can learn


def test_loading_draws_no_random_numbers(tmp_path: Path, model: COSMOS):
    path = write(tmp_path / "last.pt", model, model)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    load_checkpoint(path)
    assert torch.equal(torch.rand(1), expected)


def test_a_checkpoint_holds_the_originals_keys_the_config_and_what_else_was_given(tmp_path: Path, model: COSMOS):
    optimizer = torch.optim.AdamW(model.parameters())
    model(some_images(2), some_texts(2)).image_features.sum().backward()
    optimizer.step()
    path = write(tmp_path / "last.pt", model, model, optimizer=optimizer, extra={"step": 7, "order": [1, 2]})
    content = read_file(path)
    assert set(content) == {"epoch", "name", "student", "teacher", "optimizer", "config", "step", "order"}
    assert (content["epoch"], content["name"], content["step"]) == (3, "run", 7)
    again = torch.optim.AdamW(model.parameters())
    again.load_state_dict(content["optimizer"])
    assert read_state(path).epoch == 3


def test_wrappers_prefixes_are_taken_off_key_by_key(tmp_path: Path, model: COSMOS):
    state = model.state_dict()
    mixed = {("module." if i % 2 else "_orig_mod.module.") + key: value for i, (key, value) in enumerate(state.items())}
    torch.save({"epoch": 1, "student": mixed, "teacher": state}, tmp_path / "mixed.pt")
    assert same(load_checkpoint(tmp_path / "mixed.pt", weights="student", config=TINY), model)
    assert same(read_state(write(tmp_path / "ours.pt", mixed, None), "student").state, state)


def test_the_other_layouts_are_read_too(tmp_path: Path, model: COSMOS, other: COSMOS):
    a, b = model.state_dict(), other.state_dict()
    torch.save({"epoch": 1, "state_dict": a, "ema_state_dict": b}, tmp_path / "both.pt")
    torch.save({"epoch": 1, "state_dict": a}, tmp_path / "one.pt")
    torch.save(a, tmp_path / "bare.pt")
    torch.save(a, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    save_file(a, tmp_path / "bare.safetensors")
    assert same(load_checkpoint(tmp_path / "both.pt", config=TINY), other)
    assert same(load_checkpoint(tmp_path / "both.pt", weights="student", config=TINY), model)
    for name in ("one.pt", "bare.pt", "old.pt", "bare.safetensors"):
        assert same(load_checkpoint(tmp_path / name, config=TINY), model), name


def test_a_file_without_a_config_is_matched_to_a_preset_by_its_shapes(tmp_path: Path):
    model = COSMOS.from_config("toybox")
    state = {**model.state_dict(), "attn_mask": torch.zeros(4, 4)}  # a buffer that old files hold
    torch.save(state, tmp_path / "bare.pt")
    assert load_checkpoint(tmp_path / "bare.pt").config == model.config


def test_safetensors_carry_their_config_and_half_precision_comes_back_as_float32(tmp_path: Path, model: COSMOS):
    save_safetensors(tmp_path / "whole.safetensors", model)
    save_safetensors(tmp_path / "half.safetensors", model, torch.float16)
    assert same(load_checkpoint(tmp_path / "whole.safetensors"), model)
    loaded = load_checkpoint(tmp_path / "half.safetensors")
    assert loaded.config == TINY
    assert loaded.logit_scale.item() == model.logit_scale.item()
    for key, value in loaded.state_dict().items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, model.state_dict()[key], atol=1e-3, rtol=1e-3)
    half, whole = ((tmp_path / f"{name}.safetensors").stat().st_size for name in ("half", "whole"))
    assert half < 0.65 * whole


def test_a_config_can_be_a_name_a_file_or_a_dict(tmp_path: Path, model: COSMOS):
    torch.save(model.state_dict(), tmp_path / "bare.pt")
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    assert same(load_checkpoint(tmp_path / "bare.pt", config=tmp_path / "config.json"), model)
    (tmp_path / "broken.yaml").write_text("{")
    assert "neither JSON nor YAML" in refusal(tmp_path / "bare.pt", config=tmp_path / "broken.yaml")
    assert "no model config" in refusal(tmp_path / "bare.pt", config="ViT-B-61")


def test_another_grid_and_context_resize_the_position_embeddings(tmp_path: Path, model: COSMOS):
    path = write(tmp_path / "last.pt", model, model)
    larger = {
        **TINY,
        "vision_cfg": {**TINY["vision_cfg"], "image_size": 48},
        "text_cfg": {**TINY["text_cfg"], "context_length": 14},
    }
    loaded = load_checkpoint(path, config=larger)
    assert loaded.visual.positional_embedding.shape == (37, 24)
    assert torch.equal(loaded.visual.positional_embedding[0], model.visual.positional_embedding[0])
    assert loaded.encode_image(some_images(1, 48, 48)).shape == (1, 16)
    assert loaded.encode_text(torch.ones(1, 14, dtype=torch.long)).shape == (1, 16)


def save_pt(path: Path, model: COSMOS) -> None:
    write(path, model, model)


@pytest.mark.parametrize("save", [save_pt, save_safetensors])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, model: COSMOS, other: COSMOS, monkeypatch: pytest.MonkeyPatch, save: Callable[[Path, COSMOS], None]
):
    path = tmp_path / "last.pt"
    save(path, model)

    def full(content: Any, target: Any) -> None:
        target.write(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    monkeypatch.setattr(Path, "write_bytes", lambda path, content: full(content, path.open("wb")))
    with pytest.raises(OSError, match="No space"):
        save(path, other)
    assert [entry.name for entry in tmp_path.iterdir()] == ["last.pt"]
    assert same(load_checkpoint(path), model)


@pytest.mark.parametrize("save", [save_pt, save_safetensors])
def test_a_disk_that_is_really_full_is_an_error_of_the_system_and_leaves_the_old_file(
    small_disk: Path, model: COSMOS, other: COSMOS, save: Callable[[Path, COSMOS], None]
):
    save(small_disk / "last.pt", model)
    used = (small_disk / "last.pt").stat().st_size
    (small_disk / "filler").write_bytes(b"x" * (512 * 1024 - used - used // 2 - 8192))
    with pytest.raises(OSError, match="No space left"):
        save(small_disk / "last.pt", other)
    assert sorted(entry.name for entry in small_disk.iterdir()) == ["filler", "last.pt"]
    assert same(load_checkpoint(small_disk / "last.pt"), model)


def test_a_grid_with_as_many_patches_of_another_form_is_resized_where_the_file_tells_its_own(tmp_path: Path):
    def config(height: int, width: int) -> dict[str, Any]:
        return {**TINY, "vision_cfg": {**TINY["vision_cfg"], "image_size": [height, width]}}

    model = COSMOS.from_config(config(16, 48))
    with torch.no_grad():  # values that grow along the columns
        model.visual.positional_embedding[1:] = torch.arange(6.0).repeat(2)[:, None]
    path = write(tmp_path / "last.pt", model, model, config=model.config)
    loaded = load_checkpoint(path, config=config(24, 32))
    rows = loaded.visual.positional_embedding[1:, 0].reshape(3, 4)
    assert torch.allclose(rows, rows[:1].expand(3, 4), atol=1e-5)
    assert (rows.diff(dim=1) > 0).all()


def test_objects_that_could_not_be_read_back_are_refused_before_writing(tmp_path: Path, model: COSMOS):
    import numpy as np

    for extra, place in (({"loss": np.float64(1)}, "loss"), ({"log": [{"path": tmp_path}]}, "log/0/path")):
        with pytest.raises(TypeError, match=place):
            write(tmp_path / "last.pt", model, model, extra=extra)
    with pytest.raises(TypeError, match="epoch"):
        write(tmp_path / "last.pt", model, model, extra={"epoch": 4})
    assert list(tmp_path.iterdir()) == []


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: COSMOS):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "last.pt", model, model, optimizer={"state": {}, "param_groups": []})
    assert same(load_checkpoint("~/last.pt"), model)
    assert "optimizer" in export.original_layout("~/last.pt")
