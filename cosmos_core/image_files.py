"""The one decoder of image files, for evaluation and training: which formats, which scale of values, which way up.

Pixels are those of Pillow's `convert("RGB")` except where that clips: images of 16 bits, 32-bit integers and floats are
scaled to 8 bits first (`to_rgb`). EXIF orientation is not applied unless `turned` asks for it, as in torchvision,
clip-benchmark and open_clip. `read_header` tells what of an image this changes, from its first bytes.
"""

import io
import os
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from cosmos_core.errors import RequestError
from cosmos_core.text_files import impostor_of, open_regular

NOT_READ = frozenset(("EPS", "WMF", "IPTC", "BUFR", "GRIB", "HDF5", "MPEG", "FPX", "MIC"))
"""EPS is handed to an interpreter, WMF to the system; IPTC holds a file of any format, EPS too; Pillow can only name
the others, or needs a package of the user's for them."""
COMMON = "JPEG, PNG, WebP, AVIF, JPEG 2000, TIFF, GIF, BMP and the others that Pillow decodes by itself"
MAX_PIXELS = 2 * 89_478_485
"""Pixels of the largest image that is decoded unless more are allowed: where Pillow refuses by default."""
MOST_PIXELS = 10**15
"""That cannot be allowed any more."""
MAX_PIXELS_VARIABLE = "COSMOS_MAX_IMAGE_PIXELS"
"""In the environment, so that worker processes of every kind have it."""

SIXTEEN_BITS = frozenset(("I;16", "I;16L", "I;16B", "I;16N"))
RESCALED = SIXTEEN_BITS | {"I", "F"}
"""Modes whose values `convert("RGB")` clips at 255."""
SIXTEEN_AS_32 = frozenset(("PPM", "PNG", "JPEG2000"))
"""Formats without 32-bit integers: Pillow opens their 16 bits so."""
WHITE_IS_ZERO = 0
"""TIFF's PhotometricInterpretation; Pillow inverts it for 8 bits and fewer only."""
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what brings the image upright, as `PIL.ImageOps.exif_transpose` has it; 1 is upright."""
PNG_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
"""Chunks that may hold EXIF or XMP under a keyword."""
QUARTER_TURNS = frozenset((5, 6, 7, 8))
"""Orientations in which width and height change places."""

# Own words are said instead (`check_size`); Pillow's name a line of its source, once for each process.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class ImageHeader(NamedTuple):
    """What the first bytes of an image file say."""

    size: tuple[int, int]
    """Width and height, before any turn."""
    mode: str
    """Pillow's name of the pixel format."""
    orientation: int = 1
    """1 to 8, as EXIF counts; 1 where there is none."""

    @property
    def rescaled(self) -> bool:
        """Whether its values are scaled to 8 bits, where `convert("RGB")` alone would clip them."""
        return self.mode in RESCALED


class NotAnImage(RequestError):
    """Bytes that are no image in a format that is read."""


class Impostor(NotAnImage):
    """What stands in place of an image, and is known: an empty file, or what `impostor_of` names."""


def decode_image(content: bytes, *, turned: bool = False) -> Image.Image:
    """An image file's content as RGB, 8 bits a channel; of an animation the first frame.

    Args:
        turned: apply the EXIF orientation.

    Raises:
        NotAnImage: no image, or of a format that is not read.
        RequestError: more pixels than allowed, or values that no rule scales (see `to_rgb`).
        Exception: what Pillow raises for damaged bytes has no bounds: OSError, SyntaxError, struct.error, ...
    """
    with open_image(content) as image:
        orientation = orientation_of(image) if turned else 1
        return turn(to_rgb(image), orientation)


def open_image(content: bytes | Path) -> Image.Image:
    """Open an image, or a file of one, without decoding it; the caller closes it.

    Raises:
        NotAnImage, RequestError: as `decode_image`.
    """
    limit = max_pixels()
    if Image.MAX_IMAGE_PIXELS is not None and limit > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = limit  # `check_size` refuses what is above; Pillow checks frames and tiles as well
    if not isinstance(content, bytes):
        open_regular(content).close()  # Pillow would wait for ever for what a named pipe never brings
    try:
        source = io.BytesIO(content) if isinstance(content, bytes) else content
        image = Image.open(source, formats=formats())
    except UnidentifiedImageError as error:
        refuse_impostor(content)
        raise NotAnImage(
            f"it is no image, or of a format that is not read (read are {COMMON}); replace the file"
        ) from error
    except Image.DecompressionBombError as error:
        raise RequestError(_too_large(str(error).partition("(")[2].partition(" ")[0])) from error
    try:
        check_size(image.size)
    except RequestError:
        image.close()
        raise
    return image


def refuse_impostor(content: bytes | Path) -> None:
    if not isinstance(content, bytes):
        with open_regular(content) as file:
            content = file.read(1024)
    impostor = impostor_of(content) if content else "empty; replace the file"
    if impostor:
        raise Impostor(f"it is {impostor}")


def to_rgb(image: Image.Image) -> Image.Image:
    """The image as RGB, 8 bits a channel.

    16 bits a value: v / 257, rounded, so that 65535 is white; 12 bits likewise from 4095. 32-bit integers: as they are
    where all lie in 0 to 255, as 16 bits where they lie in 0 to 65535. Floats: 0 to 1 is black to white; where some are
    larger, and all lie in 0 to 255, they are 8-bit values. All other modes are converted by Pillow.

    Raises:
        RequestError: integers or floats outside these ranges, or not finite.
    """
    if image.mode not in RESCALED:
        return image.convert("RGB")
    tags = getattr(image, "tag_v2", {})  # TIFF's; loading closes them with the file
    inverted = tags.get(262) == WHITE_IS_ZERO
    twelve_bits = tags.get(258) == (12,)
    values = np.asarray(image)
    if image.mode == "F":
        levels = _levels_of_floats(values)
    elif twelve_bits:
        levels = _table(4095)[values]
    else:
        levels = _levels_of_integers(values, may_be_8_bits=image.mode == "I" and image.format not in SIXTEEN_AS_32)
    return Image.fromarray(255 - levels if inverted else levels).convert("RGB")


def _levels_of_integers(values: np.ndarray, may_be_8_bits: bool) -> np.ndarray:
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    if low < 0 or high > 65535:
        raise RequestError(f"its integers run from {low} to {high}, a scale nobody knows; save it with 8 or 16 bits")
    if may_be_8_bits and high <= 255:
        return values.astype(np.uint8)
    return _table(65535)[values]


@cache
def _table(white: int) -> np.ndarray:
    """(65536,) uint8: the level of each value, rounded."""
    return np.rint(np.arange(65536) * 255 / white).clip(0, 255).astype(np.uint8)


def _levels_of_floats(values: np.ndarray) -> np.ndarray:
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if not (low >= 0 and high <= 255):  # NaN is neither
        raise RequestError(f"its floats run from {low:g} to {high:g}; save it with values from 0 to 1, or with 8 bits")
    if high > 1:
        return values.astype(np.uint8)
    levels = np.empty(values.shape, np.uint8)
    rows = max(1, 2**20 // values.shape[1])  # a part at a time: a whole image of floats may take a gigabyte
    for start in range(0, len(values), rows):
        levels[start : start + rows] = np.rint(values[start : start + rows] * np.float32(255))
    return levels


def orientation_of(image: Image.Image) -> int:
    """The EXIF (or XMP) orientation that an opened image still has to be turned by; 1 where there is none that can be
    read, and for TIFF, which Pillow turns by itself, as the code of the publications had it."""
    if image.format == "TIFF":
        return 1
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a broken block of EXIF makes its reader stumble in many ways, and the pixels are whole
        return 1
    return orientation if isinstance(orientation, int) and orientation in TURNS else 1


def turn(image: Image.Image, orientation: int) -> Image.Image:
    """The image brought upright from an EXIF orientation."""
    return image if orientation not in TURNS else image.transpose(TURNS[orientation])


def upright_size(header: ImageHeader) -> tuple[int, int]:
    """(width, height) once the orientation is applied."""
    width, height = header.size
    return (height, width) if header.orientation in QUARTER_TURNS else (width, height)


def read_header(content: bytes) -> ImageHeader | None:
    """What an image file's first bytes say; None where they are no image, which decoding tells better."""
    try:
        with open_image(content) as image:
            return ImageHeader(image.size, image.mode, orientation_of(image))
    except Exception:
        return None


def is_plain(content: bytes) -> bool:
    """Whether a walk through a JPEG or PNG shows that it is of 8 bits and has no orientation, so that nothing of it can
    be turned or scaled. Most images of most datasets are, and `read_header` costs many times as much."""
    try:
        if content.startswith(b"\xff\xd8\xff"):
            return not any(
                kind == 0xE1 and (part.startswith(b"Exif\0") or b"tiff:Orientation" in part)
                for kind, part in _jpeg_segments(content)
            )
        if content.startswith(b"\x89PNG\r\n\x1a\n"):
            sixteen_bits = content[24:25] == b"\x10"
            return not sixteen_bits and not any(
                kind == b"eXIf" or (kind in PNG_TEXTS and (b"exif" in start or b"xmp" in start))
                for kind, start in _png_chunks(content)
            )
    except (struct.error, IndexError):
        pass  # broken: Pillow may make something of it
    return False


def _jpeg_segments(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and content of each segment before the first scan."""
    at = 2
    while content[at] == 0xFF:
        kind = content[at + 1]
        if kind == 0xDA:
            return
        if kind == 0xFF:  # a fill byte
            at += 1
            continue
        (size,) = struct.unpack_from(">H", content, at + 2)
        if kind == 0xE1:
            yield kind, content[at + 4 : at + 2 + size]
        at += 2 + size
    raise IndexError


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and first bytes of each chunk."""
    at = 8
    while at < len(content):
        size, kind = struct.unpack_from(">I4s", content, at)
        yield kind, content[at + 8 : at + 8 + min(size, 32)]
        at += 12 + size


def look(content: bytes) -> ImageHeader | None:
    """The header where something in it may matter; None for a plain image, and where there is none to read."""
    return None if is_plain(content) else read_header(content)


def check_size(size: tuple[int, int]) -> None:
    """Refuse an image of more pixels than are allowed.

    Raises:
        RequestError: says how to allow it.
    """
    pixels = size[0] * size[1]
    if pixels > max_pixels():
        raise RequestError(_too_large(str(pixels)))


def _too_large(pixels: str) -> str:
    shown = f"{int(pixels):,}" if pixels.isdecimal() else "too many"
    refusal = f"it has {shown} pixels, more than the {max_pixels():,} that are read; make it smaller"
    if pixels.isdecimal() and int(pixels) >= MOST_PIXELS:  # no image has them: its header is damaged, or forged
        return refusal
    most = pixels if pixels.isdecimal() else "N"
    return f"{refusal}, or allow it with --max-image-pixels {most} where its source can be trusted"


def max_pixels() -> int:
    """The most pixels of an image that is read.

    Raises:
        RequestError: the environment's variable is no whole number from 1 on.
    """
    given = os.environ.get(MAX_PIXELS_VARIABLE)
    if given is None:
        return MAX_PIXELS
    if not (given.isascii() and given.isdecimal() and len(given) <= 15 and int(given) > 0):
        raise RequestError(f"{MAX_PIXELS_VARIABLE} must be a number of pixels from 1 on, not {given[:40]!r}")
    return int(given)


@contextmanager
def pixels_at_most(most: int | None) -> Iterator[None]:
    """Inside, and in the processes that are started there, images of up to `most` pixels are read; None changes
    nothing.

    Raises:
        RequestError: less than 1, or more digits than any image has pixels.
    """
    if most is None:
        yield
        return
    if not 1 <= most < MOST_PIXELS:
        raise RequestError(f"the most pixels of an image must be 1 to {MOST_PIXELS - 1}, got {str(most)[:40]}")
    before = os.environ.get(MAX_PIXELS_VARIABLE)
    os.environ[MAX_PIXELS_VARIABLE] = str(most)
    try:
        yield
    finally:
        if before is None:
            del os.environ[MAX_PIXELS_VARIABLE]
        else:
            os.environ[MAX_PIXELS_VARIABLE] = before


@cache
def formats() -> tuple[str, ...]:
    """Pillow's names of the formats that are read, in the order in which it asks them."""
    Image.init()
    return tuple(name for name in Image.ID if name not in NOT_READ)
