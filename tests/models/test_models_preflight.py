"""Checks of models before any is loaded: every kind of spec, and nothing downloaded."""

import json
import sys

import pytest
import torch

from cosmos_core import COSMOS
from cosmos_core.checkpoint import save_checkpoint
from cosmos_core.errors import RequestError
from cosmos_eval.cli.main import run_command as main
from cosmos_eval.models import load_model
from cosmos_eval.models.embeddings import write_embeddings
from cosmos_eval.models.preflight import check_model, require_models
from cosmos_eval.training.sweep import expand_all
from tests.models.test_models_hf import clip, clip_folder, siglip
from tests.models.test_models_open_clip import build_network, folder

__all__ = ["clip_folder", "folder"]


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    """No test here may open a connection; the current folder is empty."""
    import socket

    def refuse(*_, **__):
        raise AssertionError("a check went to the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("cosmos:nope/last.pt", "does not exist"),
        ("cosmos:nope", "no released checkpoint with this name"),
        ("cosmos:toybx", "no checkpoint of this name; did you mean toybox?"),
        ("cosmos:vitb16_cc3m", "did you mean vitb16-cc3m"),
        ("cosmos:untrained-nope", "no model preset 'nope'"),
        ("cosmos:toybox#student", "holds toybox's teacher only"),
        (f"cosmos:untrained-toybox?seed={10**400}", "write ?seed=NUMBER"),
        ("open_clip:ViT-B-99/openai", "has no architecture 'ViT-B-99'"),
        ("open_clip:ViT-B-32/nope", "neither a file nor a tag of ViT-B-32"),
        ("open_clip:local-dir:nope", "does not exist; give a folder"),
        ("hf:no/such/folder", "there is no folder"),
        ("python:no_such_module:build", "cannot import no_such_module"),
        ("python:json:build", "json has no function 'build'"),
        ("embeddings:nope", "there is no folder nope"),
        ("clip:ViT-B-32", "is of an unknown kind"),
    ],
)
def test_the_check_finds_what_cannot_be_loaded(spec, reason):
    problem = check_model(spec).problem
    assert reason in problem
    assert spec[:20] in problem
    assert "\n" not in problem


@pytest.mark.parametrize("spec", ["cosmos:vitb16-cc3m", "open_clip:ViT-B-32/openai", "hf:google/siglip-none-of-these"])
def test_a_model_that_is_not_in_the_cache_gets_a_note_and_is_not_downloaded(spec, monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert (check_model(spec).problem, check_model(spec).note) == ("", "would be fetched (not checked)")


def test_good_models_of_every_kind_pass(tmp_path, folder, clip_folder):
    core = COSMOS.from_config("toybox")
    save_checkpoint(
        tmp_path / "last.pt", config=core.config, student=core, teacher=core, optimizer=None, epoch=1, name="run"
    )
    (tmp_path / "adapter_of_preflight.py").write_text("def build():\n    raise SystemExit('not called')\n")
    write_embeddings(tmp_path / "vectors", ["a"], torch.ones(1, 2), ["t"], torch.ones(1, 2))
    specs = ["cosmos:toybox", "cosmos:untrained-toybox?seed=3", "cosmos:last.pt#student", "open_clip:tiny/openai"]
    specs += [f"open_clip:tiny/{folder / 'weights.pt'}#gelu", f"hf:{clip_folder}", "embeddings:vectors"]
    specs += ["python:adapter_of_preflight:build"]
    require_models(specs)


def test_names_and_shapes_are_compared_without_reading_weights(tmp_path, folder):
    torch.save({"state_dict": {"visual.proj": torch.ones(2, 2)}}, tmp_path / "part.pt")
    assert "does not load as tiny: missing keys" in check_model("open_clip:tiny/part.pt#gelu").problem
    state = build_network().state_dict()
    torch.save(state, tmp_path / "plain.pt")
    assert "use open_clip:ARCH/FILE" in check_model("cosmos:plain.pt").problem
    core = COSMOS.from_config("toybox")
    config = {**core.config, "text_cfg": {**core.config["text_cfg"], "layers": 10**7}}
    save_checkpoint(
        tmp_path / "deep.pt", config=config, student=core, teacher=core, optimizer=None, epoch=1, name="run"
    )
    assert "too large a number: text_cfg.layers 10000000" in check_model("cosmos:deep.pt").problem


@pytest.mark.parametrize("write_model", [clip, siglip])
def test_the_check_finds_a_missing_file_in_a_folder_of_transformers(tmp_path, write_model):
    path = write_model(tmp_path / "model")
    contents = {file.name: file.read_bytes() for file in path.iterdir()}
    reasons = {
        "config.json": "has no config.json",
        "preprocessor_config.json": "has no preprocessor_config.json",
        "model.safetensors": "has no weights",
        "tokenizer.json": "has no tokenizer: put tokenizer.json",
    }
    for name, reason in reasons.items():
        (path / name).unlink()
        assert reason in check_model(f"hf:{path}").problem
        (path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 123\n")
        assert f"{path / name} is a Git LFS pointer, not the file itself" in check_model(f"hf:{path}").problem
        (path / name).write_bytes(contents[name])
    assert check_model(f"hf:{path}").problem == ""


def word_tokenizer(count):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocab = {"[PAD]": 0, "[UNK]": 1, **{f"word{i}": i + 2 for i in range(count - 2)}}
    backend = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]", pad_token="[PAD]")


@pytest.mark.parametrize(
    ("write_model", "word_count", "reason"),
    [
        (clip, 22, "has a vocabulary of 22 and the model 58 embeddings"),
        (clip, 58, "the model pools texts at token 1, which the tokenizer does not put at their end"),
        (siglip, 12, "has a vocabulary of 12 and the model 15 embeddings"),
        (siglip, 16, "has ids up to 15 and the model 15 embeddings"),
    ],
)
def test_a_tokenizer_of_another_model_is_refused(tmp_path, write_model, word_count, reason):
    path = write_model(tmp_path / "model")
    word_tokenizer(word_count).save_pretrained(path)
    problem = check_model(f"hf:{path}").problem
    assert reason in problem, problem
    with pytest.raises(RequestError) as caught:
        load_model(f"hf:{path}")
    assert str(caught.value) == problem


def test_a_model_that_pools_at_its_largest_id_needs_a_tokenizer_that_ends_with_it(tmp_path):
    path = clip(tmp_path / "model")
    config = json.loads((path / "config.json").read_text())
    config["text_config"]["eos_token_id"] = 2  # transformers then looks for the largest id; this one's end token is 1
    (path / "config.json").write_text(json.dumps(config))
    assert "the model pools texts at the largest id" in check_model(f"hf:{path}").problem


def test_sizes_of_transformers_that_are_too_large_or_wrong_are_refused_before_anything_is_built(tmp_path):
    path = clip(tmp_path / "model")
    good_config = json.loads((path / "config.json").read_text())
    for key, value, reason in (
        ("num_hidden_layers", 10**7, "not a whole number from 1 to 512"),
        ("num_hidden_layers", 3, "the weights have 2 where config.json says text_config.num_hidden_layers 3"),
        ("hidden_size", 32, "the weights have 16 where config.json says text_config.hidden_size 32"),
        ("max_position_embeddings", 40, "where config.json says text_config.max_position_embeddings 40"),
        ("max_position_embeddings", 8, "where config.json says text_config.max_position_embeddings 8"),
    ):
        config = {**good_config, "text_config": {**good_config["text_config"], key: value}}
        (path / "config.json").write_text(json.dumps(config))
        assert reason in check_model(f"hf:{path}").problem


def test_a_dry_run_names_models_that_cannot_be_loaded_and_exits_with_2(capsys):
    specs = ["cosmos:nope/last.pt", "cosmos:vitb16-cc3m", "python:no_such_module:build", "cosmos:toybox"]
    options = [word for spec in specs for word in ("--model", spec)]
    assert main(["run", *options, "--benchmark", "toybox-retrieval", "--dry-run"]) == 2
    out = capsys.readouterr().out
    assert "cosmos:toybox × toybox-retrieval: ready\n" in out
    assert "cosmos:vitb16-cc3m × toybox-retrieval: ready, would be fetched (not checked)" in out
    assert "not loadable: cosmos:nope/last.pt: " in out
    assert "not loadable: python:no_such_module:build: " in out


def test_a_run_stops_before_the_first_model_if_another_cannot_be_loaded(tmp_path, capsys):
    models = ["--model", "cosmos:toybox", "--model", "cosmos:nope/last.pt"]
    assert main(["run", *models, "--benchmark", "toybox-retrieval", "--limit", "20", "--out", "out"]) == 2
    assert "cosmos:nope/last.pt: checkpoint nope/last.pt does not exist" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [("--precision", "fp8"), ("--device", "gpu"), ("--batch-size", "0"), ("--decoder", "dcraw"), ("--resized", "none")],
)
def test_a_dry_run_refuses_a_wrong_option_as_a_run_does(option, value, capsys, tmp_path):
    command = ["run", "--benchmark", "toybox-retrieval", "--out", str(tmp_path / "out"), option, value]
    messages = []
    for dry_run in ([], ["--dry-run"]):
        assert main([*command, *dry_run]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert value in printed.err
        messages.append(printed.err)
    assert messages[0] == messages[1]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["cosmos:", "hf:", "embeddings:", "open_clip:ViT-B-32/", "open_clip:local-dir:"])
def test_a_name_too_long_for_the_file_system_is_a_problem_of_that_model(kind):
    spec = kind + 300 * "x"
    assert check_model(spec).problem
    problems = {}
    expand_all([spec, f"{spec}*.pt", "cosmos:toybox"], problems)
    assert all(problem.startswith(spec[:40]) or spec[:40] in problem for problem in problems.values())
