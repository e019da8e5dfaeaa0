"""Checkpoints that are not loaded: no code is run, and one line names the file and its fault."""

import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cosmos_core import COSMOS, checkpoint, load_checkpoint
from cosmos_core.checkpoint import save_safetensors
from cosmos_core.errors import RequestError
from tests.core.checkpoint_files import refusal, write
from tests.core.test_model import TINY


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
