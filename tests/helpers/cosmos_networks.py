"""COSMOS networks as tests need them: on architectures of open_clip, and with the logits of an image-text batch."""

import open_clip
from torch import Tensor

from cosmos_core.configs import Config, checked
from cosmos_core.model import COSMOS


def open_clip_config(arch: str) -> Config:
    """open_clip's configuration of an architecture; RequestError if it cannot carry COSMOS."""
    return checked(open_clip.get_model_config(arch), arch)


def image_logits(network: COSMOS, images: Tensor, ids: Tensor) -> Tensor:
    """(N, M) similarities of images and texts times the temperature, as open_clip's `get_logits` returns them first."""
    return network.logit_scale.exp() * network.encode_image(images, True) @ network.encode_text(ids, True).T
