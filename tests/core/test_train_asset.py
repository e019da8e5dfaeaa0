"""The checkpoint that comes with the package: small, self-describing, and trained."""

from importlib.resources import files

import numpy as np
import torch
from safetensors import safe_open

from cosmos_core.checkpoint import load_checkpoint
from cosmos_core.config import load_preset
from cosmos_core.configs import preset
from cosmos_core.tokenizer import build_tokenizer
from cosmos_core.views import CLIP_MEAN, CLIP_STD, normalize_pixels
from cosmos_eval.datasets.toybox import captions, make_scene, render

ASSETS = files("cosmos_core") / "assets"
FILE = str(ASSETS / "toybox.safetensors")


def test_it_has_at_most_five_megabytes_and_its_matrices_are_float16():
    assert len((ASSETS / "toybox.safetensors").read_bytes()) <= 5_000_000
    with safe_open(FILE, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 - not a mapping
            tensor = file.get_tensor(name)
            assert tensor.dtype == (torch.float16 if tensor.ndim > 1 else torch.float32), name


def test_it_says_how_it_was_made_and_so_does_the_page_beside_it():
    with safe_open(FILE, framework="pt") as file:
        notes = file.metadata()
    assert notes["weights"] == "teacher"
    assert notes["command"].startswith("cosmos-eval train toybox ")
    page = (ASSETS / "README.md").read_text(encoding="utf-8")
    assert notes["command"] in page
    assert f"Seed {notes['seed']}" in page
    changes = [word for word in notes["command"].split() if "=" in word]
    config = load_preset("toybox", changes)  # still a command that the preset understands
    assert (str(config.seed), str(config.steps)) == (notes["seed"], notes["steps"])


def test_it_is_the_model_of_the_preset():
    assert load_checkpoint(FILE).config == preset("toybox")


def test_it_finds_the_description_of_most_scenes_that_it_has_never_seen():
    model = load_checkpoint(FILE)
    scenes = [make_scene(0, "test", i) for i in range(200)]
    images = normalize_pixels(np.stack([render(scene) for scene in scenes]), CLIP_MEAN, CLIP_STD)
    texts = build_tokenizer(model.config["text_cfg"])([captions(scene).full[0] for scene in scenes])
    with torch.no_grad():
        logits = (model.encode_image(images, True) @ model.encode_text(texts, True).T).numpy()
    for table in (logits, logits.T):
        assert (table.argmax(1) == np.arange(200)).mean() > 0.5
