"""Patch features: one embedding in the joint image-text space for each patch of an image, without training.

The last block decides how local a patch feature is. Variants of it; all other blocks stay as they are:

- `vanilla`: the block as it was trained.
- `csa`, correlative self-attention (Wang et al., "SCLIP: Rethinking Self-Attention for Dense Vision-Language
  Inference", ECCV 2024, arXiv 2312.01597): (softmax(q q^T / sqrt(d)) + softmax(k k^T / sqrt(d))) v, so that weights sum
  to 2; residual and MLP are kept.
- `maskclip` (Zhou et al., "Extract Free Dense Labels from CLIP", ECCV 2022, arXiv 2112.01071): every token keeps its
  own value v; residual and MLP are kept, as in its authors' code for ViTs. (ClearCLIP's authors, who compute it again,
  leave both out.)
- `clearclip` (Lan et al., "ClearCLIP: Decomposing CLIP Representations for Dense Vision-Language Inference", ECCV 2024,
  arXiv 2407.12442): softmax(q q^T / sqrt(d)) v; the block's output is its attention alone, without residual and MLP.
- `naclip` (Hajimiri et al., "Pay Attention to Your Neighbours: Training-Free Open-Vocabulary Semantic Segmentation",
  WACV 2025, arXiv 2404.08181): softmax(k k^T / sqrt(d) + n) v, where n is exp(-distance^2 / (2 * 5^2)) between two
  patches, distance in patches, and 0 to and from the class token; without residual and MLP, as for `clearclip`.
- `raw`: the block as it was trained, and no attentional pooling after it (next paragraph); `vanilla` for other towers.

How a token becomes a feature: it is pooled alone. Towers that pool by class token or mean give it their final norm and
projection. Towers that pool by attention (SigLIP, PE, CoCa) give it what their pooling makes of this token alone: its
value and the output projection, since its weight is 1, and the pooler's MLP where there is one; that is MaskCLIP's
rule for CLIP's ResNets. With `raw` the token goes directly to the norm or projection that follows the pooling, which is
defined only if widths are equal. Towers that end in convolutions or windowed attention have `vanilla` and `raw` only.

Only the features follow these papers, not their whole evaluation. The authors' code also differs otherwise: NACLIP
refines by ten steps of PAMR by default; ClearCLIP takes windows of 448 pixels every 224, pads them to whole
patches, runs in half precision and can add up several last blocks. Here windows, scale, thresholds and refinement come
from the benchmark's definition, and pixels beyond the last whole patch are left out. If a block has a layer scale or
a norm after its attention, both are kept in all variants; the authors' towers have neither.

`tower.py` says what is asked of a tower, `variants.py` holds the variants; one file for each library's towers.
"""

from typing import Any

from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from torch import Tensor

from cosmos_core.dense.open_clip_vit import OpenClipViT
from cosmos_core.dense.resnet import AttentionPooledResNet
from cosmos_core.dense.timm_tower import read_timm_tower
from cosmos_core.dense.tower import DenseTower, UnsupportedTower
from cosmos_core.dense.transformers_tower import is_transformers_network, read_transformers_tower
from cosmos_core.dense.variants import ATTENTIONS, NEIGHBOURHOOD
from cosmos_core.errors import RequestError

__all__ = [
    "ATTENTIONS",
    "NEIGHBOURHOOD",
    "patch_features",
    "patch_tokens",
    "require_supported_tower",
    "supported_attentions",
]


def patch_features(visual: Any, images: Tensor, attention: str = "vanilla") -> Tensor:
    """Features of all patches of a batch, in the joint space of images and texts.

    Args:
        visual: an image tower of open_clip: its VisionTransformer (COSMOS's is one), ModifiedResNet or TimmModel; or a
            network of transformers with an image tower that is read (`transformers_tower`).
        images: (B, 3, H, W), normalised, of any size from one patch on. Sizes that are not multiples of the patch are
            floored; position embeddings are interpolated for other sizes than the tower's own.
        attention: one of `supported_attentions(visual)`.

    Returns:
        (B, h, w, D), not normalised: patch tokens as the tower would pool each alone. Class token and registers take
        part in attention and are not in the result. Patches are never dropped.

    Raises:
        RequestError: an unknown `attention`, or one that is not defined for the tower; an unsupported tower; images
            smaller than one patch, or of another size than a tower's only one.
    """
    return _tower_with(visual, attention).features(images, attention)


def patch_tokens(visual: Any, images: Tensor, attention: str = "vanilla") -> Tensor:
    """(B, h, w, width) as `patch_features`, before the projection; of open_clip's own ViTs only."""
    tower = _tower_with(visual, attention)
    assert isinstance(tower, OpenClipViT)
    return tower.tokens(images, attention)


def require_supported_tower(visual: object, name: str) -> None:
    """Check that `patch_features` supports an image tower.

    Raises:
        RequestError: it does not; the message begins with `name`, the model of the tower.
    """
    try:
        _read_tower(visual)
    except UnsupportedTower as reason:
        raise RequestError(
            f"{name} gives no features of patches: {reason}; COSMOS, open_clip's and timm's ViTs, CLIP's ResNets and "
            "transformers' CLIP, SigLIP, BLIP, FLAVA and ALIGN do"
        ) from None


def supported_attentions(visual: object) -> tuple[str, ...]:
    """The variants of ATTENTIONS that `patch_features` has for an image tower; none for an unsupported tower."""
    try:
        return _read_tower(visual).attentions
    except UnsupportedTower:
        return ()


def _tower_with(visual: Any, attention: str) -> DenseTower:
    """The tower, which has this variant; RequestError otherwise."""
    if attention not in ATTENTIONS:
        raise RequestError(f"unknown attention {attention!r} of the last block; give {', '.join(ATTENTIONS)}")
    require_supported_tower(visual, "this model")
    tower = _read_tower(visual)
    if attention not in tower.attentions:
        raise RequestError(
            f"attention {attention!r} is not defined for this image tower; give {', '.join(tower.attentions)}"
        )
    return tower


def _read_tower(visual: Any) -> DenseTower:
    if isinstance(visual, VisionTransformer):
        return OpenClipViT(visual)
    if isinstance(visual, ModifiedResNet):
        return AttentionPooledResNet(visual)
    if isinstance(visual, TimmModel):
        return read_timm_tower(visual)
    if is_transformers_network(visual):
        return read_transformers_tower(visual)
    raise UnsupportedTower(f"its image tower is a {type(visual).__name__}, which is not read")
