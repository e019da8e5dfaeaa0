"""Decoders of JPEG files: Pillow, whose pixels are the reference, and faster ones that a user may choose.

The decoder and the use of EXIF are context variables, not arguments: images are decoded deep below the code that
chooses (the engine, the definition of a dataset), and other libraries' datasets decode theirs in between.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_core.image_files import QUARTER_TURNS, open_image, orientation_of, turn

PIL = "pil"
DECODERS = (PIL, "torchvision", "draft")
"""`draft` is Pillow decoding at 1, 1/2, 1/4 or 1/8 of the size: the smallest that is at least the model's input."""
_JPEG = b"\xff\xd8\xff"


class Decoder(NamedTuple):
    """A decoder, and the (height, width) of the model's input where they are known."""

    name: str = PIL
    size: tuple[int, int] | None = None


PILLOW = Decoder()
_decoder: ContextVar[Decoder] = ContextVar("decoder", default=PILLOW)
_applies_exif: ContextVar[bool] = ContextVar("exif", default=False)


def check_decoder(name: str) -> str:
    """Return the name if it is a decoder that can be used here.

    Raises:
        RequestError: it is not a decoder, or torchvision was built without one.
    """
    if name not in DECODERS:
        raise RequestError(f"unknown decoder {name!r}; give {', '.join(DECODERS)}")
    if name == "torchvision":
        try:
            from torchvision.io import decode_jpeg  # noqa: F401
        except (ImportError, OSError) as error:
            raise RequestError(f"torchvision cannot decode images here: {error}; give --decoder pil") from error
    return name


@contextmanager
def use_decoder(decoder: Decoder) -> Iterator[None]:
    """Decode JPEG files by this decoder inside the block. Other formats are always decoded by Pillow."""
    token = _decoder.set(decoder)
    try:
        yield
    finally:
        _decoder.reset(token)


@contextmanager
def decode_at_full_size() -> Iterator[None]:
    """Decode at full size inside the block, so that pixel coordinates in an image stay valid."""
    with use_decoder(_decoder.get()._replace(size=None)):
        yield


@contextmanager
def apply_exif() -> Iterator[None]:
    """Apply the EXIF orientation of images inside the block (`dataset: {exif: apply}`)."""
    token = _applies_exif.set(True)
    try:
        yield
    finally:
        _applies_exif.reset(token)


def is_exif_applied() -> bool:
    """Whether the EXIF orientation of images is applied here."""
    return _applies_exif.get()


def fast_decode(content: bytes) -> Image.Image | None:
    """Decode a JPEG file to RGB by the faster decoder of the surrounding `use_decoder`.

    Returns:
        The image, or None where Pillow must decode it: no faster decoder was chosen, or it does not take this file.

    Raises:
        RequestError: more pixels than allowed.
    """
    name, size = _decoder.get()
    if name == PIL or not content.startswith(_JPEG):
        return None
    with open_image(content) as image:
        orientation = orientation_of(image) if is_exif_applied() else 1
        if name == "draft":
            if size is not None and image.mode in ("RGB", "L"):
                height, width = size if orientation not in QUARTER_TURNS else size[::-1]
                image.draft(image.mode, (width, height))
            return turn(image.convert("RGB"), orientation)
    decoded = _decode_by_torchvision(content)
    return None if decoded is None else turn(decoded, orientation)


def _decode_by_torchvision(content: bytes) -> Image.Image | None:
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg

    try:
        pixels = decode_jpeg(torch.frombuffer(bytearray(content), dtype=torch.uint8), mode=ImageReadMode.RGB)
    except RuntimeError:
        return None  # CMYK, which Pillow decodes, or a damaged file, for which Pillow has the better message
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
