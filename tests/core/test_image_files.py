"""The decoder of image files: formats, modes of more than 8 bits, EXIF orientation and the limit of pixels."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from cosmos_core.data.samples import BrokenSample, load_image
from cosmos_core.errors import RequestError
from cosmos_core.image_files import (
    MAX_PIXELS,
    NotAnImage,
    check_size,
    decode_image,
    is_plain,
    max_pixels,
    open_image,
    pixels_at_most,
    read_header,
    to_rgb,
)
from cosmos_eval.datasets.image_sources import decode
from tests.core.wrong_files import WRONG_FILES

RAMP = np.linspace(0, 65535, 64 * 48).reshape(48, 64)
DEEP = {
    "16-bit PNG": (RAMP.astype(np.uint16), "PNG"),
    "16-bit TIFF": (RAMP.astype(np.uint16), "TIFF"),
    "16-bit PGM": (RAMP.astype(np.uint16), "PPM"),
    "16-bit JPEG 2000": (RAMP.astype(np.uint16), "JPEG2000"),
    "32-bit integer TIFF": (RAMP.astype(np.int32), "TIFF"),
    "float TIFF": ((RAMP / 65535).astype(np.float32), "TIFF"),
    "float TIFF of 8-bit values": ((RAMP / 257).astype(np.float32), "TIFF"),
}


def encoded(pixels: np.ndarray | Image.Image, form: str, **options: object) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def turned(orientation: int, form: str = "JPEG") -> bytes:
    exif = Image.Exif()
    exif[0x112] = orientation
    pixels = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    return encoded(pixels, form, exif=exif)


@pytest.mark.parametrize("name", DEEP)
def test_a_ramp_from_black_to_white_keeps_its_levels_in_evaluation_and_training(name):
    content = encoded(*DEEP[name])
    for image in (decode(content, name), load_image(content, name)):
        pixels = np.asarray(image)
        assert image.mode == "RGB"
        assert len(np.unique(pixels)) == 256
        assert pixels.mean() == pytest.approx(127.5, abs=0.6)
        assert (pixels.min(), pixels.max()) == (0, 255)
    assert read_header(content).rescaled


def test_sixteen_bits_are_rounded_to_the_nearest_level():
    values = np.array([[0, 128, 129, 385, 386, 65535]], np.uint16)
    # 128 / 257 = 0.498, 129 / 257 = 0.502, 385 / 257 = 1.498, 386 / 257 = 1.502
    assert np.asarray(to_rgb(Image.fromarray(values)))[0, :, 0].tolist() == [0, 0, 1, 1, 2, 255]


def test_big_endian_and_white_is_zero():
    image = Image.frombytes("I;16B", (2, 1), b"\x00\x01\xff\xff")
    assert np.asarray(to_rgb(image))[0, :, 0].tolist() == [0, 255]
    content = encoded(np.array([[0, 65535]], np.uint16), "TIFF", tiffinfo={262: 0})
    assert np.asarray(decode_image(content))[0, :, 0].tolist() == [255, 0]


def test_a_dark_image_of_16_bits_stays_dark_whatever_pillow_opens_it_as():
    content = b"P5 3 1 65535\n" + np.array([0, 129, 255], ">u2").tobytes()
    assert np.asarray(decode_image(content))[0, :, 0].tolist() == [0, 1, 1]


def test_12_bits_of_a_tiff_are_scaled_from_their_own_white():
    import struct

    pixels = bytes([0x00, 0x0F, 0xFF])  # two values of 12 bits: 0 and 4095
    tags = [(256, 2), (257, 1), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, 3)]
    entries = b"".join(struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, 1, value) for tag, value in tags)
    content = b"II*\0" + struct.pack("<I", 12) + pixels + b"\0" + struct.pack("<H", len(tags)) + entries + b"\0" * 4
    assert np.asarray(decode_image(content))[0, :, 0].tolist() == [0, 255]


def test_integers_and_floats_of_eight_bits_stay_as_they_are():
    values = np.array([[0, 7, 255]])
    for kind in (np.int32, np.float32):
        assert np.asarray(to_rgb(Image.fromarray(values.astype(kind))))[0, :, 0].tolist() == [0, 7, 255]


@pytest.mark.parametrize(
    "values",
    [
        np.array([[0, 70000]], np.int32),
        np.array([[-1, 5]], np.int32),
        np.array([[0.0, 256.0]], np.float32),
        np.array([[-0.1, 1.0]], np.float32),
        np.array([[0.5, np.nan]], np.float32),
        np.array([[0.5, np.inf]], np.float32),
    ],
)
def test_a_scale_that_nobody_knows_is_refused_in_one_line(values):
    content = encoded(values, "TIFF")
    with pytest.raises(RequestError, match=r"a\.tif: its (integers|floats) run from .*; save it with") as caught:
        decode(content, "a.tif")
    assert "\n" not in str(caught.value)
    with pytest.raises(BrokenSample, match="run from"):
        load_image(content, "a")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV"])
def test_other_modes_are_pillows_conversion(mode):
    source = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8)).convert(mode)
    assert to_rgb(source).tobytes() == source.convert("RGB").tobytes()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000", "ICO", "TGA"])
def test_evaluation_and_training_read_the_same_formats(form):
    content = encoded(np.full((16, 16, 3), 99, np.uint8), form)
    pixels = np.asarray(decode(content, form))
    assert (pixels == np.asarray(load_image(content, form))).all()
    assert pixels.mean() == pytest.approx(99, abs=2)


def test_what_an_interpreter_would_draw_is_refused():
    content = encoded(np.zeros((4, 4, 3), np.uint8), "EPS")
    with pytest.raises(RequestError, match="of a format that is not read"):
        decode(content, "a.eps")
    with pytest.raises(BrokenSample, match="not an image in a format that is read"):
        load_image(content, "a")
    with pytest.raises(NotAnImage):
        decode_image(b"<html>")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_only_where_asked(orientation, form):
    content = turned(orientation, form)
    with Image.open(io.BytesIO(content)) as image:
        as_it_is, upright = image.convert("RGB"), ImageOps.exif_transpose(image).convert("RGB")
    assert decode_image(content).tobytes() == as_it_is.tobytes()
    applied = decode_image(content, turned=True)
    assert (applied.size, applied.tobytes()) == (upright.size, upright.tobytes())
    assert read_header(content).orientation == orientation


def test_a_look_at_a_few_bytes_knows_plain_images():
    assert is_plain(encoded(np.zeros((4, 4, 3), np.uint8), "JPEG"))
    assert is_plain(encoded(np.zeros((4, 4, 3), np.uint8), "PNG"))
    assert not is_plain(encoded(RAMP.astype(np.uint16), "PNG"))
    assert not is_plain(turned(3))
    assert not is_plain(turned(3, "PNG"))
    xmp = b'http://ns.adobe.com/xap/1.0/\0<x xmlns:tiff="t" tiff:Orientation="3"/>'
    plain = encoded(np.zeros((4, 4, 3), np.uint8), "JPEG")
    in_xmp = plain[:2] + b"\xff\xe1" + (len(xmp) + 2).to_bytes(2, "big") + xmp + plain[2:]
    assert not is_plain(in_xmp)
    assert read_header(in_xmp).orientation == 3
    for cut in range(0, len(plain), 7):  # whatever is broken is left to Pillow
        is_plain(plain[:cut])


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_exif_does_not_know_is_none(orientation):
    content = turned(orientation)
    assert decode_image(content, turned=True).tobytes() == decode_image(content).tobytes()
    assert read_header(content).orientation == 1


def test_an_image_above_the_limit_is_refused_with_the_option_that_reads_it():
    content = encoded(np.zeros((30, 40), np.uint8), "PNG")
    with pixels_at_most(1199):
        for read in (lambda: decode(content, "a.png"), lambda: load_image(content, "a")):
            with pytest.raises(RequestError, match=r"1,200 pixels, more than the 1,199 .* --max-image-pixels 1200"):
                read()
    with pixels_at_most(1200):  # as the message says
        assert decode(content, "a.png").size == (40, 30)
    assert max_pixels() == MAX_PIXELS


def test_more_pixels_than_pillow_reads_can_be_allowed(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    content = encoded(np.zeros((30, 40), np.uint8), "PNG")
    assert decode(content, "a.png").size == (40, 30)


@pytest.mark.parametrize("given", ["", "0", "-5", "1e9", "9" * 5000, "٣"])
def test_a_limit_that_is_no_number_of_pixels_is_refused(given, monkeypatch):
    monkeypatch.setenv("COSMOS_MAX_IMAGE_PIXELS", given)
    with pytest.raises(RequestError, match="COSMOS_MAX_IMAGE_PIXELS must be a number of pixels"):
        max_pixels()
    for most in (0, 10**30):
        with pytest.raises(RequestError, match="must be 1 to"), pixels_at_most(most):
            pass


def test_what_stands_in_place_of_an_image_is_named(tmp_path: Path):
    for content, said in (
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:a\n", "it is a Git LFS pointer.*git lfs pull"),
        (b"<!DOCTYPE html><html>404</html>", "it is an HTML page"),
        (b"", "it is empty"),
        (
            b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>',
            r"it is a drawing \(SVG\).* as PNG",
        ),
        *((content, f"^it {said}") for content, said in WRONG_FILES.items()),
    ):
        (tmp_path / "a.jpg").write_bytes(content)
        for given in (content, tmp_path / "a.jpg"):
            with pytest.raises(NotAnImage, match=said):
                open_image(given)


def test_no_advice_allows_more_pixels_than_can_be_allowed():
    with pytest.raises(RequestError, match=r"make it smaller$"):
        check_size((2**31 - 1, 2**31 - 1))


def test_a_named_pipe_is_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(RequestError, match="is a named pipe"):
        open_image(tmp_path / "a.png")
