"""Decoders other than Pillow: nearly the same pixels, used only if chosen, and recorded in the result."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from cosmos_core.errors import RequestError
from cosmos_eval.cache.shard import list_model_folders
from cosmos_eval.cli.main import run_command
from cosmos_eval.datasets.decoders import DECODERS, Decoder, check_decoder, use_decoder
from cosmos_eval.datasets.image_sources import FileImage, decode
from cosmos_eval.datasets.perception.crops import CroppedImage
from cosmos_eval.engine import Engine
from cosmos_eval.run.evaluate import evaluate
from tests.engine.test_image_tower import Whole
from tests.helpers.patch_models import PatchModel, Scale, settings
from tests.helpers.worlds import captions_world

DRAFT = Decoder("draft", (12, 16))


def photograph(seed: int = 0, width: int = 64, height: int = 48) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(noise).filter(ImageFilter.GaussianBlur(2))


def encoded(image: Image.Image, image_format: str = "JPEG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, image_format, **options)
    return stream.getvalue()


def decoded(content: bytes, decoder: Decoder) -> np.ndarray:
    with use_decoder(decoder):
        image = decode(content, "a.jpg")
    assert image.mode == "RGB"
    return np.asarray(image, dtype=np.int16)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_torchvision_decodes_as_pillow_does_within_rounding(mode, progressive):
    content = encoded(photograph().convert(mode), progressive=progressive)
    difference = np.abs(decoded(content, Decoder("torchvision")) - decoded(content, Decoder()))
    assert difference.max() <= 3
    assert difference.mean() < 0.1


def test_draft_is_no_smaller_than_the_models_input_and_close_to_a_reduced_image():
    image = photograph()
    draft = decoded(encoded(image, quality=95), DRAFT)
    assert draft.shape == (12, 16, 3)
    reduced = np.asarray(image.resize((16, 12), Image.Resampling.BOX), dtype=np.int16)
    assert np.abs(draft - reduced).mean() < 3
    assert decoded(encoded(image), Decoder("draft", (25, 20))).shape == (48, 64, 3)  # half is less than 25 high
    assert decoded(encoded(image), Decoder("draft")).shape == (48, 64, 3)


@pytest.mark.parametrize("decoder", [Decoder("torchvision"), DRAFT])
def test_other_formats_than_jpeg_are_decoded_by_pillow(decoder):
    image = photograph()
    for image_format in ("PNG", "BMP"):
        assert np.array_equal(decoded(encoded(image, image_format), decoder), np.asarray(image))


@pytest.mark.parametrize("decoder", [Decoder("torchvision"), DRAFT])
def test_a_broken_file_is_refused_as_by_pillow(decoder):
    for content in (encoded(photograph())[:-200], encoded(photograph())[:50], b"\xff\xd8\xff nothing", b"text"):
        messages = []
        for used_decoder in (Decoder(), decoder):
            with pytest.raises(RequestError) as caught:
                decoded(content, used_decoder)
            messages.append(str(caught.value))
        assert messages[0] == messages[1]


def test_a_box_is_cut_from_the_image_at_full_size(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(photograph(), quality=95))
    cropped = CroppedImage("a.jpg[30,10,20,20]", path, (30, 10, 20, 20))
    expected = np.asarray(cropped.load())
    with use_decoder(DRAFT):
        assert np.array_equal(np.asarray(cropped.load()), expected)
        assert decode(path.read_bytes(), "a.jpg").size == (16, 12)  # other images are still reduced
    assert expected.shape == (20, 20, 3)


def test_windows_are_cut_from_the_image_at_full_size(tmp_path):
    class FixedSize(Scale):
        size = 12

    class Windows(PatchModel):
        def __init__(self):
            super().__init__()
            self.preprocess = FixedSize()

        def encode_image(self, x):
            return x.mean((2, 3)) + 1

    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(photograph(), quality=95))
    images = [FileImage("a.jpg", path)]
    engine = Engine(Windows(), decoder="draft")
    (windows,) = engine.window_features(images, settings())
    (expected,) = Engine(Windows()).window_features(images, settings())
    assert windows.original_size == expected.original_size == (48, 64)
    assert torch.equal(windows.features, expected.features)
    assert engine.decoder_differences["pixel_max"] == 0


def test_after_the_block_pillow_decodes_again():
    content = encoded(photograph())
    with use_decoder(DRAFT):
        pass
    assert decode(content, "a.jpg").size == (64, 48)


def test_an_unknown_decoder_is_refused():
    with pytest.raises(RequestError, match="unknown decoder 'turbo'; give pil, torchvision, draft"):
        check_decoder("turbo")
    assert [check_decoder(name) for name in DECODERS] == list(DECODERS)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_engine_uses_the_chosen_decoder(tmp_path, workers):
    images = []
    for i in range(3):
        path = tmp_path / f"{i}.jpg"
        path.write_bytes(encoded(photograph(i, 40, 40)))
        images.append(FileImage(path.name, path))
    model = Whole()
    engine = Engine(model, decoder="draft", workers=workers)
    features = engine.image_features(images)
    seen = model.seen[-1]
    with use_decoder(Decoder("draft", (8, 8))):
        for image, x in zip(images, seen, strict=True):
            assert image.load().size == (10, 10)
            assert (x == model.preprocess(image.load())).all()
    assert engine.precision == "fp32+draft"
    drift = engine.decoder_differences
    assert drift is not None
    pillow_features = Engine(Whole()).image_features(images)
    change = ((features @ features.T) - (pillow_features @ pillow_features.T)).abs().max().item()
    assert drift["similarity_max"] == pytest.approx(change, rel=1e-2)
    assert drift["images"] == 3
    assert 0 < drift["pixel_mean"] <= drift["pixel_max"] < 60


def test_a_result_records_the_decoder_and_has_another_identity(tmp_path):
    world = captions_world(tmp_path)
    results = {name: evaluate(Whole(), world, tmp_path, decoder=name)[0] for name in ("pil", "torchvision")}
    assert results["pil"].environment.decoder is None
    assert results["torchvision"].environment.decoder["name"] == "torchvision"
    assert set(results["torchvision"].environment.decoder["drift"]) == {
        "images", "pixel_mean", "pixel_max", "similarity_max"
    }  # fmt: skip
    assert results["torchvision"].precision == "fp32+torchvision"
    assert results["pil"].identity != results["torchvision"].identity
    assert json.loads(results["torchvision"].to_json())["precision"] == "fp32+torchvision"


def test_a_result_is_not_replaced_by_one_of_another_decoder(tmp_path):
    world = captions_world(tmp_path)
    evaluate(Whole(), world, tmp_path, out=tmp_path / "out")
    with pytest.raises(RequestError, match="was measured with precision fp32; give another --out"):
        evaluate(Whole(), world, tmp_path, out=tmp_path / "out", decoder="draft")


def test_features_of_another_decoder_are_cached_separately_and_listed(tmp_path, capsys):
    world = captions_world(tmp_path)
    models = {name: Whole() for name in ("pil", "draft")}
    for name, model in models.items():
        evaluate(model, world, tmp_path, out=tmp_path / "out" / name, decoder=name, cache=tmp_path / "store")
    assert models["draft"].passed["images"]
    assert len(list_model_folders(tmp_path / "store")) == 2
    assert run_command(["cache", "list", "--cache", str(tmp_path / "store")]) == 0
    assert "fp32+draft cpu" in capsys.readouterr().out
    assert run_command(["results", "diff", *(str(tmp_path / "out" / name) for name in models)]) in (0, 1)
    assert "fp32+draft" in capsys.readouterr().out
    (folder,) = (tmp_path / "out/draft").glob("*/pairs")
    assert run_command(["results", "show", str(folder)]) == 0
    assert "similarity_max" in capsys.readouterr().out
    assert run_command(["leaderboard", str(tmp_path / "out")]) == 0
    assert "fp32+draft" in capsys.readouterr().out
