"""COSMOS: its towers, its cross-modal features, and which configurations can carry it."""

import copy
import re
from dataclasses import replace
from typing import Any

import open_clip
import pytest
import torch
from torch.nn import functional as F

from cosmos_core import COSMOS
from cosmos_core.configs import PRESETS, find_config_problem, preset
from cosmos_core.errors import RequestError
from cosmos_core.text_groups import LENGTH_STEP, group_texts
from tests.helpers.cosmos_networks import image_logits, open_clip_config

TINY: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {
        "image_size": 32,
        "layers": 2,
        "width": 24,
        "head_width": 12,
        "patch_size": 8,
        "attn_pooler_heads": 2,
    },
    "text_cfg": {
        "context_length": 10,
        "vocab_size": 50,
        "width": 16,
        "heads": 2,
        "layers": 2,
        "attn_pooler_heads": 4,
    },
}


def tiny(**changes: Any) -> COSMOS:
    torch.manual_seed(0)
    return COSMOS.from_config({**copy.deepcopy(TINY), **changes})


def some_texts(count: int, seed: int = 1) -> torch.Tensor:
    """Ids with the end token (49, the largest) somewhere, and padding after it."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, 48, (count, 10), generator=generator)
    ends = torch.randint(2, 10, (count,), generator=generator)
    ids[torch.arange(10) > ends[:, None]] = 0
    ids[torch.arange(count), ends] = 49
    return ids


def some_images(count: int, height: int = 32, width: int = 32, seed: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("quick_gelu", [False, True])
@torch.no_grad()
def test_pooled_features_are_those_of_open_clips_clip_with_the_same_weights(quick_gelu: bool):
    model = tiny(quick_gelu=quick_gelu).eval()
    text_cfg = {key: value for key, value in TINY["text_cfg"].items() if key != "attn_pooler_heads"}
    clip = open_clip.CLIP(16, TINY["vision_cfg"], text_cfg, quick_gelu=quick_gelu).eval()
    clip.load_state_dict({key: value for key, value in model.state_dict().items() if key in clip.state_dict()})
    images, texts = some_images(3), some_texts(3)
    torch.testing.assert_close(model.encode_image(images), clip.encode_image(images))
    torch.testing.assert_close(model.encode_text(texts), clip.encode_text(texts))
    torch.testing.assert_close(image_logits(model, images, texts), clip.get_logits(images, texts)[0])


@torch.no_grad()
def test_the_activation_is_exact_gelu_unless_the_configuration_says_quick():
    exact, quick = tiny().eval(), tiny(quick_gelu=True).eval()
    quick.load_state_dict(exact.state_dict())
    assert not torch.allclose(exact.encode_image(some_images(2)), quick.encode_image(some_images(2)), atol=1e-4)
    assert exact.config == TINY
    assert quick.config["quick_gelu"] is True


@torch.no_grad()
def test_views_of_several_sizes_come_out_as_if_encoded_one_by_one():
    model = tiny().eval()
    views = [
        some_images(3),
        some_images(3, seed=3),
        some_images(3, 16, 16),
        some_images(3, 24, 16),
        some_images(3, 16, 16, seed=4),
    ]
    together = model(views, some_texts(6), 3)
    apart = torch.cat([model.encode_image(view, normalize=True) for view in views])
    torch.testing.assert_close(together.image_features, apart)
    assert together.image_cross_features.shape == (15, 16)
    assert together.text_cross_features.shape == (6, 16)


@torch.no_grad()
def test_cross_modal_features_are_those_of_every_view_alone_with_the_tokens_of_the_first_view():
    model = tiny().eval()
    views, texts = [some_images(2), some_images(2, 16, 16)], some_texts(6)
    found = model(views, texts, 2)
    pooled, tokens = zip(*(model.image_tower(view) for view in views), strict=True)
    words, sentence_tokens = model.text_tower(texts)
    keys = model.text_token_mapping(sentence_tokens[:2])
    for row, feature in enumerate(torch.cat(pooled)):
        own = keys[row % 2][None]
        read = model.text_attn_cross_pool(feature[None, None], own)[0, 0]
        torch.testing.assert_close(found.image_cross_features[row], F.normalize(feature + read, dim=0))
    keys = model.image_token_mapping(tokens[0])
    for row, feature in enumerate(words):
        read = model.visual.attn_cross_pool(feature[None, None], keys[row % 2][None])[0, 0]
        torch.testing.assert_close(found.text_cross_features[row], F.normalize(feature + read, dim=0))


@torch.no_grad()
def test_a_sample_does_not_depend_on_its_neighbours_and_a_batch_of_one_works():
    model = tiny().eval()
    views, texts = [some_images(3), some_images(3, 16, 16)], some_texts(6)
    whole = model(views, texts, 3)
    alone = model([view[1:2] for view in views], texts[[1, 4]], 1)
    for name in ("image_features", "image_cross_features", "text_features", "text_cross_features"):
        torch.testing.assert_close(getattr(alone, name), getattr(whole, name)[[1, 4]])


@torch.no_grad()
def test_without_a_batch_size_there_are_no_cross_modal_features():
    model = tiny().eval()
    called = model([some_images(2), some_images(2, seed=5)], some_texts(4))
    assert called.image_cross_features is None
    assert called.text_cross_features is None
    torch.testing.assert_close(called.image_features.norm(dim=1), torch.ones(4))
    assert called.logit_scale.item() == pytest.approx(1 / 0.07)


@torch.no_grad()
def test_training_and_evaluation_mode_give_the_same_numbers():
    model = tiny()
    views, texts = [some_images(2), some_images(2, 16, 16)], some_texts(4)
    training, evaluation = model.train()(views, texts, 2), model.eval()(views, texts, 2)
    torch.testing.assert_close(training.image_cross_features, evaluation.image_cross_features)


@torch.no_grad()
def test_trimming_the_padding_leaves_pooled_text_features_alone():
    model = tiny().eval()
    texts = torch.zeros(3, 10, dtype=torch.long)
    texts[:, :4] = torch.tensor([[48, 5, 6, 49], [48, 7, 49, 0], [48, 49, 0, 0]])
    torch.testing.assert_close(model.encode_text(texts[:, :4]), model.encode_text(texts))
    with pytest.raises(ValueError, match="11 tokens"):
        model.encode_text(torch.ones(1, 11, dtype=torch.long))


@torch.no_grad()
@pytest.mark.parametrize(("height", "width"), [(16, 16), (64, 64), (40, 24), (37, 50)])
def test_images_of_any_size_give_a_token_for_every_whole_patch(height: int, width: int):
    pooled, tokens = tiny().eval().image_tower(some_images(2, height, width))
    assert pooled.shape == (2, 16)
    assert tokens.shape == (2, (height // 8) * (width // 8), 24)


@torch.no_grad()
def test_a_native_size_that_is_not_square_keeps_its_positions_and_interpolates_others():
    model = tiny(vision_cfg={**TINY["vision_cfg"], "image_size": [16, 48]}).eval()
    assert model.image_tower(some_images(1, 16, 48))[1].shape == (1, 12, 24)
    assert model.image_tower(some_images(1, 32, 32))[1].shape == (1, 16, 24)


def test_every_parameter_learns_from_the_training_forward():
    from cosmos_core import CosmosLoss

    model, teacher = tiny(), tiny()
    views, texts = [some_images(3), some_images(3, seed=6), some_images(3, 16, 16)], some_texts(9)
    with torch.no_grad():
        targets = teacher(views[:2], texts[:6])
    CosmosLoss()(model(views, texts, 3), targets, 3).total.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_recomputing_activations_changes_no_gradient():
    gradients = []
    for enable in (False, True):
        model = tiny()
        model.set_grad_checkpointing(enable)
        model(some_images(2), some_texts(2)).image_features.sum().backward()
        gradients.append(model.visual.conv1.weight.grad)
    torch.testing.assert_close(*gradients)


def test_39_of_open_clips_configurations_can_carry_cosmos_and_the_others_are_refused_in_one_line():
    names = open_clip.list_models()
    able = [name for name in names if not find_config_problem(open_clip.get_model_config(name))]
    assert len(able) == 39
    for name in able:
        with torch.device("meta"):
            assert "visual.attn_cross_pool.ln_q.weight" in COSMOS(**open_clip_config(name)).state_dict()
    for name in set(names) - set(able):
        with pytest.raises(RequestError, match=f"^{re.escape(name)} cannot carry COSMOS: [^\\n]+$"):
            COSMOS(**open_clip_config(name))
    assert {"ViT-B-16", "ViT-L-14-336", "ViT-H-14-quickgelu", "ViT-bigG-14"} <= set(able)


@pytest.mark.parametrize(
    ("arch", "reason"),
    [
        ("RN50", "ResNet"),
        ("ViT-B-16-SigLIP", "timm"),
        ("roberta-ViT-B-32", "transformers"),
        ("coca_ViT-B-32", "attention"),
        ("ViT-H-14-CLIPA", "pools by"),
    ],
)
def test_what_a_configuration_lacks_is_said(arch: str, reason: str):
    with pytest.raises(RequestError, match=f"{arch} cannot carry COSMOS: .*{reason}"):
        COSMOS(**open_clip_config(arch))


def test_quick_gelu_of_open_clips_configuration_is_kept():
    with torch.device("meta"):
        assert COSMOS(**open_clip_config("ViT-B-32-quickgelu")).config["quick_gelu"] is True


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"text_cfg": {"width": 32}}, "text width 32 is not its embed_dim 16"),
        ({"text_cfg": {"heads": 3}}, "does not divide by its 3 heads"),
        ({"vision_cfg": {"head_width": 7}}, "does not divide by its head width 7"),
        ({"vision_cfg": {"attn_pooler_heads": 3}}, "does not divide by 3 pooler heads"),
        ({"vision_cfg": {"widht": 7}}, "vision_cfg.widht"),
        ({"cosmos": False}, "has cosmos off"),
        ({"colour": "blue"}, "colour"),
        ({"embed_dim": "16"}, "not a whole number above 0: embed_dim '16'"),
        ({"vision_cfg": {"layers": 2.5}, "text_cfg": {"heads": 0}}, "vision_cfg.layers 2.5, text_cfg.heads 0"),
        ({"vision_cfg": {"image_size": [32, "32"]}}, "vision_cfg.image_size '32'"),
        ({"vision_cfg": {"patch_size": 64}}, "images of 32 are smaller than a patch of 64"),
        ({"text_cfg": "small"}, "must be mappings"),
        ({"vision_cfg": {"patch_dropout": 0.5}}, "drops patches .* trains without"),
        ({"vision_cfg": {"mlp_ratio": "4"}}, "vision_cfg.mlp_ratio '4' is not a number above 0"),
        ({"text_cfg": {"mlp_ratio": float("nan")}}, "text_cfg.mlp_ratio nan is not a number"),
        ({"text_cfg": {"norm_kwargs": [1]}}, r"text_cfg.norm_kwargs \[1\] is not a mapping"),
        ({"vision_cfg": {"qk_norm": "no"}}, "vision_cfg.qk_norm 'no' is not true or false"),
        ({"quick_gelu": "false"}, "quick_gelu 'false' is not true or false"),
        ({"vision_cfg": {1: 2}}, "keys that are not text: 1"),
        ({3: 4}, "keys that are not text: 3"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused_with_its_reason(change: dict[str, Any], reason: str):
    config = copy.deepcopy(TINY)
    for key, value in change.items():
        config[key] = {**config[key], **value} if isinstance(value, dict) else value
    with pytest.raises(RequestError, match=reason) as caught:
        COSMOS.from_config(config)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("config", [3, None, True, ["ViT-B-16"]])
def test_what_is_no_configuration_at_all_is_refused(config: Any):
    with pytest.raises(RequestError, match="neither a mapping nor a preset's name"):
        COSMOS.from_config(config)


@pytest.mark.parametrize("with_tokens", [0, 2, 6])
def test_texts_in_groups_have_the_features_and_gradients_of_whole_ones(with_tokens: int):
    model, ids = tiny().double(), some_texts(6)
    exact = group_texts(ids[with_tokens:], torch.device("cpu"))
    rounded = group_texts(ids[with_tokens:], torch.device("meta"))
    assert all(length % LENGTH_STEP == 0 or length == 10 for length in rounded.lengths)
    assert all(shorter <= longer for shorter, longer in zip(exact.lengths, rounded.lengths, strict=True))
    found = []
    for groups in (None, exact, replace(exact, lengths=rounded.lengths)):
        if groups is None:
            pooled, tokens = model.text_tower(ids)
        else:
            pooled, tokens = model._encode_texts(ids, with_tokens, groups)
            assert len(tokens) == with_tokens
        model.zero_grad()
        pooled.square().sum().backward()
        found.append((pooled, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}))
    (expected, expected_gradients), *grouped = found
    for features, gradients in grouped:
        torch.testing.assert_close(features, expected, rtol=1e-10, atol=1e-12)
        assert gradients.keys() == expected_gradients.keys()
        for name, gradient in expected_gradients.items():
            torch.testing.assert_close(gradients[name], gradient, rtol=1e-9, atol=1e-12, msg=name)


def test_off_the_cpu_texts_without_a_plan_pass_the_tower_whole(monkeypatch: pytest.MonkeyPatch):
    # sorting and indexing by groups would wait for any accelerator, not for CUDA alone
    with torch.device("meta"):
        model, texts = COSMOS.from_config(TINY), torch.ones(6, 10, dtype=torch.long)
    seen: list[int] = []
    monkeypatch.setattr(
        model, "text_tower", lambda ids: (seen.append(len(ids)), torch.empty(len(ids), 16), torch.empty(6, 10, 16))[1:]
    )
    model._encode_texts(texts, 2)
    assert seen == [6]


def test_an_unknown_name_is_refused_with_the_nearest_one():
    with pytest.raises(RequestError, match=r"toy-box.*toybox"):
        COSMOS.from_config("toy-box")
    with pytest.raises(RequestError, match="lacks text_cfg"):
        COSMOS.from_config({"embed_dim": 16, "vision_cfg": {}})


def test_presets_are_handed_out_as_copies():
    preset("toybox")["vision_cfg"]["width"] = 1
    assert PRESETS["toybox"]["vision_cfg"]["width"] != 1


def test_the_toybox_preset_fits_five_megabytes_in_half_precision():
    parameters = sum(p.numel() for p in COSMOS.from_config("toybox").parameters())
    assert 1_000_000 < parameters < 2_500_000
