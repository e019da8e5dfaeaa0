"""Accuracy of compositional benchmarks: items of few images and texts in which the right pairs must score best.

An item is a matrix of scores, with a row per image and a column per text. Its shape decides which metrics it has:

- 1 x n: the first text is right (SugarCrepe, Hsieh et al., 2023; ARO, Yuksekgonul et al., 2023). `accuracy`: it scores
  strictly above all other texts.
- m x 1: the first image is right (SVO-Probes, Hendricks & Nematzadeh, 2021, as papers on CLIP rank it). `accuracy`: the
  first image scores strictly above all others. For m = 2 also `match_accuracy`, the metric of the authors: each pair of
  an image and the text is classified as match or no match. The authors use the classifier of their own model; a dual
  encoder has none, and the threshold here is ours (`match_threshold`).
- 2 x 2: image k and text k belong together (Winoground, Thrush et al., 2022; MMVP-VLM, Tong et al., 2024).
  `text_score`: each image scores higher with its own text than with the other; `image_score`: each text scores higher
  with its own image; `group_score`: both. On request also the four comparisons one by one (`SIDES`), as BiVLC (Miranda
  et al., 2024) prints them.
- 1 x 3 of which two are right (SugarCrepe++): `cosmos_eval.metrics.paraphrase_accuracy`.

Ties: the authors' rules are strict, a tie is wrong. Beside each strict result stands its expectation: the probability
that the rule holds when equal scores are put in a random order. A model that scores everything alike gets 0 by the
strict rule and exactly chance in expectation.
"""

from itertools import permutations

import numpy as np
import torch
from torch import Tensor

from cosmos_eval.metrics.item_correctness import ItemCorrectness
from cosmos_eval.metrics.paraphrase_accuracy import PARAPHRASE_RULES, score_paraphrases
from cosmos_eval.metrics.similarity import check_features, deduplicate_features, plain_float32

BLOCK = 2**16
"""Number of image-text pairs whose features are multiplied at a time, which bounds memory."""


def list_item_pairs(item_images: Tensor, item_texts: Tensor) -> Tensor:
    """List every image-text pair of every item, to be scored.

    Args:
        item_images: (I, m) int64 indices of the images of each item.
        item_texts: (I, n) int64 indices of the texts of each item.

    Returns:
        (I * m * n, 2) int64 on the CPU: image index and text index. Scores in this order reshape to (I, m, n).
    """
    images, texts = item_images.long().cpu()[:, :, None], item_texts.long().cpu()[:, None, :]
    return torch.stack(torch.broadcast_tensors(images, texts), dim=-1).reshape(-1, 2)


def dot_products(images: Tensor, texts: Tensor, pairs: Tensor) -> Tensor:
    """Cosine similarity of chosen image-text pairs.

    Each pair of distinct features is multiplied once and its score shared, so that equal inputs tie exactly. Computed
    twice they might not: a sum over D products may be rounded differently in another position of the batch.

    Args:
        images: (N, D) features of unit length.
        texts: (T, D) features of unit length, on the same device.
        pairs: (P, 2) int64 on the CPU: image index and text index.

    Returns:
        (P,) float32 on the CPU.

    Raises:
        ValueError: a feature is not finite; names the first image or text.
    """
    check_features(images, "image")
    check_features(texts, "text")
    distinct_images, distinct_texts = deduplicate_features(images), deduplicate_features(texts)
    image_index, text_index = distinct_images.column.cpu()[pairs[:, 0]], distinct_texts.column.cpu()[pairs[:, 1]]
    # One number for each pair of distinct features, to find the pairs that recur.
    text_count = len(distinct_texts.features)
    distinct_pairs, pair_index = (image_index * text_count + text_index).unique(return_inverse=True)
    scores = []
    with plain_float32():
        for block in distinct_pairs.split(BLOCK):
            image_features = distinct_images.features[(block // text_count).to(images.device)]
            text_features = distinct_texts.features[(block % text_count).to(images.device)]
            scores.append((image_features * text_features).sum(1).cpu())
    return torch.cat(scores)[pair_index]


def number_pairs(item_images: Tensor, item_texts: Tensor) -> Tensor:
    """Number each image of an item together with its first text, so that pairs which recur in other items are found.

    Args:
        item_images: (I, m) int64 indices of the images of each item.
        item_texts: (I, n) int64 indices of the texts of each item.

    Returns:
        (I, m) int64, equal where both image and text are equal.
    """
    return item_images * (int(item_texts.max()) + 1) + item_texts[:, :1]


def compute_correctness(
    scores: Tensor, pairs: Tensor | None = None, *, right_texts: int = 1, each_side: bool = False
) -> dict[str, ItemCorrectness]:
    """Decide which items are right, under each rule that items of this shape have.

    Args:
        scores: (I, m, n) score of each image (row) with each text (column) of each item; shapes as described above.
        pairs: (I, m) `number_pairs`, for pairs that recur in several items (`match_accuracy` alone needs them); None:
            no pair recurs.
        right_texts: how many of the first texts are right, for items of one image.
        each_side: also decide each comparison of a 2 x 2 item by itself.

    Returns:
        Name of the metric -> correctness of the items; the names are those of `item_metric_names`.

    Raises:
        ValueError: no metric is defined for items of this shape.
    """
    _, m, n = scores.shape
    if (m, n, right_texts) == (1, 3, 2):
        return score_paraphrases(scores[:, 0, :])
    if right_texts != 1:
        raise ValueError(f"no metric is defined for items of {m} images and {n} texts of which {right_texts} are right")
    if (m, n) == (2, 2):
        return _score_squares(scores, {**COMPARISONS, **(SIDES if each_side else {})})
    if m == 1 and n > 1:
        return {"accuracy": _score_choices(scores[:, 0, :])}
    if n == 1 and m > 1:
        choices = {"accuracy": _score_choices(scores[:, :, 0])}
        return {**choices, "match_accuracy": _score_matches(scores[:, :, 0], pairs)} if m == 2 else choices
    raise ValueError(f"no metric is defined for items of {m} images and {n} texts")


def item_metric_names(m: int, n: int, right_texts: int = 1, each_side: bool = False) -> tuple[str, ...]:
    """Return the names of the metrics that `compute_correctness` gives for items of m images and n texts, or none."""
    if right_texts != 1:
        return PARAPHRASE_RULES if (m, n, right_texts) == (1, 3, 2) else ()
    if (m, n) == (2, 2):
        return (*COMPARISONS, *(SIDES if each_side else ()))
    if (m, n) == (2, 1):
        return ("accuracy", "match_accuracy")
    return ("accuracy",) if 1 in (m, n) and m + n > 2 else ()


def _score_choices(scores: Tensor) -> ItemCorrectness:
    """Accuracy of choosing the first of k candidates: (I, k) scores.

    Where no other candidate scores higher, a random order puts the first one of t tied candidates on top with
    probability 1 / t.
    """
    right, best_wrong = scores[:, 0], scores[:, 1:].amax(1)
    tied = (scores == right[:, None]).sum(1)
    expected = torch.where(best_wrong > right, 0.0, 1 / tied.double())
    return ItemCorrectness((right > best_wrong).double(), expected, right - best_wrong)


def _score_matches(scores: Tensor, pairs: Tensor | None) -> ItemCorrectness:
    """Accuracy of classifying a match (first column) and a non-match (second column): (I, 2) scores.

    Each pair is half of its item. A score equal to the threshold is wrong by the strict rule, and right with
    probability 1/2 in expectation.
    """
    threshold = match_threshold(scores, pairs)
    margins = torch.stack([scores[:, 0].double() - threshold, threshold - scores[:, 1].double()], dim=1)
    strict = (margins > 0).double()
    expected = strict + (margins == 0).double() / 2
    return ItemCorrectness(strict.mean(1), expected.mean(1), margins.amin(1).float(), per_pair=(strict, expected))


def match_threshold(scores: Tensor, pairs: Tensor | None = None) -> float:
    """Find the score above which a pair is called a match: as many distinct pairs score above it as are matches.

    It is midway between two neighbouring scores. With as many matches as non-matches, each occurring once, it is the
    median. In SVO-Probes one match recurs in the items of several non-matches, so that there are more distinct
    non-matches than matches. The median of the distinct pairs would then call some non-matches a match even for a model
    that scores every match above every non-match.

    Args:
        scores: (I, 2) scores of the match (first column) and of the non-match of each item.
        pairs: (I, 2) `number_pairs`; a pair counts once among the matches, and once among the non-matches. None: no
            pair recurs.

    Returns:
        The threshold.
    """
    if pairs is None:
        pairs = torch.arange(scores.numel()).view(scores.shape)
    first_items = [np.unique(pairs[:, side].numpy(), return_index=True)[1] for side in range(2)]
    distinct_scores = [scores[torch.from_numpy(items), side] for side, items in enumerate(first_items)]
    ranked = torch.cat(distinct_scores).double().sort(descending=True).values
    match_count = len(first_items[0])
    return float((ranked[match_count - 1] + ranked[match_count]) / 2)


Entry = tuple[int, int]
"""Row (image) and column (text) of a 2 x 2 item."""
COMPARISONS: dict[str, tuple[tuple[Entry, Entry], ...]] = {
    "text_score": (((0, 0), (0, 1)), ((1, 1), (1, 0))),
    "image_score": (((0, 0), (1, 0)), ((1, 1), (0, 1))),
}
"""Metric of 2 x 2 items -> pairs of a right and a wrong entry; the right one must score higher in each."""
COMPARISONS["group_score"] = (*COMPARISONS["text_score"], *COMPARISONS["image_score"])
SIDES: dict[str, tuple[tuple[Entry, Entry], ...]] = {
    "first_text_score": COMPARISONS["text_score"][:1],
    "second_text_score": COMPARISONS["text_score"][1:],
    "first_image_score": COMPARISONS["image_score"][:1],
    "second_image_score": COMPARISONS["image_score"][1:],
}
"""The same for one comparison each: the first or second image chooses its text, the first or second text its image."""


def _score_squares(
    scores: Tensor, comparisons_of: dict[str, tuple[tuple[Entry, Entry], ...]]
) -> dict[str, ItemCorrectness]:
    """Compute text, image and group score of Winoground, or other comparisons: (I, 2, 2) scores.

    The expectation goes through all 24 orders of the four entries. An order decides only between entries of equal
    scores, so all orders of tied entries occur equally often. A formula per comparison would not do: the comparisons of
    one item share entries, so their ties are not independent (a constant model has a group score of 1/6, not 1/16).
    """
    metrics = {}
    for name, comparisons in comparisons_of.items():
        margin = torch.stack([scores[:, a, b] - scores[:, c, d] for (a, b), (c, d) in comparisons]).amin(0)
        strict = torch.stack([scores[:, a, b] > scores[:, c, d] for (a, b), (c, d) in comparisons]).all(0)
        correct_orders = torch.zeros(len(scores), dtype=torch.float64)
        orders = list(permutations(range(4)))
        for order in orders:
            wins = [
                (scores[:, a, b] > scores[:, c, d])
                | ((scores[:, a, b] == scores[:, c, d]) & (order[2 * a + b] > order[2 * c + d]))
                for (a, b), (c, d) in comparisons
            ]
            correct_orders += torch.stack(wins).all(0).double()
        metrics[name] = ItemCorrectness(strict.double(), correct_orders / len(orders), margin)
    return metrics
