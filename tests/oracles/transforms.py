"""Transforms of embeddings and the dual softmax, one number after the other."""

import math

import numpy as np


def unit(row: np.ndarray) -> np.ndarray:
    norm = math.sqrt(sum(float(x) ** 2 for x in row))
    return np.array([float(x) / norm for x in row])


def truncated(rows: np.ndarray, dim: int) -> np.ndarray:
    return np.stack([unit(row[:dim]) for row in rows])


def centered(rows: np.ndarray) -> np.ndarray:
    mean = [sum(float(row[d]) for row in rows) / len(rows) for d in range(rows.shape[1])]
    return np.stack([unit(row - mean) for row in rows])


def int8_restored(rows: np.ndarray) -> np.ndarray:
    """Each dimension in 255 steps between its smallest and largest value; the lower end of the step."""
    restored = np.zeros(rows.shape)
    for d in range(rows.shape[1]):
        low, high = float(rows[:, d].min()), float(rows[:, d].max())
        step = (high - low) / 255 or 1.0
        for i in range(len(rows)):
            restored[i, d] = low + step * min(255, math.floor((float(rows[i, d]) - low) / step))
    return restored


def hamming(one: np.ndarray, other: np.ndarray) -> int:
    return sum((a > 0) != (b > 0) for a, b in zip(one, other, strict=True))


def dual_softmax(scores: np.ndarray, scale: float) -> np.ndarray:
    """Of queries (rows) and candidates (columns)."""
    revised = np.zeros(scores.shape)
    for c in range(scores.shape[1]):
        total = sum(math.exp(scale * float(s)) for s in scores[:, c])
        for q in range(len(scores)):
            revised[q, c] = float(scores[q, c]) * math.exp(scale * float(scores[q, c])) / total
    return revised
