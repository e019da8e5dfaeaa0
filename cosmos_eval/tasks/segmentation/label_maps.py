"""Label maps from patch features: SCLIP's segmentor (Wang et al., ECCV 2024), a tile of rows at a time.

Cosines of patches and query words become logits of pixels (`cosmos_eval.tasks.segmentation.patch_maps`), a softmax over
all query words of `logit_scale` times those gives probabilities, a class takes the best of its words, and the most
probable class wins. Two thresholds may give pixels to class 0, the background.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_eval.engine.dense import Dense
from cosmos_eval.metrics.similarity import plain_float32
from cosmos_eval.tasks.segmentation.pamr import RefinedMaps
from cosmos_eval.tasks.segmentation.patch_maps import PatchMaps

BUDGET = 512 * 2**20
"""Bytes that an image's logits may take, whatever its size and the number of classes."""


class LabelMaps:
    """Label maps at the size that images had before they were resized.

    Everything is float32. Logits are made for as many rows of pixels as the budget holds and never kept: where
    `area_thd` needs the whole map first, rows in which a class falls away are computed a second time.

    Args:
        query_features: (Q, D) of unit length, one a query word.
        class_of_query: (Q,) index of each word's class; every class from 0 on has at least one.
        settings: `logit_scale`, `prob_thd`, `area_thd`, `pamr_steps`, `pamr_dilations` of
            `cosmos_eval.tasks.segmentation.settings.SETTINGS`.
        budget: bytes that buffers of an image may take, by default 512 MiB, never less than one row of pixels takes
            (with PAMR: than its neighbourhood takes). Features, patch logits and label map come on top, and with PAMR
            the image at its original size.

    Raises:
        RequestError: not one class a query, or a class without a query.
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
            raise RequestError(f"need a class for each query word, got {len(query_features)} and {len(classes)}")
        missing = set(range(int(classes.max()) + 1)) - set(classes.tolist())
        if missing or int(classes.min()) < 0:
            raise RequestError(f"class {min(missing, default=int(classes.min()))} has no query word; give it one")
        # In the order of classes, so that the first of equally probable words is one of the first class.
        order = classes.argsort(stable=True)
        self.place = order.argsort()
        self.queries = query_features.float()[order.to(query_features.device)]
        self.class_of_query = classes[order].to(query_features.device)
        self.classes = int(classes.max()) + 1
        self.settings = settings
        self.budget = budget

    def predict(self, dense: Dense) -> np.ndarray:
        """(H, W) index of each pixel's class, uint8 where there are at most 255 classes, else int32.

        Of equally probable classes the first wins. `area_thd`: a class with at most this share of the foreground's area
        has probability 0, so that its pixels go to the next best class; where none is left, all is background.
        `prob_thd`: pixels whose class is less probable become background.
        """
        area_thd = self.settings["area_thd"]
        with torch.inference_mode(), plain_float32():
            maps = self._maps(dense)
            found = _Labels(maps.height, maps.width, self.classes, self.queries.device)
            for rows, logits in maps.tiles(np.arange(maps.height)):
                self._label(found, rows, logits)
            if area_thd is not None:
                kept = kept_classes(found.areas, area_thd)
                # Rows without a class that falls away stay as they are.
                redo = found.present[:, ~kept].any(1).nonzero()[:, 0].cpu().numpy()
                for rows, logits in maps.tiles(redo):
                    self._label(found, rows, logits, kept)
            return found.labels.masked_fill_(found.unsure, 0).cpu().numpy()

    def logits(self, dense: Dense) -> Tensor:
        """(Q, H, W) cosine of every pixel and query word, refined if `pamr_steps` says so; whatever the budget."""
        with torch.inference_mode(), plain_float32():
            maps = self._maps(dense)
            found = torch.empty(len(self.queries), maps.height, maps.width, device=self.queries.device)
            for rows, logits in maps.tiles(np.arange(maps.height)):
                found[:, rows[0] : rows[-1] + 1] = logits.permute(2, 0, 1)
            return found[self.place.to(found.device)]

    def probabilities(self, dense: Dense) -> Tensor:
        """(C, H, W) probability of every pixel and class, 0 where `area_thd` leaves a class out; whatever the budget.

        `predict` is its argmax, with pixels below `prob_thd` given to class 0.
        """
        logits = self.logits(dense)[self.place.argsort().to(dense.features.device)]
        with torch.inference_mode():
            of_queries = torch.softmax(self.settings["logit_scale"] * logits, dim=0)
            index = self.class_of_query[:, None, None].expand_as(of_queries)
            found = torch.zeros(self.classes, *dense.original, device=of_queries.device)
            found.scatter_reduce_(0, index, of_queries, "amax")
            if self.settings["area_thd"] is not None:
                areas = torch.bincount(found.argmax(0).flatten(), minlength=self.classes)
                found[~kept_classes(areas, self.settings["area_thd"])] = 0
            return found

    def _maps(self, dense: Dense) -> PatchMaps | RefinedMaps:
        steps, dilations = self.settings["pamr_steps"], self.settings["pamr_dilations"]
        if not steps:
            return PatchMaps(dense, self.queries, self.budget)
        return RefinedMaps(dense, self.queries, dilations, steps, self.budget)

    def _label(self, found: "_Labels", rows: np.ndarray, logits: Tensor, kept: Tensor | None = None) -> None:
        """Labels of some rows from their logits, which are overwritten."""
        prob_thd = self.settings["prob_thd"]
        if kept is None:
            best, query = logits.max(-1)
            if prob_thd > 0:
                share, total = torch.ones_like(best), self._shares(logits, best)
        else:
            total = self._shares(logits, logits.amax(-1))
            share, query = logits.mul_(kept[self.class_of_query]).max(-1)
        unsure = share < prob_thd * total if prob_thd > 0 else None
        found.put(rows, self.class_of_query[query], unsure)

    def _shares(self, logits: Tensor, best: Tensor) -> Tensor:
        """Turns logits into probabilities in units of the best word's, in place, and gives their sum."""
        return logits.sub_(best[..., None]).mul_(self.settings["logit_scale"]).exp_().sum(-1)


class _Labels:
    """A label map in the making."""

    def __init__(self, height: int, width: int, classes: int, device: torch.device) -> None:
        kind = torch.uint8 if classes <= 255 else torch.int32
        self.labels = torch.zeros(height, width, dtype=kind, device=device)
        self.unsure = torch.zeros(height, width, dtype=torch.bool, device=device)
        self.present = torch.zeros(height, classes, dtype=torch.bool, device=device)
        """Whether a row has a class."""
        self.areas = torch.zeros(classes, dtype=torch.int64, device=device)

    def put(self, rows: np.ndarray, labels: Tensor, unsure: Tensor | None) -> None:
        place = torch.from_numpy(rows).to(labels.device)
        self.labels[place] = labels.to(self.labels.dtype)
        if unsure is not None:
            self.unsure[place] = unsure
        self.present[place] = self.present[place].scatter_(1, labels, True)
        self.areas += torch.bincount(labels.flatten(), minlength=len(self.areas))


def kept_classes(areas: Tensor, area_thd: float) -> Tensor:
    """(C,) whether a class has more than the share `area_thd` of the foreground's area; class 0 always stays.

    Args:
        areas: (C,) pixels of each class.
        area_thd: of the area of classes 1 and on, not of the image's.
    """
    foreground = areas[1:].float()
    return torch.cat([torch.ones_like(areas[:1], dtype=torch.bool), foreground > area_thd * foreground.sum()])
