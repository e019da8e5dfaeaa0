"""Adapters that tests name as `python:tests.helpers.tiny_models:...`: no weights, known behaviour."""

import hashlib
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import get_worker_info


class Colours:
    """Embeds an image by its mean colour and a text by a hash: deterministic, quick, and no better than chance."""

    digest = "c0105" * 12
    device = torch.device("cpu")

    def preprocess(self, image: Image.Image) -> Tensor:
        pixels = torch.from_numpy(np.array(image.convert("RGB").resize((8, 8)), dtype=np.float32))
        return pixels.permute(2, 0, 1) / 255

    def encode_image(self, x: Tensor) -> Tensor:
        return torch.cat([x.mean((2, 3)), x.flatten(1)[:, :5] + 0.1], dim=1)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        rows = [[1.0 + byte for byte in hashlib.sha256(text.encode()).digest()[:8]] for text in texts]
        return torch.tensor(rows)


class Constant(Colours):
    """One vector for everything."""

    digest = "c0257a27" * 8

    def encode_image(self, x: Tensor) -> Tensor:
        return torch.ones(len(x), 8)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        return torch.ones(len(texts), 8)


class Slow(Colours):
    """Waits at the benchmark whose texts are told by COSMOS_TEST_SLOW, after touching the file COSMOS_TEST_MARK."""

    digest = "510e" * 16

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        if os.environ.get("COSMOS_TEST_SLOW") in texts:
            Path(os.environ["COSMOS_TEST_MARK"]).touch()
            time.sleep(300)
        return super().encode_text(texts)


class SlowImages(Colours):
    """Workers wait at each image, after touching the file COSMOS_TEST_MARK."""

    digest = "510e91c" * 8

    def preprocess(self, image: Image.Image) -> Tensor:
        if get_worker_info() is not None:
            Path(os.environ["COSMOS_TEST_MARK"]).touch()
            time.sleep(120)
        return super().preprocess(image)


class Killed(Colours):
    """Its preprocessing ends a worker as the kernel does where memory runs out."""

    digest = "911ed" * 10

    def preprocess(self, image: Image.Image) -> Tensor:
        if get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().preprocess(image)
