"""transformers' CLIP and SigLIP from a folder: everything comes from the files beside the weights."""

import json
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
)

from cosmos_core.errors import RequestError
from cosmos_eval.models import load_model
from cosmos_eval.models.base import Model
from cosmos_eval.models.preflight import check_model
from tests.closeness import assert_close, is_close

TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXTS = ["a red cube", "A RED cube", "two blue spheres, left of the cube."]
WORDS = ["a", "red", "cube", "two", "blue", "spheres", "left", "of", "the", ",", "."]


def clip_tokenizer():
    vocab = {"<|startoftext|>": 0, "<|endoftext|>": 1}
    characters = [chr(c) for c in range(ord("a"), ord("z") + 1)] + [",", "."]
    for character in characters:
        vocab[character] = len(vocab)
        vocab[character + "</w>"] = len(vocab)
    return CLIPTokenizer(vocab=vocab, merges=[], model_max_length=20)


def clip(folder, act="quick_gelu", crop=32):
    torch.manual_seed(0)
    tokenizer = clip_tokenizer()
    special = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    text = {**TOWER, "vocab_size": len(tokenizer), "max_position_embeddings": 20, "hidden_act": act, **special}
    vision = {**TOWER, "image_size": 32, "patch_size": 16, "hidden_act": act}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).save_pretrained(folder)
    size = {"height": crop, "width": crop}
    CLIPImageProcessorPil(size={"shortest_edge": crop}, crop_size=size, resample=3).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def siglip(folder, canonical=True, mean=0.5):
    torch.manual_seed(0)
    vocab = {"</s>": 0, "<unk>": 1, **{word: i + 2 for i, word in enumerate([*WORDS, "A", "RED"])}}
    backend = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    if canonical:
        backend.normalizer = normalizers.Sequence(
            [normalizers.Lowercase(), normalizers.Replace(Regex("[,.!?]"), ""), normalizers.Strip()]
        )
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 0)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", pad_token="</s>", unk_token="<unk>")
    text = {**TOWER, "vocab_size": len(vocab), "max_position_embeddings": 12}
    vision = {**TOWER, "image_size": 32, "patch_size": 16}
    SiglipModel(SiglipConfig(text_config=text, vision_config=vision)).save_pretrained(folder)
    SiglipImageProcessorPil(size={"height": 32, "width": 32}, image_mean=[mean] * 3).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    return clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def siglip_folder(tmp_path_factory):
    return siglip(tmp_path_factory.mktemp("siglip"))


def noise(size=(50, 40)):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))


def test_clip_embeddings_are_those_of_transformers(clip_folder):
    model = load_model(f"hf:{clip_folder}")
    assert isinstance(model, Model)
    network = CLIPModel.from_pretrained(clip_folder).eval()
    pixels = CLIPImageProcessorPil.from_pretrained(clip_folder)(images=[noise()], return_tensors="pt")["pixel_values"]
    tokens = CLIPTokenizer.from_pretrained(clip_folder)(TEXTS, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        expected = network(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"], pixel_values=pixels)
    x = torch.stack([model.preprocess(noise())])
    assert torch.equal(x, pixels)
    images, texts = model.encode_image(x), model.encode_text(TEXTS)
    assert torch.nn.functional.normalize(images).allclose(expected.image_embeds, atol=1e-6)
    assert torch.nn.functional.normalize(texts).allclose(expected.text_embeds, atol=1e-6)
    assert_close(texts[0], texts[1])
    assert (images.norm() - 1).abs() > 1e-3
    assert not texts.requires_grad


def test_siglip_pads_every_text_to_the_whole_context_and_masks_nothing(siglip_folder):
    model = load_model(f"hf:{siglip_folder}")
    network = SiglipModel.from_pretrained(siglip_folder).eval()
    ids = torch.zeros(1, 12, dtype=torch.long)  # </s> is 0
    ids[0, :3] = torch.tensor([2, 3, 4])  # a red cube
    with torch.no_grad():
        expected = network.get_text_features(input_ids=ids).pooler_output
        unpadded = network.get_text_features(input_ids=ids[:, :4]).pooler_output
    assert model.encode_text(["a red cube"]).allclose(expected, atol=1e-6)
    assert not model.encode_text(["a red cube"]).allclose(unpadded, atol=1e-3)
    assert_close(model.encode_text(["A red, cube."]), model.encode_text(["a red cube"]))


def test_siglip_squashes_images(siglip_folder):
    model = load_model(f"hf:{siglip_folder}")
    squashed = np.asarray(noise().resize((32, 32), Image.Resampling.BICUBIC), np.float32) / 255
    expected = torch.from_numpy((squashed - 0.5) / 0.5).permute(2, 0, 1)
    assert model.preprocess(noise()).allclose(expected, atol=1e-6)


def test_siglip_lower_cases_texts_even_if_its_tokenizer_keeps_capitals(tmp_path):
    model = load_model(f"hf:{siglip(tmp_path, canonical=False)}")
    assert_close(model.encode_text(["A RED cube"]), model.encode_text(["a red cube"]))
    assert model.describe()["text_case"] == "lower"
    assert not is_close(model.encode_text(["a red cube."]), model.encode_text(["a red cube"]))


def test_descriptions_name_what_influences_the_embeddings(clip_folder, siglip_folder):
    described = load_model(f"hf:{clip_folder}").describe()
    assert (described["activation"], described["padding"], described["text_case"]) == ("quick_gelu", "longest", "lower")
    assert (described["resize"], described["interpolation"], described["context_length"]) == ("shortest", "bicubic", 20)
    assert described["image_size"] == 32
    described = load_model(f"hf:{siglip_folder}").describe()
    assert (described["activation"], described["padding"]) == ("gelu_tanh", "max_length")
    assert (described["resize"], described["text_case"], described["context_length"]) == ("squash", "canonical", 12)
    assert described["mean"] == [0.5] * 3
    assert str(siglip_folder.parent) not in json.dumps(described)


def test_a_processor_that_only_crops_is_described_without_a_filter(tmp_path):
    path = clip(tmp_path) / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "resample": None, "do_resize": False}))
    model = load_model(f"hf:{tmp_path}")
    described = model.describe()
    assert (described["interpolation"], described["resize"]) == ("none", "none")
    left, top = (50 - 32) // 2, (40 - 32) // 2
    cropped = noise().crop((left, top, left + 32, top + 32))
    assert torch.equal(model.preprocess(noise()), model.preprocess(cropped))


@pytest.mark.filterwarnings("ignore:.*encountered in divide:RuntimeWarning")
def test_a_processor_whose_pixels_are_not_finite_is_refused_before_any_image(tmp_path):
    path = siglip(tmp_path) / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "image_std": [0.5, 0.0, 0.5]}))
    with pytest.raises(RequestError, match=r"pixels that are NaN or infinite; correct image_std"):
        load_model(f"hf:{tmp_path}")


@pytest.mark.parametrize("value", ["many", [12]])
def test_a_tokenizer_whose_length_is_not_a_number_is_refused_in_one_line(tmp_path, value):
    path = siglip(tmp_path) / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_max_length": value}))
    problem = check_model(f"hf:{tmp_path}").problem
    assert "model_max_length in tokenizer_config.json must be a number, got " in problem
    with pytest.raises(RequestError) as refusal:
        load_model(f"hf:{tmp_path}")
    assert str(refusal.value) == problem


def test_a_processor_that_cannot_make_an_image_is_refused_in_one_line(tmp_path):
    path = clip(tmp_path) / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "resample": None}))
    with pytest.raises(RequestError, match=r"the processor fails on an image: ValueError: .*resample") as refusal:
        load_model(f"hf:{tmp_path}")
    assert "\n" not in str(refusal.value)


def test_the_digest_depends_on_activation_preprocessing_and_tokenizer_but_not_on_the_folder(tmp_path, siglip_folder):
    digests_of_copies = [load_model(f"hf:{folder}").digest for folder in (siglip_folder, siglip(tmp_path / "copy"))]
    changed_siglips = [siglip(tmp_path / "mean", mean=0.4), siglip(tmp_path / "case", canonical=False)]
    clips = [clip(tmp_path / "quick"), clip(tmp_path / "exact", act="gelu")]
    assert digests_of_copies[0] == digests_of_copies[1]
    digests = {load_model(f"hf:{folder}").digest for folder in [*changed_siglips, *clips]}
    assert len(digests | set(digests_of_copies)) == 5


def test_encoding_does_not_change_the_digest(clip_folder):
    first, second = load_model(f"hf:{clip_folder}"), load_model(f"hf:{clip_folder}")
    before = first.digest
    second.encode_text(TEXTS)  # fast tokenizers remember the padding of their last call
    assert second.digest == before


def test_preprocessing_is_picklable(clip_folder):
    preprocess = load_model(f"hf:{clip_folder}").preprocess
    assert torch.equal(pickle.loads(pickle.dumps(preprocess))(noise()), preprocess(noise()))


def test_palette_images_are_converted_before_anything_else(clip_folder):
    preprocess = load_model(f"hf:{clip_folder}").preprocess
    palette = noise().convert("P")
    assert torch.equal(preprocess(palette), preprocess(palette.convert("RGB")))


def test_files_of_a_siglip_tokenizer_are_read_without_sentencepiece(tmp_path, siglip_folder):
    folder = siglip(tmp_path, canonical=False)  # without cleaning, which SiglipTokenizer does in Python
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "tokenizer_class": "SiglipTokenizer"}))
    model, canonical = load_model(f"hf:{folder}"), load_model(f"hf:{siglip_folder}")
    texts = ["A red, CUBE.", "two  blue\nspheres"]
    assert_close(model.encode_text(texts), canonical.encode_text(texts))
    assert model.describe()["text_case"] == "canonical"


def test_a_tokenizer_with_more_words_than_the_model_is_refused(tmp_path):
    folder = clip(tmp_path)
    tokenizer = clip_tokenizer()
    tokenizer.add_tokens(["unheardof"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(RequestError, match="tokenizer has ids up to 58 and the model 58 embeddings"):
        load_model(f"hf:{folder}")


def test_missing_weights_are_refused_and_not_replaced_by_random_ones(tmp_path):
    folder = clip(tmp_path)
    state = load_file(folder / "model.safetensors")
    state.pop("text_projection.weight")
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(RequestError, match=r"lacks 1 of the model's tensors: text_projection\.weight"):
        load_model(f"hf:{folder}")


def test_a_processor_for_another_size_is_refused(tmp_path):
    with pytest.raises(RequestError, match="makes images of 48x48 and the model takes 32x32"):
        load_model(f"hf:{clip(tmp_path, crop=48)}")


def test_another_kind_of_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(RequestError, match="is a bert model; this adapter reads clip, siglip, siglip2, metaclip_2"):
        load_model(f"hf:{tmp_path}")


@pytest.mark.parametrize("broken", ["empty", "truncated", "absent"])
def test_a_folder_that_is_not_a_model_is_refused_in_one_line(tmp_path, broken):
    if broken == "truncated":
        path = clip(tmp_path) / "model.safetensors"
        path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(RequestError) as refusal:
        load_model(f"hf:{tmp_path / 'nowhere' / 'at' / 'all' if broken == 'absent' else tmp_path}")
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 600


def test_without_a_network_a_hub_id_is_refused_at_once(monkeypatch, tmp_path, capfd):
    import socket

    from huggingface_hub import constants

    def fail_to_resolve(*_, **__):
        raise socket.gaierror("no network in tests")

    monkeypatch.setattr(socket, "getaddrinfo", fail_to_resolve)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    with pytest.raises(RequestError, match="the hub cannot be reached") as refusal:
        load_model("hf:nobody/no-such-model-anywhere")
    assert "\n" not in str(refusal.value)
    assert capfd.readouterr().err == ""
    assert constants.HF_HUB_OFFLINE is False


@pytest.mark.parametrize("value", [None, 7, "32", [32]])
def test_a_size_of_any_type_that_differs_from_the_weights_is_refused(tmp_path, value):
    folder = clip(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["hidden_size"] = value
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(RequestError, match="hidden_size") as refusal:
        load_model(f"hf:{folder}")
    assert "\n" not in str(refusal.value)
