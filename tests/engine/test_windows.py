"""Sliding windows: their positions, how images share batches, and the order of the results."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_eval.datasets.image_sources import ArrayImage, FileImage
from cosmos_eval.engine import Engine
from cosmos_eval.engine.dense import MAX_WAITING_BATCHES
from cosmos_eval.engine.windows import resize_image, window_grid
from tests.helpers.patch_models import PatchModel, images_of_sizes, noise, settings
from tests.oracles.segmentation import window_boxes

SIZES = [(16, 24), (16, 16), (31, 17), (9, 40), (20, 20), (5, 6), (16, 24)]
"""Odd sizes, equal sizes, one side shorter than the crop of 16, and one image with both sides shorter."""


def features_one_by_one(model, image):
    """Encode each window of an image alone, at the oracle's boxes."""
    x = model.preprocess(image.load())
    features = []
    for top, left, bottom, right in window_boxes(*x.shape[1:], 16, 8):
        patches = model.encode_patches(x[None, :, top:bottom, left:right])
        features.append(torch.nn.functional.normalize(patches, dim=-1)[0])
    return torch.stack(features)


def test_an_image_of_336_by_448_has_six_windows_of_224():
    grid = window_grid(336, 448, 224, 112)
    assert (grid.tops, grid.lefts) == ((0, 112), (0, 112, 224))
    assert grid.window_count == 6
    assert window_grid(448, 597, 224, 112).window_count == 15
    assert window_grid(560, 1120, 224, 112).window_count == 36


def test_the_last_window_is_moved_back_to_the_border():
    grid = window_grid(20, 33, 16, 8)
    assert (grid.tops, grid.lefts) == ((0, 4), (0, 8, 16, 17))


def test_a_side_below_the_crop_shortens_its_windows_and_crop_0_is_the_whole_image():
    grid = window_grid(9, 40, 16, 8)
    assert (grid.crop_height, grid.crop_width, grid.tops) == (9, 16, (0,))
    whole = window_grid(9, 40, 0, 8)
    assert (whole.crop_height, whole.crop_width, whole.window_count) == (9, 40, 1)


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.integers(1, 40))
def test_windows_are_those_of_the_oracle_and_cover_every_pixel(height, width, crop, stride):
    stride = min(stride, crop)
    grid = window_grid(height, width, crop, stride)
    boxes = [(top, left, top + grid.crop_height, left + grid.crop_width) for top, left in grid.boxes()]
    assert boxes == window_boxes(height, width, crop, stride)
    covered = np.zeros((height, width), bool)
    for top, left, bottom, right in boxes:
        covered[top:bottom, left:right] = True
    assert covered.all()


def test_resizing_equals_that_of_mmsegmentation():
    from mmcv.transforms import Resize

    for size in ((37, 50), (50, 37), (12, 160), (40, 40)):
        pixels = noise(*size)
        # mmcv works on BGR images; resizing does not mix channels
        expected = Resize(scale=(90, 32), keep_ratio=True)({"img": pixels[..., ::-1].copy()})["img"][..., ::-1]
        assert np.array_equal(resize_image(Image.fromarray(pixels), 32, 90), expected)
    assert np.array_equal(resize_image(Image.fromarray(pixels), None, 2048), pixels)


def test_a_palette_image_is_resized_in_rgb():
    pixels = noise(20, 20)
    palette = Image.fromarray(pixels).convert("P")
    assert np.array_equal(resize_image(palette, 30, 99), resize_image(palette.convert("RGB"), 30, 99))


@pytest.mark.parametrize("batch_size", range(1, 8))
def test_features_equal_those_of_each_window_alone_in_the_order_of_the_dataset(batch_size):
    model, images = PatchModel(), images_of_sizes(SIZES)
    results = list(Engine(model, batch_size=batch_size).window_features(images, settings(attention="csa")))
    assert model.attentions == {"csa"}
    assert [dense.index for dense in results] == list(range(len(images)))
    for dense, image, size in zip(results, images, SIZES, strict=True):
        assert dense.original_size == size
        assert dense.pixels is None
        assert dense.features.dtype == torch.float32
        expected = features_one_by_one(PatchModel(), image)
        assert dense.features.shape[:2] == (len(dense.grid.tops), len(dense.grid.lefts))
        assert torch.allclose(dense.features.flatten(0, 1), expected, atol=1e-5)


def test_images_share_batches_and_only_the_last_batch_of_a_shape_is_smaller():
    model = PatchModel()
    list(
        Engine(model, batch_size=4).window_features(
            images_of_sizes([(16, 24)] * 3 + [(9, 16)] + [(24, 24)]), settings()
        )
    )
    # 2 + 2 + 2 + 4 windows of 16 x 16, and one of 9 x 16
    assert [shape[0] for shape in model.batches if shape[2:] == (16, 16)] == [4, 4, 2]
    assert [shape[0] for shape in model.batches if shape[2:] == (9, 16)] == [1]


def test_few_windows_wait_for_an_image_of_a_rare_shape():
    model = PatchModel()
    stream = Engine(model, batch_size=2).window_features(images_of_sizes([(5, 5)] + [(16, 16)] * 50), settings())
    assert next(stream).index == 0
    assert sum(shape[0] for shape in model.batches) <= MAX_WAITING_BATCHES * 2 + 2
    next(stream)  # nothing is encoded ahead of what is read
    assert sum(shape[0] for shape in model.batches) <= MAX_WAITING_BATCHES * 2 + 2


def test_the_number_of_workers_changes_nothing():
    results, batches = {}, {}
    for workers in (0, 2):
        model = PatchModel()
        engine = Engine(model, batch_size=3, workers=workers)
        results[workers] = list(
            engine.window_features(images_of_sizes(SIZES), settings(short_side=17), keep_pixels=True)
        )
        batches[workers] = model.batches
    assert batches[0] == batches[2]
    for first, second in zip(results[0], results[2], strict=True):
        assert (first.index, first.original_size, first.grid) == (second.index, second.original_size, second.grid)
        assert torch.equal(first.features, second.features)
        assert torch.equal(first.pixels, second.pixels)


def test_kept_pixels_are_the_resized_image_as_the_model_normalises_it():
    model, images = PatchModel(), images_of_sizes([(20, 30)])
    dense = next(Engine(model).window_features(images, settings(short_side=40), keep_pixels=True))
    expected = model.preprocess(Image.fromarray(resize_image(images[0].load(), 40, 2048)))
    assert dense.original_size == (20, 30)
    assert dense.pixels.shape == (3, 40, 60)
    assert torch.allclose(dense.pixels, expected, atol=1e-6)


@hypothesis_settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(4, 40), st.integers(4, 40)), min_size=1, max_size=6), st.integers(1, 9))
def test_every_image_is_returned_once_and_complete_for_any_sizes(sizes, batch_size):
    model = PatchModel()
    results = list(Engine(model, batch_size=batch_size).window_features(images_of_sizes(sizes), settings()))
    assert [dense.index for dense in results] == list(range(len(sizes)))
    assert sum(shape[0] for shape in model.batches) == sum(dense.grid.window_count for dense in results)
    assert max(shape[0] for shape in model.batches) <= batch_size


def test_a_patch_that_is_not_finite_names_its_image():
    model = PatchModel()
    bad_image = noise(16, 40, seed=9)
    original_encode = model.encode_patches

    def encode(x, attention="vanilla"):
        features = original_encode(x)
        bad_window = model.preprocess(Image.fromarray(bad_image))[:, :16, :16]
        features[:, -1, -1][(x - bad_window).abs().amax((1, 2, 3)) < 1e-5] = float("nan")
        return features

    model.encode_patches = encode
    images = [*images_of_sizes([(16, 40)] * 2), ArrayImage("bad-image", bad_image)]
    with pytest.raises(RequestError, match="image bad-image is not finite"):
        list(Engine(model, batch_size=32).window_features(images, settings()))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_cannot_be_decoded_is_named(tmp_path, workers):
    path = tmp_path / "broken.jpg"
    path.write_bytes(b"no image")
    images = [*images_of_sizes([(16, 16)]), FileImage("broken", path)]
    with pytest.raises(RequestError, match=r"broken\.jpg"):
        list(Engine(PatchModel(), workers=workers).window_features(images, settings()))


def test_models_without_patches_or_without_mean_and_std_are_refused():
    class Plain:
        spec, device = "python:plain", torch.device("cpu")

    with pytest.raises(RequestError, match="python:plain gives no features of patches"):
        next(Engine(Plain()).window_features(images_of_sizes([(16, 16)]), settings()))
    model = PatchModel()
    model.preprocess = lambda image: torch.zeros(3, 8, 8)
    with pytest.raises(RequestError, match="no mean and std"):
        next(Engine(model).window_features(images_of_sizes([(16, 16)]), settings()))
    with pytest.raises(RequestError, match="no images"):
        next(Engine(PatchModel()).window_features([], settings()))


def test_a_window_that_does_not_fit_in_memory_is_refused():
    model = PatchModel()

    def encode(x, attention="vanilla"):
        raise MemoryError

    model.encode_patches = encode
    with pytest.raises(RequestError, match="out of memory encoding windows on cpu, even one at a time"):
        next(Engine(model, batch_size=7).window_features(images_of_sizes([(16, 16)]), settings()))
