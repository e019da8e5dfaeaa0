"""A batch in parts has the gradients of the batch in one piece."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cosmos_core.accumulate import join_features, part_features, split_batch
from cosmos_core.data import Batch
from cosmos_core.errors import RequestError
from cosmos_core.model import Features
from cosmos_core.objectives import OBJECTIVES
from cosmos_core.step import Stepper
from tests.core.small_steps import CONFIG, gradients, noise, stepper

pytestmark = pytest.mark.usefixtures("one_thread")


def backward(taking: Stepper, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    taking.run.optimizer.zero_grad(set_to_none=True)
    losses = taking.backward(batch)
    return losses.total.detach(), gradients(taking.run.student)


@pytest.mark.parametrize("parts", [2, 4, 8])
@pytest.mark.parametrize("objective", list(OBJECTIVES))
def test_gradients_of_a_batch_in_parts_are_those_of_the_batch(objective: str, parts: int):
    config = replace(CONFIG, objective=objective)
    batch = noise(config, dtype=torch.float64)
    loss, whole = backward(stepper(config, torch.float64), batch)
    again, accumulated = backward(stepper(replace(config, accumulate=parts), torch.float64), batch)
    assert again.item() == pytest.approx(loss.item(), rel=1e-12)
    assert list(accumulated) == list(whole)
    assert "logit_scale" in whole  # gets its gradient once, not once a part
    for name, gradient in whole.items():
        torch.testing.assert_close(accumulated[name], gradient, rtol=1e-9, atol=1e-13, msg=name)


def test_in_float32_they_agree_to_rounding():
    batch = noise(CONFIG)
    _, whole = backward(stepper(CONFIG), batch)
    _, accumulated = backward(stepper(replace(CONFIG, accumulate=4)), batch)
    for name, gradient in whole.items():
        torch.testing.assert_close(accumulated[name], gradient, rtol=1e-4, atol=2e-6, msg=name)


def test_the_mean_of_the_losses_of_the_parts_would_be_another_thing():
    batch = noise(CONFIG, dtype=torch.float64)
    taking = stepper(CONFIG, torch.float64)
    loss, whole = backward(taking, batch)
    halves = [
        Batch([v[i : i + 4] for v in batch.images], batch.texts[i : i + 4], batch.keys[i : i + 4]) for i in (0, 4)
    ]
    found = [backward(taking, half) for half in halves]
    assert abs(sum(x.item() for x, _ in found) / 2 - loss.item()) > 0.1
    assert not torch.allclose((found[0][1]["logit_scale"] + found[1][1]["logit_scale"]) / 2, whole["logit_scale"])


def test_rows_of_parts_are_put_in_the_places_that_they_have_in_the_whole_by_hand():
    # two views of samples 0..3; the value is view * 10 + sample
    whole = torch.tensor([0, 1, 2, 3, 10, 11, 12, 13]).float().unsqueeze(1)
    first, second = torch.tensor([0, 1, 10, 11]).float(), torch.tensor([2, 3, 12, 13]).float()
    assert part_features(whole, 0, parts=2, size=2).flatten().tolist() == first.tolist()
    assert part_features(whole, 1, parts=2, size=2).flatten().tolist() == second.tolist()
    one = torch.ones(())
    parts = [Features(rows.unsqueeze(1), -rows.unsqueeze(1), one, one) for rows in (first, second)]
    put_together = join_features(parts, size=2)
    assert torch.equal(put_together.image_features, whole)
    assert torch.equal(put_together.text_features, -whole)
    assert put_together.image_cross_features is None


def test_parts_have_the_samples_in_order_with_captions_one_after_the_other():
    images = [torch.arange(4.0).reshape(4, 1, 1, 1), 10 + torch.arange(4.0).reshape(4, 1, 1, 1)]
    texts = torch.tensor([[[0], [100]], [[1], [101]], [[2], [102]], [[3], [103]]])  # (4, 2, 1)
    first, second = split_batch(images, texts, 2)
    assert [view.flatten().tolist() for view in second.images] == [[2, 3], [12, 13]]
    assert first.texts.flatten().tolist() == [0, 1, 100, 101]
    assert second.texts.flatten().tolist() == [2, 3, 102, 103]
    assert (first.size, second.size) == (2, 2)


def test_parts_that_do_not_divide_the_batch_are_refused_before_and_at_the_step():
    with pytest.raises(
        RequestError, match="accumulate=3 does not divide the 8 samples that a rank has of a batch"
    ) as e:
        stepper(replace(CONFIG, accumulate=3))
    assert "\n" not in str(e.value)
    taking = stepper(replace(CONFIG, accumulate=4))
    with pytest.raises(RequestError, match="accumulate=4 does not divide the 6 samples"):
        taking(noise(replace(CONFIG, batch_size=6)))


def test_the_loss_is_computed_once_whatever_the_number_of_parts():
    taking = stepper(replace(CONFIG, accumulate=4))
    sizes = []
    taking.objective.register_forward_pre_hook(lambda module, inputs: sizes.append(inputs[2]))
    taking(noise(CONFIG))
    assert sizes == [8]


def test_in_mixed_precision_no_weight_is_cut_off_from_its_gradient():
    found = []
    for parts in (1, 4):
        taking = stepper(replace(CONFIG, accumulate=parts))
        taking.dtype = torch.bfloat16  # left out on a CPU otherwise
        found.append(backward(taking, noise(CONFIG))[1])
    whole, accumulated = found
    assert list(whole) == list(accumulated)
    difference = torch.stack([(whole[name] - accumulated[name]).norm() for name in whole]).norm()
    assert difference < 0.05 * torch.stack([gradient.norm() for gradient in whole.values()]).norm()
