"""Drawn label maps: colours where they belong, legends of what is there, files that other programs read as they are."""

import io
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cosmos_core.errors import RequestError
from cosmos_eval.metrics.iou import count_class_pixels
from cosmos_eval.report.curves import save
from cosmos_eval.show import overlays
from cosmos_eval.show.overlays import (
    Row,
    differences,
    encode_palette_png,
    iou_bars,
    make_row,
    overlay_figure,
    paint,
    present,
)

PALETTE = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (0, 0, 192)]
NAMES = ["background", "cat", "dog", "bird"]
TRUTH = np.array([[0, 0, 1, 1], [0, 0, 1, 255]], np.uint8)
PREDICTED = np.array([[0, 2, 1, 1], [0, 2, 2, 2]], np.uint8)


def row(truth: np.ndarray = TRUTH, predicted: np.ndarray = PREDICTED, key: str = "a/b.jpg", classes: int = 4) -> Row:
    image = Image.new("RGB", truth.shape[::-1], (10, 200, 30))
    return make_row(key, image, truth, predicted, count_class_pixels(predicted, truth, classes))


def panels(figure) -> list[np.ndarray]:
    return [axis.images[0].get_array().tolist() for axis in figure.axes if axis.images]


def legends(figure) -> list[list[str]]:
    return [[text.get_text() for text in axis.get_legend().get_texts()] for axis in figure.axes if axis.get_legend()]


def test_every_pixel_has_its_class_s_colour():
    drawn = panels(overlay_figure([row()], NAMES, PALETTE))
    assert [len(drawn), drawn[0][1][2]] == [4, [10, 200, 30]]
    assert drawn[1][0] == [[0, 0, 0], [0, 0, 0], [128, 0, 0], [128, 0, 0]]
    assert drawn[2][1] == [[0, 0, 0], [0, 128, 0], [0, 128, 0], [0, 128, 0]]


def test_wrong_pixels_are_red_and_ignored_ones_are_neither_right_nor_wrong():
    shown = differences(np.full((2, 4, 3), 100, np.uint8), TRUTH, PREDICTED)
    red = (shown == overlays.WRONG).all(-1)
    assert red.tolist() == [[False, True, False, False], [False, True, True, False]]
    assert shown[0, 0].tolist() == [178, 178, 178]  # the image, paled


def test_ignored_pixels_are_stripes_of_two_greys():
    drawn = paint(np.full((100, 200), 255, np.uint8), PALETTE)
    assert {tuple(colour) for colour in drawn.reshape(-1, 3).tolist()} == {
        (overlays.LIGHT,) * 3,
        (overlays.DARK,) * 3,
    }
    assert (drawn[0, :4] != drawn[0, 4:8]).all()


def test_a_legend_names_the_classes_of_its_own_image_largest_first_with_their_iou():
    other = row(np.full((2, 2), 3), np.full((2, 2), 3))
    # asked: background 4, cat 3; both in background at 2 of its 4; cat 2 found of 3; dog predicted 3 times, never there
    assert legends(overlay_figure([row(), other], NAMES, PALETTE)) == [
        ["background  50", "cat  67", "dog  0", "ignored"],
        ["bird  100"],
    ]


def test_titles_tell_the_image_its_miou_and_how_much_is_wrong():
    titles = [axis.get_title(loc="left") for axis in overlay_figure([row(key="x/$a$.jpg")], NAMES, PALETTE).axes[:4]]
    # (1/2 + 2/3 + 0) / 3, and 3 of 7 pixels
    expected = [r"x/\$a\$.jpg", "ground truth", "prediction, mIoU 38.9", "where they differ, 42.9 % of pixels"]
    assert titles == expected


def test_a_image_of_which_nobody_is_asked_is_drawn():
    nothing = np.full((3, 3), 255)
    figure = overlay_figure([row(nothing, np.ones((3, 3), np.int32))], NAMES, PALETTE)
    assert [axis.get_title(loc="left") for axis in figure.axes[2:4]] == ["prediction, all ignored", "where they differ"]
    assert legends(figure) == [["cat  –", "ignored"]]


def test_a_perfect_prediction_has_no_red():
    drawn = panels(overlay_figure([row(TRUTH, np.where(TRUTH == 255, 3, TRUTH))], NAMES, PALETTE))
    assert list(overlays.WRONG) not in [pixel for line in drawn[3] for pixel in line]


def test_a_legend_with_too_many_classes_says_how_many_it_leaves_out():
    many = np.arange(171).reshape(9, 19)
    (said,) = legends(overlay_figure([row(many, many, classes=171)], [f"c{i}" for i in range(171)], [(1, 2, 3)] * 171))
    assert len(said) == overlays.IN_COLUMN * overlays.COLUMNS
    assert said[-1] == f"and {171 - len(said) + 1} smaller ones"


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90))
def test_a_large_image_is_reduced_to_labels_that_it_has(height: int, width: int):
    truth = np.random.default_rng(height * 97 + width).integers(0, 4, (height, width))
    before = overlays.LONGEST
    overlays.LONGEST = 30
    try:
        small = row(truth, truth)
    finally:
        overlays.LONGEST = before
    assert max(small.truth.shape) <= max(30, 1)
    assert small.pixels.shape == (*small.truth.shape, 3)
    assert set(np.unique(small.truth)) <= set(np.unique(truth))
    assert small.areas[2].sum() == truth.size  # areas are of the image at full size
    assert present(small) == sorted(np.unique(truth), key=lambda c: -(truth == c).sum())


def test_a_small_image_is_drawn_as_it_is():
    small = row()
    assert np.array_equal(small.truth, TRUTH)
    assert np.array_equal(small.predicted, PREDICTED)


def test_maps_of_another_size_than_the_image_are_refused():
    with pytest.raises(ValueError, match=r"a\.jpg: maps of \(2, 4\)"):
        make_row("a.jpg", Image.new("RGB", (2, 4)), TRUTH, PREDICTED, count_class_pixels(PREDICTED, TRUTH, 4))


def test_bars_are_sorted_and_classes_that_occur_nowhere_are_left_out():
    figure = iou_bars(["a", "b", "c"], [0.25, float("nan"), 0.75], [(0.2, 0.3), (float("nan"),) * 2, (0.5, 0.8)], "all")
    (axis,) = figure.axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["c", "a"]
    assert [bar.get_width() for bar in axis.patches] == [75, 25]
    assert axis.yaxis_inverted()  # the best on top
    (interval,) = axis.collections
    assert [sorted(segment[:, 0].tolist()) for segment in interval.get_segments()] == [[50, 80], [20, 30]]
    assert "nowhere: 1" in axis.get_xlabel()


def test_bars_of_171_classes_do_not_overlap(tmp_path):
    figure = iou_bars([f"class-{i}" for i in range(171)], np.linspace(0, 1, 171), [(0.0, 1.0)] * 171)
    save(figure, tmp_path / "bars.png")
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert all(upper.y0 >= lower.y1 - 1 for upper, lower in itertools.pairwise(boxes))


def test_bars_of_nothing_are_drawn(tmp_path):
    save(iou_bars(["a"], [float("nan")]), tmp_path / "bars.png")
    assert (tmp_path / "bars.png").is_file()


@pytest.mark.parametrize("classes", [2, 21, 171, 255])
def test_a_mask_comes_back_as_it_was(classes):
    rng = np.random.default_rng(classes)
    palette = [tuple(map(int, colour)) for colour in rng.integers(0, 256, (classes, 3))]
    labels = rng.integers(0, classes, (7, 5)).astype(np.int32)
    labels[0, 0] = 255
    with Image.open(io.BytesIO(encode_palette_png(labels, palette))) as image:
        assert (image.mode, image.size) == ("P", (5, 7))
        assert np.array_equal(np.asarray(image), labels)
        assert image.getpalette()[: 3 * classes] == [value for colour in palette for value in colour]


def test_a_mask_with_a_label_that_is_no_class_is_refused():
    with pytest.raises(ValueError, match="label of 4 among 4"):
        encode_palette_png(np.array([[4]]), PALETTE)
    with pytest.raises(ValueError, match="label of -1"):
        encode_palette_png(np.array([[-1]]), PALETTE)
    with pytest.raises(RequestError, match="256 classes"):
        encode_palette_png(np.array([[0]]), [(0, 0, 0)] * 256)
