"""Patch features of each family of transformers that has the image tower of CLIP or SigLIP; the others are refused."""

import numpy as np
import pytest
import torch
from PIL import Image

from cosmos_core.dense import ATTENTIONS
from cosmos_core.errors import RequestError
from cosmos_eval.engine.dense import Normalise
from cosmos_eval.models import load_model
from cosmos_eval.models.base import require_patch_encoder
from tests.helpers.tiny_hf import BUILD, save
from tests.oracles import dense_hooks

WITH_PATCHES = {"siglip2_fixed", "metaclip_2", "altclip", "chinese_clip", "clipseg"}


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
