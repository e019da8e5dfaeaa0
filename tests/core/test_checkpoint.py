"""Checkpoints: every layout, every refusal, nothing half-written."""

import errno
import json
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import save_file

from cosmos_core import COSMOS, checkpoint, export, load_checkpoint, released
from cosmos_core.checkpoint import read_file, read_state, save_checkpoint, save_safetensors
from cosmos_core.errors import RequestError
from tests.closeness import assert_close
from tests.core.test_model import TINY, some_images, some_texts, tiny


@pytest.fixture
def model() -> COSMOS:
    return tiny().eval()


@pytest.fixture
def other() -> COSMOS:
    torch.manual_seed(1)
    return COSMOS.from_config(TINY).eval()


def write(path: Path, student: Any, teacher: Any, **changes: Any) -> Path:
    """Our own training checkpoint."""
    settings: dict[str, Any] = {"config": TINY, "optimizer": None, "epoch": 3, "name": "run"}
    save_checkpoint(path, student=student, teacher=teacher, **{**settings, **changes})
    return path


def same(a: Any, b: Any) -> bool:
    a, b = (x.state_dict() if isinstance(x, COSMOS) else x for x in (a, b))
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def refusal(path: Path | str, **options: Any) -> str:
    with pytest.raises(RequestError) as caught:
        load_checkpoint(path, **options)
    line = str(caught.value)
    assert "\n" not in line
    return line


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


class Harmful:
    """Unpickling it would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_would_run_code_is_refused_and_runs_nothing(tmp_path: Path, model: COSMOS, zipped: bool):
    content = {"student": model.state_dict(), "teacher": model.state_dict(), "config": Harmful(tmp_path / "ran")}
    torch.save(content, tmp_path / "harmful.pt", _use_new_zipfile_serialization=zipped)
    line = refusal(tmp_path / "harmful.pt")
    assert "could run code" in line
    assert "harmful.pt" in line
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(Harmful(tmp_path / "ran")))
    assert "could run code" in refusal(tmp_path / "plain.pkl")
    assert not (tmp_path / "ran").exists()


def test_files_that_are_no_whole_checkpoints_are_refused_with_their_reason(tmp_path: Path, model: COSMOS):
    whole = write(tmp_path / "whole.pt", model, model).read_bytes()
    save_safetensors(tmp_path / "whole.safetensors", model)
    tensors = (tmp_path / "whole.safetensors").read_bytes()
    torch.save(model.state_dict(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    old = (tmp_path / "old.pt").read_bytes()
    files = {
        "cut.pt": (whole[: len(whole) // 2], "truncated"),
        "cut-old.pt": (old[: len(old) // 2], "truncated|damaged"),
        "cut.safetensors": (tensors[: len(tensors) // 2], "not a whole safetensors"),
        "empty.pt": (b"", "is empty"),
        "page.pt": (b"<!doctype html><html>not found</html>", "is an HTML page, not the file that was meant"),
        "pointer.safetensors": (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        "noise.pt": (b"PK\x03\x04" + bytes(range(256)) * 8, "truncated"),
    }
    for name, (content, reason) in files.items():
        (tmp_path / name).write_bytes(content)
        line = refusal(tmp_path / name)
        assert name in line
        assert any(word in line for word in reason.split("|")), line
    assert "does not exist" in refusal(tmp_path / "absent.pt")
    assert "is a folder" in refusal(tmp_path)
    assert "no released checkpoint with this name" in refusal("vitb16-laion")


def test_position_embeddings_that_fill_no_square_are_refused(tmp_path: Path, model: COSMOS):
    state = {**model.state_dict(), "visual.positional_embedding": torch.zeros(12, 24)}
    line = refusal(write(tmp_path / "last.pt", state, None), weights="student", config=TINY)
    assert "11 patch positions do not fill a grid of 3 x 3" in line


@pytest.mark.parametrize("kind", ["zipped", "old", "safetensors"])
def test_a_file_with_damage_anywhere_is_read_or_refused_in_one_line(tmp_path: Path, model: COSMOS, kind: str):
    path = tmp_path / "damaged"
    if kind == "safetensors":
        save_safetensors(path, model)
    else:
        content = {"student": model.state_dict(), "teacher": model.state_dict(), "config": TINY}
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zipped")
    whole = path.read_bytes()
    generator = random.Random(0)
    refused = 0
    for _ in range(30):
        damaged = bytearray(whole)
        # damage is likeliest to be seen near the ends, where the structure stands
        start = generator.choice([0, len(damaged) - 3000, generator.randrange(len(damaged))])
        for _ in range(generator.choice([1, 20])):
            damaged[min(len(damaged) - 1, start + generator.randrange(3000))] = generator.randrange(256)
        path.write_bytes(damaged[: generator.choice([len(damaged), len(damaged), generator.randrange(len(damaged))])])
        try:
            load_checkpoint(path)
        except RequestError as refusal:
            refused += 1
            assert "\n" not in str(refusal)  # noqa: PT017
    assert refused > 5


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([1, 2], "holds a list"),
        ({"lr": 0.1, "steps": 3}, "lr, steps"),
        ({}, "nothing"),
        ({"student": {}, "teacher": {}}, "its weights are a dict"),
        ({"student": 1, "teacher": 2}, "its weights are a int"),
        ({"state_dict": {"visual.proj": "x"}}, "visual.proj is a str"),
    ],
)
def test_what_is_no_weights_is_not_a_checkpoint(tmp_path: Path, content: Any, reason: str):
    torch.save(content, tmp_path / "content.pt")
    assert reason in refusal(tmp_path / "content.pt")


def test_a_torchscript_program_is_not_run(tmp_path: Path):
    class Program(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    torch.jit.script(Program()).save(tmp_path / "program.pt")
    assert "TorchScript" in refusal(tmp_path / "program.pt")


def test_weights_that_do_not_fit_are_named(tmp_path: Path, model: COSMOS):
    state = model.state_dict()

    def with_state(**changes: Any) -> Path:
        changed = {**state, **{key.replace("__", "."): value for key, value in changes.items()}}
        return write(tmp_path / "x.pt", {k: v for k, v in changed.items() if v is not None}, None)

    options = {"weights": "student"}
    assert "missing keys: ln_final.bias" in refusal(with_state(ln_final__bias=None), **options)
    assert "unexpected keys: head.weight" in refusal(with_state(head__weight=torch.ones(1)), **options)
    line = refusal(with_state(text_projection=torch.ones(16, 8)), **options)
    assert "text_projection is (16, 8), not (16, 16)" in line
    line = refusal(with_state(**{"visual__proj": torch.full((24, 16), float("nan"))}), **options)
    assert "visual.proj holds NaN" in line


def test_another_architecture_is_told_from_its_shapes(tmp_path: Path, model: COSMOS):
    torch.save(model.state_dict(), tmp_path / "tiny.pt")
    line = refusal(tmp_path / "tiny.pt")
    assert "none of ViT-B-16, ViT-B-32, toybox" in line
    assert "image width 24, patch 8, text width 16, context 10, vocabulary 50" in line
    nearly = COSMOS.from_config("toybox").state_dict()
    del nearly["ln_final.weight"]
    torch.save(nearly, tmp_path / "nearly.pt")
    assert "nearest to toybox, but missing keys: ln_final.weight" in refusal(tmp_path / "nearly.pt")


def test_a_plain_clip_is_recognised_as_one(tmp_path: Path, model: COSMOS):
    state = {k: v for k, v in model.state_dict().items() if "cross_pool" not in k and "mapping" not in k}
    torch.save(state, tmp_path / "clip.pt")
    assert "plain CLIP" in refusal(tmp_path / "clip.pt", config=TINY)
    assert "no cross-attention poolers" in refusal(tmp_path / "clip.pt")


def test_the_network_that_a_file_does_not_hold_is_not_replaced_by_the_other(tmp_path: Path, model: COSMOS):
    assert "no teacher, only a student; ask for #student" in refusal(write(tmp_path / "s.pt", model, None))
    save_safetensors(tmp_path / "t.safetensors", model, weights="teacher")
    assert "holds the teacher only" in refusal(tmp_path / "t.safetensors", weights="student")
    assert "no weights called" in refusal(tmp_path / "s.pt", weights="both")


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


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda x: x.to("meta"), "no values"),
        (lambda x: x.to_sparse(), "sparse float32"),
        (lambda x: x.to(torch.complex64), "complex64"),
        (lambda x: x.long(), "int64"),
    ],
)
@pytest.mark.parametrize("key", ["visual.positional_embedding", "visual.proj"])
def test_weights_that_are_no_dense_real_numbers_are_refused(model: COSMOS, key: str, change: Any, reason: str):
    state = {**model.state_dict(), key: change(model.state_dict()[key])}
    for load in (
        lambda: checkpoint.load_weights(TINY, state, "x.pt"),
        lambda: checkpoint.load_weights(TINY, checkpoint.resize_positions(state, TINY, "x.pt"), "x.pt"),
    ):
        with pytest.raises(RequestError, match=f"x.pt .*{key} .*{reason}") as caught:
            load()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["visual.positional_embedding", "positional_embedding"])
@pytest.mark.parametrize("rows", [0, 1])
def test_position_embeddings_of_no_patch_and_no_token_are_refused(tmp_path: Path, model: COSMOS, key: str, rows: int):
    state = {**model.state_dict(), key: model.state_dict()[key][:rows].clone()}
    torch.save(state, tmp_path / "short.pt")
    if (key, rows) == ("positional_embedding", 1):  # one position can be stretched, as any other number
        assert load_checkpoint(tmp_path / "short.pt", config=TINY).positional_embedding.shape == (10, 16)
    else:
        assert "position embeddings of" in refusal(tmp_path / "short.pt", config=TINY)


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


def test_the_ten_released_checkpoints_are_known():
    assert len(released.RELEASED) == 10
    assert released.RELEASED["vitb16-merged30m"].file == "cosmos_vitb16_merged30m.pt"
    assert released.RELEASED["vitb32-cc3m"].arch == "ViT-B-32"


def test_a_released_name_is_fetched_from_the_hub_and_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import huggingface_hub

    model = COSMOS.from_config("toybox")
    asked = []

    def download(repository: str, file: str, local_files_only: bool = False) -> str:
        asked.append((repository, file, local_files_only))
        if local_files_only:
            raise LocalEntryNotFoundError("not in the cache")
        return str(write(tmp_path / file, model, model, config=model.config))

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setitem(released.RELEASED, "toy", released.Released("toy", "toybox", "toybox", "toy.pt"))
    assert same(load_checkpoint("toy"), model)
    assert asked == [("sankim2/cosmos", "toy.pt", True), ("sankim2/cosmos", "toy.pt", False)]


def test_a_released_checkpoint_in_the_cache_is_loaded_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import huggingface_hub

    model = COSMOS.from_config("toybox")

    def download(repository: str, file: str, local_files_only: bool = False) -> str:
        assert local_files_only
        return str(write(tmp_path / file, model, model, config=model.config))

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setitem(released.RELEASED, "toy", released.Released("toy", "toybox", "toybox", "toy.pt"))
    assert same(load_checkpoint("toy"), model)


def test_without_a_network_a_released_name_gives_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    import huggingface_hub

    def offline(repository: str, file: str, local_files_only: bool = False) -> str:
        raise LocalEntryNotFoundError("cannot find the file in the cache\nand no connection")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    line = refusal("vitb16-cc3m")
    assert "vitb16-cc3m is not in the local cache" in line
    assert "cosmos_vitb16_cc3m.pt of sankim2/cosmos" in line
    with pytest.raises(RequestError, match="no released checkpoint 'x'"):
        released.fetch("x")


@pytest.mark.parametrize(
    ("part", "key", "value", "reason"),
    [
        ("text_cfg", "layers", 10**7, "too large a number: text_cfg.layers 10000000 (largest: 512)"),
        ("vision_cfg", "width", 10**9, "too large a number: vision_cfg.width"),
        ("vision_cfg", "image_size", 8192, "more than 262,144 patches"),
        ("text_cfg", "context_length", 8000, "positional_embedding is (10, 16), not (8000, 16)"),
        ("text_cfg", "pool_type", "eos", "its text is pooled at token 2, not at its end token 49"),
        ("vision_cfg", "norm_kwargs", {"eps": "x"}, "vision_cfg.norm_kwargs.eps 'x' is not a number"),
        ("vision_cfg", "act_kwargs", {"slope": 1}, "makes no model: GELU.__init__() got an unexpected keyword"),
        ("vision_cfg", "layers", 10**60, "too large a number: vision_cfg.layers 1000"),
    ],
)
def test_a_files_own_configuration_is_bounded_before_a_network_is_built(
    tmp_path: Path, model: COSMOS, part: str, key: str, value: Any, reason: str
):
    patch = {"patch_size": 8} if key != "image_size" else {"patch_size": 1}
    config = {**TINY, "vision_cfg": {**TINY["vision_cfg"], **patch}}
    config[part] = {**config[part], key: value}
    assert reason in refusal(write(tmp_path / "last.pt", model, model, config=config))


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: COSMOS):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "last.pt", model, model, optimizer={"state": {}, "param_groups": []})
    assert same(load_checkpoint("~/last.pt"), model)
    assert "optimizer" in export.original_layout("~/last.pt")
