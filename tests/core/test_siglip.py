"""The objective `siglip`: by hand, against open_clip's loss, on several ranks, and in a training."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from open_clip.loss import SigLipLoss
from torch import Tensor

from cosmos_core.checkpoint import read_file
from cosmos_core.objectives.siglip import SigLip
from cosmos_core.train import train
from tests.core.small_steps import CONFIG
from tests.core.test_loss import repeated, some_features
from tests.core.test_train import coloured
from tests.core.threaded_ranks import ThreadedCollectives, play

B = 4

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_constant_model_by_hand():
    # every logit is 20 - 10: B matches lose log(1 + e^-10) each, B (B - 1) others log(1 + e^10), for each sample
    constant = repeated(torch.eye(B)[:1].repeat(B, 1), images=1, texts=1, scale=20.0)
    losses = SigLip()(constant, None, B)
    assert losses.total.item() == pytest.approx(math.log1p(math.exp(-10)) + (B - 1) * math.log1p(math.exp(10)))
    assert losses.distill_loss.item() == 0
    perfect = repeated(torch.eye(B), images=1, texts=1, scale=100.0)
    assert SigLip()(perfect, None, B).total.item() == pytest.approx((B - 1) * math.log1p(math.exp(-10)), rel=1e-4)


def test_value_and_gradients_are_those_of_open_clips_loss():
    features = some_features(B, 1, 1, 6, seed=3, cross=False)
    objective = SigLip(init_bias=-2.0)
    objective(features, None, B).total.backward()
    ours = [value.grad for value in (features.image_features, features.text_features, features.logit_scale)]
    again = [value.detach().clone().requires_grad_() for value in vars(features).values() if value is not None]
    bias = torch.tensor(-2.0, requires_grad=True)
    expected = SigLipLoss()(again[0], again[1], again[2], bias)
    torch.testing.assert_close(SigLip(init_bias=-2.0)(features, None, B).total, expected)
    expected.backward()
    for mine, theirs in zip(ours, again[:3], strict=True):
        torch.testing.assert_close(mine, theirs.grad)
    torch.testing.assert_close(objective.bias.grad, bias.grad)


@pytest.mark.parametrize("size", [2, 3])
def test_the_mean_over_ranks_is_open_clips_loss_of_the_whole_batch(size: int):
    whole = some_features(size * B, 1, 1, 6, seed=5, cross=False)
    images, texts = (x.detach().double() for x in (whole.image_features, whole.text_features))

    def act(ranks: ThreadedCollectives) -> tuple[Tensor, list[Tensor]]:
        own = slice(ranks.world.rank * B, (ranks.world.rank + 1) * B)
        parts = [x[own].clone().requires_grad_() for x in (images, texts)]
        scale = whole.logit_scale.detach().double().requires_grad_()
        objective = SigLip(ranks.world, init_bias=-3.0).double()
        objective.collectives = ranks
        features = replace(whole, image_features=parts[0], text_features=parts[1], logit_scale=scale)
        losses = objective(features, None, B)
        losses.total.backward()
        return losses.total.detach(), [*(x.grad for x in parts), scale.grad, objective.bias.grad]

    found = play(size, act)
    leaves = [x.clone().requires_grad_() for x in (images, texts, whole.logit_scale.detach().double())]
    bias = torch.tensor(-3.0, dtype=torch.float64, requires_grad=True)
    expected = SigLipLoss()(*leaves, bias)
    expected.backward()
    for value, _ in found:
        torch.testing.assert_close(value, expected.detach())
    # DDP and `average_gradients` take the mean over ranks
    for i in (0, 1):
        torch.testing.assert_close(torch.cat([gradients[i] for _, gradients in found]) / size, leaves[i].grad)
    for i, leaf in ((2, leaves[2]), (3, bias)):
        torch.testing.assert_close(sum(gradients[i] for _, gradients in found) / size, leaf.grad)


def test_a_training_moves_the_bias_and_resumes_to_the_bit(tmp_path: Path):
    config = replace(CONFIG, objective="siglip", objective_options={"init_bias": -4.0}, steps=4)
    whole = train(replace(config, out=str(tmp_path / "whole"), save_every=2, keep=0), coloured(8))
    stored = read_file(tmp_path / "whole" / "last.pt")["objective"]
    assert stored["name"] == "siglip"
    assert stored["state"]["bias"].item() != -4.0
    (tmp_path / "again").mkdir()
    (tmp_path / "whole" / "step-00000002.pt").rename(tmp_path / "again" / "step-00000002.pt")
    again = train(replace(config, out=str(tmp_path / "again")), coloured(8))
    for name, value in whole.student.state_dict().items():
        assert torch.equal(value, again.student.state_dict()[name]), name
    assert torch.equal(read_file(tmp_path / "again" / "last.pt")["objective"]["state"]["bias"], stored["state"]["bias"])
