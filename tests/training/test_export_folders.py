"""`cosmos-eval export --format open_clip|hf`: both libraries load the folder and give the same features."""

from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
import transformers as hf
from PIL import Image

from cosmos_core.checkpoint import load_checkpoint, save_checkpoint
from cosmos_core.model import COSMOS
from cosmos_core.objective_state import stored_logit_bias
from cosmos_core.prepare import initial_model
from cosmos_core.transformers_layout import (
    config_from_transformers,
    config_to_transformers,
    from_transformers,
    to_transformers,
)
from cosmos_eval.cli.main import run_command
from cosmos_eval.models import load_model
from tests.closeness import assert_close
from tests.helpers.clip_checkpoints import CONTEXT, MODEL_CFG, perturb, write_cosmos

pytestmark = pytest.mark.usefixtures("one_thread")

TEXTS = ["a red cube", "Two  dogs &amp; a cat, playing: it's 3 o'clock!", "word " * 60]


def images() -> list[Image.Image]:
    draw = np.random.default_rng(0)
    return [Image.fromarray(draw.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in ((64, 48), (32, 32))]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return write_cosmos(tmp_path_factory.mktemp("trained") / "last.pt")


def own_features(model: COSMOS, path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    adapter = load_model(f"cosmos:{path}")
    pixels = torch.stack([adapter.preprocess(image) for image in images()])
    return adapter.encode_image(pixels), adapter.encode_text(TEXTS)


def test_open_clip_reads_it_and_gives_the_same_features(checkpoint: Path, tmp_path: Path, capsys):
    assert run_command(["export", str(checkpoint), str(tmp_path / "out"), "--format", "open_clip"]) == 0
    assert "without the cross-attention poolers, for which the library has no place" in capsys.readouterr().out
    network, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'out'}")
    tokens = open_clip.get_tokenizer(f"local-dir:{tmp_path / 'out'}")(TEXTS)
    expected = own_features(load_checkpoint(checkpoint), checkpoint)
    with torch.no_grad():
        assert_close(network.eval().encode_image(torch.stack([preprocess(x) for x in images()])), expected[0])
        assert_close(network.encode_text(tokens), expected[1])
    assert load_model(f"open_clip:local-dir:{tmp_path / 'out'}").context_length == CONTEXT


def test_the_bias_of_the_sigmoid_loss_is_in_open_clips_folder_alone(checkpoint: Path, tmp_path: Path, capsys):
    content = torch.load(checkpoint, weights_only=True)
    trained = tmp_path / "siglip.pt"
    torch.save({**content, "objective": {"name": "siglip", "state": {"bias": torch.tensor(-7.5)}}}, trained)
    for name in ("open_clip", "hf"):
        assert run_command(["export", str(trained), str(tmp_path / name), "--format", name]) == 0
    theirs = open_clip.create_model(f"local-dir:{tmp_path / 'open_clip'}")
    assert theirs.logit_bias.item() == -7.5
    assert load_model(f"open_clip:local-dir:{tmp_path / 'open_clip'}").facts()["logit_bias"] == -7.5
    assert "without the cross-attention poolers and the bias of the sigmoid loss" in capsys.readouterr().out
    assert hf.CLIPModel.from_pretrained(tmp_path / "hf") is not None
    for objective in ({"name": "of no plug-in", "state": {"bias": torch.zeros(())}}, {"name": "clip", "state": {}}):
        assert stored_logit_bias({"objective": objective}, trained) is None


@pytest.mark.parametrize("quick_gelu", [False, True])
def test_transformers_reads_it_and_gives_the_same_features(quick_gelu: bool, tmp_path: Path):
    model = initial_model({**MODEL_CFG, "quick_gelu": quick_gelu}, 5)
    perturb(model, 5)
    path = tmp_path / "one.pt"
    save_checkpoint(path, config=model.config, student=model, teacher=None, optimizer=None, epoch=0, name="one")
    path_and_network = f"{path}#student"
    assert run_command(["export", str(path), str(tmp_path / "out"), "--format", "hf", "--weights", "student"]) == 0
    network = hf.CLIPModel.from_pretrained(tmp_path / "out")
    tokenizer = hf.AutoTokenizer.from_pretrained(tmp_path / "out")
    processor = hf.AutoImageProcessor.from_pretrained(tmp_path / "out", backend="pil")
    adapter = load_model(f"cosmos:{path_and_network}")
    pixels = torch.stack([adapter.preprocess(image) for image in images()])
    texts = [TEXTS[0], "two dogs and a cat, playing: it's 3 o'clock!", TEXTS[2]]  # it does not resolve HTML entities
    ids = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        theirs = network.get_image_features(**processor(images(), return_tensors="pt"))
        assert_close(pooled(theirs), adapter.encode_image(pixels))
        assert_close(pooled(network.get_text_features(**ids)), adapter.encode_text(texts))
    assert load_model(f"hf:{tmp_path / 'out'}").context_length == CONTEXT


def pooled(features: torch.Tensor) -> torch.Tensor:
    """transformers 5 returns an object that holds them."""
    return getattr(features, "pooler_output", features)


def test_both_directions_of_the_layout_are_inverse():
    model = initial_model({**MODEL_CFG, "quick_gelu": True}, 5)
    perturb(model, 5)
    config = config_from_transformers(config_to_transformers(model.config) | {"model_type": "clip"}, 49408, "it")
    state = from_transformers(to_transformers(model.state_dict()), config)
    assert config == model.config
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in state.items())
    left_out = model.state_dict().keys() - state.keys()
    assert {name.split(".")[-2] for name in left_out if "." in name} >= {"image_token_mapping", "text_token_mapping"}
    assert all(name == "distill_logit_scale" or "cross_pool" in name or "mapping" in name for name in left_out)


def test_half_halves_the_matrices(checkpoint: Path, tmp_path: Path):
    for name, options in (("whole", []), ("half", ["--half"])):
        assert run_command(["export", str(checkpoint), str(tmp_path / name), "--format", "hf", *options]) == 0
    whole, half = ((tmp_path / name / "model.safetensors").stat().st_size for name in ("whole", "half"))
    assert 0.5 < half / whole < 0.51
    assert hf.CLIPModel.from_pretrained(tmp_path / "half").visual_projection.weight.dtype == torch.float32


def test_a_folded_vocabulary_and_folders_in_use_are_refused(checkpoint: Path, tmp_path: Path, capsys):
    folded = write_cosmos(tmp_path / "folded.pt", vocabulary=500)
    for library in ("open_clip", "hf"):
        assert run_command(["export", str(folded), str(tmp_path / "out"), "--format", library]) == 2
        assert "its vocabulary is folded to 500" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "notes.txt").write_text("mine")
    assert run_command(["export", str(checkpoint), str(tmp_path / "used"), "--format", "hf"]) == 2
    assert "exists already" in capsys.readouterr().err
    assert run_command(["export", str(checkpoint), str(tmp_path / "used"), "--format", "hf", "--overwrite"]) == 0
    assert (tmp_path / "used" / "notes.txt").read_text() == "mine"
    assert run_command(["export", str(checkpoint), str(folded), "--format", "hf", "--overwrite"]) == 2
    assert "is a file; give a folder" in capsys.readouterr().err
    assert run_command(["export", str(checkpoint), str(tmp_path / "used"), "--format", "original", "--overwrite"]) == 2
    assert "is a folder; give a file" in capsys.readouterr().err


@pytest.mark.parametrize("layout", ["original", "safetensors", "open_clip", "hf"])
def test_outputs_that_cannot_be_written_are_refused(layout: str, tmp_path: Path, capsys):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "absent")
    for out in (tmp_path / "file" / "below", tmp_path / "link", tmp_path / "link" / "below"):
        assert run_command(["export", "absent.pt", str(out), "--format", layout]) == 2
        assert str(out) in capsys.readouterr().err
