"""Patch features of towers of timm, transformers and open_clip beside its plain ViT, against hooks on the libraries."""

import copy
from functools import cache
from typing import Any

import pytest
import timm
import torch
from open_clip import timm_model
from open_clip.model import _build_vision_tower
from open_clip.timm_model import TimmModel
from transformers import CLIPConfig, CLIPModel, SiglipConfig, SiglipModel

from cosmos_core.dense import ATTENTIONS, patch_features, require_supported_tower, supported_attentions
from cosmos_core.errors import RequestError
from tests.helpers.transformers_weights import as_open_clip, as_timm
from tests.oracles import dense_hooks as oracle

SMALL = {"embed_dim": 24, "depth": 2, "num_heads": 2, "img_size": 32, "patch_size": 8}
TIMM_VITS: dict[str, tuple[str, str, str | None, dict[str, Any]]] = {
    "class token": ("vit_large_patch14_clip_224", "token", None, SMALL),
    "mean": ("vit_medium_patch16_gap_256", "", "linear", SMALL),
    "attention pool (SigLIP)": ("vit_base_patch16_siglip_224", "map", "none", SMALL),
    "rotary positions (EVA02)": ("eva02_base_patch16_clip_224", "token", None, SMALL),
    "norm after attention (EVA02-E)": ("eva02_enormous_patch14_clip_224", "token", None, SMALL),
    "layer scale, registers": (
        "vit_small_patch14_reg4_dinov2",
        "token",
        "linear",
        SMALL | {"init_values": 0.3, "qk_norm": True},
    ),
    "rotary positions, attention pool (PE)": (
        "vit_pe_core_base_patch16_224",
        "map",
        None,
        SMALL,
    ),
}
VISION = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 32}
VISION |= {"image_size": 32, "patch_size": 8}
TEXT = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 50}


@pytest.fixture(autouse=True)
def same_draws() -> None:
    torch.manual_seed(0)


@torch.no_grad()
def shaken(module: Any, seed: int = 0) -> Any:
    """The module, with every parameter away from its initial value, which libraries draw (see `same_draws`)."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return module.eval().requires_grad_(False)


def timm_tower(name: str, pool: str, proj: str | None, size: int, dim: int = 10, **options: Any) -> TimmModel:
    """open_clip's wrapper around a small model of timm."""

    class SmallTimm:
        @staticmethod
        def create_model(*arguments: Any, **keywords: Any) -> Any:
            return timm.create_model(*arguments, **(keywords | options))

    own = timm_model.timm
    timm_model.timm = SmallTimm
    try:
        return shaken(TimmModel(name, dim, image_size=size, pool=pool, proj=proj))
    finally:
        timm_model.timm = own


@cache
def timm_vit(kind: str) -> TimmModel:
    name, pool, proj, options = TIMM_VITS[kind]
    return timm_tower(name, pool, proj, 32, **options)


@cache
def transformers_network(family: str) -> Any:
    torch.manual_seed(0)
    if family == "clip":
        return shaken(CLIPModel(CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=10)))
    return shaken(SiglipModel(SiglipConfig(text_config=TEXT, vision_config=VISION)))


def some_images(count: int = 2, height: int = 32, width: int = 32, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def assert_near(ours: torch.Tensor, expected: torch.Tensor) -> None:
    # features are sums of terms as large as the largest feature, so that is the unit of their rounding
    largest = max(1.0, expected.abs().max().item())
    torch.testing.assert_close(ours.double(), expected.double(), atol=5e-6 * largest, rtol=0)


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("kind", TIMM_VITS)
def test_each_attention_of_timms_vits_is_what_hooks_on_timm_give(kind: str, attention: str):
    visual, images = timm_vit(kind), some_images(1)
    (ours,) = patch_features(visual, images, attention)
    assert ours.shape[:2] == (4, 4)
    assert_near(ours.flatten(0, 1), oracle.timm_features(visual, images[0], attention))


@pytest.mark.parametrize("kind", TIMM_VITS)
def test_other_sizes_are_timms_own_for_a_trunk_that_takes_any_size(kind: str):
    visual = timm_vit(kind)
    name, pool, proj, options = TIMM_VITS[kind]
    any_size = timm_tower(name, pool, proj, 32, dynamic_img_size=True, **options)
    any_size.load_state_dict(visual.state_dict())
    images = some_images(2, 24, 56)
    ours = patch_features(visual, images)
    trunk = any_size.trunk
    tokens = trunk.forward_features(images)[:, trunk.num_prefix_tokens :].flatten(0, 1)
    alone = tokens[:, None].expand(-1, trunk.num_prefix_tokens + 1, -1)
    assert_near(ours.flatten(0, 2), any_size.head(trunk.forward_head(alone)))
    cropped = patch_features(visual, torch.nn.functional.pad(images, (0, 7, 0, 3), value=9.0))
    assert_near(cropped, ours)


def test_the_mean_of_vanilla_features_is_the_embedding_where_the_tower_pools_by_mean_and_is_linear_after_it():
    visual = timm_vit("mean")
    visual = copy.deepcopy(visual)
    visual.trunk.fc_norm = torch.nn.Identity()
    images = some_images()
    assert_near(patch_features(visual, images).mean(dim=(1, 2)), visual(images))


@pytest.mark.parametrize("kind", TIMM_VITS)
def test_a_tower_is_not_changed_and_a_batch_changes_nothing(kind: str):
    visual, images = timm_vit(kind), some_images(3)
    before = visual(images)
    for attention in ATTENTIONS:
        together = patch_features(visual, some_images(3, 24, 40), attention)
        alone = torch.cat([patch_features(visual, image[None], attention) for image in some_images(3, 24, 40)])
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    assert torch.equal(visual(images), before)


def test_an_unfused_attention_gives_the_same():
    visual, images = copy.deepcopy(timm_vit("rotary positions (EVA02)")), some_images()
    fused = [patch_features(visual, images, attention) for attention in ATTENTIONS]
    for block in visual.trunk.blocks:
        block.attn.fused_attn = False
    for features, attention in zip(fused, ATTENTIONS, strict=True):
        assert_near(patch_features(visual, images, attention), features)


FEATURE_MAPS: dict[str, tuple[str, str, str | None, int, dict[str, Any]]] = {
    "ConvNeXt": ("test_convnext", "", "linear", 160, {}),
    "ConvNeXt, MLP": ("test_convnext", "", "mlp", 160, {}),
    "FastViT": ("fastvit_t8", "avg", None, 64, {"layers": (1, 1, 1, 1), "embed_dims": (8, 16, 32, 64)}),
}


@pytest.mark.parametrize("kind", FEATURE_MAPS)
def test_a_feature_map_gives_each_place_what_the_tower_makes_of_a_map_with_this_place_alone(kind: str):
    name, pool, proj, size, options = FEATURE_MAPS[kind]
    visual = timm_tower(name, pool, proj, size, **options)
    assert supported_attentions(visual) == ("vanilla", "raw")
    images = some_images(1, 128, 96)
    (ours,) = patch_features(visual, images)
    feature_map = visual.trunk.forward_features(images)
    assert ours.shape[:2] == feature_map.shape[2:]
    for row in range(ours.shape[0]):
        for column in range(ours.shape[1]):
            place = feature_map[:, :, row : row + 1, column : column + 1]
            assert_near(ours[row, column], visual.head(visual.trunk.forward_head(place))[0])
    assert torch.equal(patch_features(visual, images, "raw")[0], ours)
    with pytest.raises(RequestError, match="attention 'csa' is not defined for this image tower; give vanilla, raw"):
        patch_features(visual, images, "csa")


def test_a_tower_of_one_size_refuses_others_in_one_line():
    options = {"embed_dim": 8, "depths": (1, 1), "num_heads": (1, 2), "img_size": 56, "window_size": 7}
    visual = timm_tower("swin_base_patch4_window7_224", "", "linear", 56, **options)
    images = some_images(1, 56, 56)
    feature_map = visual.trunk.forward_features(images)  # (B, h, w, C)
    expected = visual.head(visual.trunk.forward_head(feature_map[:, 2:3, 3:4]))[0]
    assert_near(patch_features(visual, images)[0, 2, 3], expected)
    with pytest.raises(RequestError, match="SwinTransformer takes images of 56 x 56 pixels only, not 56 x 64"):
        patch_features(visual, some_images(1, 56, 64))


@cache
def resnet() -> Any:
    return shaken(_build_vision_tower(8, {"layers": (1, 1, 1, 1), "width": 8, "head_width": 16, "image_size": 96}))


@pytest.mark.parametrize("attention", ["vanilla", "csa", "maskclip", "clearclip", "naclip"])
def test_each_attention_of_a_resnets_pool_is_what_a_loop_over_places_gives(attention: str):
    images = some_images(2, 96, 96)
    ours = patch_features(resnet(), images, attention)
    assert ours.shape == (2, 3, 3, 8)
    for row, image in zip(ours, images, strict=True):
        assert_near(row.flatten(0, 1), oracle.resnet_features(resnet(), image, attention))


def test_a_resnet_takes_any_size_and_has_no_raw_features():
    assert patch_features(resnet(), some_images(1, 70, 130), "maskclip").shape == (1, 2, 4, 8)
    assert patch_features(resnet(), some_images(1, 70, 130)).shape == (1, 2, 4, 8)
    assert "raw" not in supported_attentions(resnet())


OPEN_CLIP_POOLS = {
    "CoCa": {"attentional_pool": True, "attn_pooler_heads": 2, "attn_pooler_queries": 3},
    "CLIPA": {"pool_type": "avg", "final_ln_after_pool": True, "no_ln_pre": True, "pos_embed_type": "sin_cos_2d"},
}


@pytest.mark.parametrize("attention", ["vanilla", "csa", "clearclip"])
@pytest.mark.parametrize("kind", OPEN_CLIP_POOLS)
def test_a_token_becomes_what_open_clips_pooling_makes_of_it_alone(kind: str, attention: str):
    config = {"image_size": 32, "patch_size": 8, "width": 24, "layers": 2, "head_width": 12, **OPEN_CLIP_POOLS[kind]}
    visual, images = shaken(_build_vision_tower(8, config)), some_images(1)
    plain = copy.deepcopy(visual)
    plain.attn_pool, plain.proj, plain.ln_post = None, None, torch.nn.Identity()
    (tokens,) = patch_features(plain, images, attention)  # the test above and those of test_dense check the tokens
    pairs = tokens.flatten(0, 1)[:, None].expand(-1, 2, -1)  # one token twice: as class token, and as the only patch
    pooled, _ = visual._pool(pairs)
    assert_near(patch_features(visual, images, attention)[0].flatten(0, 1), pooled @ visual.proj)
    assert ("raw" in supported_attentions(visual)) == (kind == "CLIPA")


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_each_attention_of_a_network_of_transformers_is_what_hooks_on_it_give(family: str, attention: str):
    network, images = transformers_network(family), some_images(1)
    (ours,) = patch_features(network, images, attention)
    assert_near(ours.flatten(0, 1), oracle.transformers_features(network, images[0], attention))


@pytest.mark.parametrize("size", [(32, 32), (32, 56), (43, 30)])
def test_the_same_clip_gives_equal_features_through_transformers_and_open_clip(size: tuple[int, int]):
    network = transformers_network("clip")
    config = {"image_size": 32, "patch_size": 8, "width": 24, "layers": 2, "head_width": 8, "mlp_ratio": 32 / 24}
    visual = _build_vision_tower(10, config, quick_gelu=True).eval()
    visual.load_state_dict(as_open_clip(network))
    for attention in ATTENTIONS:
        theirs = patch_features(visual, some_images(2, *size), attention)
        torch.testing.assert_close(
            patch_features(network, some_images(2, *size), attention), theirs, atol=2e-6, rtol=2e-6
        )


@pytest.mark.parametrize("size", [(32, 32), (32, 56), (43, 30)])
def test_the_same_siglip_gives_equal_features_through_transformers_and_timm(size: tuple[int, int]):
    network = transformers_network("siglip")
    options = SMALL | {"num_heads": 3, "mlp_ratio": 32 / 24, "act_layer": "gelu_tanh"}
    visual = timm_tower("vit_base_patch16_siglip_224", "map", "none", 32, **options)
    visual.trunk.load_state_dict(as_timm(network.vision_model))
    for attention in ATTENTIONS:
        theirs = patch_features(visual, some_images(2, *size), attention)
        torch.testing.assert_close(
            patch_features(network, some_images(2, *size), attention), theirs, atol=3e-6, rtol=3e-6
        )


def test_a_network_without_clips_tower_is_refused_in_one_line():
    from transformers import BertConfig, BertModel

    config = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=9)
    with pytest.raises(RequestError, match=r"^mine gives no features of patches: .* of bert has other parts"):
        require_supported_tower(BertModel(config), "mine")
