"""Views changed on the device: the same random numbers and pixels as on the CPU, in loaders, runs and checkpoints."""

import io
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torchvision.transforms import ColorJitter, RandomResizedCrop

from cosmos_core.data.samples import SampleViews
from cosmos_core.device_views import change_views
from cosmos_core.errors import RequestError
from cosmos_core.image_files import decode_image
from cosmos_core.text_crop import TextCrop
from cosmos_core.train import Callback, train
from cosmos_core.view_draws import CHANGES, COLUMNS, DrawnView, changes_table
from cosmos_core.views import MultiCrop, change_view
from tests.core.test_train import CONFIG
from tests.helpers.tiny_runs import coloured

PLAIN = DrawnView(48, (0, 0, 48, 48), False, (), False, None, False)
RECORD = {"raw_caption": "a dog"}
LEAST = 0.05 / 15
"""Smallest p-value that passes, since 15 are looked at (Bonferroni)."""


def photo(seed, size=(48, 48)):
    """Smooth colours with noise, as in a photograph."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    noisy = np.asarray(coarse).astype(int) + rng.integers(-12, 13, (size[1], size[0], 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def jpeg(image, **options):
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=90, **options)
    return stream.getvalue()


def changed(images, drawn):
    """(N, H, W, 3) pixels changed in one batch."""
    pixels = torch.from_numpy(np.stack([np.asarray(image) for image in images]))
    return change_views(pixels, changes_table(drawn), torch.from_numpy).permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("name", [*CHANGES, "gray", "blur", "solarise", "all"])
def test_the_same_numbers_give_the_pixels_of_the_cpu(name):
    draw = random.Random(0)
    strengths = dict.fromkeys(CHANGES[:3], (0.0, 2.5)) | {"hue": (-0.5, 0.5)}
    drawn = []
    for _ in range(24):
        order = draw.sample(CHANGES, 4) if name == "all" else [name] if name in CHANGES else []
        drawn.append(
            replace(
                PLAIN,
                jitter=tuple((change, draw.uniform(*strengths[change])) for change in order),
                gray=name == "gray" or (name == "all" and draw.random() < 0.2),
                blur=draw.uniform(0.05, 6) if name in ("blur", "all") else None,
                solarise=name in ("solarise", "all"),
            )
        )
    images = [photo(seed) for seed in range(24)]
    expected = np.stack([np.asarray(change_view(image, view)) for image, view in zip(images, drawn, strict=True)])
    difference = np.abs(changed(images, drawn).astype(int) - expected)
    # solarisation makes 127 of what one level more makes 128: only a share can be stated
    assert (difference > 0).mean() < 1e-4


def test_a_batch_that_is_changed_in_parts_is_the_same(monkeypatch):
    images = [photo(seed) for seed in range(5)]
    drawn = [replace(PLAIN, jitter=(("hue", 0.1), ("contrast", 0.5 + i / 4)), blur=0.4 * i or None) for i in range(5)]
    whole = changed(images, drawn)
    monkeypatch.setattr("cosmos_core.device_views.MOST_VALUES", 2 * 3 * 48 * 48)
    assert np.array_equal(changed(images, drawn), whole)


def test_crops_are_those_of_pillow_within_a_level():
    views, image = MultiCrop(global_size=64, local_size=32, jitter=0, gray=0, blur=(0, 0, 0)), photo(1, (200, 150))
    views = replace(views, solarise=(0, 0, 0))
    for seed in range(5):
        crops, changes = views.crops(image, views.draw(image.size, random.Random(seed)))
        for crop, expected in zip(crops, views.pixels(image, random.Random(seed)), strict=True):
            difference = np.abs(crop.astype(int) - expected)
            assert difference.max() <= 1
            assert (difference > 0).mean() < 0.02
        assert changes.shape == (8, COLUMNS)


def test_drawn_numbers_have_the_distributions_of_torchvision():
    views, count = MultiCrop(), 4000
    drawn = [view for seed in range(count // 2) for view in views.draw((640, 480), random.Random(seed))[:2]]
    torch.manual_seed(0)
    peer = ColorJitter(views.brightness, views.contrast, views.saturation, views.hue)
    theirs = [peer.get_params(peer.brightness, peer.contrast, peer.saturation, peer.hue) for _ in range(count)]
    jitters = [dict(view.jitter) for view in drawn if view.jitter]
    for index, name in enumerate(CHANGES):
        ours = [jitter[name] for jitter in jitters]
        assert stats.ks_2samp(ours, [numbers[1 + index] for numbers in theirs]).pvalue > LEAST, name
        positions = np.bincount([[step for step, _ in view.jitter].index(name) for view in drawn if view.jitter])
        assert stats.chisquare(positions).pvalue > LEAST, name
    image = Image.new("RGB", (640, 480))
    boxes = [RandomResizedCrop.get_params(image, [views.crop_scale, 1.0], list(views.ratio)) for _ in range(count)]
    our_boxes = [(top, left, bottom - top, right - left) for left, top, right, bottom in (view.box for view in drawn)]
    for number in (
        lambda top, left, height, width: height * width,
        lambda top, left, height, width: width / height,
        lambda top, left, height, width: left,
        lambda top, left, height, width: top,
    ):
        samples = [[number(*box) for box in of_side] for of_side in (our_boxes, boxes)]
        assert stats.ks_2samp(*samples).pvalue > LEAST
    counts = [sum(bool(view.jitter) for view in drawn), sum(view.gray for view in drawn), sum(v.flip for v in drawn)]
    for found, probability in zip(counts, (views.jitter, views.gray, views.flip), strict=True):
        assert stats.binomtest(found, len(drawn), probability).pvalue > LEAST


def make_views(**changes):
    images = MultiCrop(global_size=32, local_size=16, **changes)
    return SampleViews(images, TextCrop(1, "raw"), on_device=True)


def test_a_jpeg_is_decoded_smaller_only_where_no_view_loses_a_pixel():
    make = make_views(crop_scale=0.9, min_scale=0.8)
    image = photo(2, (400, 300))
    _, scaled, _, changes = make("a", jpeg(image), RECORD, 0)
    _, whole, _, same = make("a", decode_image(jpeg(image)), RECORD, 0)
    assert np.array_equal(changes, same)
    for small, full in zip(scaled, whole, strict=True):
        difference = np.abs(small.astype(int) - full)
        assert difference.max() > 0
        assert difference.mean() < 6
    drawn = make.images.draw(image.size, random.Random(0))
    assert make.images.largest_scale(drawn) == 8
    assert replace(make.images, min_scale=0.001).largest_scale([replace(PLAIN, size=16, box=(0, 0, 31, 300))]) == 1


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_a_jpeg_at_full_size_has_pillows_pixels(options):
    content = jpeg(photo(3, (67, 45)), **options)
    for mode in ("RGB", "L"):
        content = jpeg(photo(3, (67, 45)).convert(mode), **options)
        _, views, _, _ = make_views()("a", content, RECORD, 0)
        _, expected, _, _ = make_views()("a", decode_image(content), RECORD, 0)
        assert all(np.array_equal(a, b) for a, b in zip(views, expected, strict=True))


def test_a_damaged_jpeg_is_reported_as_on_the_cpu():
    content = jpeg(photo(4, (67, 45)))
    for broken in (content[:-200], content[:30]):
        messages = []
        for on_device in (False, True):
            with pytest.raises(RequestError) as error:
                replace(make_views(), on_device=on_device)("a", broken, RECORD, 0)
            messages.append(str(error.value))
        assert messages[0] == messages[1]


class StopAfter(Callback):
    def on_step(self, run):
        if run.step == 2:
            raise ZeroDivisionError


def test_a_run_keeps_where_its_views_are_changed(tmp_path, one_thread, monkeypatch):
    batches = []

    def counted(pixels, *rest):
        batches.append(len(pixels))
        return change_views(pixels, *rest)

    monkeypatch.setattr("cosmos_core.data.loader.change_views", counted)
    config = replace(CONFIG, device="cpu", steps=4, save_every=1, log_every=1, workers=0)

    def losses(out, **changes):
        run = replace(config, out=str(tmp_path / out), augment="device")
        with pytest.raises(ZeroDivisionError):
            train(run, coloured(12), callbacks=[StopAfter()])
        return [line["loss"] for line in train(replace(run, **changes), coloured(12)).metrics]

    whole = [line["loss"] for line in train(replace(config, augment="device"), coloured(12)).metrics]
    assert losses("same") == whole
    assert losses("auto", augment="auto", workers=2) == whole
    with pytest.raises(RequestError, match="augment 'device' there and 'cpu' here"):
        losses("other", augment="cpu")
    saved = torch.load(tmp_path / "auto" / "last.pt", weights_only=True)
    assert saved["training"]["augment"] == "device"
    in_device_runs = len(batches)
    assert in_device_runs
    on_cpu = [line["loss"] for line in train(replace(config, out=str(tmp_path / "cpu")), coloured(12)).metrics]
    assert on_cpu == pytest.approx(whole, rel=1e-5)  # images of one colour, of which a resize changes nothing
    assert len(batches) == in_device_runs
    assert "augment" not in torch.load(tmp_path / "cpu" / "last.pt", weights_only=True)["training"]
