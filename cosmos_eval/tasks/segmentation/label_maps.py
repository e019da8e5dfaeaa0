"""Label maps from patch features: SCLIP's segmentor (Wang et al., ECCV 2024), a tile of pixel rows at a time.

1. The logit of a pixel and a query word is the cosine of patch and word, resampled to pixels (`pixel_logits.py`).
2. A softmax over all query words of `logit_scale` times the logits gives probabilities.
3. The probability of a class is that of its best word. The most probable class wins.
4. `area_thd` and `prob_thd` may assign pixels to class 0, the background.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_core.printable import plural
from cosmos_eval.engine.dense import DenseFeatures
from cosmos_eval.metrics.iou import count_labels_of_rows
from cosmos_eval.metrics.similarity import plain_float32
from cosmos_eval.tasks.segmentation.pamr import RefinedPixelLogits
from cosmos_eval.tasks.segmentation.pixel_logits import PixelLogits, row_index

BUDGET = 512 * 2**20
"""Bytes for the logits of one image, whatever its size and the number of classes."""


class LabelMapPredictor:
    """Predicts label maps at the size that images had before they were resized.

    Everything is float32. Logits are computed for as many rows of pixels as fit into the budget, used and overwritten:
    all logits of a large image with 150 classes would be gigabytes. `area_thd` needs the areas of all classes in the
    whole image first; then the rows that contain a dropped class are computed a second time.

    Args:
        query_features: (Q, D) embeddings of the query words, of unit length.
        class_of_query: (Q,) class index of each query word; every class from 0 on has at least one.
        settings: `logit_scale`, `prob_thd`, `area_thd`, `pamr_steps`, `pamr_dilations` of
            `cosmos_eval.tasks.segmentation.settings.SETTINGS`.
        budget: bytes that the buffers of an image may take, by default 512 MiB; at least one row of pixels (with PAMR
            and its neighbourhood) is always allowed. Features, patch logits and the label map are not counted, nor,
            with PAMR, the image at its original size.

    Raises:
        RequestError: not one class for each query word, or a class without a query word.
    """

    def __init__(
        self,
        query_features: Tensor,
        class_of_query: Sequence[int] | Tensor,
        settings: Mapping[str, Any],
        budget: int = BUDGET,
    ) -> None:
        classes = torch.as_tensor(class_of_query, dtype=torch.int64).cpu()
        if len(query_features) != len(classes) or not len(classes):
            raise RequestError(
                f"each query word needs a class, got {plural(len(query_features), 'query word')} and "
                f"{plural(len(classes), 'class', 'classes')}"
            )
        missing = set(range(int(classes.max()) + 1)) - set(classes.tolist())
        if missing or int(classes.min()) < 0:
            raise RequestError(f"class {min(missing, default=int(classes.min()))} has no query word; give it one")
        # Queries are sorted by class: `max` returns the first of equal values, so the first class wins a tie, and class
        # 0 wins where all probabilities are 0.
        order = classes.argsort(stable=True)
        self.sorted_position = order.argsort()
        """(Q,) position of each of the caller's queries among the sorted ones."""
        self.queries = query_features.float()[order.to(query_features.device)]
        self.class_of_query = classes[order].to(query_features.device)
        self.class_count = int(classes.max()) + 1
        self.settings = settings
        self.budget = budget

    def predict(self, dense: DenseFeatures) -> np.ndarray:
        """The label map of one image.

        Of equally probable classes the first wins. With `area_thd`, classes that cover at most this share of the
        foreground get probability 0, and their pixels go to the next best class, or to the background where all other
        classes have probability 0. With `prob_thd`, pixels whose class is then less probable become background.

        Returns:
            (H, W) class of each pixel; uint8 for at most 255 classes, else int32.
        """
        return self.predict_on_device(dense).cpu().numpy()

    def predict_on_device(self, dense: DenseFeatures) -> Tensor:
        """As `predict`, but the label map stays on the device."""
        area_thd = self.settings["area_thd"]
        with torch.inference_mode(), plain_float32():
            pixel_logits = self._pixel_logits(dense)
            label_map = _LabelMap(pixel_logits.height, pixel_logits.width, self.class_count, self.queries.device)
            for rows, logits in pixel_logits.tiles(np.arange(pixel_logits.height)):
                self._label_rows(label_map, rows, logits)
            if area_thd is not None:
                is_kept = find_large_classes(label_map.areas, area_thd)
                # Rows without a dropped class keep their labels.
                has_dropped_class = (label_map.has_class & ~is_kept).any(1)
                for rows, logits in pixel_logits.tiles(has_dropped_class.nonzero()[:, 0].cpu().numpy()):
                    self._relabel_rows(label_map, rows, logits, is_kept)
            return label_map.labels.masked_fill_(label_map.is_unsure, 0)

    def logits(self, dense: DenseFeatures) -> Tensor:
        """(Q, H, W) logits of every query word and pixel, refined if `pamr_steps` is not 0; ignores the budget."""
        with torch.inference_mode(), plain_float32():
            pixel_logits = self._pixel_logits(dense)
            whole_map = torch.empty(
                len(self.queries), pixel_logits.height, pixel_logits.width, device=self.queries.device
            )
            for rows, logits in pixel_logits.tiles(np.arange(pixel_logits.height)):
                whole_map[:, rows[0] : rows[-1] + 1] = logits.permute(2, 0, 1)
            return whole_map[self.sorted_position.to(whole_map.device)]

    def probabilities(self, dense: DenseFeatures) -> Tensor:
        """(C, H, W) probability of every class and pixel, 0 for classes dropped by `area_thd`; ignores the budget.

        `predict` is its argmax, with pixels below `prob_thd` assigned to class 0.
        """
        sorted_order = self.sorted_position.argsort()
        logits = self.logits(dense)[sorted_order.to(dense.features.device)]
        with torch.inference_mode():
            query_probabilities = torch.softmax(self.settings["logit_scale"] * logits, dim=0)
            index = self.class_of_query[:, None, None].expand_as(query_probabilities)
            probabilities = torch.zeros(self.class_count, *dense.original_size, device=query_probabilities.device)
            probabilities.scatter_reduce_(0, index, query_probabilities, "amax")
            if self.settings["area_thd"] is not None:
                areas = torch.bincount(probabilities.argmax(0).flatten(), minlength=self.class_count)
                probabilities[~find_large_classes(areas, self.settings["area_thd"])] = 0
            return probabilities

    def _pixel_logits(self, dense: DenseFeatures) -> PixelLogits | RefinedPixelLogits:
        steps, dilations = self.settings["pamr_steps"], self.settings["pamr_dilations"]
        if not steps:
            return PixelLogits(dense, self.queries, self.budget)
        return RefinedPixelLogits(dense, self.queries, dilations, steps, self.budget)

    def _label_rows(self, label_map: "_LabelMap", rows: np.ndarray, logits: Tensor) -> None:
        """Label pixel rows by the best of all query words; overwrites `logits`, (r, W, Q)."""
        prob_thd = self.settings["prob_thd"]
        best_logit, best_query = logits.max(-1)
        is_unsure = None
        if prob_thd > 0:
            # The best word has exp(0) = 1 before normalisation, so that its probability is 1 / total.
            total = self._exp_relative_to(best_logit, logits)
            is_unsure = prob_thd * total > 1
        label_map.write(rows, self.class_of_query[best_query], is_unsure)

    def _relabel_rows(self, label_map: "_LabelMap", rows: np.ndarray, logits: Tensor, is_kept: Tensor) -> None:
        """Label pixel rows by the best word of the classes that are kept, (C,); overwrites `logits`, (r, W, Q).

        Probabilities, not logits, are compared: where those of all kept words underflow to 0 they are equal, and the
        first one, a word of class 0, wins.
        """
        prob_thd = self.settings["prob_thd"]
        total = self._exp_relative_to(logits.amax(-1), logits)  # words of dropped classes count in the softmax
        best_share, best_query = logits.mul_(is_kept[self.class_of_query]).max(-1)
        is_unsure = best_share < prob_thd * total if prob_thd > 0 else None
        label_map.write(rows, self.class_of_query[best_query], is_unsure)

    def _exp_relative_to(self, best_logit: Tensor, logits: Tensor) -> Tensor:
        """Replace (r, W, Q) logits in place by exp(logit_scale * (logit - best_logit)), the probabilities relative to
        that of the best word; returns their sums (r, W)."""
        return logits.sub_(best_logit[..., None]).mul_(self.settings["logit_scale"]).exp_().sum(-1)


class _LabelMap:
    """The label map of one image while it is computed, and what the thresholds need to know about it."""

    def __init__(self, height: int, width: int, class_count: int, device: torch.device) -> None:
        dtype = torch.uint8 if class_count <= 255 else torch.int32
        self.labels = torch.zeros(height, width, dtype=dtype, device=device)
        self.is_unsure = torch.zeros(height, width, dtype=torch.bool, device=device)
        """Whether a pixel's class is less probable than `prob_thd`."""
        self.has_class = torch.zeros(height, class_count, dtype=torch.bool, device=device)
        """(H, C) whether a class occurs in a row of pixels."""
        self.areas = torch.zeros(class_count, dtype=torch.int64, device=device)
        """Pixels of each class; valid until rows are written a second time."""

    def write(self, rows: np.ndarray, labels: Tensor, is_unsure: Tensor | None) -> None:
        """Write (r, W) labels into some rows."""
        index = row_index(rows, labels.device)
        self.labels[index] = labels.to(self.labels.dtype)
        if is_unsure is not None:
            self.is_unsure[index] = is_unsure
        if labels.device.type == "cpu":
            self.has_class[index] = self.has_class[index].scatter_(1, labels, True)
            self.areas += torch.bincount(labels.flatten(), minlength=len(self.areas))
        else:
            counts = count_labels_of_rows(labels, len(self.areas))
            self.has_class[index] |= counts > 0
            self.areas += counts.sum(0)


def find_large_classes(areas: Tensor, area_thd: float) -> Tensor:
    """(C,) bool, whether a class covers more than the share `area_thd` of the foreground; True for class 0.

    Args:
        areas: (C,) pixels of each class.
        area_thd: share of the area of classes 1 and higher, not of the image.
    """
    foreground = areas[1:].float()
    return torch.cat([torch.ones_like(areas[:1], dtype=torch.bool), foreground > area_thd * foreground.sum()])
