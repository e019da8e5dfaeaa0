"""Every architecture of open_clip gives patch features in each variant that it has: shapes, without memory."""

import pytest
import torch

from cosmos_core.dense import patch_features, supported_attentions
from cosmos_core.errors import RequestError
from cosmos_eval.models.architectures_page import SMALL_TEXT
from cosmos_eval.models.open_clip_compat import list_architectures, model_config
from cosmos_eval.models.open_clip_network import build

SAMPLE = (
    "EVA02-B-16",
    "MobileCLIP-B",
    "PE-Core-T-16-384",
    "RN50",
    "ViT-B-16-SigLIP2-256",
    "ViTamin-S",
    "coca_ViT-B-32",
)
ONE_SIZE = {"swin_base_patch4_window7_224", "vit_relpos_medium_patch16_cls_224"}


@pytest.mark.parametrize(
    "name",
    [name if name in SAMPLE else pytest.param(name, marks=pytest.mark.slow) for name in list_architectures()],
)
@torch.no_grad()
def test_an_architecture_gives_maps_of_its_own_size_and_of_others(name):
    config = model_config(name)
    with torch.device("meta"):
        visual = build(name, {}, name, device="meta", text_cfg=SMALL_TEXT).visual.eval()
    size = config["vision_cfg"].get("image_size", 224)
    height, width = size if isinstance(size, list | tuple) else (size, size)
    attentions = supported_attentions(visual)
    assert "vanilla" in attentions
    for attention in attentions:
        native = patch_features(visual, torch.empty(1, 3, height, width, device="meta"), attention)
        assert (native.shape[0], native.shape[3]) == (1, config["embed_dim"])
        patch = (height // native.shape[1], width // native.shape[2])
        other = torch.empty(1, 3, 2 * patch[0] + 1, 5 * patch[1] + 3, device="meta")
        if name in ONE_SIZE:
            with pytest.raises(RequestError, match="pixels only"):
                patch_features(visual, other, attention)
        else:
            assert patch_features(visual, other, attention).shape == (1, 2, 5, config["embed_dim"])
