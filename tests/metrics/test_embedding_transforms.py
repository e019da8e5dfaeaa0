"""Truncation, centring, int8 and binary codes, and the dual softmax: by hand, and against slow versions."""

import importlib.util
import math

import numpy as np
import pytest
import torch

from cosmos_eval.metrics.dual_softmax import DualSoftmax
from cosmos_eval.metrics.embedding_transforms import (
    binarize,
    center,
    int8_ranges,
    quantize_int8,
    restore_int8,
    subtract_mean,
    truncate,
)
from cosmos_eval.metrics.query_scores import DotProducts, MatrixScores
from tests.oracles import transforms as oracle


def random_features(n: int, width: int, seed: int = 0) -> torch.Tensor:
    features = torch.randn(n, width, generator=torch.Generator().manual_seed(seed)) + 0.3
    return torch.nn.functional.normalize(features, dim=1)


def read_matrix(scores, block_bytes: int = 2**20) -> np.ndarray:
    return torch.cat([block[:, scores.column].clone() for _, _, block in scores.blocks(block_bytes)]).numpy()


def test_truncation_keeps_the_first_dimensions_and_normalises_again():
    features = torch.tensor([[3.0, 4.0, 12.0], [0.0, 2.0, -1.0]]) / torch.tensor([[13.0], [5**0.5]])
    assert truncate(features, 2).tolist() == pytest.approx(np.array([[0.6, 0.8], [0.0, 1.0]]))
    many = random_features(20, 16)
    sliced = many[:, :5]
    assert torch.equal(truncate(many, 5), sliced / torch.linalg.vector_norm(sliced, dim=1, keepdim=True))
    assert truncate(many, 5).numpy() == pytest.approx(oracle.truncated(many.numpy(), 5), abs=1e-6)


def test_centring_subtracts_the_mean_and_normalises_again():
    # the mean of (1, 0) and (0, 1) is (1/2, 1/2)
    s = math.sqrt(0.5)
    assert center(torch.eye(2)).tolist() == pytest.approx(np.array([[s, -s], [-s, s]]))
    many = random_features(20, 16)
    assert center(many).numpy() == pytest.approx(oracle.centered(many.numpy()), abs=1e-6)


def test_centring_removes_the_modality_gap():
    images, texts = random_features(30, 16), random_features(50, 16, seed=1) - 0.2
    gap = (images.mean(0) - texts.mean(0)).norm().item()
    assert gap > 0.5
    gap = (subtract_mean(images).mean(0) - subtract_mean(texts).mean(0)).norm().item()
    assert gap < 1e-15


def test_equal_embeddings_become_zero_by_centring_so_that_they_tie():
    assert torch.equal(center(random_features(1, 16).repeat(1001, 1)), torch.zeros(1001, 16))


def test_int8_codes_are_steps_of_the_range_of_each_dimension():
    # the first dimension reaches from 0 to 255 in steps of 1, the second is constant, the third is centred
    features = torch.tensor([[0.0, 0.5, -127.5], [255.0, 0.5, 127.5], [7.9, 0.5, 0.0]])
    ranges = int8_ranges(features)
    codes = quantize_int8(features, ranges)
    assert codes.dtype == torch.int8
    assert codes.tolist() == [[-128, -128, -128], [127, -128, 127], [-121, -128, -1]]
    restored = restore_int8(codes, ranges)
    assert restored.tolist() == pytest.approx(np.array([[0, 0.5, -127.5], [255, 0.5, 127.5], [7, 0.5, -0.5]]))
    assert quantize_int8(torch.tensor([[-9.0, 0.0, 999.0]]), ranges).tolist() == [[-128, -128, 127]]  # clipped
    many = random_features(40, 16)
    ranges = int8_ranges(many)
    restored = restore_int8(quantize_int8(many, ranges), ranges)
    step = (ranges[1] - ranges[0]).max().item() / 255
    assert restored.numpy() == pytest.approx(oracle.int8_restored(many.numpy()), abs=1.01 * step)
    assert (many - restored).abs().max() < 1.01 * step


def test_codes_are_those_of_sentence_transformers():
    if importlib.util.find_spec("sentence_transformers") is None:
        pytest.skip("sentence-transformers is not installed; it is an optional extra")
    from sentence_transformers.util import quantize_embeddings

    images, calibration = random_features(200, 24), random_features(300, 24, seed=1)
    for ranges in (int8_ranges(images), int8_ranges(calibration)):
        codes = quantize_embeddings(images.numpy(), "int8", ranges=ranges.numpy())
        assert np.array_equal(quantize_int8(images, ranges).numpy(), codes)
    bits = quantize_embeddings(images.numpy(), "ubinary")
    assert np.array_equal(np.packbits(binarize(images).numpy() > 0, axis=1), bits)


def test_the_dot_product_of_signs_is_the_hamming_distance_and_equal_distances_tie():
    images, texts = random_features(9, 13), random_features(7, 13, seed=1)
    images[0, 0] = 0.0  # no bit, as in sentence-transformers
    distances = np.array([[oracle.hamming(image, text) for text in texts.numpy()] for image in images.numpy()])
    scores = read_matrix(DotProducts(binarize(images), binarize(texts)))
    assert np.array_equal(scores, 13 - 2 * distances)


def test_the_dual_softmax_of_three_queries_and_candidates_by_hand():
    # With the scale 10 ln 2, a score of 0.1 more doubles the exponential. The columns of exponentials are (8, 4, 1),
    # (4, 4, 2) and (1, 1, 2), with the sums 13, 10 and 4.
    scores = torch.tensor([[0.3, 0.2, 0.0], [0.2, 0.2, 0.0], [0.0, 0.1, 0.1]])
    revised = DualSoftmax(MatrixScores(scores, torch.arange(3), torch.arange(3)), 10 * math.log(2))
    expected = [
        [0.3 * 8 / 13, 0.2 * 4 / 10, 0],
        [0.2 * 4 / 13, 0.2 * 4 / 10, 0],  # the first two candidates tied; the second prefers this query more
        [0, 0.1 * 2 / 10, 0.1 * 2 / 4],
    ]
    assert read_matrix(revised) == pytest.approx(np.array(expected), abs=1e-7)


@pytest.mark.parametrize("scale", [1.0, 100.0, 300.0])
def test_the_dual_softmax_in_blocks_is_that_of_the_whole_matrix_and_keeps_ties(scale):
    queries, candidates = random_features(41, 8), random_features(23, 8, seed=1)
    candidates[7], queries[3] = candidates[2], queries[5]
    plain = DotProducts(queries, candidates)
    whole = read_matrix(DualSoftmax(plain, scale))
    assert whole == pytest.approx(oracle.dual_softmax(read_matrix(plain), scale), rel=1e-9)
    blocks = read_matrix(DualSoftmax(plain, scale), block_bytes=1)
    assert blocks == pytest.approx(whole, rel=1e-4)  # dot products of other blocks differ in the last bit
    assert np.array_equal(whole[:, 2], whole[:, 7])
    assert np.array_equal(blocks[:, 2], blocks[:, 7])
    assert (whole != 0).all()


def test_sums_over_queries_do_not_depend_on_the_blocks(monkeypatch):
    scores = MatrixScores(random_features(50, 9), torch.arange(50), torch.arange(9))
    whole = read_matrix(DualSoftmax(scores, 100.0))
    monkeypatch.setattr("cosmos_eval.metrics.dual_softmax.BLOCK_BYTES", 200)
    assert read_matrix(DualSoftmax(scores, 100.0)) == pytest.approx(whole, rel=1e-12)
