"""A kind of model in a few lines: a class that is called with what stands behind the colon."""

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor


class Brightness:
    """The brightness of an image to a power, and the length of a text."""

    def __init__(self, power: str) -> None:
        self.power = float(power)
        self.digest = f"brightness {power}"

    def preprocess(self, image: Image.Image) -> Tensor:
        return pil_to_tensor(image.resize((4, 4))).float() / 255

    def encode_image(self, x: Tensor) -> Tensor:
        return torch.stack([x.mean((1, 2, 3)) ** self.power + 0.1, torch.ones(len(x))], dim=1)

    def encode_text(self, texts: list[str]) -> Tensor:
        return torch.tensor([[0.1 + len(text) / 50, 1.0] for text in texts])
