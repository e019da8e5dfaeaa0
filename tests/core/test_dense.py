"""Patch features: every variant of the last block against a slow reading of it, any window size, which towers."""

import copy
import math
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.model import _build_vision_tower
from open_clip.timm_model import TimmModel
from open_clip.transformer import QuickGELU, VisionTransformer

from cosmos_core import COSMOS
from cosmos_core.dense import (
    ATTENTIONS,
    NEIGHBOURHOOD,
    patch_features,
    patch_tokens,
    require_supported_tower,
)
from cosmos_core.dense.variants import neighbourhood
from cosmos_core.errors import RequestError
from tests.closeness import assert_close
from tests.oracles import dense as oracle

SIZES = {"image_size": 32, "patch_size": 8, "width": 24, "layers": 2, "heads": 3, "mlp_ratio": 2.0, "output_dim": 10}
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "quick gelu and layer scale": {"act_layer": QuickGELU, "ls_init_value": 0.1},
    "no first norm, fixed positions": {"no_ln_pre": True, "pos_embed_type": "sin_cos_2d"},
    "custom blocks": {
        "qk_norm": True,
        "scale_heads": True,
        "scale_attn_inner": True,
        "scale_attn": True,
        "scale_fc": True,
        "ls_init_value": 0.1,
    },
    "two norms, three blocks": {"final_ln_after_pool": True, "layers": 3, "output_tokens": True},
    "one block": {"layers": 1},
}
COSMOS_CONFIG: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 24, "head_width": 12, "patch_size": 8}
    | {"attn_pooler_heads": 2},
    "text_cfg": {"context_length": 10, "vocab_size": 50, "width": 16, "heads": 2, "layers": 2}
    | {"attn_pooler_heads": 4},
}


def tower(seed: int = 0, **options: Any) -> VisionTransformer:
    """A tower in which every parameter matters: no norm or scale stands at its initial one."""
    torch.manual_seed(seed)
    return shaken(VisionTransformer(**SIZES | options).eval())


@torch.no_grad()
def shaken(module: Any) -> Any:
    for parameter in module.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.2)
    return module.requires_grad_(False)


def cosmos() -> COSMOS:
    torch.manual_seed(0)
    return shaken(COSMOS.from_config(copy.deepcopy(COSMOS_CONFIG)).eval())


def some_images(count: int = 2, height: int = 32, width: int = 32, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_each_attention_is_what_a_loop_over_tokens_gives(kind: str, attention: str):
    visual, images = tower(**KINDS[kind]), some_images(2, 24, 32)
    ours = patch_features(visual, images, attention)
    assert ours.shape == (2, 3, 4, SIZES["output_dim"])
    for row, image in zip(ours, images, strict=True):
        torch.testing.assert_close(row.double(), oracle.patch_features(visual, image, attention), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_each_attention_on_a_cosmos_is_what_a_loop_over_tokens_gives(attention: str):
    visual, images = cosmos().visual, some_images(1, 40, 17)
    (ours,) = patch_features(visual, images, attention)
    torch.testing.assert_close(ours.double(), oracle.patch_features(visual, images[0], attention), atol=2e-5, rtol=1e-5)


@given(st.integers(8, 50), st.integers(8, 50), st.sampled_from(ATTENTIONS), st.integers(0, 3))
@settings(max_examples=15, deadline=None)
def test_any_window_size_is_what_a_loop_over_tokens_gives(height: int, width: int, attention: str, seed: int):
    visual, images = tower(seed, layers=1), some_images(1, height, width, seed)
    (ours,) = patch_features(visual, images, attention)
    assert ours.shape[:2] == (height // 8, width // 8)
    torch.testing.assert_close(ours.double(), oracle.patch_features(visual, images[0], attention), atol=2e-5, rtol=1e-5)


def test_the_attentions_are_different_things_and_raw_is_vanilla_without_attentional_pooling():
    visual, images = tower(), some_images()
    features = [patch_features(visual, images, attention) for attention in ATTENTIONS if attention != "raw"]
    assert len(features) == 5
    assert torch.equal(features[0], patch_features(visual, images, "raw"))
    for i, first in enumerate(features):
        for second in features[i + 1 :]:
            assert (first - second).abs().mean() > 0.01


@pytest.mark.parametrize("size", [(32, 32), (16, 16), (48, 80), (37, 50)])
def test_vanilla_on_a_cosmos_is_its_own_tower_at_every_size(size: tuple[int, int]):
    model, images = cosmos(), some_images(2, *size)
    _, tokens = model.image_tower(images)
    assert_close(patch_tokens(model.visual, images).flatten(1, 2), tokens)
    assert_close(patch_features(model.visual, images).flatten(1, 2), tokens @ model.visual.proj)


@pytest.mark.parametrize("options", [*KINDS.values(), {"image_size": (24, 40)}, {"image_size": 36}])
def test_vanilla_at_the_native_size_is_open_clips_own_forward(options: dict[str, Any]):
    visual = tower(**options | {"output_tokens": True})
    images = some_images(2, *visual.image_size)
    _, tokens = visual(images)
    if visual.final_ln_after_pool:  # open_clip norms the class token alone; token by token, so that it is the same norm
        tokens = visual.ln_post(tokens)
    assert_close(patch_tokens(visual, images).flatten(1, 2), tokens)


def test_as_many_patches_in_another_shape_get_the_positions_of_their_own_places():
    visual = tower(image_size=(16, 64))  # 2 x 8 patches, as many as the 4 x 4 of the image
    of_column = visual.positional_embedding[1:9]
    visual.positional_embedding[1:] = of_column.repeat(2, 1)  # nothing tells rows apart
    features = patch_features(visual, torch.ones(1, 3, 32, 32))[0]
    assert features.shape[:2] == (4, 4)
    torch.testing.assert_close(features, features[:1].expand(4, -1, -1), atol=1e-5, rtol=1e-5)
    assert (features[0, 0] - features[0, 3]).abs().mean() > 0.01


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_a_image_alone_gives_what_it_gives_in_a_batch(attention: str):
    visual, images = tower(), some_images(5, 24, 40)
    together = patch_features(visual, images, attention)
    alone = torch.cat([patch_features(visual, image[None], attention) for image in images])
    torch.testing.assert_close(together, alone, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_pixels_beyond_the_last_whole_patch_are_left_out(attention: str):
    visual, images = tower(), some_images(1, 39, 47)
    assert_close(patch_features(visual, images, attention), patch_features(visual, images[..., :32, :40], attention))


def test_with_one_value_for_all_tokens_correlative_attention_gives_it_twice_and_the_reduced_blocks_once():
    visual = tower(layers=1)
    block, width = visual.transformer.resblocks[0], SIZES["width"]
    value = torch.randn(width, generator=torch.Generator().manual_seed(3))
    block.attn.in_proj_weight[2 * width :] = 0
    block.attn.in_proj_bias[2 * width :] = value
    block.attn.out_proj.weight[:] = torch.eye(width)
    block.attn.out_proj.bias[:] = 0
    images = some_images()
    for attention in ("clearclip", "naclip"):  # weights sum to 1, nothing is added
        torch.testing.assert_close(
            patch_tokens(visual, images, attention), visual.ln_post(value).expand(2, 4, 4, -1), atol=1e-5, rtol=1e-5
        )
    block.mlp.c_proj.weight[:] = 0
    block.mlp.c_proj.bias[:] = 0
    block.attn.in_proj_bias[2 * width :] = 0
    residual = _before_the_final_norm(visual, images)
    block.attn.in_proj_bias[2 * width :] = value
    torch.testing.assert_close(
        patch_tokens(visual, images, "csa"), visual.ln_post(residual + 2 * value), atol=1e-5, rtol=1e-5
    )


def _before_the_final_norm(visual: VisionTransformer, images: torch.Tensor) -> torch.Tensor:
    bare = copy.deepcopy(visual)
    bare.ln_post = torch.nn.Identity()
    return patch_tokens(bare, images)


def test_the_neighbourhood_of_two_rows_of_three_patches_by_hand():
    near = [math.exp(-(distance**2) / 50) for distance in (0, 1, math.sqrt(2), 2, math.sqrt(5))]
    same, beside, across, two, far = near
    expected = torch.tensor(
        [
            [0, 0, 0, 0, 0, 0, 0],
            [0, same, beside, two, beside, across, far],
            [0, beside, same, beside, across, beside, across],
            [0, two, beside, same, far, across, beside],
            [0, beside, across, far, same, beside, two],
            [0, across, beside, across, beside, same, beside],
            [0, far, across, beside, two, beside, same],
        ]
    )
    assert NEIGHBOURHOOD == 5
    torch.testing.assert_close(neighbourhood((2, 3), torch.zeros(1)), expected)


def test_a_tower_without_projection_gives_its_own_width():
    visual = tower()
    visual.proj = None
    assert_close(patch_features(visual, some_images(), "csa"), patch_tokens(visual, some_images(), "csa"))
    assert patch_features(visual, some_images()).shape == (2, 4, 4, SIZES["width"])


def test_patches_are_never_dropped():
    visual = tower(patch_dropout=0.5)
    at_rest = patch_features(visual, some_images())
    visual.train()
    assert_close(patch_features(visual, some_images()), at_rest)


def test_half_precision_by_autocast_stays_near():
    visual, images = tower(), some_images()
    for attention in ATTENTIONS:
        exact = patch_features(visual, images, attention)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = patch_features(visual, images, attention)
        assert torch.cosine_similarity(exact, half.float(), dim=-1).min() > 0.99


def test_another_attention_is_refused_by_the_words_that_there_are():
    with pytest.raises(RequestError, match=r"unknown attention 'CSA' .* give vanilla, csa, maskclip, .*, raw"):
        patch_features(tower(), some_images(), "CSA")


@pytest.mark.parametrize("size", [(7, 32), (32, 5)])
def test_a_window_smaller_than_a_patch_is_refused(size: tuple[int, int]):
    with pytest.raises(RequestError, match=f"{size[0]} x {size[1]} pixels are smaller than a patch of 8 x 8"):
        patch_features(tower(), some_images(1, *size))


TINY_TOWER = {"image_size": 32, "patch_size": 8, "width": 24, "layers": 1, "head_width": 12}
REFUSED: dict[str, Any] = {
    "a Linear": partial(torch.nn.Linear, 2, 2),
    "two attentional poolers": lambda: _build_vision_tower(8, TINY_TOWER | {"attentional_pool": "parallel"}),
    "pools by 'none'": lambda: _build_vision_tower(8, TINY_TOWER | {"pool_type": "none"}),
    "scaled cosine attention": lambda: _build_vision_tower(8, TINY_TOWER | {"scaled_cosine_attn": True}),
    "timm's NormFreeNet": lambda: TimmModel("test_nfnet", 8, pool="avg", proj=None),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_other_towers_are_refused_in_one_line(reason: str):
    visual = REFUSED[reason]()
    with pytest.raises(
        RequestError, match=f"^mine gives no features of patches: .*{reason}.*; COSMOS, open_clip's and timm's ViTs"
    ):
        require_supported_tower(visual, "mine")
    with pytest.raises(RequestError, match=reason) as refusal:
        patch_features(visual, some_images())
    assert "\n" not in str(refusal.value)


def test_blocks_of_another_class_are_refused():
    visual = tower()
    visual.transformer.resblocks[0] = torch.nn.Identity()
    with pytest.raises(RequestError, match="blocks of the class Identity"):
        require_supported_tower(visual, "mine")


def test_the_towers_that_open_clip_and_cosmos_build_are_taken():
    require_supported_tower(cosmos().visual, "mine")
    for options in KINDS.values():
        require_supported_tower(tower(**options), "mine")
