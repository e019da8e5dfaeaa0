"""How likely a weighted sum of exponential variables is at most zero, to full precision and without drawing any.

S = sum of v_j G_j with independent G_j ~ Gamma(c_j), that is c_j exponential variables of mean one each, has the moment
generating function M(s) = prod (1 - v_j s) ** -c_j. The chance that S lies on one side of zero is the integral of
M(s) / s along a vertical line (Gil-Pelaez); through the saddle point the integrand has no cancellation, and after
t = scale * sinh(x) the trapezoid rule converges geometrically (Helstrom, IEEE Trans. AES 32, 1996, does the same for
sums of exponentials in radar).
"""

import numpy as np

STEP = 0.125
"""Of the trapezoid rule in x; the error is of the order exp(-pi**2 / (2 STEP)), below double precision."""
FAR = 40.0
"""The integrand is followed down to exp(-FAR) of its height."""
HALVINGS = 30
BLOCK = 2**22
"""Complex numbers of one block of the integrand."""


def chance_not_above_zero(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The chance that each of R sums is at most zero.

    Args:
        values: (R, G) or (G,) v_j, finite.
        counts: of the same shape, c_j >= 0 (not only whole numbers); a sum with every v_j c_j = 0 is zero.

    Returns:
        (R,) float64, or a scalar array for (G,).

    Raises:
        ValueError: shapes differ, or a number that is not finite, or a negative count.
    """
    values, counts = np.asarray(values, np.float64), np.asarray(counts, np.float64)
    if values.shape != counts.shape or values.ndim not in (1, 2):
        raise ValueError(f"values and counts must have one shape, (R, G) or (G,), got {values.shape}, {counts.shape}")
    if not (np.isfinite(values).all() and np.isfinite(counts).all() and (counts >= 0).all()):
        raise ValueError("values must be finite, counts finite and not negative")
    rows = np.atleast_2d(np.where(counts > 0, values, 0.0))
    times = np.atleast_2d(np.where(rows != 0, counts, 0.0))
    above, below = (rows > 0).any(1), (rows < 0).any(1)
    found = np.where(above & ~below, 0.0, 1.0)
    both = np.flatnonzero(above & below)
    if len(both):
        found[both] = _chances(rows[both], times[both])
    return found if values.ndim == 2 else found[0]


def _chances(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """As above, (R, G) with values on both sides of zero in every row."""
    values = values / np.abs(values).max(1, keepdims=True)
    # The tail that is the smaller one is integrated: below zero where the mean lies above.
    upside = (values * counts).sum(1) < 0
    signed = np.where(upside[:, None], -values, values)  # P(S <= 0) for a mean above zero, P(-S <= 0) else
    tail = np.empty(len(signed))
    step = max(1, BLOCK // (signed.shape[1] * 64))
    for start in range(0, len(signed), step):
        tail[start : start + step] = _lower_tails(signed[start : start + step], counts[start : start + step])
    return np.clip(np.where(upside, 1 - tail, tail), 0.0, 1.0)


def _lower_tails(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(R,) P(S < 0), by the line through the saddle point of M(s) / |s| between zero and the nearest pole below."""
    pole = 1 / values.min(1)
    low, high = pole.copy(), np.zeros(len(pole))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        slope = (counts * values / (1 - values * middle[:, None])).sum(1) - 1 / middle
        low, high = np.where(slope < 0, middle, low), np.where(slope < 0, high, middle)
    saddle = (low + high) / 2
    at_saddle = 1 - values * saddle[:, None]  # (R, G), positive
    curvature = (counts * (values / at_saddle) ** 2).sum(1) + 1 / saddle**2
    scale = 1 / np.sqrt(curvature)
    height = -(counts * np.log(at_saddle)).sum(1)

    def decay(t: np.ndarray) -> np.ndarray:
        """(R,) how far log |M(s) / s| has fallen at s = saddle + it."""
        ratio = (values * t[:, None] / at_saddle) ** 2
        return (counts * np.log1p(ratio)).sum(1) / 2 + np.log1p((t / saddle) ** 2) / 2

    last = 2.0
    while (decay(scale * np.sinh(last)) - np.log(np.cosh(last)) < FAR).any() and last < 80:
        last += 1.0
    total = np.zeros(len(values))
    nodes = np.arange(0, last + STEP, STEP)
    width = max(1, BLOCK // max(1, values.size))
    for start in range(0, len(nodes), width):
        x = nodes[start : start + width]
        s = saddle[:, None] + 1j * scale[:, None] * np.sinh(x)  # (R, X)
        log = -(counts[:, None] * np.log((1 - values[:, None] * s[:, :, None]) / at_saddle[:, None])).sum(2)
        # half of the line, twice its real part; the node at x = 0 is counted once
        part = np.real(np.exp(log) / s) * np.cosh(x) * np.where(x == 0, 0.5, 1.0)
        total += part.sum(1)
    return -np.exp(height) * scale * STEP * total / np.pi
