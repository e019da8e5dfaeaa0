"""Patch features of each family of transformers whose image tower has a grid of them; the others are refused."""

from functools import cache
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip import factory as registry
from PIL import Image
from transformers import CLIPConfig, CLIPModel, EfficientNetImageProcessorPil
from transformers.models.siglip2.image_processing_siglip2 import convert_image_to_patches

from cosmos_core.dense import ATTENTIONS
from cosmos_core.errors import RequestError
from cosmos_eval.engine.dense import Normalise
from cosmos_eval.models import load_model
from cosmos_eval.models.abilities import require_patch_encoder
from cosmos_eval.models.hf_preprocess import ProcessorPreprocess, unpack_patches
from tests.helpers.tiny_hf import BUILD, VISION, clip_images, clip_text, clip_tokenizer, save
from tests.helpers.transformers_weights import as_open_clip
from tests.oracles import dense_hooks

OF_FAMILY = {
    **dict.fromkeys(
        ("clip", "siglip2_fixed", "siglip2", "metaclip_2", "altclip", "chinese_clip", "clipseg"),
        dense_hooks.transformers_features,
    ),
    **dict.fromkeys(("flava", "blip", "blip_model"), dense_hooks.eager_features),
    "align": dense_hooks.align_features,
}
"""Family -> oracle of its patch features."""


def clip() -> tuple[Any, Any, Any]:
    tokenizer = clip_tokenizer()
    config = CLIPConfig(text_config=clip_text(tokenizer), vision_config=VISION, projection_dim=10)
    return CLIPModel(config), tokenizer, clip_images()


@pytest.mark.parametrize("size", [(32, 32), (40, 70)])
def test_the_same_vit_gives_equal_features_of_images_and_patches_through_both_specs(size, tmp_path, monkeypatch):
    theirs = load_model(f"hf:{save(tmp_path / 'clip', clip)}")
    vision = {"image_size": 32, "patch_size": 16, "width": 16, "layers": 2, "head_width": 8, "mlp_ratio": 2.0}
    text = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    config = {"embed_dim": 10, "vision_cfg": vision, "text_cfg": text, "quick_gelu": True}
    monkeypatch.setitem(registry._MODEL_CONFIGS, "tiny-same", config)
    network = open_clip.create_model("tiny-same")
    network.visual.load_state_dict(as_open_clip(theirs.network))
    torch.save(network.state_dict(), tmp_path / "same.pt")
    ours = load_model(f"open_clip:tiny-same/{tmp_path / 'same.pt'}")
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    if size == (32, 32):
        torch.testing.assert_close(theirs.encode_image(images), ours.encode_image(images), atol=2e-6, rtol=2e-6)
    assert theirs.attentions == ours.attentions == ATTENTIONS
    for attention in ATTENTIONS:
        patches = ours.encode_patches(images, attention)
        assert patches.shape == (2, size[0] // 16, size[1] // 16, 10)
        torch.testing.assert_close(theirs.encode_patches(images, attention), patches, atol=2e-6, rtol=2e-6)


@pytest.fixture(scope="module")
def model_of(tmp_path_factory):
    """A function that saves and loads a small model of a family, once."""
    return cache(lambda family: load_model(f"hf:{save(tmp_path_factory.mktemp('hf') / family, BUILD[family])}"))


@pytest.mark.parametrize("family", BUILD)
def test_a_family_gives_what_hooks_on_its_network_give_or_is_refused(family, model_of):
    model = model_of(family)
    if family not in OF_FAMILY:
        assert model.attentions == ()
        with pytest.raises(
            RequestError, match=rf"^hf:.*{family} gives no features of patches: .*\w; COSMOS, "
        ) as error:
            require_patch_encoder(model, "vanilla")
        assert "\n" not in str(error.value)
        return
    assert model.attentions == (("vanilla", "raw") if family == "align" else ATTENTIONS)
    size = (16, 20) if model.family.patches else (32, 32)  # NaFlex has no size of its own
    pixels = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
    for attention in model.attentions:
        ours = model.encode_patches(pixels, attention)
        expected = OF_FAMILY[family](model.network, pixels[0], attention)
        torch.testing.assert_close(ours[0].flatten(0, 1).double(), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", OF_FAMILY)
def test_windows_of_any_size_give_maps_of_their_whole_patches(family, model_of):
    model = model_of(family)
    patch = {"siglip2": 4, "align": 4}.get(family, 16)
    wide = torch.randn(2, 3, 40, 70, generator=torch.Generator().manual_seed(0))
    rows, columns = 40 // patch, 70 // patch
    for attention in model.attentions:
        maps = model.encode_patches(wide, attention)
        assert maps.shape[:3] == (2, rows, columns)
        cropped = model.encode_patches(wide[..., : rows * patch, : columns * patch], attention)
        torch.testing.assert_close(maps, cropped, atol=1e-5, rtol=1e-5)
        alone = model.encode_patches(wide[1:], attention)
        torch.testing.assert_close(maps[1:], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("include_top", [False, True])
@pytest.mark.parametrize("offset", [False, True])
@pytest.mark.parametrize("do_normalize", [False, True])
def test_windows_are_normalised_as_efficientnets_processor_does(offset, do_normalize, include_top):
    processor = EfficientNetImageProcessorPil(
        do_resize=False, rescale_factor=1 / 127.5, rescale_offset=offset, include_top=include_top,
        do_normalize=do_normalize, image_mean=[0.1, 0.2, 0.3], image_std=[0.4, 0.5, 0.6],
    )  # fmt: skip
    preprocess = ProcessorPreprocess(processor)
    image = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    mean, std = (torch.tensor(values)[:, None, None] for values in (preprocess.mean, preprocess.std))
    window = (torch.from_numpy(image).permute(2, 0, 1) / 255 - mean) / std
    torch.testing.assert_close(window, preprocess(Image.fromarray(image)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", OF_FAMILY)
def test_windows_are_normalised_as_the_familys_image_processor_does(family, model_of):
    model = model_of(family)
    size = model.preprocess.settings().get("size", {"height": 20})  # NaFlex resizes to a number of patches, which fit
    side = size.get("height", size.get("shortest_edge"))  # images of this side are not resized
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    (window,) = Normalise.from_model(model, model.device)(torch.from_numpy(image)[None])
    expected = model.preprocess(Image.fromarray(image))
    if model.family.patches:
        cut = convert_image_to_patches(window, model.preprocess.processor.patch_size)
        torch.testing.assert_close(cut, unpack_patches(expected[None])["pixel_values"][0], atol=1e-5, rtol=1e-5)
    else:
        edge = (side - expected.shape[-1]) // 2  # of the crop in the middle
        window = window[:, edge : side - edge, edge : side - edge]
        torch.testing.assert_close(window, expected, atol=1e-5, rtol=1e-5)
