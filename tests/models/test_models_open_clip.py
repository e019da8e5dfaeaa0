"""open_clip's models: a wrong activation, image size or context length is never accepted silently."""

import json
import pickle

import open_clip
import pytest
import torch
from open_clip import factory as registry
from open_clip import pretrained
from PIL import Image
from safetensors.torch import save_file

from cosmos_core.errors import RequestError
from cosmos_eval.models import load_model
from cosmos_eval.models.base import Model
from cosmos_eval.models.open_clip_activation import known_activations, trained_with_quick_gelu
from tests.closeness import assert_close, is_close

CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
LARGER = {**CONFIG, "vision_cfg": {**CONFIG["vision_cfg"], "image_size": 64}}
SHORTER = {**CONFIG, "text_cfg": {**CONFIG["text_cfg"], "context_length": 32}}
TEXTS = ["a red cube", "A RED cube", "two blue spheres"]
INCEPTION = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "interpolation": "bilinear", "resize_mode": "squash"}
CLIP = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}
CLIP |= {"interpolation": "bicubic", "resize_mode": "shortest"}


def build_network(config=CONFIG, quick=False, seed=0):
    torch.manual_seed(seed)
    return open_clip.CLIP(**config, quick_gelu=quick).eval()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A registry with a small architecture, its weights of both activations, and tags that say which is which."""
    for name, config in (("tiny", CONFIG), ("tiny-64", LARGER), ("tiny-32", SHORTER)):
        monkeypatch.setitem(registry._MODEL_CONFIGS, name, config)
    torch.save(build_network().state_dict(), tmp_path / "weights.pt")
    tags = {
        "exact": {**CLIP, "file": str(tmp_path / "weights.pt")},
        "openai": {**CLIP, "file": str(tmp_path / "weights.pt"), "quick_gelu": True},
    }
    monkeypatch.setitem(pretrained._PRETRAINED, "tiny", tags)
    monkeypatch.setitem(pretrained._PRETRAINED, "tiny-quickgelu", {"openai": tags["openai"]})
    return tmp_path


def test_embeddings_are_those_of_the_network_unnormalised(folder):
    model = load_model(f"open_clip:tiny/{folder / 'weights.pt'}#gelu")
    assert isinstance(model, Model)
    x = torch.stack([model.preprocess(Image.new("RGB", (50, 40), colour)) for colour in ("red", "blue")])
    network, tokenizer = build_network(), open_clip.get_tokenizer("tiny")
    with torch.no_grad():
        assert_close(model.encode_image(x), network.encode_image(x))
        assert_close(model.encode_text(TEXTS), network.encode_text(tokenizer(TEXTS)))
    assert_close(model.encode_text(TEXTS)[0], model.encode_text(TEXTS)[1])
    assert not model.encode_text(TEXTS).requires_grad


def test_a_tag_trained_with_quick_gelu_gets_it_whatever_the_architecture_says(folder):
    quick, exact = load_model("open_clip:tiny/openai"), load_model("open_clip:tiny/exact")
    assert (quick.describe()["activation"], exact.describe()["activation"]) == ("quick_gelu", "gelu")
    with torch.no_grad():
        expected = build_network(quick=True).encode_text(open_clip.get_tokenizer("tiny")(TEXTS))
    assert_close(quick.encode_text(TEXTS), expected)
    assert not is_close(quick.encode_text(TEXTS), exact.encode_text(TEXTS))
    assert quick.digest != exact.digest
    assert load_model("open_clip:tiny-quickgelu/openai").digest == quick.digest


def test_a_tag_trained_with_gelu_refuses_quick_gelu(folder):
    with pytest.raises(RequestError, match="trained with GELU; write open_clip:tiny/exact"):
        load_model("open_clip:tiny-quickgelu/exact")


def test_every_registered_pair_gets_the_activation_that_its_tag_is_marked_with():
    """open_clip's own factory builds 27 of these pairs with the other activation, and warns."""
    pairs = [(arch, tag) for arch, tag in open_clip.list_pretrained() if not arch.endswith("-quickgelu")]
    quick_gelu, built_by_default, marked = {}, {}, {}
    for arch, tag in pairs:
        if arch in open_clip.list_models():
            config = pretrained.get_pretrained_cfg(arch, tag)
            quick_gelu[arch, tag] = trained_with_quick_gelu(arch, config)
            marked[arch, tag] = config.get("quick_gelu", False)
            built_by_default[arch, tag] = open_clip.get_model_config(arch).get("quick_gelu", False)
    assert quick_gelu["ViT-B-16", "openai"] is True
    assert quick_gelu["ViT-B-32", "laion2b_s34b_b79k"] is False
    # the only architecture with QuickGELU in its configuration and no mark on its weights
    assert [pair for pair in quick_gelu if quick_gelu[pair] != marked[pair]] == [
        ("roberta-ViT-B-32", "laion2b_s12b_b32k")
    ]
    assert sum(quick_gelu[pair] != built_by_default[pair] for pair in quick_gelu) == 27


def test_the_user_chooses_the_activation_of_a_file_and_the_result_records_it(folder):
    file = folder / "weights.pt"
    exact, quick = load_model(f"open_clip:tiny/{file}#gelu"), load_model(f"open_clip:tiny-quickgelu/{file}")
    assert (exact.describe()["activation"], quick.describe()["activation"]) == ("gelu", "quick_gelu")
    assert (exact.describe()["arch"], quick.describe()["arch"]) == ("tiny", "tiny-quickgelu")
    assert exact.digest != quick.digest


@pytest.mark.parametrize(
    ("content", "right", "wrong"),
    [
        ({"name": "2024_01_01-model_tiny-quickgelu-lr_0.001-b_64"}, "tiny-quickgelu", "tiny"),
        ({"config": {"quick_gelu": False}}, "tiny", "tiny-quickgelu"),
        ({"config": {"quick_gelu": True}}, "tiny-quickgelu", "tiny"),
        ({"model_cfg": {"quick_gelu": False}}, "tiny", "tiny-quickgelu"),
    ],
)
def test_a_file_that_declares_another_activation_than_the_architecture_is_refused(folder, content, right, wrong):
    torch.save(
        {**content, "state_dict": {f"module.{k}": v for k, v in build_network().state_dict().items()}},
        folder / "run.pt",
    )
    load_model(f"open_clip:{right}/{folder / 'run.pt'}")
    with pytest.raises(RequestError, match=f"write open_clip:{right}/") as refusal:
        load_model(f"open_clip:{wrong}/{folder / 'run.pt'}")
    assert "\n" not in str(refusal.value)


def test_a_file_that_declares_nothing_is_refused_if_the_architecture_is_in_use_with_both_activations(folder):
    """OpenAI's weights saved again look like anybody's: built with plain GELU they lose four points of ImageNet."""
    weights = {"state_dict": build_network().state_dict()}
    torch.save({**weights, "name": "2024_01_01-model_tiny-lr_0.001-b_64"}, folder / "run.pt")  # --force-quick-gelu?
    for file in (folder / "weights.pt", folder / "run.pt"):
        with pytest.raises(RequestError, match=r"open_clip:tiny/.*#quickgelu .* or #gelu$") as refusal:
            load_model(f"open_clip:tiny/{file}")
        assert "\n" not in str(refusal.value)
        exact, quick = load_model(f"open_clip:tiny/{file}#gelu"), load_model(f"open_clip:tiny/{file}#quickgelu")
        assert (exact.describe()["activation"], quick.describe()["activation"]) == ("gelu", "quick_gelu")
        assert load_model(f"open_clip:tiny-quickgelu/{file}").digest == quick.digest != exact.digest


@pytest.mark.parametrize("how", ["tags of both kinds", "all tags quick", "tags with suffix", "config with suffix"])
def test_tags_or_an_architecture_with_the_suffix_show_that_both_activations_are_in_use(folder, monkeypatch, how):
    plain, quick = {**CLIP, "file": "x"}, {**CLIP, "file": "x", "quick_gelu": True}
    monkeypatch.delitem(pretrained._PRETRAINED, "tiny-quickgelu")
    monkeypatch.setitem(pretrained._PRETRAINED, "tiny", {"a": plain})
    assert known_activations("tiny") == {False}
    if how == "tags of both kinds":
        monkeypatch.setitem(pretrained._PRETRAINED, "tiny", {"a": plain, "b": quick})
    elif how == "all tags quick":  # RN50x4: its own configuration says plain GELU
        monkeypatch.setitem(pretrained._PRETRAINED, "tiny", {"b": quick})
    elif how == "tags with suffix":
        monkeypatch.setitem(pretrained._PRETRAINED, "tiny-quickgelu", {"b": quick})
    else:
        monkeypatch.setitem(registry._MODEL_CONFIGS, "tiny-quickgelu", {**CONFIG, "quick_gelu": True})
    assert known_activations("tiny") == {False, True}
    with pytest.raises(RequestError, match="does not say whether it was trained with QuickGELU"):
        load_model(f"open_clip:tiny/{folder / 'weights.pt'}")


def test_architectures_of_openais_weights_are_in_use_with_both_activations_and_others_load_without_a_selector():
    both = {name for name in open_clip.list_models() if len(known_activations(name.removesuffix("-quickgelu"))) > 1}
    openai = {name for name, tag in open_clip.list_pretrained() if tag == "openai"}
    assert openai <= both
    assert {"ViT-H-14", "ViT-bigG-14"} <= both
    assert not both & {"ViT-B-16-SigLIP", "ViT-B-16-plus-240", "ViT-B-32-256", "convnext_base_w", "roberta-ViT-B-32"}


def test_the_description_records_what_determined_the_activation(folder):
    weights, state = folder / "weights.pt", build_network(SHORTER).state_dict()
    torch.save(state, folder / "short.pt")
    torch.save({"config": {"quick_gelu": True}, "state_dict": build_network().state_dict()}, folder / "quick.pt")
    activation_sources = {
        spec: load_model(spec).describe()["activation_source"]
        for spec in (
            "open_clip:tiny/openai",
            f"open_clip:tiny/{weights}#gelu",
            f"open_clip:tiny-quickgelu/{weights}",
            f"open_clip:tiny/{folder / 'quick.pt'}#quickgelu",
            f"open_clip:tiny-32/{folder / 'short.pt'}",
        )
    }
    assert list(activation_sources.values()) == ["registry tag", "user", "user", "file", "architecture"]


def test_a_selector_that_contradicts_a_tag_or_a_file_is_refused(folder):
    assert load_model("open_clip:tiny/exact#gelu").digest == load_model("open_clip:tiny/exact").digest
    with pytest.raises(RequestError, match=r"trained with QuickGELU; write open_clip:tiny/openai$"):
        load_model("open_clip:tiny/openai#gelu")
    with pytest.raises(RequestError, match=r"trained with GELU; write open_clip:tiny/exact$"):
        load_model("open_clip:tiny/exact#quickgelu")
    torch.save({"config": {"quick_gelu": False}, "state_dict": build_network().state_dict()}, folder / "plain.pt")
    with pytest.raises(RequestError, match=r"trained with GELU; write open_clip:tiny/.*plain\.pt#gelu$"):
        load_model(f"open_clip:tiny/{folder / 'plain.pt'}#quickgelu")


def test_openais_own_archives_are_recognised_by_their_numbers(folder):
    numbers = {
        "input_resolution": torch.tensor(32),
        "context_length": torch.tensor(77),
        "vocab_size": torch.tensor(49408),
    }
    torch.save({**build_network().state_dict(), **numbers}, folder / "ViT.pt")
    with pytest.raises(RequestError, match="QuickGELU; write open_clip:tiny-quickgelu/"):
        load_model(f"open_clip:tiny/{folder / 'ViT.pt'}")


def test_a_configuration_beside_the_file_determines_activation_and_preprocessing(folder):
    config = {"model_cfg": {**CONFIG, "quick_gelu": True}, "preprocess_cfg": INCEPTION}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(RequestError, match=r"open_clip_config\.json says .* QuickGELU"):
        load_model(f"open_clip:tiny/{folder / 'weights.pt'}")
    described = load_model(f"open_clip:tiny-quickgelu/{folder / 'weights.pt'}").describe()
    assert (described["resize"], described["interpolation"], described["mean"]) == ("squash", "bilinear", [0.5] * 3)
    (folder / "open_clip_config.json").write_text("{")
    with pytest.raises(RequestError, match="not a configuration"):
        load_model(f"open_clip:tiny/{folder / 'weights.pt'}")


def test_preprocessing_is_that_of_the_tag_or_the_one_that_all_tags_share(folder, monkeypatch):
    file = str(folder / "weights.pt")
    monkeypatch.setitem(pretrained._PRETRAINED, "tiny", {"webli": {**INCEPTION, "file": file}})
    for spec in ("open_clip:tiny/webli", f"open_clip:tiny/{file}#gelu"):
        described = load_model(spec).describe()
        assert (described["resize"], described["interpolation"], described["std"]) == ("squash", "bilinear", [0.5] * 3)
    monkeypatch.setitem(pretrained._PRETRAINED, "tiny", {"webli": {**INCEPTION, "file": file}, "exact": {**CLIP}})
    described = load_model(f"open_clip:tiny/{file}#gelu").describe()
    assert (described["resize"], described["mean"]) == ("shortest", list(open_clip.OPENAI_DATASET_MEAN))


def test_the_digest_changes_with_preprocessing(folder, monkeypatch):
    first = load_model("open_clip:tiny/exact").digest
    assert load_model(f"open_clip:tiny/{folder / 'weights.pt'}#gelu").digest == first
    other_tags = {"exact": {**INCEPTION, "file": str(folder / "weights.pt")}}
    monkeypatch.setitem(pretrained._PRETRAINED, "tiny", other_tags)
    assert load_model("open_clip:tiny/exact").digest != first


def test_safetensors_and_a_training_checkpoint_are_the_same_model(folder):
    save_file(build_network().state_dict(), folder / "weights.safetensors")
    torch.save(
        {"epoch": 3, "name": "run", "state_dict": build_network().state_dict(), "optimizer": {}}, folder / "epoch_3.pt"
    )
    files = ("weights.pt", "weights.safetensors", "epoch_3.pt")
    assert len({load_model(f"open_clip:tiny/{folder / file}#gelu").digest for file in files}) == 1


def test_weights_of_another_image_size_or_context_length_are_refused_and_not_resized(folder):
    with pytest.raises(RequestError, match="5 image patches and tiny-64 has 17"):
        load_model(f"open_clip:tiny-64/{folder / 'weights.pt'}")
    with pytest.raises(RequestError, match="77 text positions and tiny-32 has 32"):
        load_model(f"open_clip:tiny-32/{folder / 'weights.pt'}")


def test_an_unknown_architecture_or_tag_is_refused_with_those_that_exist(folder):
    with pytest.raises(RequestError, match=r"has no architecture 'ViT-B-61'; similar: .*ViT-B-16"):
        load_model("open_clip:ViT-B-61/openai")
    with pytest.raises(RequestError, match="neither a file nor a tag of tiny; its tags: exact, openai"):
        load_model("open_clip:tiny/laion5b")


def test_a_download_that_fails_is_one_line(folder, monkeypatch):
    monkeypatch.setitem(pretrained._PRETRAINED, "tiny", {"far": {**CLIP, "hf_hub": "nobody/nothing/"}})

    def offline(*_, **__):
        raise OSError("no network\nat all")

    monkeypatch.setattr(pretrained, "hf_hub_download", offline)
    with pytest.raises(RequestError, match=r"not in the cache and cannot be fetched.*no network at all") as refusal:
        load_model("open_clip:tiny/far")
    assert "\n" not in str(refusal.value)


class Bomb:
    def __reduce__(self):
        return (print, ("a checkpoint ran code",))


@pytest.mark.parametrize(
    "kind", ["pickle", "truncated", "text", "no weights", "objects", "other architecture", "script"]
)
def test_a_file_that_is_not_a_checkpoint_of_this_architecture_is_refused_in_one_line(folder, kind, capsys):
    path = folder / "broken.pt"
    if kind == "pickle":
        path.write_bytes(pickle.dumps({"state_dict": Bomb()}))
    elif kind == "truncated":
        path.write_bytes((folder / "weights.pt").read_bytes()[:1000])
    elif kind == "text":
        path.write_text("<html>not found</html>")
    elif kind == "no weights":
        torch.save({"epoch": 3, "args": "x"}, path)
    elif kind == "objects":
        torch.save({"state_dict": build_network().state_dict(), "args": Bomb()}, path)
    elif kind == "other architecture":
        torch.save(torch.nn.Linear(3, 3).state_dict(), path)
    else:
        torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))
    with pytest.raises(RequestError, match=r"broken\.pt") as refusal:
        load_model(f"open_clip:tiny/{path}#gelu")
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 500
    assert "ran code" not in capsys.readouterr().out


def test_a_checkpoint_with_a_missing_tensor_is_refused(folder):
    state = build_network().state_dict()
    state.pop("ln_final.weight")
    torch.save(state, folder / "half.pt")
    with pytest.raises(RequestError, match=r"half\.pt does not load as tiny: .*ln_final\.weight"):
        load_model(f"open_clip:tiny/{folder / 'half.pt'}#gelu")


def test_siglips_texts_fill_the_context_and_are_canonical(folder, monkeypatch):
    """As open_clip's SigLIP configurations define it, with a tokenizer of a dozen words."""
    from tokenizers import Tokenizer, pre_tokenizers, processors
    from tokenizers import models as kinds
    from transformers import PreTrainedTokenizerFast

    vocab = {word: i for i, word in enumerate(["</s>", "<unk>", "a", "red", "cube", "its", "photo", "of", "cat", "."])}
    words = Tokenizer(kinds.WordLevel(vocab, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 0)])
    fast = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>", pad_token="</s>", unk_token="<unk>")
    fast.save_pretrained(folder / "words")
    text = {**CONFIG["text_cfg"], "context_length": 9, "vocab_size": 10, "pool_type": "last", "no_causal_mask": True}
    text |= {"hf_tokenizer_name": str(folder / "words"), "tokenizer_kwargs": {"clean": "canonicalize"}}
    config = {**CONFIG, "text_cfg": text, "custom_text": True}
    monkeypatch.setitem(registry._MODEL_CONFIGS, "tiny-siglip", config)
    torch.manual_seed(0)
    network = open_clip.create_model("tiny-siglip").eval()
    torch.save(network.state_dict(), folder / "siglip.pt")
    tag = {"webli": {**INCEPTION, "file": str(folder / "siglip.pt")}}
    monkeypatch.setitem(pretrained._PRETRAINED, "tiny-siglip", tag)

    model = load_model("open_clip:tiny-siglip/webli")
    with torch.no_grad():
        expected = network.encode_text(torch.tensor([[2, 3, 4, 0, 0, 0, 0, 0, 0]]))
    assert_close(model.encode_text(["A red, CUBE."]), expected)
    described = model.describe()
    assert (described["padding"], described["context_length"]) == ("max_length", 9)
    assert (described["text_case"], described["tokenizer"]) == ("canonical", "HFTokenizer")
    assert (described["resize"], described["mean"]) == ("squash", [0.5] * 3)
