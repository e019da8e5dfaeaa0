"""encode_patches of every kind of model: shapes, types and values, networks left unchanged, and refusals."""

from functools import partial

import open_clip
import pytest
import torch
from open_clip import factory as registry
from open_clip.model import _build_vision_tower
from transformers import BertConfig, BertModel

from cosmos_core.dense import ATTENTIONS, patch_features, require_supported_tower
from cosmos_core.errors import RequestError
from cosmos_eval.engine.precision import tower_precision
from cosmos_eval.models import load_model
from cosmos_eval.models.abilities import require_patch_encoder
from cosmos_eval.models.base import DenseModel
from cosmos_eval.models.cosmos import CosmosModel
from cosmos_eval.models.embeddings import write_embeddings
from cosmos_eval.models.hf import HfModel
from cosmos_eval.models.python_adapter import PythonModel
from tests.closeness import assert_close
from tests.helpers.cosmos_networks import open_clip_config

TEXT = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
VISION = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
TINY = {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": TEXT}
ARCHITECTURES = {
    "tiny-plain": TINY,
    "tiny-quick": {**TINY, "quick_gelu": True},
    "tiny-scaled": {**TINY, "vision_cfg": {**VISION, "ls_init_value": 0.3}},
    "tiny-custom": {**TINY, "vision_cfg": {**VISION, "qk_norm": True, "scale_attn": True, "scale_fc": True}},
    "tiny-wide": {**TINY, "vision_cfg": {**VISION, "image_size": [24, 40]}},
    "tiny-timm": {**TINY, "vision_cfg": {"timm_model_name": "test_vit", "image_size": 160}},
    "tiny-resnet": {
        **TINY,
        "vision_cfg": {"layers": [1, 1, 1, 1], "width": 8, "head_width": 16, "image_size": 32, "patch_size": None},
    },
    "tiny-average": {**TINY, "vision_cfg": {**VISION, "pool_type": "avg"}},
}


@pytest.fixture
def build_spec(tmp_path, monkeypatch):
    """A function that saves a small open_clip model and returns its spec."""

    def build(name):
        monkeypatch.setitem(registry._MODEL_CONFIGS, name, ARCHITECTURES[name])
        torch.manual_seed(0)
        torch.save(open_clip.create_model(name).state_dict(), tmp_path / f"{name}.pt")
        return f"open_clip:{name}/{tmp_path / f'{name}.pt'}"

    return build


def windows(count=2, height=32, width=32):
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_a_cosmos_gives_float32_maps_without_gradients(attention):
    model = load_model("cosmos:toybox")
    assert isinstance(model, DenseModel)
    patches = model.encode_patches(windows(2, 50, 97), attention)
    assert patches.shape == (2, 3, 6, 128)
    assert (patches.dtype, patches.requires_grad, patches.device) == (torch.float32, False, model.device)
    assert_close(patches, patch_features(model.core.visual, windows(2, 50, 97), attention))
    assert (patches.norm(dim=-1) - 1).abs().min() > 1e-3


def test_a_cosmos_in_training_is_in_eval_mode_only_while_it_encodes():
    core = load_model("cosmos:toybox").core
    core.train().requires_grad_(True)
    modes = []
    core.visual.ln_post.register_forward_hook(
        lambda module, *_: modes.append((module.training, torch.is_grad_enabled()))
    )
    model = CosmosModel(core)
    assert not model.encode_patches(windows(1, 64, 64), "csa").requires_grad
    assert core.training
    assert core.visual.training
    assert modes == [(False, False)]
    with pytest.raises(RequestError, match="unknown attention"):
        model.encode_patches(windows(1, 64, 64), "scsa")
    assert core.training


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_half_precision_gives_float32_near_the_exact_one(precision, attention):
    model = load_model("cosmos:toybox")
    exact = model.encode_patches(windows(), attention)
    with tower_precision(precision, model.device):
        half = model.encode_patches(windows(), attention)
    assert half.dtype == torch.float32
    assert not torch.equal(half, exact)
    assert torch.cosine_similarity(half, exact, dim=-1).min() > 0.98


@pytest.mark.parametrize("name", ["tiny-plain", "tiny-quick", "tiny-scaled", "tiny-custom", "tiny-wide"])
def test_an_open_clip_vit_gives_maps_of_any_size_by_every_attention(build_spec, name):
    model = load_model(build_spec(name))
    assert isinstance(model, DenseModel)
    visual = model.network.visual
    for attention in ATTENTIONS:
        patches = model.encode_patches(windows(2, 41, 26), attention)
        assert patches.shape == (2, 5, 3, 16)
        assert (patches.dtype, patches.requires_grad) == (torch.float32, False)
        assert_close(patches, patch_features(visual, windows(2, 41, 26), attention))
    native = windows(2, *visual.image_size)
    visual.output_tokens = True
    _, tokens = visual(native)
    assert_close(model.encode_patches(native).flatten(1, 2), tokens @ visual.proj)


def test_the_activation_of_the_weights_reaches_the_patches(build_spec):
    plain, quick = load_model(build_spec("tiny-plain")), load_model(build_spec("tiny-quick"))
    quick.network.load_state_dict(plain.network.state_dict())
    difference = (plain.encode_patches(windows()) - quick.encode_patches(windows())).abs().max()
    assert 1e-5 < difference < 1


@pytest.mark.parametrize(
    ("name", "size", "grid", "attentions"),
    [
        ("tiny-timm", (64, 40), (4, 2), ATTENTIONS),
        ("tiny-resnet", (64, 40), (2, 1), tuple(name for name in ATTENTIONS if name != "raw")),
        ("tiny-average", (41, 26), (5, 3), ATTENTIONS),
    ],
)
def test_other_towers_of_open_clip_give_maps_by_their_attentions_and_refuse_others(
    build_spec, name, size, grid, attentions
):
    model = load_model(build_spec(name))
    assert model.attentions == attentions
    for attention in attentions:
        assert require_patch_encoder(model, attention) == model.encode_patches
        patches = model.encode_patches(windows(2, *size), attention)
        assert (patches.shape, patches.dtype) == ((2, *grid, 16), torch.float32)
        assert_close(patches, patch_features(model.network.visual, windows(2, *size), attention))
    for attention in set(ATTENTIONS) - set(attentions):
        with pytest.raises(RequestError, match=f"^open_clip:{name}/.* no patch features with attention '{attention}'"):
            require_patch_encoder(model, attention)


def test_every_architecture_of_open_clips_own_towers_has_patch_features():
    """Those of timm are in docs/architectures.md, whose test asks a sample of them; to build all 78 takes minutes."""
    for name in open_clip.list_models():
        config = open_clip.get_model_config(name)
        if config["vision_cfg"].get("timm_model_name"):
            continue
        with torch.device("meta"):
            visual = _build_vision_tower(config["embed_dim"], config["vision_cfg"], config.get("quick_gelu", False))
        require_supported_tower(visual, name)


@pytest.mark.parametrize("arch", ["ViT-B-16", "ViT-B-32", "ViT-S-16-alt"])
def test_architectures_that_can_carry_cosmos_have_patch_features(arch):
    config = open_clip_config(arch)
    with torch.device("meta"):
        require_supported_tower(_build_vision_tower(config["embed_dim"], config["vision_cfg"]), arch)


def test_stored_embeddings_and_other_towers_of_transformers_are_refused_in_one_line(tmp_path):
    write_embeddings(tmp_path, ["a"], torch.ones(1, 2).numpy(), ["a text"], torch.ones(1, 2).numpy(), {})
    stored = load_model(f"embeddings:{tmp_path}")
    transformers = HfModel.__new__(HfModel)
    transformers.spec = "hf:some/bert"
    config = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=9)
    transformers.network = BertModel(config)
    for model in (stored, transformers):
        for call in (partial(model.encode_patches, windows()), partial(require_patch_encoder, model)):
            with pytest.raises(
                RequestError, match=f"^{model.spec} gives no features of patches: .*(use a cosmos:|; COSMOS, )"
            ) as refusal:
                call()
            assert "\n" not in str(refusal.value)


def test_patch_encoder_needs_no_forward_pass(build_spec):
    for spec in ("cosmos:toybox", build_spec("tiny-plain")):
        model = load_model(spec)
        assert require_patch_encoder(model) == model.encode_patches
    adapter = PythonModel(Adapter(), "python:mine:build")
    assert require_patch_encoder(adapter) == adapter.encode_patches

    class Pooled:
        spec = "python:pooled"

    with pytest.raises(RequestError, match=r"^python:pooled gives no features of patches: it has no encode_patches"):
        require_patch_encoder(Pooled())


class Adapter:
    """Mean colours of quarters of a window."""

    mean, std = [0.5, 0.5, 0.5], (0.25, 0.25, 0.25)

    def preprocess(self, image):
        return torch.zeros(3, 4, 4)

    def encode_image(self, x):
        return x.mean((2, 3))

    def encode_text(self, texts):
        return torch.ones(len(texts), 3)

    def encode_patches(self, x, attention):
        if attention != "vanilla":
            raise ValueError(f"no {attention} here")
        return torch.nn.functional.adaptive_avg_pool2d(x.double().requires_grad_(), 2).permute(0, 2, 3, 1)


def test_an_adapter_with_its_own_encode_patches():
    model = PythonModel(Adapter(), "python:mine:build")
    assert isinstance(model, DenseModel)
    patches = model.encode_patches(windows())
    assert (patches.shape, patches.dtype, patches.requires_grad) == ((2, 2, 2, 3), torch.float32, False)
    torch.testing.assert_close(patches[1, 0, 1], windows()[1, :, :16, 16:].mean((1, 2)))
    assert (model.preprocess.mean, model.preprocess.std) == ((0.5,) * 3, (0.25,) * 3)
    with pytest.raises(RequestError, match=r"^python:mine:build: encode_patches failed: ValueError: no csa here$"):
        model.encode_patches(windows(), "csa")


def test_an_adapter_without_encode_patches_is_refused_and_its_windows_are_not_normalised():
    class Bare(Adapter):
        encode_patches = None
        mean = std = torch.arange(1.0, 1281.0)  # of its features; not meant for windows, which it does not encode

    model = PythonModel(Bare(), "python:mine:build")
    assert (model.preprocess.mean, model.preprocess.std) == ((0.0,) * 3, (1.0,) * 3)
    with pytest.raises(RequestError, match=r"its Bare has no encode_patches\(x, attention\); use a cosmos: model"):
        model.encode_patches(windows())
    with pytest.raises(RequestError, match="its Bare has no encode_patches"):
        require_patch_encoder(model)


@pytest.mark.parametrize(
    ("encode_patches", "message"),
    [
        (lambda x, attention: [x], "returned list"),
        (lambda x, attention: x.mean((2, 3)), r"returned shape \(2, 3\) for 2 inputs; return \(2, h, w, D\)"),
        (lambda x, attention: x[:1], r"returned shape \(1, 3, 32, 32\) for 2 inputs"),
        (lambda x, attention: x[:, :, :0], r"returned shape \(2, 3, 0, 32\) for 2 inputs"),
        (lambda x, attention: x.long(), "returned torch.int64"),
    ],
)
def test_wrong_patches_of_an_adapter_are_refused_in_one_line(encode_patches, message):
    adapter = Adapter()
    adapter.encode_patches = encode_patches
    with pytest.raises(RequestError, match=f"^python:mine:build: encode_patches {message}"):
        PythonModel(adapter, "python:mine:build").encode_patches(windows())


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("mean", (0.5,), r"mean is \(0.5,\); make it three numbers, red"),
        ("mean", (0.5, 0.5, float("nan")), r"mean is \(0.5, 0.5, nan\); make it three numbers, red"),
        ("std", (0.5, 0.0, 0.5), r"std is \(0.5, 0.0, 0.5\); make it three numbers above 0"),
        ("std", 0.5, "std failed: TypeError"),
    ],
)
def test_a_wrong_normalisation_of_an_adapter_is_refused(name, value, message):
    adapter = Adapter()
    setattr(adapter, name, value)
    with pytest.raises(RequestError, match=f"^python:mine:build: {message}") as refusal:
        PythonModel(adapter, "python:mine:build")
    assert "\n" not in str(refusal.value)
