"""SCLIP's segmentor, slow and obvious: one window of one image at a time, all buffers at full size.

Nothing is taken from the code that it is compared with: windows, sums, counts and thresholds are written out here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

Encode = Callable[[Tensor], Tensor]
"""(1, 3, h, w) normalised -> (1, rows, columns, D), unnormalised."""


@dataclass(frozen=True)
class Settings:
    """As in a benchmark's definition."""

    crop: int
    stride: int
    logit_scale: float = 40.0
    prob_thd: float = 0.0
    area_thd: float | None = None
    pamr_steps: int = 0
    pamr_dilations: tuple[int, ...] = (8, 16)


def window_logits(encode: Encode, window: Tensor, queries: Tensor, size: tuple[int, int]) -> Tensor:
    """(1, 3, h, w) -> (1, Q, *size) cosines, resampled from patches to pixels."""
    features = encode(window)
    features = features / features.norm(dim=-1, keepdim=True)
    logits = (features @ queries.T).permute(0, 3, 1, 2)
    return F.interpolate(logits, size=size, mode="bilinear")


def window_boxes(height: int, width: int, crop: int, stride: int) -> list[tuple[int, int, int, int]]:
    """Top, left, bottom, right of every window, row by row."""
    boxes = []
    for row in range(max(height - crop + stride - 1, 0) // stride + 1):
        for column in range(max(width - crop + stride - 1, 0) // stride + 1):
            bottom, right = min(row * stride + crop, height), min(column * stride + crop, width)
            boxes.append((max(bottom - crop, 0), max(right - crop, 0), bottom, right))
    return boxes


def image_logits(
    encode: Encode, image: Tensor, original: tuple[int, int], queries: Tensor, settings: Settings
) -> Tensor:
    """(3, H, W) normalised -> (Q, *original)."""
    if settings.crop:
        logits = F.interpolate(sliding_logits(encode, image, queries, settings), size=original, mode="bilinear")
    else:  # the whole refined_by in one pass
        logits = window_logits(encode, image[None], queries, original)
    if settings.pamr_steps:
        refined_by = F.interpolate(image[None], size=original, mode="bilinear")
        logits = pamr(refined_by, logits, settings.pamr_steps, settings.pamr_dilations)
    return logits[0]


def sliding_logits(encode: Encode, image: Tensor, queries: Tensor, settings: Settings) -> Tensor:
    """(3, H, W) normalised -> (1, Q, H, W), windows that overlap averaged."""
    height, width = image.shape[1:]
    total = torch.zeros(1, len(queries), height, width, device=image.device)
    count = torch.zeros(1, 1, height, width, device=image.device)
    for top, left, bottom, right in window_boxes(height, width, settings.crop, settings.stride):
        size = (bottom - top, right - left)
        logits = window_logits(encode, image[None, :, top:bottom, left:right], queries, size)
        total += F.pad(logits, (left, width - right, top, height - bottom))
        count[:, :, top:bottom, left:right] += 1
    return total / count


def class_probabilities(logits: Tensor, class_of_query: Sequence[int], settings: Settings) -> Tensor:
    """(Q, H, W) cosines -> (C, H, W)."""
    of_queries = (logits * settings.logit_scale).softmax(0)
    classes = max(class_of_query) + 1
    if list(class_of_query) == list(range(classes)):
        found = of_queries
    else:
        words_of = [[q for q, own in enumerate(class_of_query) if own == c] for c in range(classes)]
        found = torch.stack([of_queries[words].max(0).values for words in words_of])
    if settings.area_thd is not None:
        winner = found.argmax(0)
        areas = [int((winner == c).sum()) for c in range(classes)]
        foreground = sum(areas[1:])
        for c in range(1, classes):
            if not areas[c] > settings.area_thd * foreground:
                found[c] = 0
    return found


def labels(logits: Tensor, class_of_query: Sequence[int], settings: Settings) -> np.ndarray:
    """(Q, H, W) cosines -> (H, W) classes."""
    probabilities = class_probabilities(logits, class_of_query, settings)
    found = probabilities.argmax(0)
    found[probabilities.max(0).values < settings.prob_thd] = 0
    return found.cpu().numpy()


def pamr(image: Tensor, mask: Tensor, steps: int, dilations: Sequence[int]) -> Tensor:
    """(1, channels, H, W) and (1, C, H, W) -> (1, C, H, W), every neighbour stacked."""
    around = neighbourhood(image, dilations, centre=True)  # (1, channels, 9 * dilations, H, W)
    others = neighbourhood(image, dilations, centre=False)  # (1, channels, 8 * dilations, H, W)
    spread = around.std(2, keepdim=True)
    distance = (others - image[:, :, None]).abs() / (1e-8 + 0.1 * spread)
    weights = (-distance).mean(1, keepdim=True).softmax(2)
    for _ in range(steps):
        mask = (neighbourhood(mask, dilations, centre=False) * weights).sum(2)
    return mask


def neighbourhood(x: Tensor, dilations: Sequence[int], centre: bool) -> Tensor:
    height, width = x.shape[-2:]
    found = []
    for dilation in dilations:
        padded = F.pad(x, (dilation,) * 4, mode="replicate")
        for down in (0, 1, 2):
            for right in (0, 1, 2):
                if centre or (down, right) != (1, 1):
                    top, left = down * dilation, right * dilation
                    found.append(padded[..., top : top + height, left : left + width])
    return torch.stack(found, 2)
