"""Who decodes JPEG: Pillow, whose pixels are the protocol's, or a faster decoder that was asked for."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_core.image_files import QUARTER_TURNS, open_image, orientation_of, turn

PIL = "pil"
DECODERS = (PIL, "torchvision", "draft")
"""`draft` is Pillow at the smallest of the scales 1, 1/2, 1/4 and 1/8 that is no smaller than what a tower sees."""
_JPEG = b"\xff\xd8\xff"


class Decoder(NamedTuple):
    """A way to decode, and the (height, width) that a tower sees, where they are known."""

    name: str = PIL
    size: tuple[int, int] | None = None


PILLOW = Decoder()
_chosen: ContextVar[Decoder] = ContextVar("decoder", default=PILLOW)
_turned: ContextVar[bool] = ContextVar("exif", default=False)


def check_decoder(name: str) -> str:
    """The name of a decoder that can be used here.

    Raises:
        RequestError: another word, or a torchvision that was built without one.
    """
    if name not in DECODERS:
        raise RequestError(f"unknown decoder {name!r}; give {', '.join(DECODERS)}")
    if name == "torchvision":
        try:
            from torchvision.io import decode_jpeg  # noqa: F401
        except (ImportError, OSError) as error:
            raise RequestError(f"torchvision decodes no images here: {error}; give --decoder pil") from error
    return name


@contextmanager
def decoding_by(decoder: Decoder) -> Iterator[None]:
    """Inside, JPEG files are decoded so; all others by Pillow, as ever."""
    token = _chosen.set(decoder)
    try:
        yield
    finally:
        _chosen.reset(token)


@contextmanager
def at_full_size() -> Iterator[None]:
    """Inside, the surrounding decoder gives all pixels of a file: coordinates in it mean what they say."""
    with decoding_by(_chosen.get()._replace(size=None)):
        yield


@contextmanager
def exif_applied() -> Iterator[None]:
    """Inside, images are turned as their EXIF orientation says (`dataset: {exif: apply}`)."""
    token = _turned.set(True)
    try:
        yield
    finally:
        _turned.reset(token)


def exif_is_applied() -> bool:
    return _turned.get()


def fast_decode(content: bytes) -> Image.Image | None:
    """An RGB image by the decoder of the surrounding `decoding_by`; None where that leaves it to Pillow.

    Raises:
        RequestError: more pixels than allowed.
    """
    name, size = _chosen.get()
    if name == PIL or not content.startswith(_JPEG):
        return None
    with open_image(content) as image:
        orientation = orientation_of(image) if exif_is_applied() else 1
        if name == "draft":
            if size is not None and image.mode in ("RGB", "L"):
                height, width = size if orientation not in QUARTER_TURNS else size[::-1]
                image.draft(image.mode, (width, height))
            return turn(image.convert("RGB"), orientation)
    decoded = _by_torchvision(content)
    return None if decoded is None else turn(decoded, orientation)


def _by_torchvision(content: bytes) -> Image.Image | None:
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg

    try:
        pixels = decode_jpeg(torch.frombuffer(bytearray(content), dtype=torch.uint8), mode=ImageReadMode.RGB)
    except RuntimeError:
        return None  # CMYK and what is broken: Pillow knows the one, and says what is wrong with the other
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
