"""Every architecture of open_clip's registry: features of open_clip's own encoders, tokenizer and image transform."""

import json
import random
import re

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional as F

from cosmos_core.errors import RequestError
from cosmos_eval.engine.engine import Engine
from cosmos_eval.models import load_model
from cosmos_eval.models.open_clip_compat import list_architectures, model_config, why_no_dual_encoder
from cosmos_eval.models.preflight import ModelCheck, check_model
from tests.helpers.open_clip_folders import shallow_timm, write_architecture
from tests.models.test_models_open_clip import CONFIG
from tests.models.test_models_open_clip_folder import load_error, write_folder

FAMILIES = (
    "coca_roberta-ViT-B-32", "EVA02-B-16", "nllb-clip-base-siglip", "RN50", "ViT-B-32-SigLIP2-256",
    "ViT-L-14-worldwide", "ViTamin-S",
)  # fmt: skip
"""Image towers of each kind, and text towers of each kind: a few seconds each. The walk over all of them is slow."""
LARGE = re.compile(r"big|gopt|SO400M|xx?large|XL|-[eEHg]-|[34]..$|x\d\d")
SAMPLE = random.Random(16).sample(
    sorted(a for a in set(list_architectures()) - set(FAMILIES) if not LARGE.search(a)), 1
)
TEXTS = [
    "word5", "word6 word7", "", "A PHOTO of word8, the 3rd.", " ".join(f"word{i % 30 + 4}" for i in range(200)),
    "cafe \u732b word9",
]  # fmt: skip
SIZES = ((1, 1), (37, 61), (200, 33), (640, 480))


def check_architecture(arch, folder):
    """Save an architecture with open_clip, load it through our spec, and compare."""
    with shallow_timm():
        network, transform, tokenizer = write_architecture(arch, folder)
        model = load_model(f"open_clip:local-dir:{folder}")
    pixels = np.random.default_rng(0)
    images = [Image.fromarray(pixels.integers(0, 256, (height, width, 3), np.uint8)) for width, height in SIZES]
    x = torch.stack([model.preprocess(image) for image in images])
    assert torch.equal(x, torch.stack([transform(image) for image in images]))
    with torch.no_grad():
        expected = (
            F.normalize(network.encode_image(x), dim=-1),
            F.normalize(network.encode_text(tokenizer(TEXTS)), dim=-1),
        )
    assert expected[0].isfinite().all()
    assert expected[1].isfinite().all()
    features = F.normalize(model.encode_image(x), dim=-1), F.normalize(model.encode_text(TEXTS), dim=-1)
    for ours, theirs in zip(features, expected, strict=True):
        assert (ours - theirs).abs().max() <= 2e-6
    # Neither padding nor the batch changes a feature: alone, in another order, and as the engine encodes them.
    alone = F.normalize(torch.cat([model.encode_text([text]) for text in TEXTS]), dim=-1)
    assert (alone - features[1]).abs().max() <= 1e-6
    assert (F.normalize(model.encode_image(x[2:3]), dim=-1) - features[0][2:3]).abs().max() <= 1e-6
    by_engine = Engine(model, batch_size=4).text_features([*TEXTS[::-1], "word9"])[: len(TEXTS)]
    assert (by_engine.flip(0) - features[1]).abs().max() <= 1e-6
    assert (model.facts()["logit_bias"] is None) is (network.logit_bias is None)
    assert model.facts()["logit_scale"] == pytest.approx(network.logit_scale.exp().item())


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("arch", [*FAMILIES, *SAMPLE])
def test_features_of_each_family_are_those_of_open_clips_own_encoders(arch, tmp_path):
    check_architecture(arch, tmp_path / "model")


@pytest.mark.slow
@pytest.mark.parametrize("arch", list_architectures())
def test_features_of_every_architecture_are_those_of_open_clips_own_encoders(arch, tmp_path):
    check_architecture(arch, tmp_path / "model")


def test_a_registered_architecture_may_have_more_embeddings_than_words(tmp_path, monkeypatch):
    """coca_base has; a folder with another configuration is refused, since it may belong to another tokenizer."""
    config = {**CONFIG, "text_cfg": {**CONFIG["text_cfg"], "vocab_size": 50_000}}
    path = write_folder(tmp_path, model_cfg=config)
    save_file(open_clip.CLIP(**config).state_dict(), path / "open_clip_model.safetensors")
    assert "has a vocabulary of 49,408 and the model 50,000" in load_error(f"open_clip:local-dir:{path}")
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "large-table", config)
    assert load_model(f"open_clip:local-dir:{path}").describe()["arch"] == "large-table"


def test_a_text_tower_whose_configuration_cannot_be_had_is_refused_with_the_way_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with shallow_timm():
        write_architecture("xlm-roberta-base-ViT-B-32", tmp_path / "model")
    (tmp_path / "model" / "config.json").rename(tmp_path / "config.json")
    message = load_error(f"open_clip:local-dir:{tmp_path / 'model'}")
    assert "hf download xlm-roberta-base config.json, and put that config.json into the folder" in message
    spec = f"open_clip:local-dir:{tmp_path / 'model'}"
    assert check_model(spec).note == "the configuration of its text tower would be fetched (not checked)"
    assert "put that config.json into the folder" in check_model(spec, fetch=True).problem
    (tmp_path / "config.json").rename(tmp_path / "model" / "config.json")
    assert check_model(spec) == ModelCheck(spec)
    assert load_model(f"open_clip:local-dir:{tmp_path / 'model'}").digest  # the advice works
    torch.save({"x": torch.zeros(1)}, tmp_path / "weights.pt")
    message = load_error(f"open_clip:xlm-roberta-base-ViT-B-32/{tmp_path / 'weights.pt'}#gelu")
    assert "hf download xlm-roberta-base config.json, and copy the cache (HF_HOME)" in message


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("tokenizer_kwargs", {"trust_remote_code": True}, "text_cfg.tokenizer_kwargs has 'trust_remote_code'"),
        ("tokenizer_kwargs", {"tokenizer_file": "/etc/passwd"}, "text_cfg.tokenizer_kwargs has 'tokenizer_file'"),
        ("tokenizer_kwargs", ["clean"], "text_cfg.tokenizer_kwargs has 'a list or text'"),
        ("hf_tokenizer_name", "../secret", "text_cfg.hf_tokenizer_name is '../secret', not the name of a repository"),
        ("hf_model_name", "/etc", "text_cfg.hf_model_name is '/etc', not the name of a repository"),
    ],
)
def test_a_configuration_cannot_run_code_or_read_other_folders(tmp_path, key, value, reason):
    text = {**CONFIG["text_cfg"], key: value}
    assert reason in load_error(f"open_clip:local-dir:{write_folder(tmp_path, model_cfg={**CONFIG, 'text_cfg': text})}")


def test_code_beside_a_tokenizer_is_never_run(tmp_path, monkeypatch):
    path = tmp_path / "model"
    with shallow_timm():
        write_architecture("xlm-roberta-base-ViT-B-32", path)
    (path / "evil.py").write_text(f"import pathlib; pathlib.Path({str(tmp_path / 'ran')!r}).touch()\n")
    settings = json.loads((path / "tokenizer_config.json").read_text())
    settings |= {"auto_map": {"AutoTokenizer": [None, "evil.Evil"]}, "tokenizer_class": "Evil"}
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    config = json.loads((path / "config.json").read_text())
    config |= {"auto_map": {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"}, "model_type": "evil"}
    (path / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("transformers asked whether to run code"))
    with pytest.raises(RequestError) as refusal:
        load_model(f"open_clip:local-dir:{path}")
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "ran").exists()


NOT_DUAL_ENCODERS = {
    "CLAP-HTSAT-tiny": ({"embed_dim": 8, "audio_cfg": {}, "text_cfg": {}}, "it embeds audio, not images"),
    "naflexgenlap": ({"embed_dim": 8, "genlap_cfg": {}, "text_cfg": {}}, "it embeds audio, not images"),
    "naflexgenlip": ({"embed_dim": 8, "genlip_cfg": {}, "vision_cfg": {}, "text_cfg": {}}, "it generates captions"),
    "naflex_ViT-B-32": (
        {"embed_dim": 8, "vision_cfg": {"timm_model_name": "naflexvit_base"}, "text_cfg": {}},
        "its image tower takes patches of variable number (NaFlex)",
    ),
}
"""What the registry of open_clip 4 has besides dual encoders."""


@pytest.mark.parametrize("name", NOT_DUAL_ENCODERS)
def test_models_of_open_clip_4_that_are_no_dual_encoders_are_refused_with_the_reason(name, monkeypatch, tmp_path):
    config, reason = NOT_DUAL_ENCODERS[name]
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, name, config)
    (tmp_path / "weights.pt").write_bytes(b"x")
    assert reason in load_error(f"open_clip:{name}/{tmp_path / 'weights.pt'}")
    assert reason in load_error(f"open_clip:local-dir:{write_folder(tmp_path, model_cfg=config)}")


def test_mammut_of_open_clip_4_has_the_settings_of_its_tokenizer_in_its_decoder(monkeypatch):
    config = {"embed_dim": 8, "vision_cfg": {"image_size": 224}, "multimodal_cfg": {"context_length": 76}}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "mammut", config)
    assert model_config("mammut")["text_cfg"] == {"context_length": 76}
    assert why_no_dual_encoder(config) == ""
    assert model_config("no such architecture") is None


def test_nothing_of_the_installed_registry_is_refused():
    assert len(list_architectures()) == 144
    assert not [name for name in list_architectures() if why_no_dual_encoder(model_config(name))]
