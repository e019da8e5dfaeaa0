"""Patch features of each family of transformers that has the image tower of CLIP or SigLIP; the others are refused."""

from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip import factory as registry
from PIL import Image
from transformers import CLIPConfig, CLIPModel

from cosmos_core.dense import ATTENTIONS
from cosmos_core.errors import RequestError
from cosmos_eval.engine.dense import Normalise
from cosmos_eval.models import load_model
from cosmos_eval.models.base import require_patch_encoder
from tests.helpers.tiny_hf import BUILD, VISION, clip_images, clip_text, clip_tokenizer, save
from tests.helpers.transformers_weights import as_open_clip
from tests.oracles import dense_hooks

WITH_PATCHES = {"siglip2_fixed", "metaclip_2", "altclip", "chinese_clip", "clipseg"}


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


@pytest.mark.parametrize("family", BUILD)
def test_a_family_gives_what_hooks_on_its_network_give_or_is_refused(family, tmp_path):
    model = load_model(f"hf:{save(tmp_path / family, BUILD[family])}")
    if family not in WITH_PATCHES:
        assert model.attentions == ()
        with pytest.raises(
            RequestError, match=rf"^hf:.*{family} gives no features of patches: .*\w; COSMOS, "
        ) as error:
            require_patch_encoder(model, "vanilla")
        assert "\n" not in str(error.value)
        return
    assert model.attentions == ATTENTIONS
    pixels = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for attention in ("vanilla", "csa", "naclip"):
        ours = model.encode_patches(pixels, attention)
        expected = dense_hooks.transformers_features(model.network, pixels[0], attention)
        torch.testing.assert_close(ours[0].flatten(0, 1).double(), expected, atol=1e-4, rtol=1e-4)
    assert model.encode_patches(torch.zeros(1, 3, 40, 70)).shape[:3] == (1, 2, 4)
    side = model.preprocess(Image.new("RGB", (32, 32))).shape[-1]  # images of this side are not resized
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    window = Normalise.from_model(model, model.device)(torch.from_numpy(image)[None])
    torch.testing.assert_close(window[0], model.preprocess(Image.fromarray(image)), atol=1e-5, rtol=1e-5)
