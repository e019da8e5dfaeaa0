"""Where embeddings lie: the gap between modalities, and how many dimensions they use.

Alignment and uniformity are in `cosmos_core.collapse`, as training logs them.
"""

import torch
from torch import Tensor

from cosmos_core.devices import to_float64


def modality_gap(images: Tensor, texts: Tensor) -> float:
    """Distance between the means of image and of text embeddings (Liang et al., NeurIPS 2022, section 2).

    Args:
        images: (N, D) of unit length.
        texts: (M, D) of unit length.

    Returns:
        0 if both modalities have one centre; at most 2.
    """
    return float(torch.linalg.vector_norm(to_float64(images).mean(0) - to_float64(texts).mean(0)))


def effective_rank(features: Tensor) -> float:
    """Number of dimensions that embeddings use: the exponential of the entropy of their singular values, as shares of
    their sum (Roy & Vetterli, EUSIPCO 2007, eq. 1 to 3), after subtraction of the mean.

    Args:
        features: (N, D).

    Returns:
        1 if they lie on a line, up to min(N - 1, D) if they spread alike in all directions; 0 if all are equal.
    """
    return count_directions(singular_value_shares(features))


def count_directions(shares: Tensor) -> float:
    """Return the exponential of the entropy of the shares of `singular_value_shares`; 0 if all are 0."""
    positive = shares[shares > 0]
    return float((-positive * positive.log()).sum().exp()) if len(positive) else 0.0


def singular_value_shares(features: Tensor) -> Tensor:
    """Singular values of centred embeddings as shares of their sum.

    Args:
        features: (N, D).

    Returns:
        (min(N, D),) float64 in descending order, with the sum 1; zeros if all embeddings are equal up to the rounding
        of float32.
    """
    centred = features.cpu().double()
    norm = torch.linalg.vector_norm(centred)
    centred = centred - centred.mean(0)
    # N may be 50,000 and D 512: the eigenvalues of the smaller of both products are the squares
    product = centred.T @ centred if len(centred) > centred.shape[1] else centred @ centred.T
    return shares_of_product(product, norm)


def shares_of_product(product: Tensor, norm: Tensor) -> Tensor:
    """Return `singular_value_shares` from the product of centred embeddings with themselves.

    Args:
        product: (K, K) float64, of all inner products of columns, or of rows.
        norm: of the embeddings before they were centred, which decides what is rounding.
    """
    values = torch.linalg.eigvalsh(product).clamp_min(0).flip(0).sqrt()
    values[values <= norm * torch.finfo(torch.float32).eps] = 0
    total = values.sum()
    return values / total if total > 0 else torch.zeros_like(values)
