"""Masks in image files of their own: class indices, palette PNGs and RGB maps."""

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_core.image_files import NotAnImage, open_image, orientation_of, turn
from cosmos_core.printable import plural, printable
from cosmos_eval.datasets.colours import Colour, format_colour
from cosmos_eval.datasets.consistency import MAX_NAMES, format_names
from cosmos_eval.datasets.masks import Mask
from cosmos_eval.metrics.iou import IGNORED

INDEX_MODES = ("1", "L", "P", "I;16", "I;16L", "I;16B", "I;16N", "I")
"""Pillow's names of modes with one whole number for each pixel, of 1 to 32 bits."""
COLOUR_MODES = ("RGB", "RGBA")
"""Modes with a colour for each pixel, which need to be mapped to classes."""
UNKNOWN = -1
"""In a table of classes: a colour that no class has."""


@dataclass(frozen=True)
class LabelRules:
    """What the values in a mask's file mean; the same for all masks of a benchmark."""

    classes: int
    """Number of classes; labels are 0 to classes - 1."""
    ignore_index: int = IGNORED
    """Value of ignored pixels, as it is in the file."""
    reduce_zero_label: bool = False
    """Value 0 is ignored, and value 1 is class 0."""
    colours: tuple[tuple[Colour, int], ...] = ()
    """Colour -> class, or IGNORED, for files of every mode. If empty, files have class indices or colours of
    `palette`."""
    palette: tuple[tuple[Colour, int], ...] = ()
    """Colour -> class, for files with colours, if `colours` is empty."""

    @property
    def modes(self) -> tuple[str, ...]:
        """Pillow's names of the modes that can be read by these rules."""
        return (*INDEX_MODES, *COLOUR_MODES) if self.colours or self.palette else INDEX_MODES


@dataclass(frozen=True)
class FileMask(Mask):
    """A mask in an image file of its own."""

    key: str
    path: Path
    rules: LabelRules
    turned: bool = False
    """Turn it by its own EXIF orientation (`exif: apply`)."""

    drawn_size = None

    @property
    def modes(self) -> tuple[str, ...]:
        return self.rules.modes

    def load(self) -> np.ndarray:
        """Return the labels (H, W) uint8.

        Raises:
            RequestError: unreadable, a value that is not a class, or a colour that is not in the map; names the file.
        """
        image = self._decode()
        if self.rules.colours or image.mode in COLOUR_MODES:
            labels = self._map_colours(image)
        else:
            labels = self._map_indices(np.asarray(image))
        if self.turned:
            labels = np.asarray(turn(Image.fromarray(labels), orientation_of(image)))
        return labels

    def _decode(self) -> Image.Image:
        """Return the decoded file."""
        try:
            with open_image(self.path) as image:
                image.load()
        except NotAnImage as error:
            reason = str(error).removeprefix(f"{self.path} is ")
            raise RequestError(f"cannot decode the mask {printable(self.path)}: {reason}") from error
        except RequestError as error:
            raise RequestError(f"cannot decode the mask {printable(self.path)}: {error}") from error
        except Exception as error:  # decoders raise anything for damaged files
            reason = " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
            raise RequestError(f"cannot decode the mask {printable(self.path)}: {reason}; replace the file") from error
        if image.mode not in self.modes:
            if image.mode in COLOUR_MODES:
                advice = "give dataset.colours, a map from colour to class"
            else:
                advice = "save class indices as PNG"
            raise RequestError(
                f"the mask {printable(self.path)} has values that are not class indices ({image.mode}); {advice}"
            )
        return image

    def _map_indices(self, values: np.ndarray) -> np.ndarray:
        """Return the labels of class indices (H, W)."""
        rules = self.rules
        values = values.astype(np.int64)
        is_ignored = values == rules.ignore_index
        labels = values
        if rules.reduce_zero_label:
            is_ignored |= values == 0
            labels = values - 1
        is_wrong = ~is_ignored & ((labels < 0) | (labels >= rules.classes))
        if is_wrong.any():
            wrong_values = np.unique(values[is_wrong]).tolist()
            first = 1 if rules.reduce_zero_label else 0
            noun = "label" if len(wrong_values) == 1 else "labels"
            if wrong_values == [rules.classes] and not rules.reduce_zero_label:
                advice = "if classes are numbered from 1, write reduce_zero_label: true"
            else:
                advice = "correct the mask, the class names or ignore_index"
            raise RequestError(
                f"the mask {printable(self.path)} has the {noun} {format_names(map(str, wrong_values))}; classes are "
                f"{first} to {rules.classes - 1 + first} and {rules.ignore_index} is ignored; {advice}"
            )
        return np.where(is_ignored, IGNORED, labels).astype(np.uint8)

    def _map_colours(self, image: Image.Image) -> np.ndarray:
        """Return the labels of a file's colours; palettes and grey values are colours, too."""
        if image.mode == "RGBA" and np.asarray(image)[..., 3].min() < 255:
            raise RequestError(
                f"the mask {printable(self.path)} has transparent pixels, whose colour is not defined; save it without "
                "transparency"
            )
        if image.mode not in ("1", "L", "P", *COLOUR_MODES):
            raise RequestError(
                f"the mask {printable(self.path)} has more than 8 bits per pixel ({image.mode}), not colours; leave "
                "dataset.colours out, or save colours"
            )
        codes = _encode_colours(np.asarray(image.convert("RGB")))
        labels: np.ndarray = _class_table(self.rules.colours or self.rules.palette)[codes]
        is_unknown = labels == UNKNOWN
        if is_unknown.any():
            raise RequestError(self._describe_unknown(codes[is_unknown]))
        return labels.astype(np.uint8)

    def _describe_unknown(self, codes: np.ndarray) -> str:
        """Return the message for colours that are not in the map; the most frequent ones come first."""
        counts = Counter(dict(zip(*np.unique(codes, return_counts=True), strict=True)))
        shown = ", ".join(
            f"{format_colour(_decode_colour(code))} ({plural(count, 'pixel')})"
            for code, count in counts.most_common(MAX_NAMES)
        )
        more = f" and {len(counts) - MAX_NAMES:,} more" if len(counts) > MAX_NAMES else ""
        noun = "colour" if len(counts) == 1 else "colours"
        option = "dataset.colours" if self.rules.colours else "dataset.palette"
        advice = "add them to dataset.colours, or save the masks again without anti-aliasing, resizing or JPEG"
        return f"the mask {printable(self.path)} has the {noun} {shown}{more}, not in {option}; {advice}"


def _encode_colours(pixels: np.ndarray) -> np.ndarray:
    """Return (H, W) int32 codes of (H, W, 3) uint8 pixels."""
    wide = pixels.astype(np.int32)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]


def _decode_colour(code: int) -> Colour:
    return int(code) >> 16, int(code) >> 8 & 255, int(code) & 255


@lru_cache(maxsize=4)
def _class_table(colours: tuple[tuple[Colour, int], ...]) -> np.ndarray:
    """Return the class of each colour's code, (2^24,) int16, 32 MB: one look-up a pixel, where a search would sort."""
    table = np.full(1 << 24, UNKNOWN, dtype=np.int16)
    for (red, green, blue), label in colours:
        table[red << 16 | green << 8 | blue] = label
    return table
