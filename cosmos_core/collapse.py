"""Detection of collapse: alignment and uniformity of embeddings (Wang & Isola, ICML 2020, arXiv 2005.10242, 4.1).

Uniformity is 0 if all embeddings are equal, and falls as they spread over the sphere: -4 if they are orthogonal.
Alignment is 0 if matching embeddings are equal, and 2 on average if they are unrelated.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import normalize

MAX_EMBEDDINGS = 1024
"""Most embeddings of a batch that uniformity uses: its cost grows with their square."""
COLLAPSED_ABOVE = -0.1
"""Uniformity above which features count as collapsed: a mean squared distance of about 0.05 on the unit sphere."""
SPREAD_BELOW = -0.5
"""Uniformity below which features that had collapsed have spread again."""


def alignment(x: Tensor, y: Tensor, alpha: float = 2.0) -> float:
    """Mean distance between matching embeddings to the power of alpha: 0 is perfect, 4 (alpha 2) is opposite.

    Args:
        x, y: (N, D) embeddings, row i of x matches row i of y; they are scaled to unit length here.

    Returns:
        The mean over rows; NaN if a row is NaN or there are no rows.

    Raises:
        ValueError: shapes differ or are not (N, D).
    """
    return _alignment(x, y, alpha).item()


@torch.no_grad()
def _alignment(x: Tensor, y: Tensor, alpha: float = 2.0) -> Tensor:
    require_matrix(x)
    require_matrix(y)
    if x.shape != y.shape:
        raise ValueError(f"x and y must have one shape, got {tuple(x.shape)} and {tuple(y.shape)}")
    with torch.autocast(x.device.type, enabled=False):
        distances = torch.linalg.vector_norm(normalize(x.float(), dim=1) - normalize(y.float(), dim=1), dim=1)
        return distances.pow(alpha).mean()


def uniformity(x: Tensor, t: float = 2.0) -> float:
    """Logarithm of the mean Gaussian potential of all pairs: 0 if all embeddings are equal, lower is more uniform.

    Args:
        x: (N, D) embeddings; they are scaled to unit length here.
        t: as in exp(-t * squared distance); the result is at least -4 t.

    Returns:
        A number from -4 t to 0; NaN if a row is NaN or there are less than two rows. Memory: N x N floats.

    Raises:
        ValueError: the shape is not (N, D).
    """
    return _uniformity(x, t).item()


@torch.no_grad()
def _uniformity(x: Tensor, t: float = 2.0) -> Tensor:
    require_matrix(x)
    if len(x) < 2:
        return torch.full((), math.nan, device=x.device)
    with torch.autocast(x.device.type, enabled=False):
        unit = normalize(x.float(), dim=1)
        # squared distances of unit vectors; rounding may make them negative if two are equal
        squared = (2 - 2 * unit @ unit.T).clamp_min_(0)
        potential = squared.mul_(-t).exp_().fill_diagonal_(0)
        return (potential.sum() / (len(x) * (len(x) - 1))).log()


def embedding_metrics(images: Tensor, texts: Tensor) -> dict[str, Tensor]:
    """`alignment`, `uniformity_image` and `uniformity_text` of one view of each sample, scalars on its device.

    Cost: two matrix products of at most 1,024 embeddings with themselves (4 N^2 D operations, N^2 floats at a time),
    without gradients and random numbers, once every `log_every` steps. Each rank uses its own samples, and the log has
    the mean over ranks.

    Args:
        images, texts: (B, D), row i of both from sample i: the first view and the first caption of the step.
    """
    return {
        "alignment": _alignment(images, texts),
        "uniformity_image": _uniformity(images[:MAX_EMBEDDINGS]),
        "uniformity_text": _uniformity(texts[:MAX_EMBEDDINGS]),
    }


class CollapseAlarm:
    """Returns a warning once when features collapse, and once when they have spread again.

    No warning during the warm-up: at the start of a normal training features come close together before they spread.

    Args:
        after: the last step of the warm-up.
    """

    def __init__(self, after: int) -> None:
        self.after = after
        self.collapsed: set[str] = set()

    def __call__(self, step: int, metrics: Mapping[str, float]) -> str:
        """One line if something has changed, else empty. `metrics`: as `embedding_metrics` returns them."""
        messages = []
        for modality in ("image", "text"):
            value = metrics.get(f"uniformity_{modality}", math.nan)
            if value > COLLAPSED_ABOVE and modality not in self.collapsed and step > self.after:
                self.collapsed.add(modality)
                messages.append(
                    f"{modality} features have collapsed (uniformity {value:.3f}; 0: one point); "
                    "lower lr or warm up longer"
                )
            elif value < SPREAD_BELOW and modality in self.collapsed:
                self.collapsed.discard(modality)
                messages.append(f"{modality} features have spread again (uniformity {value:.2f})")
        return f"step {step:,}: {'; '.join(messages)}" if messages else ""


def require_matrix(x: Tensor) -> None:
    if x.ndim != 2:
        raise ValueError(f"embeddings are (N, D), got {tuple(x.shape)}")
