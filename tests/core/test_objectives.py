"""The objectives side by side: what each one draws, reads, minimises and leaves alone."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cosmos_core.config import TrainConfig
from cosmos_core.errors import RequestError
from cosmos_core.model import Features
from cosmos_core.objectives import OBJECTIVES, Objective, build_objective, objective_class
from cosmos_core.seeds import sample_generator
from cosmos_core.text_crop import TextCrop
from cosmos_core.views import MultiCrop
from cosmos_core.world import World
from tests.core.test_loss import repeated, some_features
from tests.core.tiny_steps import Inputs, gradients, networks, step
from tests.oracles.cosmos_loss import pair

CROPS = MultiCrop(local_crops=3, global_size=16, local_size=8)
B = 4


pytestmark = pytest.mark.usefixtures("one_thread")


def drawn(name: str, captions: int = 5, mode: str = "textcrop") -> tuple[list[np.ndarray], list[str]]:
    """Images and captions that an objective sees of one sample."""
    image = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    record = {"raw_caption": [f"sentence {i}" for i in range(9)]}
    views = objective_class(name).views(CROPS, captions)
    texts = TextCrop(views.captions, mode)(record, sample_generator(0, 0, "a", "captions"))
    return views.images.pixels(image, sample_generator(0, 0, "a", "views")), texts[: views.kept_captions]


def mean(ours: list[Tensor], theirs: list[Tensor], scale: Tensor) -> Tensor:
    losses = [pair(a, b, scale) for a in ours for b in theirs]
    return sum(losses[1:], losses[0]) / len(losses)


def features(images: int, texts: int, cross: bool = False, seed: int = 0) -> tuple[Features, list, list]:
    found = some_features(B, images, texts, 6, seed=seed, cross=cross)
    return found, list(found.image_features.split(B)), list(found.text_features.split(B))


def test_the_setting_and_the_table_know_the_same_objectives():
    for name in OBJECTIVES:
        assert isinstance(build_objective(name), Objective)
        assert TrainConfig(objective=name).required_views() == objective_class(name).views(MultiCrop(), 8)
    for refused in (build_objective, lambda name: TrainConfig(objective=name)):
        with pytest.raises(RequestError, match="'clap' is not one of cosmos, clip, slip"):
            refused("clap")


@pytest.mark.parametrize(
    ("name", "images", "captions"),
    [("slip", 2, 2), ("silc", 5, 1), ("multiview", 2, 5), ("distill", 5, 5), ("cosmos", 5, 5)],
)
def test_views_are_the_first_of_those_that_cosmos_draws(name: str, images: int, captions: int):
    for mode in ("textcrop", "raw"):
        views, texts = drawn(name, mode=mode)
        all_views, all_texts = drawn("cosmos", mode=mode)
        assert len(views) == images
        assert len(texts) == captions
        assert all(np.array_equal(a, b) for a, b in zip(views, all_views, strict=False))
        assert texts == all_texts[:captions]


def test_clip_has_the_first_caption_and_the_first_crop_with_the_mild_blur():
    crops = replace(CROPS, blur=(0.0, 0.0, 0.5), solarise=(0.0, 0.0, 0.0))  # both global crops are mild
    image = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    (clip,) = objective_class("clip").views(crops, 5).images.pixels(image, sample_generator(0, 0, "a", "views"))
    cosmos = crops.pixels(image, sample_generator(0, 0, "a", "views"))
    assert np.array_equal(clip, cosmos[0])
    assert drawn("clip")[1] == drawn("cosmos")[1][:1]
    assert objective_class("clip").views(CROPS, 5).images.blur[0] == CROPS.blur[1]


def test_with_one_caption_multiview_keeps_the_first_of_the_two_that_text_crop_draws():
    assert drawn("multiview", captions=1)[1] == drawn("multiview", captions=5)[1][:1]
    for name in ("clip", "slip", "silc", "multiview"):
        assert drawn(name, captions=1)[1][0] == drawn("cosmos")[1][0]


@pytest.mark.parametrize(
    ("name", "crops", "match"),
    [
        ("slip", MultiCrop(global_crops=1), "objective slip needs views.global_crops=2, got 1"),
        ("silc", MultiCrop(global_crops=3), "objective silc needs views.global_crops=2, got 3"),
        ("multiview", MultiCrop(global_crops=1), "objective multiview needs views.global_crops=2, got 1"),
        ("silc", MultiCrop(local_crops=0), "silc distils local crops: set views.local_crops to at least 1"),
    ],
)
def test_views_that_an_objective_lacks_are_refused(name: str, crops: MultiCrop, match: str):
    with pytest.raises(RequestError, match=match):
        objective_class(name).views(crops, 4)


@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_parameters_without_gradient_are_those_that_the_objective_says(name: str):
    student, teacher = networks()
    objective, own = build_objective(name), Inputs.some()
    texts = own.texts.transpose(0, 1).flatten(0, 1)
    targets = teacher(own.images[:2], texts[:16]) if objective.needs_teacher else None
    found = objective(student(own.images, texts, 8 if objective.cross_attention else None), targets, 8)
    found.total.backward()
    unused = {parameter for parameter, _ in student.named_parameters() if objective.unused(parameter)}
    assert set(gradients(student)) == {parameter for parameter, _ in student.named_parameters()} - unused
    assert all(gradient.abs().max() > 0 for gradient in gradients(student).values())


@pytest.mark.parametrize("name", [name for name in OBJECTIVES if name != "siglip"])  # its own are in test_siglip
def test_a_perfect_model_loses_nothing_and_a_constant_one_the_logarithm_of_the_batch_in_each_part(name: str):
    objective = build_objective(name)
    perfect = repeated(torch.eye(B), images=3, texts=2, scale=100.0)
    constant = repeated(torch.eye(B)[:1].repeat(B, 1), images=3, texts=2, scale=20.0)
    assert objective(perfect, perfect, B).total.item() == pytest.approx(0, abs=1e-6)
    losses = objective(constant, constant, B)
    assert losses.clip_loss.item() == pytest.approx(math.log(B))
    parts = 1 if name in ("clip", "multiview") else 2
    assert losses.total.item() == pytest.approx(parts * math.log(B))
    assert losses.total.item() == pytest.approx(losses.clip_loss.item() + losses.distill_loss.item())


def test_multiview_is_the_contrastive_part_of_cosmos():
    student, images, texts = features(2, 5)
    losses = build_objective("multiview")(student, None, B)
    torch.testing.assert_close(losses.total, mean(images, texts, student.logit_scale))
    assert losses.distill_loss.item() == 0


def test_slip_sets_two_crops_against_two_captions_and_against_each_other():
    student, images, texts = features(2, 2)
    losses = build_objective("slip")(student, None, B)
    torch.testing.assert_close(losses.clip_loss, mean(images, texts, student.logit_scale))
    torch.testing.assert_close(losses.distill_loss, pair(images[0], images[1], student.distill_logit_scale))
    torch.testing.assert_close(losses.total, losses.clip_loss + losses.distill_loss)


def test_silc_aligns_global_crops_with_one_caption_and_distils_all_crops_from_global_ones():
    student, images, texts = features(5, 1)
    teacher, targets, _ = features(2, 1, seed=1)
    losses = build_objective("silc")(student, teacher, B)
    torch.testing.assert_close(losses.clip_loss, mean(images[:2], texts, student.logit_scale))
    torch.testing.assert_close(losses.distill_loss, mean(images, targets, student.distill_logit_scale))
    torch.testing.assert_close(losses.total, losses.clip_loss + losses.distill_loss)


def test_distill_is_cosmos_with_plain_features():
    student, images, texts = features(5, 3)
    teacher, target_images, target_texts = features(2, 2, seed=1)
    losses = build_objective("distill")(student, teacher, B)
    scale = student.distill_logit_scale
    expected = {
        "img_vs_t_img": mean(images, target_images, scale),
        "img_vs_t_txt": mean(images, target_texts, scale),
        "txt_vs_t_img": mean(texts, target_images, scale),
        "txt_vs_t_txt": mean(texts, target_texts, scale),
    }
    assert list(losses.distill_terms) == list(expected)
    for name, term in losses.distill_terms.items():
        torch.testing.assert_close(term, expected[name])
    torch.testing.assert_close(losses.distill_loss, sum(expected.values()) / 4)
    torch.testing.assert_close(losses.clip_loss, mean(images[:2], texts, student.logit_scale))


@pytest.mark.parametrize("name", ["silc", "distill", "cosmos"])
def test_a_missing_teacher_is_said(name: str):
    student, _, _ = features(3, 3, cross=True)
    with pytest.raises(ValueError, match="needs a teacher"):
        build_objective(name)(student, None, B)


@pytest.mark.parametrize("name", ["silc", "distill", "cosmos"])
def test_no_gradient_flows_into_the_teacher(name: str):
    student, _, _ = features(3, 3, cross=True)
    teacher, _, _ = features(2, 2, seed=1)
    build_objective(name)(student, teacher, B).total.backward()
    assert teacher.image_features.grad is None
    assert teacher.text_features.grad is None


def test_objectives_of_several_ranks_count_what_they_send_and_those_of_one_send_nothing():
    for name in OBJECTIVES:
        _, _, objective = step(name, Inputs.some(), World())
        assert objective.collectives.calls == {}
        ranks: Any = build_objective(name, World(1, 4, 1))
        assert {module.collectives.world.size for module in ranks.modules() if hasattr(module, "collectives")} == {4}
