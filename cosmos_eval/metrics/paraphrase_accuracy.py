"""Accuracy where an image has two right captions and a wrong one (SugarCrepe++, Dumpala et al., NeurIPS 2024).

Rules, as in the authors' `test_Variants_CLIP.py`, all strict:

- `accuracy` (their image-to-text task): both right captions score higher than the wrong one.
- `first_accuracy`, `second_accuracy`: the first, or the second, right caption does; the other is not looked at.
- `text_only_accuracy` (their text-only task): the right captions are more similar to each other than either is to the
  wrong one. No image is used.

Ties: beside each strict result stands the probability that the rule holds when equal scores are put in a random order.
Each rule compares one score with others: if t of these equal it and all the rest lose, it is 1 / (t + 1). A model that
scores everything alike gets 1/3, 1/2, 1/2 and 1/3.
"""

import torch
from torch import Tensor

from cosmos_eval.metrics.item_correctness import ItemCorrectness

PARAPHRASE_RULES = ("accuracy", "first_accuracy", "second_accuracy")
TEXT_ONLY = "text_only_accuracy"


def score_paraphrases(scores: Tensor) -> dict[str, ItemCorrectness]:
    """Decide which items are right, under each rule that uses the image.

    Args:
        scores: (I, 3) scores of the image with its first and second right caption and with the wrong one.

    Returns:
        Each of `PARAPHRASE_RULES` -> correctness of the items.
    """
    wrong = scores[:, 2]
    right_captions = {"accuracy": (0, 1), "first_accuracy": (0,), "second_accuracy": (1,)}
    return {name: _is_below(wrong, scores[:, list(columns)]) for name, columns in right_captions.items()}


def score_text_only(similarities: Tensor) -> ItemCorrectness:
    """Decide which items are right by their captions alone.

    Args:
        similarities: (I, 3) similarity of the two right captions, of the first and the wrong one, and of the second and
            the wrong one.

    Returns:
        The correctness of the items.
    """
    return _is_below(-similarities[:, 0], -similarities[:, 1:])


def _is_below(lowest: Tensor, others: Tensor) -> ItemCorrectness:
    """Whether a score (I,) is below all of (I, k) others."""
    margin = (others - lowest[:, None]).amin(1)
    tied = (others == lowest[:, None]).sum(1)
    expected = torch.where(margin < 0, 0.0, 1 / (tied + 1).double())
    return ItemCorrectness((margin > 0).double(), expected, margin)
