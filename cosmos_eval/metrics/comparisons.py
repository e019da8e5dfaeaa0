"""What counts as right where a few images stand against a few texts: strict rules, and what ties earn on average.

An item is a matrix of scores, images as rows, texts as columns:

- 1 x n: the first text is right (SugarCrepe, ARO). `accuracy`: it scores strictly above all others.
- m x 1: the first image is right (SVO-Probes as CLIP papers rank it). `accuracy`, the same; for m = 2 also
  `match_accuracy`, the official reading: each pair of an image and a text is called a match or not. The authors take
  the model's own decision. A dual encoder has none, and the threshold here is ours (`match_threshold`).
- 2 x 2: image k and text k belong together (Winoground, Thrush et al., 2022; MMVP-VLM, Tong et al., 2024).
  `text_score`: both images prefer their text; `image_score`: both texts prefer their image; `group_score`: both.

Beside each strict reading stands its expectation: the probability of being right when equal scores are put in a random
order. A model that scores everything alike gets 0 by the strict rule and exactly chance by the expectation.
"""

from dataclasses import dataclass
from itertools import permutations

import numpy as np
import torch
from torch import Tensor

from cosmos_eval.metrics.similarity import check_features, plain_float32, share_equal_rows

BLOCK = 2**16
"""Pairs of rows that are multiplied at a time."""


@dataclass(frozen=True)
class Reading:
    """One rule over (I,) items, on the CPU."""

    strict: Tensor
    """float64, 1 where the rule holds strictly."""
    expected: Tensor
    """float64, the probability that it holds when ties are ordered at random."""
    margin: Tensor
    """float32, the smallest lead of a right score over a wrong one that the rule compares it with."""
    halves: tuple[Tensor, Tensor] | None = None
    """Where each score of an item is judged by itself: (I, 2) of the strict rule and of the expectation."""


def item_pairs(item_images: Tensor, item_texts: Tensor) -> Tensor:
    """(I * m * n, 2) int64 on the CPU: each image of an item with each of its texts, item by item, image by image.

    Args:
        item_images: (I, m) int64 indices of images.
        item_texts: (I, n) int64 indices of texts.
    """
    images, texts = item_images.long().cpu()[:, :, None], item_texts.long().cpu()[:, None, :]
    return torch.stack(torch.broadcast_tensors(images, texts), dim=-1).reshape(-1, 2)


def dot_products(images: Tensor, texts: Tensor, pairs: Tensor) -> Tensor:
    """(P,) float32 on the CPU: the cosine of each of (P, 2) int64 pairs of an image and a text.

    Each pair of distinct features is multiplied once, so that equal inputs tie exactly wherever they stand.

    Args:
        images: (N, D) of unit length.
        texts: (T, D) of unit length, on the same device.

    Raises:
        ValueError: features that are not finite; names the first.
    """
    check_features(images, "image")
    check_features(texts, "text")
    distinct_images, distinct_texts = share_equal_rows(images), share_equal_rows(texts)
    left, right = distinct_images.column.cpu()[pairs[:, 0]], distinct_texts.column.cpu()[pairs[:, 1]]
    distinct, place = (left * len(distinct_texts.rows) + right).unique(return_inverse=True)
    scores = []
    with plain_float32():
        for some in distinct.split(BLOCK):
            one = distinct_images.rows[(some // len(distinct_texts.rows)).to(images.device)]
            other = distinct_texts.rows[(some % len(distinct_texts.rows)).to(images.device)]
            scores.append((one * other).sum(1).cpu())
    return torch.cat(scores)[place]


def pair_numbers(item_images: Tensor, item_texts: Tensor) -> Tensor:
    """(I, m) a number for each image of an item with its first text, equal where both are; arguments as above."""
    return item_images * (int(item_texts.max()) + 1) + item_texts[:, :1]


def readings(scores: Tensor, pairs: Tensor | None = None) -> dict[str, Reading]:
    """The rules that items of this shape have, by the name of their metric.

    Args:
        scores: (I, m, n), one of the shapes above.
        pairs: (I, m) of `pair_numbers`, for what recurs in several items; without it nothing does.

    Raises:
        ValueError: another shape.
    """
    _, m, n = scores.shape
    if (m, n) == (2, 2):
        return _square(scores)
    if m == 1 and n > 1:
        return {"accuracy": _choice(scores[:, 0, :])}
    if n == 1 and m > 1:
        found = {"accuracy": _choice(scores[:, :, 0])}
        return {**found, "match_accuracy": _match(scores[:, :, 0], pairs)} if m == 2 else found
    raise ValueError(f"no rule for items of {m} images and {n} texts")


def reading_names(m: int, n: int) -> tuple[str, ...]:
    """The names that `readings` gives for items of m images and n texts; none where there is no rule."""
    if (m, n) == (2, 2):
        return ("text_score", "image_score", "group_score")
    if (m, n) == (2, 1):
        return ("accuracy", "match_accuracy")
    return ("accuracy",) if 1 in (m, n) and m + n > 2 else ()


def _choice(scores: Tensor) -> Reading:
    """(I, k): the first of k."""
    right, rivals = scores[:, 0], scores[:, 1:].amax(1)
    tied = (scores == right[:, None]).sum(1)
    expected = torch.where(rivals > right, 0.0, 1 / tied.double())
    return Reading((right > rivals).double(), expected, right - rivals)


def _match(scores: Tensor, pairs: Tensor | None) -> Reading:
    """(I, 2): a match (first) and no match (second), each judged by itself; half an item each."""
    threshold = match_threshold(scores, pairs)
    leads = torch.stack([scores[:, 0].double() - threshold, threshold - scores[:, 1].double()], dim=1)
    strict = (leads > 0).double()
    expected = strict + (leads == 0).double() / 2
    return Reading(strict.mean(1), expected.mean(1), leads.amin(1).float(), halves=(strict, expected))


def match_threshold(scores: Tensor, pairs: Tensor | None = None) -> float:
    """The score above which a pair is called a match: as many distinct pairs lie above it as are matches.

    Midway between two neighbouring scores. It is the median where there are as many matches as others; in SVO-Probes
    a match recurs in the rows of several negatives, and the median of the distinct pairs would call some of the others
    matches even where every match scores highest.

    Args:
        scores: (I, 2), of the match and of the other of each item.
        pairs: (I, 2) of `pair_numbers`; a pair counts once among the matches, and once among the others.
    """
    if pairs is None:
        pairs = torch.arange(scores.numel()).view(scores.shape)
    once = [np.unique(pairs[:, side].numpy(), return_index=True)[1] for side in range(2)]
    ranked = torch.cat([scores[torch.from_numpy(own), side] for side, own in enumerate(once)]).double()
    ranked = ranked.sort(descending=True).values
    matches = len(once[0])
    return float((ranked[matches - 1] + ranked[matches]) / 2)


Place = tuple[int, int]
COMPARISONS: dict[str, tuple[tuple[Place, Place], ...]] = {
    "text_score": (((0, 0), (0, 1)), ((1, 1), (1, 0))),
    "image_score": (((0, 0), (1, 0)), ((1, 1), (0, 1))),
}
"""For each rule, the (right, wrong) places that it compares."""
COMPARISONS["group_score"] = (*COMPARISONS["text_score"], *COMPARISONS["image_score"])


def _square(scores: Tensor) -> dict[str, Reading]:
    """(I, 2, 2): the three scores of Winoground."""
    found = {}
    for name, pairs in COMPARISONS.items():
        margin = torch.stack([scores[:, a, b] - scores[:, c, d] for (a, b), (c, d) in pairs]).amin(0)
        strict = torch.stack([scores[:, a, b] > scores[:, c, d] for (a, b), (c, d) in pairs]).all(0)
        # every order of the four scores among equals is as likely as any other
        hits = torch.zeros(len(scores), dtype=torch.float64)
        orders = list(permutations(range(4)))
        for order in orders:
            wins = [
                (scores[:, a, b] > scores[:, c, d])
                | ((scores[:, a, b] == scores[:, c, d]) & (order[2 * a + b] > order[2 * c + d]))
                for (a, b), (c, d) in pairs
            ]
            hits += torch.stack(wins).all(0).double()
        found[name] = Reading(strict.double(), hits / len(orders), margin)
    return found
