"""Logistic regression against scikit-learn's, and the choice of its strength."""

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression as SklearnRegression

from cosmos_eval.metrics import strength_search
from cosmos_eval.metrics.logistic_regression import FIRST_CHECK, LogisticRegression, _cross_entropy
from cosmos_eval.metrics.strength_search import STRENGTHS, WORK_AT_ONCE, choose_strength
from tests.oracles.probe import objective


def clouds(
    n: int, dimensions: int = 12, classes: int = 4, seed: int = 0, noise: float = 1.5
) -> tuple[torch.Tensor, torch.Tensor]:
    """Unequally many samples of each class, around means that overlap, or with noise 0.2 do not."""
    rng = np.random.default_rng(seed)
    labels = np.minimum(rng.integers(0, classes + 2, n), classes - 1)
    means = np.random.default_rng(99).normal(size=(classes, dimensions))
    samples = means[labels] + noise * rng.normal(size=(n, dimensions)) + 3
    return torch.from_numpy(samples / np.linalg.norm(samples, axis=1, keepdims=True)).float(), torch.from_numpy(labels)


@pytest.fixture(scope="module")
def train():
    return clouds(200)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("classes", "noise"), [(4, 1.5), (2, 1.5), (4, 0.2)])
def test_coefficients_and_intercepts_are_those_of_scikit_learn(classes, noise, dtype):
    x, y = clouds(150, classes=classes, noise=noise)
    strengths = [1e3, 1.0, 0.1, 1e-3]
    fits = LogisticRegression(x, y, classes, dtype).fit(strengths)
    for i, strength in enumerate(strengths):
        peer = SklearnRegression(C=1 / strength, solver="newton-cg", tol=1e-10, max_iter=500)
        peer = peer.fit(x.double().numpy(), y.numpy())
        ours = fits.classifier(i)
        coefficients, intercepts = ours.coefficients.double().numpy().T, ours.intercepts.double().numpy()
        if classes == 2:  # scikit-learn keeps the difference of both classes
            coefficients, intercepts = (np.diff(one, axis=0) for one in (coefficients, intercepts))
        assert np.abs(coefficients - peer.coef_).max() < 1e-3
        assert np.abs(intercepts - peer.intercept_).max() < 1e-3


def test_no_point_nearby_has_a_lower_objective(train):
    x, y = train
    fitted = LogisticRegression(x, y, 4).fit([0.5], tolerance=1e-14).classifier()
    w, b, rng = fitted.coefficients.numpy(), fitted.intercepts.numpy(), np.random.default_rng(0)
    best = objective(w, b, x.double().numpy(), y.numpy(), 0.5)
    for size in (1e-2, 1e-4):
        for _ in range(5):
            step_w, step_b = size * rng.normal(size=w.shape), size * rng.normal(size=b.shape)
            assert objective(w + step_w, b + step_b, x.double().numpy(), y.numpy(), 0.5) > best


def test_fits_together_alone_and_from_another_start_are_the_same(train):
    regression = LogisticRegression(*train, 4)
    together = regression.fit([10.0, 0.1])
    for i, strength in enumerate((10.0, 0.1)):
        alone = regression.fit([strength])
        started = regression.fit([strength], start=together.ends[1 - i])
        for other in (alone, started):
            assert torch.allclose(other.coefficients[0], together.coefficients[i], atol=2e-3)


def test_the_objective_where_another_fit_ended_is_not_computed_again(train, monkeypatch):
    regression = LogisticRegression(*train, 4)
    ends = regression.fit([10.0, 0.1], max_iterations=5).ends
    at_start = []
    evaluate = LogisticRegression._evaluate
    monkeypatch.setattr(
        LogisticRegression, "_evaluate", lambda self, *point: at_start.append(point) or evaluate(self, *point)
    )
    for end in ends:
        penalty = torch.tensor([0.3, 20.0, float(end.penalty)], dtype=torch.float64)
        value, gradient = regression._evaluate_start(end, penalty)
        assert not at_start
        for i, one in enumerate(penalty.split(1)):
            expected_value, expected_gradient = evaluate(regression, end.weights, one)
            assert torch.allclose(value[i : i + 1], expected_value, rtol=1e-12)
            assert torch.allclose(gradient[i : i + 1], expected_gradient, rtol=0, atol=1e-12)
    others = LogisticRegression(*train, 4, like=regression)  # an equal set, which is computed anew
    others._evaluate_start(ends[0], penalty)
    assert len(at_start) == 1


def test_a_fit_of_more_samples_may_begin_where_one_of_some_ended(train):
    features, labels = train
    some = LogisticRegression(features[:150], labels[:150], 4)
    begun = LogisticRegression(features, labels, 4, like=some).fit([0.1], some.fit([0.1]).ends[0])
    alone = LogisticRegression(features, labels, 4).fit([0.1])
    assert torch.allclose(begun.coefficients, alone.coefficients, atol=1e-3)
    assert torch.allclose(begun.intercepts, alone.intercepts, atol=1e-3)
    assert begun.iterations < alone.iterations


def test_float32_ends_at_its_rounding_whatever_the_tolerance(train):
    regression = LogisticRegression(*train, 4, torch.float32)
    fits = regression.fit([1e-3], tolerance=0.0)
    assert fits.iterations < 500
    exact = LogisticRegression(*train, 4).fit([1e-3], tolerance=1e-15)
    assert torch.allclose(fits.coefficients.double(), exact.coefficients, atol=1e-3)


def test_losses_and_derivatives_keep_their_precision_for_what_is_fitted_well():
    logits = torch.tensor([[[20.0, 0.0, 1.0]], [[0.0, 200.0, -3.0]]])
    losses, residual = _cross_entropy(logits, torch.zeros(2, 1, 1, dtype=torch.int64))
    others = math.exp(-20) + math.exp(-19)  # float32 has no 1 - 1e-9
    assert losses[0].item() == pytest.approx(math.log1p(others), rel=1e-5)
    assert residual[0, 0].tolist() == pytest.approx([-others, math.exp(-20), math.exp(-19)], rel=1e-5)
    assert losses[1].item() == 200
    assert residual[1, 0].tolist() == [-1, 1, 0]


def test_equal_features_have_no_coefficients_and_the_shares_of_the_classes():
    fitted = LogisticRegression(torch.ones(8, 3), torch.tensor([0, 0, 0, 0, 0, 0, 1, 2]), 3).fit([1e-6]).classifier()
    assert torch.equal(fitted.coefficients, torch.zeros(3, 3, dtype=torch.float64))
    shares = fitted.intercepts.softmax(0)
    assert shares.tolist() == pytest.approx([6 / 8, 1 / 8, 1 / 8])


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        (torch.tensor([[1.0], [float("nan")]]), [0, 1], "train image 1 are not finite"),
        (torch.ones(2, 1), [0, 2], "sample 1 has label 2"),
        (torch.ones(2, 1), [0, 0], "class 1 has no samples"),
    ],
)
def test_what_cannot_be_fitted_is_refused(features, labels, message):
    with pytest.raises(ValueError, match=message):
        LogisticRegression(features, torch.tensor(labels), 2)


def test_strengths_are_those_of_the_clip_paper():
    assert len(STRENGTHS) == 97
    assert STRENGTHS[::16] == pytest.approx([1e-6, 1e-4, 1e-2, 1, 1e2, 1e4, 1e6])


@pytest.mark.parametrize("work", [0, 2**40])
def test_the_search_finds_the_best_of_all_strengths_around_a_single_peak(train, monkeypatch, work):
    monkeypatch.setitem(WORK_AT_ONCE, "cpu", work)  # one fit after the other, or all together
    regression, (val, val_labels) = LogisticRegression(*train, 4), clouds(2000, seed=1)
    search = choose_strength(regression, val, val_labels)
    assert {1e-6, 1e-4, 1e-2, 1, 1e2, 1e4, 1e6} <= {float(f"{strength:.6g}") for strength in search.accuracies}
    assert len(search.accuracies) <= 15
    i = STRENGTHS.index(search.strength)
    assert {STRENGTHS[i - 1], STRENGTHS[i + 1]} <= set(search.accuracies)
    best = max(search.accuracies.values())
    assert search.strength == max(one for one, accuracy in search.accuracies.items() if accuracy == best)
    fits = regression.fit([STRENGTHS[j] for j in range(0, 97, 4)])
    scores = [(val.double() @ fits.coefficients[j] + fits.intercepts[j]).argmax(1) for j in range(25)]
    assert best >= max(float((one == val_labels).double().mean()) for one in scores) - 0.005


def test_a_hopeless_fit_is_given_up_and_the_others_are_finished(train):
    regression, asked = LogisticRegression(*train, 4), []

    def is_hopeless(classifier):
        asked.append(float(classifier.coefficients.norm()))
        return asked[-1] > 40  # the weaker strength has far larger coefficients

    given_up = regression.fit([1.0, 1e-3], is_hopeless=is_hopeless)
    finished = regression.fit([1.0, 1e-3])
    assert given_up.iterations[0] == finished.iterations[0]
    assert FIRST_CHECK <= given_up.iterations[1] < finished.iterations[1]
    assert torch.allclose(given_up.coefficients[0], finished.coefficients[0], atol=1e-9)
    assert float(given_up.coefficients[1].norm()) > 40


def test_the_search_without_giving_up_chooses_the_same(monkeypatch):
    regression = LogisticRegression(*clouds(400, dimensions=60, noise=4), 4)
    val, val_labels = clouds(2000, dimensions=60, noise=4, seed=1)
    monkeypatch.setitem(WORK_AT_ONCE, "cpu", 0)
    search = choose_strength(regression, val, val_labels)
    monkeypatch.setattr(strength_search, "SIGNIFICANT", math.inf)
    whole = choose_strength(regression, val, val_labels)
    assert search.strength == whole.strength
    assert search.accuracies[search.strength] == whole.accuracies[whole.strength]
    assert search.accuracies != whole.accuracies  # some were given up


def test_every_fit_takes_a_step_so_that_the_strongest_is_no_constant_classifier(train):
    x, y = train
    fits = LogisticRegression(x, y, 4).fit([1e6], tolerance=1e-4)
    assert fits.iterations.tolist() == [1]
    right = (x.double() @ fits.coefficients[0]).argmax(1) == y
    assert float(right.double().mean()) > 0.5  # the sums of the classes' features, nearly
