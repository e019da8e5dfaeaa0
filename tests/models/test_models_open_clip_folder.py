"""open_clip's files: folders in its layout, prefixes of wrappers, and weights of other libraries."""

import json

import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from cosmos_core import COSMOS, load_checkpoint
from cosmos_core.errors import RequestError
from cosmos_eval.models import load_model
from tests.models.test_models_open_clip import CONFIG, INCEPTION, TEXTS, build_network, folder

__all__ = ["folder"]


def write_folder(path, quick=True, name="open_clip_model.safetensors", **changes):
    path.mkdir(parents=True, exist_ok=True)
    config = {"model_cfg": {**CONFIG, "quick_gelu": quick}, "preprocess_cfg": INCEPTION, **changes}
    (path / "open_clip_config.json").write_text(json.dumps(config))
    if name.endswith(".safetensors"):
        save_file(build_network().state_dict(), path / name)
    else:
        torch.save(build_network().state_dict(), path / name)
    return path


def load_error(spec):
    """The message with which a spec is refused; it must be one line."""
    with pytest.raises(RequestError) as caught:
        load_model(spec)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"])
def test_a_folder_loads_as_by_open_clips_own_factory(tmp_path, name):
    path = write_folder(tmp_path / "hub copy", name=name)
    model = load_model(f"open_clip:local-dir:{path}")
    network, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{path}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{path}")
    image = Image.effect_noise((50, 40), 90).convert("RGB")
    x = model.preprocess(image)[None]
    assert torch.equal(x[0], preprocess(image))
    with torch.no_grad():
        network.eval()
        torch.testing.assert_close(model.encode_image(x), network.encode_image(x), atol=1e-5, rtol=1e-5)
        expected = network.encode_text(tokenizer(TEXTS))
    torch.testing.assert_close(model.encode_text(TEXTS), expected, atol=1e-5, rtol=1e-5)
    described = model.describe()
    assert (described["activation"], described["activation_source"]) == ("quick_gelu", "file")
    assert (described["resize"], described["mean"], described["source"]) == ("squash", [0.5] * 3, "hub copy")
    assert str(tmp_path) not in json.dumps(described)


def test_a_folder_and_a_file_of_the_same_weights_have_one_digest(tmp_path, folder):
    path = write_folder(tmp_path / "copy", quick=False, preprocess_cfg={})
    assert load_model(f"open_clip:local-dir:{path}").digest == load_model("open_clip:tiny/exact").digest


def test_folders_that_open_clip_cannot_build_are_refused_with_the_reason(tmp_path):
    assert "does not exist; give a folder" in load_error(f"open_clip:local-dir:{tmp_path / 'absent'}")
    assert "has no open_clip_config.json" in load_error(f"open_clip:local-dir:{tmp_path}")
    (tmp_path / "config.json").write_text("{}")
    assert f"write hf:{tmp_path}" in load_error(f"open_clip:local-dir:{tmp_path}")
    path = write_folder(tmp_path / "lfs")
    (path / "open_clip_model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    assert "is a Git LFS pointer" in load_error(f"open_clip:local-dir:{path}")
    (path / "open_clip_model.safetensors").unlink()
    assert "has no weights; put open_clip_model.safetensors" in load_error(f"open_clip:local-dir:{path}")
    assert "is a folder of open_clip; write open_clip:local-dir:" in load_error(f"open_clip:ViT-B-32/{path}")


@pytest.mark.parametrize(
    ("part", "key", "value", "reason"),
    [
        ("text_cfg", "layers", 10**7, "text_cfg.layers is 10000000, not a whole number from 1 to 512"),
        ("vision_cfg", "width", 40_000, "it has 32 where vision_cfg.width says 40000"),
        ("vision_cfg", "layers", 400, "it has 1 where vision_cfg.layers says 400"),
        ("text_cfg", "vocab_size", 2**24, "it has 49408 where text_cfg.vocab_size says 16777216"),
        ("vision_cfg", "timm_model_name", "hf-hub:someone/else", "not a name of its library"),
        ("vision_cfg", "image_size", "x", "vision_cfg.image_size is 'x', not a whole number"),
    ],
)
def test_sizes_in_a_configuration_are_compared_with_the_weights_before_anything_is_built(
    tmp_path, part, key, value, reason
):
    model = {**CONFIG, part: {**CONFIG[part], key: value}}
    assert reason in load_error(f"open_clip:local-dir:{write_folder(tmp_path, model_cfg=model)}")


def test_a_wrong_preprocess_cfg_is_refused(tmp_path):
    path = write_folder(tmp_path, preprocess_cfg={"mean": "dark"})
    assert "its preprocess_cfg is not one of open_clip" in load_error(f"open_clip:local-dir:{path}")


def word_tokenizer(count, end=None):
    """A tokenizer of `count` words, which puts the word `end` after every text if it is given."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocab = {"[PAD]": 0, "[UNK]": 1, **{f"word{i}": i for i in range(2, count)}}
    backend = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    if end:
        backend.post_processor = processors.TemplateProcessing(single=f"$A {end}", special_tokens=[(end, vocab[end])])
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]", pad_token="[PAD]")


def test_a_tokenizer_of_transformers_must_be_in_the_folder_and_belong_to_the_model(tmp_path):
    text = {**CONFIG["text_cfg"], "hf_tokenizer_name": "someone/else", "vocab_size": 30, "context_length": 12}
    config = {**CONFIG, "text_cfg": text, "quick_gelu": False}
    path = write_folder(tmp_path, model_cfg=config)
    torch.manual_seed(0)
    text_without_tokenizer = {key: value for key, value in text.items() if key != "hf_tokenizer_name"}
    network = open_clip.CLIP(CONFIG["embed_dim"], CONFIG["vision_cfg"], text_without_tokenizer)
    save_file(network.state_dict(), path / "open_clip_model.safetensors")
    spec = f"open_clip:local-dir:{path}"
    assert "has no tokenizer: put tokenizer.json" in load_error(spec)
    word_tokenizer(20).save_pretrained(path)
    assert "has a vocabulary of 20 and the model 30 embeddings" in load_error(spec)
    word_tokenizer(30).save_pretrained(path)
    assert "the model pools texts at the largest id" in load_error(spec)
    word_tokenizer(30, end="word29").save_pretrained(path)
    features = load_model(spec).encode_text(["word3 word4", "word5"])
    assert not torch.equal(features[0], features[1])


def test_a_folder_with_fewer_embeddings_than_words_in_open_clips_vocabulary_is_refused(tmp_path):
    text = {**CONFIG["text_cfg"], "vocab_size": 30}
    path = write_folder(tmp_path, model_cfg={**CONFIG, "text_cfg": text})
    network = open_clip.CLIP(CONFIG["embed_dim"], CONFIG["vision_cfg"], text)
    save_file(network.state_dict(), path / "open_clip_model.safetensors")
    assert "the tokenizer has ids up to 49407 and the model 30 embeddings" in load_error(f"open_clip:local-dir:{path}")


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch, folder):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_folder(tmp_path / "copy")
    torch.save(build_network().state_dict(), tmp_path / "weights.pt")
    assert load_model("open_clip:local-dir:~/copy").digest
    assert load_model("open_clip:tiny/~/weights.pt#gelu").describe()["source"] == "weights.pt"


@pytest.mark.parametrize("prefix", ["model.", "module.model._orig_mod.", "wrapper.net."])
def test_prefixes_of_wrappers_are_removed(folder, prefix):
    state = {prefix + key: value for key, value in build_network().state_dict().items()}
    torch.save({"epoch": 1, "state_dict": state}, folder / "wrapped.pt")
    loaded = load_model(f"open_clip:tiny/{folder / 'wrapped.pt'}#gelu").network.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in build_network().state_dict().items())


def weights_named(*keys):
    return {key: torch.ones(2, 2) for key in keys}


FOREIGN = {
    "transformers": (
        weights_named("text_model.embeddings.token_embedding.weight", "vision_model.encoder.layers.0.mlp.fc1.weight"),
        "has transformers' names: use hf:FOLDER",
    ),
    "timm": (weights_named("patch_embed.proj.weight", "blocks.0.attn.qkv.weight"), "has timm's names"),
    "torchvision": (weights_named("conv1.weight", "layer1.0.conv1.weight", "fc.weight"), "has torchvision's names"),
    "BLIP": (weights_named("visual_encoder.cls_token", "text_encoder.encoder.layer.0.x"), "has names of BLIP, ALBEF"),
    "LoRA": (weights_named("base_model.model.x.lora_A.weight"), "merge them into the model first"),
    "FLAIR": (weights_named("visual.conv1.weight", "visual_proj.q.weight", "image_post.weight"), "has FLAIR's names"),
    "wrapped": (
        weights_named("clip.visual.conv1.weight", "clip.transformer.resblocks.0.x"),
        "has clip. before every name",
    ),
}


@pytest.mark.parametrize("library", FOREIGN)
def test_every_loader_names_the_library_of_foreign_weights(folder, library):
    state, reason = FOREIGN[library]
    torch.save({"state_dict": state}, folder / "other.pt")
    assert reason in load_error(f"open_clip:tiny/{folder / 'other.pt'}#gelu")
    assert reason in load_error(f"cosmos:{folder / 'other.pt'}")


def test_cosmos_and_open_clip_advise_each_others_spec(folder):
    weights = COSMOS.from_config("toybox").state_dict()
    torch.save(weights, folder / "bare.pt")
    torch.save({"student": weights, "teacher": weights}, folder / "training.pt")
    assert "has COSMOS's names" in load_error(f"open_clip:tiny/{folder / 'bare.pt'}#gelu")
    message = load_error(f"open_clip:tiny/{folder / 'training.pt'}#gelu")
    assert message.endswith(f"use cosmos:{folder / 'training.pt'}")
    assert load_checkpoint(folder / "training.pt")  # the advice works
    assert "use open_clip:ARCH/FILE" in load_error(f"cosmos:{folder / 'weights.pt'}")


@pytest.mark.parametrize("kind", ["integers", "NaN", "flipped bit", "pointer"])
def test_weights_that_are_not_finite_floats_or_damaged_are_refused(folder, kind):
    state = build_network().state_dict()
    if kind == "integers":
        state["visual.proj"] = state["visual.proj"].to(torch.int8)
    elif kind == "NaN":
        state["visual.proj"][0, 0] = torch.nan
    path = folder / "bad.pt"
    torch.save(state, path)
    if kind == "flipped bit":
        content = bytearray(path.read_bytes())
        content[content.index(state["visual.proj"].numpy().tobytes()) + 5] ^= 4
        path.write_bytes(content)
    elif kind == "pointer":
        path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 123\n")
    reasons = {"integers": "visual.proj is int8, not float", "NaN": "visual.proj holds NaN or infinite values"}
    reasons |= {"flipped bit": "does not have its checksum", "pointer": "is a Git LFS pointer, not the file itself"}
    assert reasons[kind] in load_error(f"open_clip:tiny/{path}#gelu")
