"""Images and masks that mmsegmentation's transforms decode. Both are plain values, pickled for worker processes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_core.image_files import formats, open_image, orientation_of, turn
from cosmos_core.text_files import open_regular
from cosmos_eval.datasets.consistency import format_names
from cosmos_eval.datasets.image_sources import FileImage
from cosmos_eval.datasets.masks import Mask
from cosmos_eval.datasets.mmseg.placeholder import import_mmseg
from cosmos_eval.metrics.iou import IGNORED

LABEL_MODES = ("P", "L", "1")
"""Pillow's names of modes with at most 8 bits per pixel, which `LoadAnnotations` reads without loss."""
JPEG_START, JPEG_SCAN, JPEG_END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"


@dataclass(frozen=True)
class MmsegImage(FileImage):
    """An image in RGB as `LoadImageFromFile` decodes it: by OpenCV, turned by its EXIF orientation."""

    def encoded(self, content: bytes) -> bytes:
        return b""  # OpenCV decodes the file, so that no rule of Pillow (scaling of values, EXIF) affects its pixels

    def load(self) -> Image.Image:
        import mmcv

        content = self.verified_content()
        # OpenCV fills the missing part of a truncated JPEG with grey, without an error. In a complete file the last end
        # marker comes after the last start of a scan; neither can occur in the data of a scan, where 0xff is escaped.
        if content.startswith(JPEG_START) and content.rfind(JPEG_END) < content.rfind(JPEG_SCAN):
            raise RequestError(f"cannot decode the image {self.path}: it is truncated; replace the file")
        try:
            # what `LoadImageFromFile` does with the content of the file, which it would read again
            pixels = mmcv.imfrombytes(content, flag="color", backend="cv2")
        except Exception as error:  # decoders raise anything for damaged files
            reason = " ".join(str(error).split())
            raise RequestError(f"cannot decode the image {self.path}: {reason}; replace the file") from error
        if pixels is None:
            raise RequestError(f"cannot decode the image {self.path}: OpenCV cannot read it; replace the file")
        return Image.fromarray(np.ascontiguousarray(pixels[..., ::-1]))


@dataclass(frozen=True)
class MmsegMask(Mask):
    """A mask as `LoadAnnotations` decodes it: one label per pixel, with zero reduced if the dataset does so."""

    key: str
    path: Path
    classes: int
    reduce_zero_label: bool = False
    label_map: tuple[tuple[int, int], ...] | None = None
    turned: bool = False
    """Turn it by its own EXIF orientation (`exif: apply`); mmsegmentation turns images only."""

    modes = LABEL_MODES
    drawn_size = None

    def load(self) -> np.ndarray:
        """Return the labels (H, W) uint8.

        Raises:
            RequestError: unreadable, several channels, or a label that is not a class; names the file, and the label
                as it is in the file.
        """
        results = {
            "seg_map_path": str(self.path),
            "reduce_zero_label": self.reduce_zero_label,
            "label_map": dict(self.label_map) if self.label_map is not None else None,
            "seg_fields": [],
        }
        require_regular_mask(self.path)
        try:
            labels: np.ndarray = import_mmseg().transforms.LoadAnnotations().transform(results)["gt_seg_map"]
        except RequestError:
            raise
        except Exception as error:
            raise RequestError(f"cannot decode the mask {self.path}: {find_reason(self.path, error)}") from error
        if labels.ndim < 2:  # mmsegmentation squeezes the array: a side of one pixel goes with the channel axis
            with Image.open(self.path, formats=formats()) as opened:
                labels = labels.reshape(opened.height, opened.width)
        if labels.ndim > 2:
            raise RequestError(
                f"the mask {self.path} has {labels.shape[-1]} colour channels instead of one label per pixel; unpack "
                "the original file again"
            )
        if self.turned:
            with Image.open(self.path, formats=formats()) as opened:
                labels = np.asarray(turn(Image.fromarray(labels), orientation_of(opened)))
        is_wrong = (labels >= self.classes) & (labels != IGNORED)
        if is_wrong.any():
            # the message has labels as they are in the file: `reduce_zero_label` has lowered them by one
            shift = 1 if self.reduce_zero_label else 0
            wrong_labels = [str(label + shift) for label in np.unique(labels[is_wrong]).tolist()]
            noun = "label" if len(wrong_labels) == 1 else "labels"
            raise RequestError(
                f"the mask {self.path} has the {noun} {format_names(wrong_labels)}; classes are {shift} to "
                f"{self.classes - 1 + shift} and {IGNORED} is ignored; replace the file, or prepare the masks again"
            )
        return labels


def find_reason(path: Path, error: Exception) -> str:
    """Return why a library could not decode a mask, and what to do.

    The first bytes of the file may tell more than the library's error: an HTML page, an empty file and the like.
    """
    try:
        open_image(path).close()
    except RequestError as refusal:
        return str(refusal)
    except Exception:  # the library's error says as much
        pass
    return f"{' '.join(str(error).split()) or type(error).__name__}; replace the file"


def require_regular_mask(path: Path) -> None:
    """Raise RequestError for a file that cannot be opened, or a named pipe or device, on which reading would block."""
    try:
        open_regular(path).close()
    except OSError as error:
        raise RequestError(f"cannot decode the mask {path}: {error.strerror}; replace the file") from error
