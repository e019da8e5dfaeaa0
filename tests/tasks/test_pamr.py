"""Pixel-adaptive mask refinement: by hand, comparison with a slow oracle, and in tiles."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from cosmos_core.errors import RequestError
from cosmos_eval.engine.dense import DenseFeatures
from cosmos_eval.tasks.segmentation.label_maps import LabelMapPredictor
from cosmos_eval.tasks.segmentation.pamr import RefinedPixelLogits, affinities, receptive_radius, refine
from tests.helpers.patch_models import queries, random_dense, settings
from tests.oracles.segmentation import pamr

KINDS = st.sampled_from([[1], [1, 2], [2, 3], [8, 16]])


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_all_neighbours_have_the_same_weight_in_an_image_of_one_colour():
    weights = affinities(torch.full((3, 4, 5), 0.7), [1, 2])
    assert torch.allclose(weights, torch.full((16, 4, 5), 1 / 16))
    spot = torch.zeros(1, 4, 5)
    spot[0, 1, 1] = 1
    once = refine(spot, affinities(torch.zeros(3, 4, 5), [1]), [1], steps=1)
    # a pixel is not its own neighbour; beyond the border, the pixels of the border are repeated
    assert once[0, 1, 1] == 0
    assert once[0, 2, 2] == pytest.approx(1 / 8)
    assert once[0, 3, 3] == 0
    assert once.sum() == pytest.approx(8 / 8)


def test_neighbours_across_an_edge_have_no_weight():
    image = torch.zeros(3, 6, 8)
    image[:, :, 4:] = 1
    weights = affinities(image, [1])
    left, right = 3, 4  # of the eight neighbours, by rows without the centre
    # 18 or 9 samples with a third of them on the other side: by a tenth of their deviation they are 20 apart
    assert weights[right, 3, 3] < 1e-6
    assert weights[left, 3, 3] == pytest.approx(1 / 5, abs=1e-6)
    mask = (image[:1] > 0.5).float()
    assert torch.allclose(refine(mask, weights, [1], 5), mask, atol=1e-4)


def test_weights_sum_to_one_and_zero_steps_change_nothing():
    image, mask = random(3, 9, 11), random(2, 9, 11)
    weights = affinities(image, [1, 2])
    assert torch.allclose(weights.sum(0), torch.ones(9, 11), atol=1e-6)
    assert torch.equal(refine(mask, weights, [1, 2], 0), mask)


@hypothesis_settings(max_examples=30, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), KINDS, st.integers(1, 4), st.integers(0, 99))
def test_refinement_equals_the_oracle(height, width, dilations, steps, seed):
    image, mask = random(3, height, width, seed=seed), random(3, height, width, seed=seed + 1)
    ours = refine(mask, affinities(image, dilations), dilations, steps)
    assert torch.allclose(ours, pamr(image[None], mask[None], steps, dilations)[0], atol=2e-6)


@hypothesis_settings(max_examples=12, deadline=None)
@given(st.integers(4, 24), st.integers(4, 24), st.integers(1, 3), st.integers(13, 18), st.integers(0, 99))
def test_tiles_and_chunks_of_any_size_give_the_same_logits(height, width, steps, budget, seed):
    dense = random_dense((16, 20), (height, width), seed=seed)
    chosen = settings(pamr_steps=steps)
    whole = LabelMapPredictor(queries(5), range(5), chosen).logits(dense)
    assert torch.allclose(LabelMapPredictor(queries(5), range(5), chosen, 2**budget).logits(dense), whole, atol=1e-6)


def test_single_rows_are_the_same_as_in_the_whole_image():
    dense = random_dense((16, 20), (40, 23))
    maps = RefinedPixelLogits(dense, queries(3), [1, 2], 2, budget=2**17)
    whole = torch.cat([logits.clone() for _, logits in maps.tiles(np.arange(40))])
    wanted = np.array([0, 7, 8, 31])
    seen = []
    for rows, logits in maps.tiles(wanted):
        seen += rows.tolist()
        assert torch.allclose(logits, whole[rows], atol=1e-6)
    assert set(wanted.tolist()) <= set(seen)
    assert seen == sorted(set(seen))


def test_pixels_beyond_the_receptive_radius_change_nothing():
    image, mask, dilations, steps = random(3, 40, 5), random(2, 40, 5), [1, 3], 4
    near = refine(mask, affinities(image, dilations), dilations, steps)
    far = receptive_radius(steps, dilations) + 1
    image[:, far:], mask[:, far:] = 9, 9
    again = refine(mask, affinities(image, dilations), dilations, steps)
    assert torch.allclose(again[:, 0], near[:, 0], atol=1e-6)
    assert not torch.allclose(again[:, far], near[:, far])


def test_features_without_pixels_are_refused():
    dense = random_dense((16, 20), (16, 20))
    bare = DenseFeatures(dense.index, dense.original_size, dense.grid, dense.features)
    with pytest.raises(RequestError, match="keep_pixels"):
        LabelMapPredictor(queries(2), [0, 1], settings(pamr_steps=1)).predict(bare)
