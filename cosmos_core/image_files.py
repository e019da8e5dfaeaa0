"""The only decoder of image files, for evaluation and training: formats, scaling of values, orientation.

Pixels are those of Pillow's `convert("RGB")` except where that clips: images of 16 bits, 32-bit integers and floats are
scaled to 8 bits first (`to_rgb`). EXIF orientation is applied only if `turned` is set, as in torchvision,
clip-benchmark and open_clip. `read_header` decides from the first bytes whether one of these rules affects an image.
"""

import io
import os
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from cosmos_core.errors import RequestError
from cosmos_core.text_files import impostor_of, open_regular

UNREAD_FORMATS = frozenset(("EPS", "WMF", "IPTC", "BUFR", "GRIB", "HDF5", "MPEG", "FPX", "MIC"))
"""Pillow passes EPS to an interpreter and WMF to the system; IPTC may contain any format, EPS too; the others Pillow
only recognises, or decodes with an extra package."""
READ_FORMATS_TEXT = "JPEG, PNG, WebP, AVIF, JPEG 2000, TIFF, GIF, BMP and the others that Pillow decodes by itself"
MAX_PIXELS = 2 * 89_478_485
"""Most pixels of an image by default; the number above which Pillow refuses by default."""
MAX_ALLOWED_PIXELS = 10**15
"""Upper bound of what can be allowed."""
MAX_PIXELS_VARIABLE = "COSMOS_MAX_IMAGE_PIXELS"
"""An environment variable, so that worker processes inherit it."""

SIXTEEN_BITS = frozenset(("I;16", "I;16L", "I;16B", "I;16N"))
RESCALED = SIXTEEN_BITS | {"I", "F"}
"""Modes whose values `convert("RGB")` clips at 255."""
SIXTEEN_BITS_AS_32 = frozenset(("PPM", "PNG", "JPEG2000"))
"""Formats whose 16-bit images Pillow opens with the 32-bit mode `I`."""
TIFF_WHITE_IS_ZERO = 0
"""TIFF's PhotometricInterpretation; Pillow inverts it for 8 bits and fewer only."""
TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> transposition that makes the image upright, as in `PIL.ImageOps.exif_transpose`; 1 is upright."""
PNG_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
"""Chunks that may hold EXIF or XMP under a keyword."""
QUARTER_TURNS = frozenset((5, 6, 7, 8))
"""Orientations in which width and height change places."""

# `check_size` raises its own error; Pillow's warning would show a line of its source, once for each process.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class ImageHeader(NamedTuple):
    """Information from the first bytes of an image file."""

    size: tuple[int, int]
    """Width and height, before the orientation is applied."""
    mode: str
    """Pillow's name of the pixel format."""
    orientation: int = 1
    """EXIF orientation, 1 to 8; 1 if there is none."""

    @property
    def rescaled(self) -> bool:
        """Whether its values are scaled to 8 bits, since `convert("RGB")` alone would clip them."""
        return self.mode in RESCALED


class NotAnImage(RequestError):
    """The bytes are not an image, or of a format that is not read."""


class Impostor(NotAnImage):
    """A file of another known kind in place of an image: empty, or one that `impostor_of` recognises."""


def decode_image(content: bytes, *, turned: bool = False) -> Image.Image:
    """An image file's content as RGB, 8 bits a channel; of an animation the first frame.

    Args:
        turned: apply the EXIF orientation.

    Raises:
        NotAnImage: not an image, or of a format that is not read.
        RequestError: more pixels than allowed, or values that no rule scales (see `to_rgb`).
        Exception: Pillow raises anything for damaged bytes: OSError, SyntaxError, struct.error, ...
    """
    with open_image(content) as image:
        orientation = orientation_of(image) if turned else 1
        return turn(to_rgb(image), orientation)


def decode_scaled(content: bytes, choose_scale: Callable[[tuple[int, int]], int]) -> Image.Image | np.ndarray:
    """As `decode_image`; a JPEG is decoded at 1/2, 1/4 or 1/8 of its size (rounded up) where less detail is needed.

    libjpeg computes smaller blocks then, which is not what a resize of the whole image gives, but close to it. At full
    size the pixels are those of `decode_image`, but (H, W, 3) uint8 from torchvision, which copies them less often.

    Args:
        choose_scale: from (width, height) to 1, 2, 4 or 8; called for JPEG files only.
    """
    with open_image(content) as image:
        if image.format == "JPEG" and image.mode in ("RGB", "L"):
            scale = choose_scale(image.size)
            if scale > 1:
                image.draft(image.mode, (image.width // scale, image.height // scale))
            elif (pixels := _decode_jpeg(content)) is not None:
                return pixels
        return to_rgb(image)


def _decode_jpeg(content: bytes) -> np.ndarray | None:
    """(H, W, 3) uint8 of a JPEG; None for a damaged file, for which Pillow has the better message."""
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg

    try:
        pixels = decode_jpeg(torch.frombuffer(bytearray(content), dtype=torch.uint8), mode=ImageReadMode.RGB)
    except RuntimeError:
        return None
    return pixels.permute(1, 2, 0).numpy()


def open_image(content: bytes | Path) -> Image.Image:
    """Open an image, or a file of one, without decoding it; the caller closes it.

    Raises:
        NotAnImage, RequestError: as `decode_image`.
    """
    limit = max_pixels()
    if Image.MAX_IMAGE_PIXELS is not None and limit > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = limit  # `check_size` refuses larger images; Pillow checks frames and tiles as well
    if not isinstance(content, bytes):
        open_regular(content).close()  # refuses a named pipe, on which Pillow would block forever
    try:
        source = io.BytesIO(content) if isinstance(content, bytes) else content
        image = Image.open(source, formats=formats())
    except UnidentifiedImageError as error:
        refuse_impostor(content)
        raise NotAnImage(
            f"it is not an image, or of a format that is not read (read are {READ_FORMATS_TEXT}); replace the file"
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

    16 bits per value: v / 257, rounded, so that 65535 is white; 12 bits likewise from 4095. 32-bit integers: as they
    are where all lie in 0 to 255, as 16 bits where they lie in 0 to 65535. Floats: 0 to 1 is black to white; where some
    are larger, and all lie in 0 to 255, they are 8-bit values. Pillow converts all other modes.

    Raises:
        RequestError: integers or floats outside these ranges, or not finite.
    """
    if image.mode not in RESCALED:
        return image.convert("RGB")
    tags = getattr(image, "tag_v2", {})  # TIFF tags; read before the file is closed by loading the pixels
    inverted = tags.get(262) == TIFF_WHITE_IS_ZERO
    twelve_bits = tags.get(258) == (12,)
    values = np.asarray(image)
    if image.mode == "F":
        levels = _float_levels(values)
    elif twelve_bits:
        levels = _level_table(4095)[values]
    else:
        levels = _integer_levels(values, may_be_8_bits=image.mode == "I" and image.format not in SIXTEEN_BITS_AS_32)
    return Image.fromarray(255 - levels if inverted else levels).convert("RGB")


def _integer_levels(values: np.ndarray, may_be_8_bits: bool) -> np.ndarray:
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    if low < 0 or high > 65535:
        raise RequestError(f"its integers run from {low} to {high}, an unknown scale; save it with 8 or 16 bits")
    if may_be_8_bits and high <= 255:
        return values.astype(np.uint8)
    return _level_table(65535)[values]


@cache
def _level_table(white: int) -> np.ndarray:
    """(65536,) uint8: the level of each value, rounded."""
    return np.rint(np.arange(65536) * 255 / white).clip(0, 255).astype(np.uint8)


def _float_levels(values: np.ndarray) -> np.ndarray:
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if not (low >= 0 and high <= 255):  # true for NaN
        raise RequestError(f"its floats run from {low:g} to {high:g}; save it with values from 0 to 1, or with 8 bits")
    if high > 1:
        return values.astype(np.uint8)
    levels = np.empty(values.shape, np.uint8)
    rows = max(1, 2**20 // values.shape[1])  # in parts: a whole image of floats may take a gigabyte
    for start in range(0, len(values), rows):
        levels[start : start + rows] = np.rint(values[start : start + rows] * np.float32(255))
    return levels


def orientation_of(image: Image.Image) -> int:
    """The EXIF (or XMP) orientation that is still to be applied to an opened image.

    1 if there is none that can be read, and for TIFF, to which Pillow applies it by itself (so did the published code).
    """
    if image.format == "TIFF":
        return 1
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a damaged EXIF block makes Pillow raise anything, while the pixels may be intact
        return 1
    return orientation if isinstance(orientation, int) and orientation in TRANSPOSITIONS else 1


def turn(image: Image.Image, orientation: int) -> Image.Image:
    """The image with an EXIF orientation applied."""
    return image if orientation not in TRANSPOSITIONS else image.transpose(TRANSPOSITIONS[orientation])


def upright_size(header: ImageHeader) -> tuple[int, int]:
    """(width, height) once the orientation is applied."""
    width, height = header.size
    return (height, width) if header.orientation in QUARTER_TURNS else (width, height)


def read_header(content: bytes) -> ImageHeader | None:
    """The header of an image file's content; None if it is not an image (decoding it reports why)."""
    try:
        with open_image(content) as image:
            return ImageHeader(image.size, image.mode, orientation_of(image))
    except Exception:
        return None


def is_plain(content: bytes) -> bool:
    """Whether a JPEG or PNG has 8 bits and no orientation, so that nothing is scaled or turned.

    Most images of most datasets are, and this check takes a small part of the time of `read_header`.
    """
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
        pass  # damaged; Pillow may still read it
    return False


def _jpeg_segments(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and content of each segment before the first scan."""
    position = 2
    while content[position] == 0xFF:
        kind = content[position + 1]
        if kind == 0xDA:
            return
        if kind == 0xFF:  # a fill byte
            position += 1
            continue
        (size,) = struct.unpack_from(">H", content, position + 2)
        if kind == 0xE1:
            yield kind, content[position + 4 : position + 2 + size]
        position += 2 + size
    raise IndexError


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and first bytes of each chunk."""
    position = 8
    while position < len(content):
        size, kind = struct.unpack_from(">I4s", content, position)
        yield kind, content[position + 8 : position + 8 + min(size, 32)]
        position += 12 + size


def header_if_relevant(content: bytes) -> ImageHeader | None:
    """The header if scaling or orientation may matter; None for a plain image, or if the header cannot be read."""
    return None if is_plain(content) else read_header(content)


def check_size(size: tuple[int, int]) -> None:
    """Refuse an image with more pixels than allowed.

    Raises:
        RequestError: too many pixels; says how to allow them.
    """
    pixels = size[0] * size[1]
    if pixels > max_pixels():
        raise RequestError(_too_large(str(pixels)))


def _too_large(pixels: str) -> str:
    shown = f"{int(pixels):,}" if pixels.isdecimal() else "too many"
    refusal = f"it has {shown} pixels, more than the {max_pixels():,} that are read; make it smaller"
    if (
        pixels.isdecimal() and int(pixels) >= MAX_ALLOWED_PIXELS
    ):  # no real image has this many: the header is damaged or forged
        return refusal
    needed = pixels if pixels.isdecimal() else "N"
    return f"{refusal}, or allow it with --max-image-pixels {needed} where its source can be trusted"


def max_pixels() -> int:
    """The largest allowed number of pixels of an image.

    Raises:
        RequestError: the environment variable is not an integer above 0.
    """
    text = os.environ.get(MAX_PIXELS_VARIABLE)
    if text is None:
        return MAX_PIXELS
    if not (text.isascii() and text.isdecimal() and len(text) <= 15 and int(text) > 0):
        raise RequestError(f"{MAX_PIXELS_VARIABLE} must be a number of pixels from 1 on, not {text[:40]!r}")
    return int(text)


@contextmanager
def pixels_at_most(most: int | None) -> Iterator[None]:
    """Inside the block, and in processes started there, images of up to `most` pixels are read; None changes nothing.

    Raises:
        RequestError: less than 1, or more digits than any image has pixels.
    """
    if most is None:
        yield
        return
    if not 1 <= most < MAX_ALLOWED_PIXELS:
        raise RequestError(f"the most pixels of an image must be 1 to {MAX_ALLOWED_PIXELS - 1}, got {str(most)[:40]}")
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
    """Pillow's names of the formats that are read, in the order in which it tries them."""
    Image.init()
    return tuple(name for name in Image.ID if name not in UNREAD_FORMATS)
