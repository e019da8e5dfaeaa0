"""What a model predicts for the images of a classification benchmark: top classes, confusions, wrong images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from cosmos_eval.metrics.query_scores import QueryScores
from cosmos_eval.metrics.similarity import BLOCK_BYTES

TOP = 3
"""Classes shown for each image."""


@dataclass(frozen=True)
class Predictions:
    """Of N images against C classes. An image may have several true classes, or be undecided about some."""

    top: np.ndarray
    """(N, k) int64: the k classes with the highest scores, best first; tied ones in the order of the classes."""
    top_scores: np.ndarray
    """(N, k) float32"""
    margin: np.ndarray
    """(N,) float32: highest score of a true class minus that of a wrong one; infinite where there is no wrong class,
    NaN where there is no true one."""
    best_true: np.ndarray
    """(N,) int64: the true class with the highest score; -1 where there is none."""
    best_true_score: np.ndarray
    """(N,) float32; NaN where there is none."""
    rank: np.ndarray
    """(N,) int64: number of wrong classes that score at least as high as `best_true`, plus 1."""
    tied: np.ndarray
    """(N,) int64: number of classes with exactly the highest score."""
    confusion: np.ndarray
    """(C, C) float64: images of each true class (rows) by predicted class, in expectation over a random order of tied
    classes: of t classes with the highest score, each counts 1 / t. The diagonal divided by the sum of its row is the
    recall that the results report. Zeros for images without exactly one true class."""


def predict(scores: QueryScores, is_true: np.ndarray, is_undecided: np.ndarray | None = None) -> Predictions:
    """Read the scores of all images in blocks, and keep what is shown of each.

    Args:
        scores: of N images against C classes.
        is_true: (N, C) bool, the true classes of each image; or (N,) int64, its only one.
        is_undecided: (N, C) bool, classes that count neither as true nor as wrong.
    """
    classes = len(scores.column)
    column = scores.column
    parts: list[tuple[torch.Tensor, ...]] = []
    confusion = np.zeros((classes, classes))
    block_bytes = BLOCK_BYTES // 8  # copies of a block, one column for each class, take several times its memory
    for start, stop, block in scores.blocks(block_bytes):
        of_class = block[:, column.to(block.device)].float().cpu()
        rows = torch.from_numpy(np.asarray(is_true[start:stop]))
        true = rows.bool() if rows.ndim == 2 else torch.nn.functional.one_hot(rows.long(), classes).bool()
        decided = torch.ones_like(true)
        if is_undecided is not None:
            decided = true | ~torch.from_numpy(is_undecided[start:stop])
        # A stable sort: of tied classes the first one comes first, on every device.
        order = of_class.argsort(dim=1, descending=True, stable=True)[:, :TOP]
        true_scores = of_class.masked_fill(~true, -torch.inf)
        wrong_scores = of_class.masked_fill(true | ~decided, -torch.inf)
        highest_true, true_class = true_scores.max(1)
        highest = of_class == of_class.amax(1, keepdim=True)
        has_true = true.any(1)
        parts.append(
            (
                order,
                of_class.gather(1, order),
                torch.where(has_true, highest_true - wrong_scores.amax(1), torch.nan),
                torch.where(has_true, true_class, -1),
                torch.where(has_true, highest_true, torch.nan),
                1 + (wrong_scores >= highest_true[:, None]).sum(1),
                highest.sum(1),
            )
        )
        single = torch.nonzero(true.sum(1) == 1)[:, 0]
        shares = (highest[single].double() / highest[single].sum(1, keepdim=True)).numpy()
        np.add.at(confusion, true_class[single].numpy(), shares)
    top, top_scores, margin, best_true, best_true_score, rank, tied = (
        torch.cat(blocks).numpy() for blocks in zip(*parts, strict=True)
    )
    return Predictions(top, top_scores, margin, best_true, best_true_score, rank, tied, confusion)


def confused_pairs(confusion: np.ndarray, count: int) -> list[tuple[int, int, float]]:
    """The (true class, predicted class, images) that are confused most often; at most `count`, the most images first.

    Expected numbers of images, so that ties count as fractions; pairs without an image are left out.
    """
    errors = confusion.copy()
    np.fill_diagonal(errors, 0)
    order = np.argsort(-errors, axis=None, kind="stable")[:count]
    pairs = [(*map(int, np.unravel_index(i, errors.shape)), float(errors.flat[i])) for i in order]
    return [pair for pair in pairs if pair[2] > 0]  # type: ignore[misc]


def wrong_images(predictions: Predictions, candidates: np.ndarray, count: int) -> list[int]:
    """Images that are not certainly right, wrong by the largest margin first.

    At first one image of each pair of true and predicted class, so that one pair does not fill the gallery.

    Args:
        candidates: (M,) images to choose from.
        count: most images.
    """
    wrong = candidates[predictions.margin[candidates] <= 0]  # a tie at the top is right only by chance; NaN is left out
    order = wrong[np.argsort(predictions.margin[wrong], kind="stable")].tolist()
    seen: set[tuple[int, int]] = set()
    first: list[int] = []
    later: list[int] = []
    for i in order:
        pair = (int(predictions.best_true[i]), int(predictions.top[i, 0]))
        (later if pair in seen else first).append(i)
        seen.add(pair)
    return [*first, *later][:count]


def find_class(names: Sequence[str], wanted: str) -> list[int]:
    """The numbers of the classes of this name; several may share it."""
    return [c for c, name in enumerate(names) if name == wanted]
