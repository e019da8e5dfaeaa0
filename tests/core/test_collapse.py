"""Alignment and uniformity: known arrangements, a slow twin, collapsed and broken features."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmos_core.collapse import MAX_EMBEDDINGS, CollapseAlarm, alignment, embedding_metrics, uniformity


def slow_alignment(x: torch.Tensor, y: torch.Tensor, alpha: float) -> float:
    total = 0.0
    for a, b in zip(x.double(), y.double(), strict=True):
        a, b = a / a.norm(), b / b.norm()
        total += float((a - b).norm()) ** alpha
    return total / len(x)


def slow_uniformity(x: torch.Tensor, t: float) -> float:
    rows = [row / row.norm() for row in x.double()]
    pairs = [(i, j) for i in range(len(rows)) for j in range(i)]
    return math.log(sum(math.exp(-t * float((rows[i] - rows[j]).norm()) ** 2) for i, j in pairs) / len(pairs))


def test_a_perfect_model_is_aligned_and_spread():
    rows = torch.eye(6)
    # orthogonal unit rows lie at a squared distance of 2 from each other: log exp(-2 * 2)
    assert embedding_metrics(rows, rows) == {
        "alignment": 0.0,
        "uniformity_image": pytest.approx(-4.0),
        "uniformity_text": pytest.approx(-4.0),
    }


def test_a_collapsed_model_is_one_point_for_each_side():
    images = torch.tensor([[3.0, 4.0]]).repeat(5, 1)
    texts = torch.tensor([[-6.0, -8.0]]).repeat(5, 1)
    found = embedding_metrics(images, texts)
    assert found["uniformity_image"] == pytest.approx(0, abs=1e-6)
    assert found["uniformity_text"] == pytest.approx(0, abs=1e-6)
    assert found["alignment"] == pytest.approx(4)  # opposite points: distance 2, squared


def test_two_rows_at_a_right_angle_by_hand():
    x, y = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[0.0, 5.0], [0.0, 1.0]])
    assert alignment(x, y) == pytest.approx((2 + 0) / 2)
    assert alignment(x, y, alpha=1) == pytest.approx(math.sqrt(2) / 2)
    assert uniformity(x) == pytest.approx(-4)
    assert uniformity(x, t=0.5) == pytest.approx(-1)
    assert uniformity(y) == pytest.approx(0)


def test_what_is_not_finite_shows_and_one_row_has_no_uniformity():
    rows = torch.eye(3)
    rows[1, 1] = math.nan
    found = embedding_metrics(rows, torch.eye(3))
    assert [name for name, value in found.items() if math.isnan(value)] == ["alignment", "uniformity_image"]
    assert math.isnan(uniformity(rows))
    assert math.isnan(alignment(torch.eye(3), rows))
    assert math.isnan(uniformity(torch.ones(1, 4)))
    assert math.isnan(uniformity(torch.ones(0, 4)))


@pytest.mark.parametrize("shape", [(3,), (2, 3, 4)])
def test_rows_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"\(N, D\)"):
        uniformity(torch.zeros(shape))
    with pytest.raises(ValueError, match=r"\(N, D\)"):
        alignment(torch.zeros(shape), torch.zeros(shape))
    with pytest.raises(ValueError, match="must have one shape"):
        alignment(torch.zeros(2, 3), torch.zeros(3, 3))


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 9), st.integers(1, 5), st.integers(0, 10_000), st.sampled_from([0.5, 2.0]))
def test_the_fast_figures_equal_the_slow_ones(n, width, seed, t):
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(2, n, width, generator=generator)
    assert alignment(x, y, alpha=t) == pytest.approx(slow_alignment(x, y, t), abs=1e-5)
    assert uniformity(x, t) == pytest.approx(slow_uniformity(x, t), abs=1e-5)
    assert uniformity(x, t) == pytest.approx(uniformity(x[torch.randperm(n, generator=generator)], t), abs=1e-5)


def test_half_precision_rows_are_measured_in_float32_and_no_gradient_is_kept():
    x = torch.randn(8, 16, generator=torch.Generator().manual_seed(0)).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        assert uniformity(x) == pytest.approx(slow_uniformity(x.detach(), 2), abs=1e-5)
    assert uniformity(x.bfloat16()) == pytest.approx(slow_uniformity(x.detach(), 2), abs=1e-2)
    assert x.grad is None


def test_a_large_batch_costs_no_more_than_its_first_rows():
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(MAX_EMBEDDINGS + 50, 3, generator=generator)
    assert embedding_metrics(rows, rows)["uniformity_image"] == uniformity(rows[:MAX_EMBEDDINGS])


def flat(value: float) -> dict[str, float]:
    return {"uniformity_image": value, "uniformity_text": -2.0}


def test_the_alarm_says_once_that_features_collapsed_and_once_that_they_spread_again():
    alarm = CollapseAlarm(after=100)
    assert alarm(110, flat(-1.5)) == ""
    said = alarm(1200, flat(-0.02))
    assert said.startswith("step 1,200: image features have collapsed (uniformity -0.020")
    assert "\n" not in said
    assert "text" not in said
    assert alarm(1300, flat(-0.02)) == ""
    assert alarm(1400, flat(-0.3)) == ""
    assert "spread again" in alarm(1500, flat(-0.9))
    assert "collapsed" in alarm(1600, flat(-0.01))


def test_the_alarm_is_silent_during_the_warm_up():
    alarm = CollapseAlarm(after=100)
    assert [alarm(step, flat(-0.01)) for step in (1, 50, 100)] == ["", "", ""]
    assert "collapsed" in alarm(101, flat(-0.01))


def test_the_alarm_is_silent_about_figures_that_are_absent_or_not_finite():
    alarm = CollapseAlarm(after=0)
    assert alarm(10, {}) == ""
    assert alarm(20, flat(math.nan)) == ""
