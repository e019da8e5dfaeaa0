"""toybox's images and masks agree: with each other, with geometry, and at any size."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmos_eval.datasets.toybox import SHAPES, Background, Scene, Thing, instances, make_scene, mask, render
from cosmos_eval.datasets.toybox.drawing import BACKGROUND_RGB, OBJECT_RGB
from cosmos_eval.datasets.toybox.words import BACKGROUND_COLOURS, COLOURS, TEXTURES

GRAY = Background("gray", "smooth")
SCENES = st.builds(make_scene, st.integers(0, 2**31), st.sampled_from(["train", "val", "test"]), st.integers(0, 10**6))


def near(inside: np.ndarray, steps: int) -> np.ndarray:
    """Pixels at most so many steps, diagonal ones too, from those inside."""
    for _ in range(steps):
        padded = np.pad(inside, 1)
        h, w = inside.shape
        inside = np.any([padded[y : y + h, x : x + w] for y in range(3) for x in range(3)], axis=0)
    return inside


@given(SCENES, st.sampled_from([32, 64, 100]))
@settings(max_examples=60, deadline=None)
def test_the_mask_is_where_the_image_shows_the_objects(scene, size):
    bare = render(replace(scene, objects=()), size)
    changed = (render(scene, size) != bare).any(-1)
    inside = mask(scene, size) > 0
    # a pixel or two may happen to have the background's very colour
    assert (inside & ~changed).sum() <= 2 + 0.02 * inside.sum()
    # outside, only edges that an object covers by less than half are touched (a star's tip is such for some pixels)
    assert not (changed & ~near(inside, 3)).any()


@given(SCENES, st.sampled_from([32, 64, 256]))
@settings(max_examples=60, deadline=None)
def test_objects_never_touch_each_other_or_the_border(scene, size):
    index = instances(scene, size)
    classes = mask(scene, size)
    for number, thing in enumerate(scene.objects, start=1):
        alone = instances(replace(scene, objects=(thing,)), size)
        np.testing.assert_array_equal(alone == 1, index == number)
        assert (classes[index == number] == 1 + SHAPES.index(thing.shape)).all()
        assert (index == number).sum() > 0.012 * size * size
    assert ((index > 0) == (classes > 0)).all()
    if size == 256:
        assert not index[[0, -1]].any()
        assert not index[:, [0, -1]].any()


@pytest.mark.parametrize("size", [64, 200])
def test_a_circle_and_a_square_cover_what_geometry_says(size):
    y, x = (np.mgrid[:size, :size] + 0.5) / size
    circle = Thing("circle", "red", "large", "plain", "center", x=0.47, y=0.52, radius=0.2)
    # how far outside of the outline a pixel's middle is, in pixels
    beyond_disc = (np.hypot(x - 0.47, y - 0.52) - 0.2 * 0.94) * size
    beyond_box = (np.maximum(abs(x - 0.47), abs(y - 0.52)) - 0.2 * 0.74) * size
    for thing, beyond in ((circle, beyond_disc), (replace(circle, shape="square"), beyond_box)):
        found = mask(Scene((thing,), GRAY, "k", "test"), size) > 0
        assert found[beyond < -0.3].all()
        assert not found[beyond > 0.3].any()
        ys, xs = np.nonzero(found)
        assert (xs.mean() + 0.5) / size == pytest.approx(0.47, abs=0.3 / size)
        assert (ys.mean() + 0.5) / size == pytest.approx(0.52, abs=0.3 / size)


def test_a_ring_has_a_hole_and_the_other_shapes_have_none():
    for shape in SHAPES:
        thing = Thing(shape, "red", "large", "plain", "center")
        middle = mask(Scene((thing,), GRAY, "k", "test"))[31:33, 31:33]
        assert (middle == (0 if shape == "ring" else 1 + SHAPES.index(shape))).all()


@pytest.mark.parametrize("colour", COLOURS)
def test_an_objects_mean_colour_is_nearest_to_its_name(colour):
    for texture in TEXTURES:
        scene = Scene((Thing("square", colour, "large", texture, "center"),), GRAY, "k", "test")
        pixels = render(scene)[mask(scene) > 0].astype(float)
        brightest = pixels[np.argsort(pixels.sum(1))[len(pixels) // 2 :]] if colour != "black" else pixels
        distances = {name: np.abs(brightest.mean(0) - rgb).sum() for name, rgb in OBJECT_RGB.items()}
        assert min(distances, key=distances.get) == colour


def test_textures_differ_from_plain_and_from_each_other():
    images = [
        render(Scene((Thing("circle", "blue", "small", texture, "center", radius=0.125),), GRAY, "k", "test")).astype(
            int
        )
        for texture in TEXTURES
    ]
    for one in range(3):
        for other in range(one):
            differing = np.abs(images[one] - images[other]).max(-1) > 40
            assert differing.sum() > 40  # of the circle's 170 pixels or so


def test_every_object_stands_out_from_every_background():
    for ground in BACKGROUND_COLOURS:
        for colour in COLOURS:
            assert np.abs(np.subtract(OBJECT_RGB[colour], BACKGROUND_RGB[ground])).sum() > 110, (colour, ground)


@given(SCENES)
@settings(max_examples=30, deadline=None)
def test_a_scene_looks_the_same_at_two_sizes(scene):
    if scene.background.pattern != "faded":  # the noise is drawn for the size; stripes and checks have hard edges
        scene = replace(scene, background=replace(scene.background, pattern="smooth"))
    small, large = render(scene, 32).astype(float), render(scene, 128).astype(float)
    averaged = large.reshape(32, 4, 32, 4, 3).mean((1, 3))
    assert np.abs(averaged - small).mean() < 4


def test_specks_are_no_objects():
    scene = next(s for i in range(50) if (s := make_scene(0, "train", i)).specks)
    bare = replace(scene, specks=())
    assert (render(scene) != render(bare)).any()
    np.testing.assert_array_equal(mask(scene), mask(bare))
