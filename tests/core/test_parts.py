"""`freeze` and `layer_decay`: which parameters they mean, worked by hand, and what a step then does."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cosmos_core.config import TrainConfig, load_preset
from cosmos_core.configs import PRESETS
from cosmos_core.errors import RequestError
from cosmos_core.export import original_layout
from cosmos_core.objectives.base import CROSS_ATTENTION
from cosmos_core.parts import Part, frozen_names, parse_parts, place_of
from cosmos_core.prepare import initial_model
from cosmos_core.schedule import parameter_groups
from cosmos_core.sizing import memory
from cosmos_core.train import train
from cosmos_core.workload import Workload
from tests.core.small_steps import CONFIG, MODEL, gradients, noise, parameters, stepper
from tests.core.test_train import coloured

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = [name for name, _ in initial_model(MODEL, 0).named_parameters()]
BLOCK = (
    *("ln_1.weight", "ln_1.bias", "attn.in_proj_weight", "attn.in_proj_bias", "attn.out_proj.weight"),
    *("attn.out_proj.bias", "ln_2.weight", "ln_2.bias", "mlp.c_fc.weight", "mlp.c_fc.bias", "mlp.c_proj.weight"),
    "mlp.c_proj.bias",
)
IMAGE_EMBEDDINGS = {
    *("visual.class_embedding", "visual.positional_embedding", "visual.conv1.weight"),
    *("visual.ln_pre.weight", "visual.ln_pre.bias"),
}
IMAGE_HEAD = {"visual.ln_post.weight", "visual.ln_post.bias", "visual.proj"}
TEXT_EMBEDDINGS = {"positional_embedding", "token_embedding.weight"}
TEXT_HEAD = {"ln_final.weight", "ln_final.bias", "text_projection"}


def block(tower: str, number: int) -> set[str]:
    prefix = {"image": "visual.transformer", "text": "transformer"}[tower]
    return {f"{prefix}.resblocks.{number}.{name}" for name in BLOCK}


def test_every_parameter_is_in_one_part_and_the_parts_are_these():
    image = IMAGE_EMBEDDINGS | block("image", 0) | block("image", 1) | IMAGE_HEAD
    text = TEXT_EMBEDDINGS | block("text", 0) | block("text", 1) | TEXT_HEAD
    assert frozen_names(NAMES, "image") == image
    assert frozen_names(NAMES, "text") == text
    assert frozen_names(NAMES, "temperatures") == {"logit_scale", "distill_logit_scale"}
    assert frozen_names(NAMES, "poolers") == {name for name in NAMES if name.startswith(CROSS_ATTENTION)}
    assert set(NAMES) == image | text | frozen_names(NAMES, "poolers, temperatures")
    assert frozen_names(NAMES, "image.embeddings, image.blocks.0") == IMAGE_EMBEDDINGS | block("image", 0)
    assert frozen_names(NAMES, "text.blocks.0-1,text.head") == block("text", 0) | block("text", 1) | TEXT_HEAD
    assert frozen_names(NAMES, "") == set()
    assert parse_parts("text.blocks.3-12") == [Part("text.blocks.3-12", "text", "blocks", 3, 12)]


@pytest.mark.parametrize(
    ("freeze", "why"),
    [
        ("images", "'images' names no part of a model; parts are image, text, image.embeddings, image.blocks.0-5"),
        ("image.blocks", "'image.blocks' names no part"),
        ("image.blocks.5-2", "image.blocks.5-2 ends before it begins; write image.blocks.2-5"),
        ("image.blocks.-1", "names no part"),
    ],
)
def test_words_that_name_no_part_are_refused_at_once(freeze: str, why: str):
    with pytest.raises(RequestError, match=why):
        load_preset("toybox", [f"freeze={freeze}"])


@pytest.mark.parametrize(
    ("freeze", "why"),
    [
        ("image.blocks.1-2", "the model has no image.blocks.1-2; the blocks of its image tower are 0 to 1"),
        ("image, text, poolers, temperatures", "leaves no parameter of the model to train"),
        ("image,text,temperatures", "leaves no parameter to train that the objective uses"),
    ],
)
def test_parts_that_the_model_lacks_or_that_are_all_of_it_are_refused(freeze: str, why: str):
    with pytest.raises(RequestError, match=why):
        stepper(replace(CONFIG, objective="clip", freeze=freeze))


@pytest.mark.parametrize("decay", ["0", "1.5", "-1", ".nan"])
def test_a_layer_decay_outside_0_to_1_is_refused(decay: str):
    with pytest.raises(RequestError, match="layer_decay must be above 0 and at most 1"):
        load_preset("toybox", [f"layer_decay={decay}"])


def test_groups_of_layer_decay_by_hand():
    model = initial_model(MODEL, 0)
    by_id = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = parameter_groups(model, 0.2, 0.5)
    assert [(group["lr_scale"], group["weight_decay"]) for group in groups] == [
        (1.0, 0.0), (1.0, 0.2), (0.5, 0.0), (0.5, 0.2), (0.25, 0.0), (0.25, 0.2), (0.125, 0.0), (0.125, 0.2),
    ]  # fmt: skip
    names = [{by_id[id(parameter)] for parameter in group["params"]} for group in groups]
    assert sum(map(len, names)) == len(NAMES)
    assert names[2] | names[3] == block("image", 1) | block("text", 1)
    assert names[4] | names[5] == block("image", 0) | block("text", 0)
    assert names[6] | names[7] == IMAGE_EMBEDDINGS | TEXT_EMBEDDINGS
    assert names[6] == {"visual.class_embedding", "visual.ln_pre.weight", "visual.ln_pre.bias"}
    assert names[1] >= {"visual.proj", "text_projection", "image_token_mapping.weight"}
    assert names[0] >= {"logit_scale", "distill_logit_scale", "ln_final.bias", "visual.ln_post.weight"}


def test_towers_of_different_depth_have_their_own_scale():
    groups = parameter_groups(initial_model(PRESETS["toybox"], 0), 0.1, 0.5)
    # 4 blocks of images and 2 of texts: the embeddings are 5 and 3 steps below the head
    assert sorted({group["lr_scale"] for group in groups}) == [0.5**depth for depth in (5, 4, 3, 2, 1, 0)]
    assert place_of("token_embedding.weight").owner == "text"


def test_without_layer_decay_groups_are_as_they_were():
    groups = parameter_groups(initial_model(MODEL, 0), 0.2, 1.0)
    assert [sorted(group) for group in groups] == [["params", "weight_decay"]] * 2


def test_the_first_step_of_adamw_moves_each_layer_by_its_rate():
    # AdamW's first update is lr * g / (|g| + eps): lr itself, whatever the gradient, where there is no weight decay
    config = replace(CONFIG, layer_decay=0.5, weight_decay=0.0, eps=1e-30, warmup=0, lr=1e-3, lr_schedule="const")
    taking = stepper(config, torch.float64)
    before = parameters(taking.run.student)
    taking(noise(config, dtype=torch.float64))
    moved = {name: (value - before[name]).abs().max().item() for name, value in parameters(taking.run.student).items()}
    scales = {"visual.proj": 1, "image_token_mapping.weight": 1, "transformer.resblocks.1.mlp.c_fc.weight": 0.5}
    scales |= {"visual.transformer.resblocks.0.ln_1.weight": 0.25, "visual.conv1.weight": 0.125}
    scales |= {"token_embedding.weight": 0.125}
    for name, scale in scales.items():
        assert moved[name] == pytest.approx(1e-3 * scale, rel=1e-6), name


def test_a_plan_counts_no_gradients_of_frozen_parts_and_refuses_parts_that_are_not_there():
    counts = [sum(value.numel() for name, value in parameters(initial_model(MODEL, 0)).items() if name in names)
              for names in (NAMES, frozen_names(NAMES, "text"))]  # fmt: skip
    plan = memory(Workload(replace(CONFIG, freeze="text")))
    assert plan["gradients"] == 4 * (counts[0] - counts[1])
    with pytest.raises(RequestError, match=r"the model has no text.blocks.7"):
        memory(Workload(replace(CONFIG, freeze="text.blocks.7")))


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize(("objective", "freeze"), [("clip", "image"), ("cosmos", "text"), ("cosmos", "image.blocks.0")])
def test_frozen_parts_stay_and_the_others_get_the_same_gradients(objective: str, freeze: str, parts: int):
    config = replace(CONFIG, objective=objective)
    whole = stepper(config, torch.float64)
    whole.backward(noise(config, dtype=torch.float64))
    expected = gradients(whole.run.student)
    taking = stepper(replace(config, freeze=freeze, accumulate=parts), torch.float64)
    before = parameters(taking.run.student)
    frozen = frozen_names(NAMES, freeze)
    taking.backward(noise(config, dtype=torch.float64))
    found = gradients(taking.run.student)
    assert found.keys() == expected.keys() - frozen
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name])
    taking(noise(config, dtype=torch.float64))
    for name, value in parameters(taking.run.student).items():
        assert torch.equal(value, before[name]) == (name not in found), name


def test_a_resume_has_the_same_bits_and_needs_the_same_parts(tmp_path: Path):
    settings: dict[str, Any] = {"steps": 4, "save_every": 2, "keep": 0, "freeze": "image.blocks.0", "layer_decay": 0.5}
    config: TrainConfig = replace(CONFIG, **settings)
    whole = train(replace(config, out=str(tmp_path / "whole")), coloured(8))
    (tmp_path / "again").mkdir()
    (tmp_path / "whole" / "step-00000002.pt").rename(tmp_path / "again" / "step-00000002.pt")
    for change, why in (
        ({"freeze": ""}, "freeze 'image.blocks.0' there"),
        ({"layer_decay": 1.0}, "layer_decay 0.5 th"),
    ):
        with pytest.raises(RequestError, match=why):
            train(replace(config, out=str(tmp_path / "again"), **change), coloured(8))
    again = train(replace(config, out=str(tmp_path / "again")), coloured(8))
    for name, value in whole.student.state_dict().items():
        assert torch.equal(value, again.student.state_dict()[name]), name
    # the original's optimizer has two groups, so that of this run is not for it
    assert "optimizer" not in original_layout(tmp_path / "again" / "last.pt")
