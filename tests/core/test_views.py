"""Image multi-crop: shapes, order, where its randomness comes from, and its strengths one at a time."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_core.views import CLIP_MEAN, CLIP_STD, MultiCrop, flip_coin, normalize_pixels, random_box

IMAGE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
STILL = {"flip": 0.0, "jitter": 0.0, "gray": 0.0, "blur": (0.0, 0.0, 0.0), "solarise": (0.0, 0.0, 0.0)}
WHOLE = {"crop_scale": 1.0, "ratio": (1.0, 1.0)}


def pixels(view: torch.Tensor) -> np.ndarray:
    """uint8 (H, W, 3) of a view."""
    mean, std = torch.tensor(CLIP_MEAN)[:, None, None], torch.tensor(CLIP_STD)[:, None, None]
    return ((view * std + mean) * 255).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()


def test_global_views_come_first_and_sizes_are_as_asked():
    views = MultiCrop(local_crops=3, global_size=40, local_size=16)(IMAGE, random.Random(0))
    assert [tuple(view.shape) for view in views] == [(3, 40, 40)] * 2 + [(3, 16, 16)] * 3
    assert all(view.dtype == torch.float32 and view.is_contiguous() and view.isfinite().all() for view in views)


def test_the_published_setting_is_two_global_and_six_local_views():
    views = MultiCrop()(IMAGE, random.Random(0))
    assert [view.shape[-1] for view in views] == [224, 224] + [96] * 6


def test_pil_and_array_and_palette_images_give_the_same_views():
    crops = MultiCrop(local_crops=1, global_size=32, local_size=16)
    image = Image.fromarray(IMAGE)
    from_array, from_image = crops(IMAGE, random.Random(1)), crops(image, random.Random(1))
    assert all(torch.equal(a, b) for a, b in zip(from_array, from_image, strict=True))
    palette = image.quantize(16)
    again, converted = crops(palette, random.Random(1)), crops(palette.convert("RGB"), random.Random(1))
    assert all(torch.equal(a, b) for a, b in zip(again, converted, strict=True))


def test_everything_random_comes_from_the_generator():
    crops = MultiCrop(local_crops=2, global_size=32, local_size=16)
    random.seed(0)
    torch.manual_seed(0)
    np.random.seed(0)
    states = random.getstate(), torch.get_rng_state(), np.random.get_state()[1].copy()
    first = crops(IMAGE, random.Random(7))
    assert random.getstate() == states[0]
    assert torch.equal(torch.get_rng_state(), states[1])
    assert (np.random.get_state()[1] == states[2]).all()
    again = crops(IMAGE, random.Random(7))
    other = crops(IMAGE, random.Random(8))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    by_torch = [crops(IMAGE, torch.Generator().manual_seed(s))[0] for s in (1, 1, 2)]
    assert torch.equal(by_torch[0], by_torch[1])
    assert not torch.equal(by_torch[0], by_torch[2])


def test_without_strengths_a_whole_square_image_stays_as_it_is():
    square = np.ascontiguousarray(IMAGE[:, :48])
    views = MultiCrop(local_crops=0, global_size=48, **STILL, **WHOLE)(square, random.Random(0))
    for view in views:
        np.testing.assert_array_equal(pixels(view), square)


def test_a_certain_flip_mirrors():
    square = np.ascontiguousarray(IMAGE[:, :48])
    views = MultiCrop(local_crops=0, global_size=48, **{**STILL, "flip": 1.0}, **WHOLE)(square, random.Random(0))
    np.testing.assert_array_equal(pixels(views[0]), square[:, ::-1])


def test_a_certain_grayscale_has_equal_channels():
    shown = pixels(MultiCrop(global_size=32, local_crops=0, **{**STILL, "gray": 1.0})(IMAGE, random.Random(0))[0])
    assert (shown[..., 0] == shown[..., 1]).all()
    assert (shown[..., 1] == shown[..., 2]).all()


def test_blur_and_solarise_have_a_probability_for_each_kind_of_view():
    plain = MultiCrop(
        global_size=48, local_size=48, local_crops=1, crop_scale=1.0, min_scale=1.0, ratio=(1, 1), **STILL
    )
    square = np.ascontiguousarray(IMAGE[:, :48])
    for kind in range(3):
        one_hot = tuple(float(i == kind) for i in range(3))
        for changed in ("blur", "solarise"):
            crops = MultiCrop(**{**vars(plain), changed: one_hot})
            same = [(pixels(v) == square).all() for v in crops(square, random.Random(0))]
            assert same == [i != kind for i in range(3)], (changed, kind)


def test_solarise_turns_bright_pixels_round():
    square = np.full((8, 8, 3), 200, np.uint8)
    square[0, 0] = 100
    strengths = {**STILL, "solarise": (1.0, 1.0, 1.0)}
    shown = pixels(MultiCrop(global_size=8, local_crops=0, **strengths, **WHOLE)(square, random.Random(0))[0])
    assert shown[1, 1].tolist() == [55] * 3
    assert shown[0, 0].tolist() == [100] * 3


def test_jitter_changes_only_what_has_a_strength():
    grayish = np.full((8, 8, 3), 120, np.uint8)
    only = {"jitter": 1.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0, "brightness": 0.4}
    levels = [
        pixels(MultiCrop(global_size=8, local_crops=0, **{**STILL, **only}, **WHOLE)(grayish, random.Random(s))[0])[
            0, 0, 0
        ]
        for s in range(200)
    ]
    assert 72 <= min(levels) < 80 < 160 < max(levels) <= 168  # 120 x (0.6 to 1.4)
    still = {"jitter": 1.0, "brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
    shown = pixels(MultiCrop(global_size=8, local_crops=0, **{**STILL, **still}, **WHOLE)(grayish, random.Random(0))[0])
    np.testing.assert_array_equal(shown, grayish)


@settings(max_examples=200)
@given(st.integers(1, 90), st.integers(1, 90), st.floats(0.05, 1), st.floats(0.05, 1), st.integers(0, 2**32))
def test_a_box_lies_in_the_image(width, height, a, b, seed):
    low, high = sorted((a, b))
    left, top, right, bottom = random_box((width, height), (low, high), (3 / 4, 4 / 3), random.Random(seed))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height


def test_box_areas_and_aspects_spread_over_their_ranges():
    draw = random.Random(0)
    boxes = np.array([random_box((400, 400), (0.1, 0.4), (3 / 4, 4 / 3), draw) for _ in range(2000)])
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    share = width * height / 160000
    assert 0.099 < share.min() < 0.11
    assert 0.39 < share.max() < 0.402
    assert share.mean() == pytest.approx(0.25, abs=0.01)
    assert np.log(width / height).mean() == pytest.approx(0, abs=0.015)


def test_a_image_too_long_for_any_box_is_cut_in_its_centre():
    assert random_box((100, 10), (0.9, 1.0), (3 / 4, 4 / 3), random.Random(0)) == (43, 0, 56, 10)


def test_a_coin_of_probability_zero_or_one_costs_no_draw():
    draw = random.Random(0)
    state = draw.getstate()
    assert [flip_coin(0.0, draw), flip_coin(1.0, draw)] == [False, True]
    assert draw.getstate() == state


def test_normalising_is_the_textbook_formula():
    expected = (IMAGE / 255 - np.array(CLIP_MEAN)) / np.array(CLIP_STD)
    one = normalize_pixels(IMAGE, CLIP_MEAN, CLIP_STD)
    np.testing.assert_allclose(one.permute(1, 2, 0).numpy(), expected, atol=1e-6)
    several = normalize_pixels(np.stack([IMAGE, IMAGE[::-1]]), CLIP_MEAN, CLIP_STD)
    assert torch.equal(several[0], one)
    assert torch.equal(several[1], one.flip(1))


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ({"global_crops": 0}, "at least 1 global"),
        ({"crop_scale": 0.0}, "min_scale <= crop_scale"),
        ({"crop_scale": 1.4}, "crop_scale"),
        ({"flip": 1.5}, "probabilities"),
        ({"hue": 0.7}, "hue"),
    ],
)
def test_a_setting_out_of_range_is_refused(setting, why):
    with pytest.raises(RequestError, match=why):
        MultiCrop(**setting)


def test_something_that_is_no_image_is_refused():
    with pytest.raises(RequestError, match="uint8"):
        MultiCrop()(IMAGE.astype(np.float32), random.Random(0))
    with pytest.raises(RequestError, match=r"\(48, 64\)"):
        MultiCrop()(IMAGE[..., 0], random.Random(0))
