"""Segmentation masks that a caller passes in Python: arrays, PIL images, paths."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_core.file_checks import user_path
from cosmos_core.printable import plural
from cosmos_core.short_repr import short_repr
from cosmos_eval.datasets.consistency import format_names
from cosmos_eval.datasets.masks import ArrayMask, Mask
from cosmos_eval.metrics.iou import IGNORED

ACCEPTED = "an array (H, W) of class indices, a PIL image of them, or the path of one"


def as_masks(masks: Sequence[Any], keys: Sequence[str], classes: int) -> list[Mask]:
    """Return masks of any accepted kind as a reader would return them.

    Args:
        masks: one for each image.
        keys: of the images.
        classes: number of classes; labels are 0 to classes - 1, or `IGNORED`.

    Raises:
        RequestError: a mask of another kind, files that are not there, or labels that are not a class.
    """
    converted = [_as_mask(mask, key, classes) for mask, key in zip(masks, keys, strict=True)]
    missing = [str(path) for path in (getattr(mask, "path", None) for mask in converted) if path and not path.is_file()]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise RequestError(
            f"{len(missing):,} of {plural(len(masks), 'mask')} {verb} not there: {format_names(missing)}"
        )
    return converted


def _as_mask(mask: Any, key: str, classes: int) -> Mask:
    if isinstance(mask, Mask):
        return mask.undigested()
    if isinstance(mask, str | Path):
        from cosmos_eval.datasets.own_masks.label_files import FileMask, LabelRules

        return FileMask(key, user_path(mask).absolute(), LabelRules(classes))
    if isinstance(mask, Image.Image):
        if mask.mode in ("RGB", "RGBA", "F"):
            raise RequestError(f"the mask of {key} is an image of mode {mask.mode}; give {ACCEPTED}")
        mask = np.asarray(mask)
    elif hasattr(mask, "cpu"):  # a tensor
        mask = mask.cpu().numpy()
    if not isinstance(mask, np.ndarray) or mask.ndim != 2 or mask.dtype.kind not in "iub":
        described = f"an array of {mask.dtype} {mask.shape}" if isinstance(mask, np.ndarray) else short_repr(mask)
        raise RequestError(f"the mask of {key} is {described}; give {ACCEPTED}")
    labels = np.array(mask, dtype=np.int64)
    wrong = np.unique(labels[(labels < 0) | ((labels >= classes) & (labels != IGNORED))]).tolist()
    if wrong:
        raise RequestError(
            f"the mask of {key} has the labels {format_names(map(str, wrong))}; classes are 0 to {classes - 1}, and "
            f"{IGNORED} is ignored"
        )
    return ArrayMask(key, labels)
