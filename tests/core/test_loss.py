"""The objectives: against a loop over pairs, and against numbers worked by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from cosmos_core import CosmosLoss
from cosmos_core.loss import pair_losses
from cosmos_core.model import Features
from cosmos_core.objectives.clip import Clip
from tests.oracles.cosmos_loss import cosmos_loss, cosmos_loss_of_ranks

pytestmark = pytest.mark.usefixtures("one_thread")


def unit(rows: int, width: int, generator: torch.Generator) -> torch.Tensor:
    return F.normalize(torch.randn(rows, width, generator=generator), dim=-1)


def some_features(
    batch: int, images: int, texts: int, width: int, seed: int, cross: bool = True, scale: float = 10.0
) -> Features:
    generator = torch.Generator().manual_seed(seed)
    return Features(
        image_features=unit(images * batch, width, generator).requires_grad_(),
        text_features=unit(texts * batch, width, generator).requires_grad_(),
        logit_scale=torch.tensor(scale, requires_grad=True),
        distill_logit_scale=torch.tensor(scale / 2, requires_grad=True),
        image_cross_features=unit(images * batch, width, generator).requires_grad_() if cross else None,
        text_cross_features=unit(texts * batch, width, generator).requires_grad_() if cross else None,
    )


def repeated(rows: torch.Tensor, images: int, texts: int, scale: float) -> Features:
    """Every view of every modality is the same (B, D) rows."""
    return Features(
        image_features=rows.repeat(images, 1),
        text_features=rows.repeat(texts, 1),
        logit_scale=torch.tensor(scale),
        distill_logit_scale=torch.tensor(scale),
        image_cross_features=rows.repeat(images, 1),
        text_cross_features=rows.repeat(texts, 1),
    )


@settings(deadline=None, max_examples=20)
@given(
    batch=st.integers(1, 5),
    images=st.integers(2, 5),
    texts=st.integers(2, 5),
    width=st.integers(2, 8),
    scale=st.floats(1, 100),
    seed=st.integers(0, 2**31),
)
def test_the_objective_and_its_gradients_equal_a_loop_over_pairs(
    batch: int, images: int, texts: int, width: int, scale: float, seed: int
):
    teacher = some_features(batch, 2, 2, width, seed + 1, cross=False)
    fast, slow = (some_features(batch, images, texts, width, seed, scale=scale) for _ in range(2))
    ours, theirs = CosmosLoss()(fast, teacher, batch), cosmos_loss(slow, teacher, batch)
    for name in ("total", "clip_loss", "distill_loss"):
        torch.testing.assert_close(getattr(ours, name), theirs[name], atol=2e-5, rtol=1e-5)
    for name, term in ours.distill_terms.items():
        torch.testing.assert_close(term, theirs[name], atol=2e-5, rtol=1e-5)
    ours.total.backward()
    theirs["total"].backward()
    for name in ("image_features", "text_cross_features", "logit_scale", "distill_logit_scale"):
        torch.testing.assert_close(getattr(fast, name).grad, getattr(slow, name).grad, atol=2e-5, rtol=1e-4)
    assert teacher.image_features.grad is None


def test_a_pair_of_two_samples_worked_by_hand():
    ours = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    theirs = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    # logits [[2, 2], [0, 0]]: rows are coin flips; columns give the first row weight e^2 / (e^2 + 1)
    rows = math.log(2)
    columns = (-math.log(math.e**2 / (math.e**2 + 1)) - math.log(1 / (math.e**2 + 1))) / 2
    assert pair_losses(ours, theirs, torch.tensor(2.0)).item() == pytest.approx((rows + columns) / 2)


def test_a_perfect_model_loses_nothing():
    perfect = repeated(torch.eye(4), images=3, texts=5, scale=100.0)
    losses = CosmosLoss()(perfect, perfect, 4)
    assert losses.total.item() == pytest.approx(0, abs=1e-6)
    assert Clip()(perfect, None, 4).total.item() == pytest.approx(0, abs=1e-6)


def test_a_constant_model_loses_the_logarithm_of_the_batch_in_every_term():
    constant = repeated(torch.eye(4)[:1].repeat(4, 1), images=3, texts=5, scale=20.0)
    losses = CosmosLoss()(constant, constant, 4)
    assert losses.clip_loss.item() == pytest.approx(math.log(4))
    assert losses.distill_loss.item() == pytest.approx(math.log(4))
    assert losses.total.item() == pytest.approx(2 * math.log(4))
    assert list(losses.distill_terms) == [
        "img_cross_vs_t_img",
        "img_cross_vs_t_txt",
        "txt_cross_vs_t_img",
        "txt_cross_vs_t_txt",
    ]


def test_local_crops_stay_out_of_the_contrastive_loss_and_local_captions_do_not():
    teacher = some_features(3, 2, 2, 6, seed=1, cross=False)
    base, images, texts = (some_features(3, 4, 4, 6, seed=0) for _ in range(3))
    with torch.no_grad():
        images.image_features[6:] = images.image_features[6:].flip(0)
        texts.text_features[6:] = texts.text_features[6:].flip(0)
    loss = CosmosLoss()
    expected = loss(base, teacher, 3).clip_loss.item()
    assert loss(images, teacher, 3).clip_loss.item() == expected
    assert loss(texts, teacher, 3).clip_loss.item() != pytest.approx(expected, abs=1e-4)


def test_distillation_uses_the_students_own_temperature():
    student, teacher = some_features(3, 2, 2, 6, seed=0), some_features(3, 2, 2, 6, seed=1, cross=False)
    before = CosmosLoss()(student, teacher, 3).distill_loss.item()
    teacher.distill_logit_scale = torch.tensor(77.0)
    assert CosmosLoss()(student, teacher, 3).distill_loss.item() == before
    student.distill_logit_scale = torch.tensor(77.0)
    assert CosmosLoss()(student, teacher, 3).distill_loss.item() != pytest.approx(before, abs=1e-3)


def test_the_contrastive_objective_is_clips_on_the_first_views():
    student = some_features(4, 3, 3, 6, seed=0, cross=False)
    logits = student.logit_scale * student.image_features[:4] @ student.text_features[:4].T
    expected = (F.cross_entropy(logits, torch.arange(4)) + F.cross_entropy(logits.T, torch.arange(4))) / 2
    losses = Clip()(student, None, 4)
    torch.testing.assert_close(losses.total, expected)
    assert losses.distill_loss.item() == 0
    assert losses.distill_terms == {}


def test_the_means_of_what_processes_compute_from_their_own_rows_is_the_whole():
    students = [some_features(3, 3, 3, 6, seed=seed) for seed in (0, 1)]
    teachers = [some_features(3, 2, 2, 6, seed=seed, cross=False) for seed in (2, 3)]
    whole = cosmos_loss_of_ranks(students, teachers, [3, 3], rank=0)["total"]
    parts = [cosmos_loss_of_ranks(students, teachers, [3, 3], rank, local=True)["total"] for rank in (0, 1)]
    torch.testing.assert_close(sum(parts) / 2, whole)


def test_mixed_precision_does_not_round_the_logits():
    student, teacher = some_features(3, 2, 2, 6, seed=0), some_features(3, 2, 2, 6, seed=1, cross=False)
    expected = CosmosLoss()(student, teacher, 3).total
    with torch.autocast("cpu", torch.bfloat16):
        assert CosmosLoss()(student, teacher, 3).total == expected


def test_what_is_missing_is_said():
    student, teacher = some_features(3, 2, 2, 6, seed=0), some_features(3, 2, 2, 6, seed=1, cross=False)
    with pytest.raises(ValueError, match="needs a teacher"):
        CosmosLoss()(student, None, 3)
    with pytest.raises(ValueError, match="cross-modal"):
        CosmosLoss()(teacher, teacher, 3)
    with pytest.raises(ValueError, match="6 features are not a whole number of views of a batch of 4"):
        CosmosLoss()(student, teacher, 4)
