"""Label maps: thresholds by hand, comparison with a slow oracle, and memory within the budget."""

from functools import lru_cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from cosmos_core.errors import RequestError
from cosmos_eval.engine import Engine
from cosmos_eval.engine.dense import DenseFeatures
from cosmos_eval.engine.windows import resize_image, window_grid
from cosmos_eval.tasks.segmentation.label_maps import BUDGET, LabelMapPredictor, find_large_classes
from tests.helpers.patch_models import PatchModel, images_of_sizes, oracle_settings, queries, random_dense, settings
from tests.helpers.tensor_bytes import peak_bytes
from tests.oracles import segmentation as oracle

ROUNDING = 1e-5
"""Of a probability: pixels whose label depends on smaller differences may have either label."""
WORDS = [0, 0, 1, 2, 2, 2, 3]
"""The class of each of seven query words."""


def given_pixels(cosines: list[list[list[float]]]) -> DenseFeatures:
    """Features with one patch per pixel; `cosines[y][x]` holds the cosine with each query, the queries are the axes."""
    features = torch.tensor(cosines)[None, None]
    height, width = features.shape[2:4]
    return DenseFeatures(0, (height, width), window_grid(height, width, 0, 1), features)


def axes(count: int) -> Tensor:
    return torch.eye(count)


def is_certain(logits: Tensor, classes: list[int], chosen: oracle.Settings) -> np.ndarray:
    """(H, W) whether a pixel's label does not depend on rounding.

    Probabilities of the classes that area_thd leaves may be tiny, so their ratio is compared, unless all are below
    prob_thd.
    """
    probabilities = oracle.class_probabilities(logits, classes, chosen)
    best, second = F.pad(probabilities, (0, 0, 0, 0, 0, 1), value=-1.0).sort(0, descending=True).values[:2]
    tied = (second > best * (1 - 10 * ROUNDING)) & (best >= chosen.prob_thd)
    at_the_edge = (best - chosen.prob_thd).abs() <= (ROUNDING if chosen.prob_thd else -1)
    return (~(tied | at_the_edge)).numpy()


def test_each_pixel_gets_the_class_whose_word_fits_best():
    dense = given_pixels([[[0.9, 0.1, 0.0], [0.0, 0.3, 0.9]], [[0.2, 0.8, 0.7], [0.1, 0.0, 0.2]]])
    assert LabelMapPredictor(axes(3), [0, 1, 2], settings()).predict(dense).tolist() == [[0, 2], [1, 2]]
    # the best word of a class counts, not the sum of its words
    assert LabelMapPredictor(axes(3), [0, 1, 0], settings()).predict(dense).tolist() == [[0, 0], [1, 0]]


def test_of_equally_probable_classes_the_first_wins_whatever_the_order_of_words():
    dense = given_pixels([[[0.5, 0.5, 0.1], [0.1, 0.5, 0.5]]])
    assert LabelMapPredictor(axes(3), [0, 1, 2], settings()).predict(dense).tolist() == [[0, 1]]
    assert LabelMapPredictor(axes(3), [2, 1, 0], settings()).predict(dense).tolist() == [[1, 0]]


def test_a_constant_model_gives_class_0_everywhere():
    dense = random_dense((16, 20), (21, 30))
    same = queries(1).expand(4, -1)
    assert not LabelMapPredictor(same, range(4), settings()).predict(dense).any()


def test_pixels_below_prob_thd_become_background_and_those_at_it_stay():
    # two queries at scale 1: probabilities of e^d / (e^d + 1); a difference of 0 is exactly 0.5
    dense = given_pixels([[[0.0, 0.0], [0.0, 0.1], [0.1, 0.0]]])
    apart = {"logit_scale": 1.0, "prob_thd": 0.5}
    assert LabelMapPredictor(axes(2), [1, 0], settings(**apart)).predict(dense).tolist() == [[0, 0, 1]]
    assert LabelMapPredictor(axes(2), [1, 0], settings(**apart | {"prob_thd": 0.53})).predict(dense).tolist() == [
        [0, 0, 0]
    ]
    four = given_pixels([[[0.0, 1.0, 0.0, 0.0]]])  # e / (e + 3) = 0.4754
    for thd, label in ((0.475, 1), (0.476, 0)):
        chosen = settings(logit_scale=1.0, prob_thd=thd)
        assert LabelMapPredictor(axes(4), range(4), chosen).predict(four).tolist() == [[label]]
        # a second word of the same class takes its share of the sum all the same: the softmax is over words
        assert LabelMapPredictor(axes(4), [0, 1, 1, 1], chosen).predict(four).tolist() == [[label]]


def test_small_classes_are_dropped_and_their_pixels_go_to_the_next_best_class():
    # background, three pixels of class 1, one of class 2 whose next best is class 1, one whose next best is class 0
    row = [[0.9, 0, 0], [0, 0.9, 0], [0, 0.9, 0], [0, 0.9, 0], [0, 0.5, 0.9], [0.5, 0, 0.9]]
    dense = given_pixels([row])
    cases = {None: [0, 1, 1, 1, 2, 2], 0.39: [0, 1, 1, 1, 2, 2], 0.4: [0, 1, 1, 1, 1, 0], 0.6: [0, 0, 0, 0, 0, 0]}
    for area_thd, expected in cases.items():  # class 2 has 2 of the 5 pixels of the foreground, 2 of 6 in all
        label_map = LabelMapPredictor(axes(3), range(3), settings(area_thd=area_thd)).predict(dense)
        assert label_map.tolist() == [expected], area_thd


def test_large_classes_have_strictly_more_than_the_share_of_the_foreground():
    areas = torch.tensor([1000, 10, 90, 0])
    assert find_large_classes(areas, 0.0).tolist() == [True, True, True, False]
    assert find_large_classes(areas, 0.1).tolist() == [True, False, True, False]
    assert find_large_classes(areas, 0.9).tolist() == [True, False, False, False]
    assert find_large_classes(torch.tensor([5, 0, 0]), 0.0).tolist() == [True, False, False]  # no foreground at all


def test_prob_thd_comes_after_area_thd():
    # class 2 is dropped; its pixel's next best, class 1, has a probability below the threshold
    row = [[0, 0.9, 0], [0, 0.9, 0], [0, 0.9, 0], [0.0, 0.2, 0.9]]
    chosen = settings(area_thd=0.3, logit_scale=10.0)
    assert LabelMapPredictor(axes(3), range(3), chosen).predict(given_pixels([row])).tolist() == [[1, 1, 1, 1]]
    chosen["prob_thd"] = 0.5
    assert LabelMapPredictor(axes(3), range(3), chosen).predict(given_pixels([row])).tolist() == [[1, 1, 1, 0]]


def test_the_background_wins_where_all_remaining_classes_have_probability_0():
    # at scale 400, class 1 at 0.5 below the best has probability e^-200, which is 0 in float32
    row = [[0.2, 0.5, 1.0]] + [[0.0, 1.0, 0.0]] * 9
    chosen = settings(area_thd=0.2, logit_scale=400.0)
    expected = oracle.labels(torch.tensor(row).T[:, None], [0, 1, 2], oracle_settings(chosen))
    assert expected.tolist() == [[0] + [1] * 9]
    assert LabelMapPredictor(axes(3), range(3), chosen).predict(given_pixels([row])).tolist() == expected.tolist()


SIZES = [(16, 24), (31, 17), (9, 40), (5, 6), (33, 35), (20, 20)]
CASES = {
    "plain": {},
    "thresholds": {"prob_thd": 0.45, "area_thd": 0.1},
    "resized": {"short_side": 21, "prob_thd": 0.3},
    "whole": {"crop": 0, "area_thd": 0.2},
    "refined": {"pamr_steps": 2, "area_thd": 0.15, "prob_thd": 0.4},
}


@lru_cache
def one_window_at_a_time(case: str) -> list[Tensor]:
    """The oracle's logits of each image."""
    chosen, model, logits = settings(**CASES[case]), PatchModel(), []
    for source in images_of_sizes(SIZES):
        image = source.load()
        x = model.preprocess(Image.fromarray(resize_image(image, chosen["short_side"], chosen["long_side"])))
        size = image.height, image.width
        logits.append(oracle.image_logits(model.encode_patches, x, size, queries(len(WORDS)), oracle_settings(chosen)))
    return logits


@pytest.mark.parametrize(("case", "batch_size"), [("plain", n) for n in range(1, 8)] + [(case, 5) for case in CASES])
def test_batched_equals_one_window_of_one_image_at_a_time(case, batch_size):
    chosen = settings(**CASES[case])
    slow = oracle_settings(chosen)
    maps = LabelMapPredictor(queries(len(WORDS)), WORDS, chosen)
    stream = Engine(PatchModel(), batch_size=batch_size).window_features(
        images_of_sizes(SIZES), chosen, keep_pixels=bool(chosen["pamr_steps"])
    )
    unsure = total = 0
    for dense, expected in zip(stream, one_window_at_a_time(case), strict=True):
        assert torch.allclose(maps.logits(dense), expected, atol=1e-4)
        assert torch.allclose(maps.probabilities(dense), oracle.class_probabilities(expected, WORDS, slow), atol=1e-3)
        decided = is_certain(expected, WORDS, slow)
        assert np.array_equal(maps.predict(dense)[decided], oracle.labels(expected, WORDS, slow)[decided])
        unsure, total = unsure + np.count_nonzero(~decided), total + decided.size
    assert unsure <= 1e-3 * total


@hypothesis_settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(4, 40), st.integers(4, 40)),
    original=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    crop=st.sampled_from([0, 8, 16, 30]),
    stride=st.integers(1, 8),
    classes=st.lists(st.integers(0, 3), min_size=1, max_size=8),
    prob_thd=st.sampled_from([0.0, 0.2, 0.6]),
    area_thd=st.sampled_from([None, 0.0, 0.1, 0.4]),
    budget=st.sampled_from([1, 2**12, 2**15, BUDGET]),
    seed=st.integers(0, 999),
)
def test_any_grid_and_any_budget_give_the_oracles_labels(
    size, original, crop, stride, classes, prob_thd, area_thd, budget, seed
):
    classes = [sorted(set(classes)).index(c) for c in classes]
    dense = random_dense(size, original, crop, stride, seed)
    windows = iter(dense.features.flatten(0, 1))
    chosen = settings(crop=crop, stride=stride, prob_thd=prob_thd, area_thd=area_thd, logit_scale=10.0)
    words = queries(len(classes), seed)
    expected = oracle.image_logits(
        lambda window: next(windows)[None], dense.pixels, original, words, oracle_settings(chosen)
    )
    assert next(windows, None) is None
    maps = LabelMapPredictor(words, classes, chosen, budget)
    assert torch.allclose(maps.logits(dense), expected, atol=1e-4)
    free = oracle_settings(chosen | {"area_thd": None})
    if area_thd is not None and not is_certain(expected, classes, free).all():
        return  # the area of a class may depend on rounding
    decided = is_certain(expected, classes, oracle_settings(chosen))
    labels = oracle.labels(expected, classes, oracle_settings(chosen))
    assert np.array_equal(maps.predict(dense)[decided], labels[decided])


def extras(dense: DenseFeatures, count: int) -> int:
    """Bytes that the budget does not count: patch logits (three copies while they are sorted), matrices, and the label
    map with a flag for each pixel and for each row and class."""
    height, width = dense.original_size
    patches = dense.features[..., 0].numel()
    matrices = 4 * (height + width) * (dense.features.shape[0] * 100 + dense.features.shape[1] * 100)
    return 3 * 4 * patches * count + matrices + 2 * height * width + 8 * height * count


@pytest.mark.parametrize("changes", [{}, {"prob_thd": 0.2, "area_thd": 0.05}])
@pytest.mark.parametrize("budget", [2**18, 2**20, 2**24])
def test_memory_stays_within_the_budget(budget, changes):
    dense = random_dense((64, 96), (90, 140), crop=32, stride=16)
    maps = LabelMapPredictor(queries(60), range(60), settings(**changes, logit_scale=10.0), budget)
    generous = LabelMapPredictor(queries(60), range(60), settings(**changes, logit_scale=10.0))
    label_maps = []
    peak = peak_bytes(lambda: label_maps.append(maps.predict(dense)))
    assert np.count_nonzero(label_maps[0] != generous.predict(dense)) <= 3
    assert peak <= budget + extras(dense, 60)
    whole = 4 * 60 * 90 * 140
    assert budget > whole or peak < whole


@pytest.mark.parametrize("budget", [2**19, 2**22])
def test_memory_stays_within_the_budget_with_refinement(budget):
    dense = random_dense((32, 48), (60, 90), crop=16, stride=8)
    chosen = settings(pamr_steps=2, area_thd=0.05, logit_scale=10.0)
    maps = LabelMapPredictor(queries(30), range(30), chosen, budget)
    image = 3 * 4 * 60 * 90
    assert peak_bytes(lambda: maps.predict(dense)) <= budget + extras(dense, 30) + image


def test_the_largest_images_with_150_classes_stay_far_below_two_gigabytes():
    # 2048 x 3000 pixels, which are 336 x 492 resized: 3.7 GB of logits if they were made at once
    dense = random_dense((336, 492), (2048, 3000), crop=224, stride=112, patch=16)
    maps = LabelMapPredictor(queries(150), range(150), settings())
    label_maps = []
    assert peak_bytes(lambda: label_maps.append(maps.predict(dense))) <= BUDGET + extras(dense, 150) < 2**30
    assert label_maps[0].shape == (2048, 3000)
    assert label_maps[0].dtype == np.uint8


def test_more_than_255_classes_have_int32_labels():
    dense = given_pixels([[[0.0] * 299 + [0.9]]])
    label_map = LabelMapPredictor(axes(300), range(300), settings()).predict(dense)
    assert label_map.dtype == np.int32
    assert label_map.tolist() == [[299]]


def test_a_class_without_a_query_word_and_a_query_word_without_a_class_are_refused():
    with pytest.raises(RequestError, match="class 1 has no query word"):
        LabelMapPredictor(axes(3), [0, 2, 2], settings())
    with pytest.raises(RequestError, match="each query word needs a class, got 3 query words and 2 classes"):
        LabelMapPredictor(axes(3), [0, 1], settings())
