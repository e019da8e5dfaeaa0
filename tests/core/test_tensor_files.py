"""Files of tensors: damage is seen, stand-ins are named, and what comes back are ordinary tensors of bounded shape."""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from cosmos_core.errors import RequestError
from cosmos_core.layouts import read_state
from cosmos_core.tensor_files import read_tensors
from tests.core.wrong_files import WRONG_FILES


def refusal(path: Path) -> str:
    with pytest.raises(RequestError) as caught:
        read_tensors(path)
    line = str(caught.value)
    assert "\n" not in line
    assert "\x1b" not in line
    assert str(path) in line
    return line


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def test_what_torch_and_safetensors_wrote_comes_back(tmp_path: Path):
    state = {"w": torch.arange(6.0).reshape(2, 3), "steps": torch.tensor(3)}
    found = read_tensors(saved(tmp_path / "whole.pt", {"state_dict": state, "lr": 0.1, "betas": [(0.9, 0.98)]}))
    assert found.content["betas"] == [(0.9, 0.98)]
    assert torch.equal(found.content["state_dict"]["w"], state["w"])
    assert found.metadata is None
    save_file(state, tmp_path / "whole.safetensors", {"note": "x"})
    found = read_tensors(tmp_path / "whole.safetensors")
    assert torch.equal(found.content["w"], state["w"])
    assert found.metadata == {"note": "x"}


def test_every_flipped_bit_of_a_tensor_is_seen(tmp_path: Path):
    path = saved(tmp_path / "flipped.pt", {"w": torch.arange(1000.0)})
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        member = next(item for item in archive.infolist() if item.filename.endswith("data/0"))
    inside = whole.index(torch.arange(1000.0).numpy().tobytes())
    for place in (inside, inside + member.file_size // 2, inside + member.file_size - 1):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        assert "data/0 does not have its checksum" in refusal(path)
        assert list(read_tensors(path, check=False).content) == ["w"]  # only the checksum tells


def test_a_file_that_torch_wrote_without_checksums_is_read(tmp_path: Path):
    torch.serialization.set_crc32_options(False)
    try:
        path = saved(tmp_path / "unchecked.pt", {"w": torch.ones(3)})
    finally:
        torch.serialization.set_crc32_options(True)
    assert torch.equal(read_tensors(path).content["w"], torch.ones(3))


def packed_again(path: Path, source: Path, method: int) -> None:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w", method) as new:
        for item in old.infolist():
            new.writestr(item.filename, old.read(item))


def test_archives_of_other_programs_are_named(tmp_path: Path):
    source = saved(tmp_path / "source.pt", {"w": torch.ones(300)})
    packed_again(tmp_path / "packed.pt", source, zipfile.ZIP_DEFLATED)
    assert "packed again by another program" in refusal(tmp_path / "packed.pt")
    with zipfile.ZipFile(tmp_path / "folder.pt", "w") as archive:
        archive.write(source, "last.pt")
    assert "is a zip archive, not a checkpoint: unpack it" in refusal(tmp_path / "folder.pt")


STAND_INS = {
    b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 123\n": "is a Git LFS pointer, not the file",
    b"\xef\xbb\xbf\n <!DOCTYPE html>\n<html>Sign in</html>": "is an HTML page",
    b"<html><head><title>404</title>": "is an HTML page",
    b'<?xml version="1.0"?><!DOCTYPE html><html>': "is an HTML page",
    b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code></Error>': "is an XML page",
    b"/annex/objects/SHA256E-s123--abc.pt\n": "is a git-annex pointer",
    **WRONG_FILES,
    b"": "is empty",
    b"Entry not found": "is the answer 'entry not found' of a server",
    b"no such file": "but text: 'no such file'",
    b"\x1f\x8b\x08\x00" + bytes(60): "compressed by gzip",
    b"\x00" * 400: "neither a torch file nor safetensors",
}


@pytest.mark.parametrize("content", STAND_INS, ids=lambda content: repr(content[:12]))
@pytest.mark.parametrize("name", ["model.pt", "model.bin", "model.safetensors"])
def test_stand_ins_are_named_as_what_they_are(tmp_path: Path, content: bytes, name: str):
    path = tmp_path / name
    path.write_bytes(content)
    reason = STAND_INS[content]
    if name.endswith(".safetensors") and ("text" in reason or "gzip" in reason or "neither" in reason):
        reason = "is not a whole safetensors file"
    assert reason in refusal(path)


def test_what_is_no_ordinary_file_is_refused_at_once(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.pt")
    assert "is a named pipe, not a regular file" in refusal(tmp_path / "pipe.pt")
    assert "is a device, not a regular file" in refusal(Path("/dev/zero"))
    assert "is a folder, not a checkpoint file; give the path of a .pt or" in refusal(tmp_path)
    newest = saved(tmp_path / "last.pt", {})
    assert f"is a folder, not a checkpoint file; give {newest}" in refusal(tmp_path)
    assert "does not exist" in refusal(tmp_path / "absent.pt")
    assert "does not exist" in refusal(saved(tmp_path / "file.pt", {}) / "below")
    assert "cannot be read" in refusal(tmp_path / ("n" * 300))


ODD: dict[str, tuple[Callable[[], torch.Tensor], str]] = {
    "nested": (lambda: torch.nested.nested_tensor([torch.ones(3), torch.ones(2)]), "a nested tensor of float32"),
    "sparse": (lambda: torch.eye(3).to_sparse(), "sparse float32"),
    "compressed": (lambda: torch.eye(3).to_sparse_csr(), "sparse float32"),
    "quantized": (lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), "quantized (qint8)"),
    "meta": (lambda: torch.ones(3, device="meta"), "a shape but no values"),
    "complex": (lambda: torch.ones(3, dtype=torch.complex64), "complex64, not dense floating point"),
}


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", ODD)
def test_tensors_that_are_not_plain_are_refused_by_name(tmp_path: Path, kind: str):
    make, reason = ODD[kind]
    line = refusal(saved(tmp_path / "odd.pt", {"state_dict": {"fine": torch.ones(1), "visual.proj": make()}}))
    assert f"state_dict/visual.proj is {reason}" in line or f"state_dict/visual.proj is broken: it has {reason}" in line


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_tensors_of_ragged_layout_are_refused(tmp_path: Path):
    jagged = torch.nested.nested_tensor([torch.ones(3), torch.ones(2)], layout=torch.jagged)
    assert "nested" in refusal(saved(tmp_path / "odd.pt", {"visual.proj": jagged}))


def test_shapes_beyond_what_the_file_holds_are_refused(tmp_path: Path):
    line = refusal(saved(tmp_path / "wide.pt", {"w": torch.ones(1).expand(10**6, 10**6)}))
    assert "shapes of 4,000,000,000,000 bytes and hold 4" in line
    shared = torch.ones(8)  # tied weights and small expanded buffers are common
    tied = {"a": shared, "b": shared, "mask": torch.ones(1).expand(12, 77, 77)}
    assert read_tensors(saved(tmp_path / "tied.pt", tied)).content.keys() == tied.keys()


def test_plain_values_without_an_end_are_refused(tmp_path: Path):
    doubled: list[Any] = []
    for _ in range(50):
        doubled = [doubled, doubled]
    assert "more than 20,000,000 values" in refusal(saved(tmp_path / "doubled.pt", {"config": doubled}))
    deep: list[Any] = []
    for _ in range(70):
        deep = [deep]
    assert "nested more than 64 deep" in refusal(saved(tmp_path / "deep.pt", {"config": deep}))
    endless: list[Any] = []
    endless.append(endless)
    assert "nested more than 64 deep" in refusal(saved(tmp_path / "endless.pt", {"config": endless}))
    long = {"config": {"layers": 10**500}}
    assert "config/layers is a number of 1,661 bits" in refusal(saved(tmp_path / "long.pt", long))


def test_names_from_a_file_bring_no_control_characters_into_a_message(tmp_path: Path):
    line = refusal(saved(tmp_path / "names.pt", {"a\n\x1b[31mred": torch.eye(2).to_sparse()}))
    assert "a \\x1b[31mred is sparse" in line


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod.", "_orig_mod.module.model.", "model._orig_mod."]
)
def test_what_wrappers_put_before_a_key_is_taken_off_in_any_order(tmp_path: Path, prefix: str):
    weights = {"visual.proj": torch.ones(2, 2), "text_projection": torch.ones(2)}
    path = saved(tmp_path / "wrapped.pt", {prefix + key: value for key, value in weights.items()})
    assert read_state(path).state.keys() == weights.keys()


def test_a_module_of_any_name_around_the_whole_model_is_taken_off_and_no_tower_s_own_name(tmp_path: Path):
    weights = {"visual.proj": torch.ones(2, 2), "text_projection": torch.ones(2), "logit_scale": torch.ones(())}
    for prefix in ("wrapper.", "net.model.", "module.trainer.net."):
        path = saved(tmp_path / "around.pt", {prefix + key: value for key, value in weights.items()})
        assert read_state(path).state.keys() == weights.keys()
    for kept in (
        {"visual.proj": torch.ones(2, 2), "visual.conv1": torch.ones(2)},  # one tower alone
        {"a.logit_scale": torch.ones(()), "b.logit_scale": torch.ones(())},
        {"net.logit_scale": torch.ones(()), "loss.logit_bias": torch.ones(())},
    ):
        assert read_state(saved(tmp_path / "kept.pt", kept)).state.keys() == kept.keys()


def test_a_compiled_tower_within_a_model_is_unwrapped(tmp_path: Path):
    path = saved(tmp_path / "tower.pt", {"module.visual._orig_mod.proj": torch.ones(2), "logit_scale": torch.ones(())})
    assert read_state(path).state.keys() == {"visual.proj", "logit_scale"}
