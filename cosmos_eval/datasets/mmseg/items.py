"""Images and masks that mmsegmentation's transforms decode. Both are plain values: workers receive them pickled."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_core.image_files import formats, open_image, orientation_of, turn
from cosmos_core.text_files import open_regular
from cosmos_eval.datasets.base import FileImage, Mask
from cosmos_eval.datasets.consistency import first
from cosmos_eval.datasets.mmseg.placeholder import import_mmseg
from cosmos_eval.metrics.areas import IGNORED

JPEG_START, JPEG_SCAN, JPEG_END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"


@dataclass(frozen=True)
class MmsegImage(FileImage):
    """An image as `LoadImageFromFile` gives it (OpenCV's decoder, turned as its EXIF says), in RGB."""

    def encoded(self, content: bytes) -> bytes:
        return b""  # no rule of ours makes its pixels

    def load(self) -> Image.Image:
        import mmcv

        content = self.hashed_content()
        # OpenCV fills what a truncated JPEG lacks with grey and says nothing. Inside a scan no marker but these occurs.
        if content.startswith(JPEG_START) and content.rfind(JPEG_END) < content.rfind(JPEG_SCAN):
            raise RequestError(f"cannot decode the image {self.path}: it is cut off; replace the file")
        try:
            # what `LoadImageFromFile` does with the file's bytes; it would read them once more
            pixels = mmcv.imfrombytes(content, flag="color", backend="cv2")
        except Exception as error:  # decoders raise whatever a broken file makes them stumble over
            said = " ".join(str(error).split())
            raise RequestError(f"cannot decode the image {self.path}: {said}; replace the file") from error
        if pixels is None:
            raise RequestError(f"cannot decode the image {self.path}: failed to load image; replace the file")
        return Image.fromarray(np.ascontiguousarray(pixels[..., ::-1]))


@dataclass(frozen=True)
class MmsegMask(Mask):
    """A mask as `LoadAnnotations` gives it: one label a pixel, zero reduced where the dataset says so."""

    key: str
    path: Path
    classes: int
    reduce_zero_label: bool = False
    label_map: tuple[tuple[int, int], ...] | None = None
    turned: bool = False
    """Turn it as its own EXIF orientation says (`exif: apply`); mmsegmentation turns images alone."""

    def load(self) -> np.ndarray:
        """(H, W) uint8.

        Raises:
            RequestError: unreadable, not one label a pixel, or a label that is no class; names the file and the label
                as the file has it.
        """
        results = {
            "seg_map_path": str(self.path),
            "reduce_zero_label": self.reduce_zero_label,
            "label_map": dict(self.label_map) if self.label_map is not None else None,
            "seg_fields": [],
        }
        require_regular(self.path)
        try:
            labels: np.ndarray = import_mmseg().transforms.LoadAnnotations().transform(results)["gt_seg_map"]
        except RequestError:
            raise
        except Exception as error:
            raise RequestError(f"cannot decode the mask {self.path}: {why_undecoded(self.path, error)}") from error
        if labels.ndim < 2:  # mmsegmentation drops sides of one pixel with the colour channel
            with Image.open(self.path, formats=formats()) as opened:
                labels = labels.reshape(opened.height, opened.width)
        if labels.ndim > 2:
            raise RequestError(
                f"the mask {self.path} has {labels.shape[-1]} colours a pixel, not one label; unpack the original again"
            )
        if self.turned:
            with Image.open(self.path, formats=formats()) as opened:
                labels = np.asarray(turn(Image.fromarray(labels), orientation_of(opened)))
        wrong = (labels >= self.classes) & (labels != IGNORED)
        if wrong.any():
            shift = 1 if self.reduce_zero_label else 0
            found = [str(label + shift) for label in np.unique(labels[wrong]).tolist()]
            named = "label" if len(found) == 1 else "labels"
            raise RequestError(
                f"the mask {self.path} has the {named} {first(found)}; classes are {shift} to "
                f"{self.classes - 1 + shift} and {IGNORED} is ignored; replace the file, or prepare the masks again"
            )
        return labels


def why_undecoded(path: Path, error: Exception) -> str:
    """What is wrong with a mask that a library could not decode, and what to do: by its first bytes where they tell."""
    try:
        open_image(path).close()
    except RequestError as refusal:
        return str(refusal)
    except Exception:  # as the library said
        pass
    return f"{' '.join(str(error).split()) or type(error).__name__}; replace the file"


def require_regular(path: Path) -> None:
    """RequestError for a file that cannot be opened or is a named pipe or a device, for which a reader would wait."""
    try:
        open_regular(path).close()
    except OSError as error:
        raise RequestError(f"cannot decode the mask {path}: {error.strerror}; replace the file") from error
