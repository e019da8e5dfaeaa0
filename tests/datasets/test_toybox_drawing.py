"""toybox's images and masks agree with each other, with geometry, and at any size."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmos_eval.datasets.toybox import SHAPES, Background, Scene, SceneObject, instances, make_scene, mask, render
from cosmos_eval.datasets.toybox.drawing import BACKGROUND_RGB, OBJECT_RGB
from cosmos_eval.datasets.toybox.words import BACKGROUND_COLOURS, COLOURS, TEXTURES

GRAY = Background("gray", "smooth")
SCENES = st.builds(make_scene, st.integers(0, 2**31), st.sampled_from(["train", "val", "test"]), st.integers(0, 10**6))


def dilate(region: np.ndarray, steps: int) -> np.ndarray:
    """The pixels that are at most `steps` pixels, also diagonally, from a pixel of the region."""
    for _ in range(steps):
        padded = np.pad(region, 1)
        h, w = region.shape
        region = np.any([padded[y : y + h, x : x + w] for y in range(3) for x in range(3)], axis=0)
    return region


@given(SCENES, st.sampled_from([32, 64, 100]))
@settings(max_examples=60, deadline=None)
def test_the_mask_is_where_the_image_shows_the_objects(scene, size):
    without_objects = render(replace(scene, objects=()), size)
    changed = (render(scene, size) != without_objects).any(-1)
    inside = mask(scene, size) > 0
    # a pixel or two may have exactly the colour of the background
    assert (inside & ~changed).sum() <= 2 + 0.02 * inside.sum()
    # outside, only pixels at edges change, of which an object covers less than half (a few pixels at the tip of a star)
    assert not (changed & ~dilate(inside, 3)).any()


@given(SCENES, st.sampled_from([32, 64, 256]))
@settings(max_examples=60, deadline=None)
def test_objects_never_touch_each_other_or_the_border(scene, size):
    instance_map = instances(scene, size)
    class_map = mask(scene, size)
    for number, scene_object in enumerate(scene.objects, start=1):
        alone = instances(replace(scene, objects=(scene_object,)), size)
        np.testing.assert_array_equal(alone == 1, instance_map == number)
        assert (class_map[instance_map == number] == 1 + SHAPES.index(scene_object.shape)).all()
        assert (instance_map == number).sum() > 0.012 * size * size
    assert ((instance_map > 0) == (class_map > 0)).all()
    if size == 256:
        assert not instance_map[[0, -1]].any()
        assert not instance_map[:, [0, -1]].any()


@pytest.mark.parametrize("size", [64, 200])
def test_a_circle_and_a_square_cover_what_geometry_says(size):
    y, x = (np.mgrid[:size, :size] + 0.5) / size
    circle = SceneObject("circle", "red", "large", "plain", "center", x=0.47, y=0.52, radius=0.2)
    # signed distance of each pixel's centre from the outline, in pixels; positive outside
    disc_distance = (np.hypot(x - 0.47, y - 0.52) - 0.2 * 0.94) * size
    square_distance = (np.maximum(abs(x - 0.47), abs(y - 0.52)) - 0.2 * 0.74) * size
    for scene_object, distance in ((circle, disc_distance), (replace(circle, shape="square"), square_distance)):
        inside = mask(Scene((scene_object,), GRAY, "k", "test"), size) > 0
        assert inside[distance < -0.3].all()
        assert not inside[distance > 0.3].any()
        ys, xs = np.nonzero(inside)
        assert (xs.mean() + 0.5) / size == pytest.approx(0.47, abs=0.3 / size)
        assert (ys.mean() + 0.5) / size == pytest.approx(0.52, abs=0.3 / size)


def test_a_ring_has_a_hole_and_the_other_shapes_have_none():
    for shape in SHAPES:
        scene_object = SceneObject(shape, "red", "large", "plain", "center")
        middle = mask(Scene((scene_object,), GRAY, "k", "test"))[31:33, 31:33]
        assert (middle == (0 if shape == "ring" else 1 + SHAPES.index(shape))).all()


@pytest.mark.parametrize("colour", COLOURS)
def test_an_objects_mean_colour_is_nearest_to_its_name(colour):
    for texture in TEXTURES:
        scene = Scene((SceneObject("square", colour, "large", texture, "center"),), GRAY, "k", "test")
        pixels = render(scene)[mask(scene) > 0].astype(float)
        brightest = pixels[np.argsort(pixels.sum(1))[len(pixels) // 2 :]] if colour != "black" else pixels
        distances = {name: np.abs(brightest.mean(0) - rgb).sum() for name, rgb in OBJECT_RGB.items()}
        assert min(distances, key=distances.get) == colour


def test_textures_differ_from_plain_and_from_each_other():
    circles = [SceneObject("circle", "blue", "small", texture, "center", radius=0.125) for texture in TEXTURES]
    images = [render(Scene((circle,), GRAY, "k", "test")).astype(int) for circle in circles]
    for first, second in itertools.combinations(images, 2):
        differing = np.abs(first - second).max(-1) > 40
        assert differing.sum() > 40  # of the circle's 170 pixels or so


def test_every_object_stands_out_from_every_background():
    for background in BACKGROUND_COLOURS:
        for colour in COLOURS:
            assert np.abs(np.subtract(OBJECT_RGB[colour], BACKGROUND_RGB[background])).sum() > 110, (colour, background)


@given(SCENES)
@settings(max_examples=30, deadline=None)
def test_a_scene_looks_the_same_at_two_sizes(scene):
    if scene.background.pattern != "faded":  # noise depends on the size; stripes and checks have hard edges
        scene = replace(scene, background=replace(scene.background, pattern="smooth"))
    small, large = render(scene, 32).astype(float), render(scene, 128).astype(float)
    averaged = large.reshape(32, 4, 32, 4, 3).mean((1, 3))
    assert np.abs(averaged - small).mean() < 4


def test_specks_are_not_in_the_mask():
    scene = next(s for i in range(50) if (s := make_scene(0, "train", i)).specks)
    without_specks = replace(scene, specks=())
    assert (render(scene) != render(without_specks)).any()
    np.testing.assert_array_equal(mask(scene), mask(without_specks))
