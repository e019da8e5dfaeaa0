"""Training on a pretended card: every objective, accumulation, both kinds of mixed precision, resuming."""

from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import pytest
import torch

from cosmos_core.model import COSMOS
from cosmos_core.step import Stepper
from cosmos_core.step_numbers import StepNumbers
from cosmos_core.step_reports import StepReports, _Unread
from cosmos_core.train import Callback, train
from cosmos_core.views import MultiCrop
from cosmos_core.world import World
from tests.core.test_train import CONFIG
from tests.device.pretended import pretended_card
from tests.helpers.tiny_runs import coloured

ON_CARD = replace(CONFIG, device="cuda", precision="fp32", steps=3)
pytestmark = pytest.mark.usefixtures("one_thread")


class StopAfter(Callback):
    def __init__(self, steps):
        self.steps = steps

    def is_due(self, step, ends_epoch):
        return step == self.steps

    def on_step(self, run):
        raise ZeroDivisionError


def losses(config):
    return [line["loss"] for line in train(config, coloured(12)).metrics]


@pytest.mark.parametrize(
    ("objective", "accumulate"),
    [*product(["clip", "slip", "silc", "multiview", "distill", "cosmos"], [1, 2]), ("siglip", 2)],
)
def test_losses_in_float32_are_those_of_the_cpu_and_texts_are_trimmed(objective, accumulate, monkeypatch):
    config = replace(ON_CARD, objective=objective, accumulate=accumulate)
    expected = losses(replace(config, device="cpu"))
    lengths, whole = [], COSMOS.text_tower

    def text_tower(core, ids):
        lengths.append(ids.shape[1])
        return whole(core, ids)

    monkeypatch.setattr(COSMOS, "text_tower", text_tower)
    with pretended_card() as card:
        assert losses(config) == pytest.approx(expected, rel=1e-5)
    assert card.kernels
    assert set(lengths) == {8, 10}  # a multiple of 8, and the whole context


def test_losses_on_mps_are_those_of_the_cpu():
    with pretended_card("mps") as card:
        found = losses(replace(ON_CARD, device="mps"))
    assert card.kernels
    assert found == pytest.approx(losses(replace(ON_CARD, device="cpu")), rel=1e-5)


@pytest.mark.parametrize(("bf16", "scaled"), [(True, False), (False, True)])
def test_auto_is_mixed_precision_with_loss_scaling_where_it_is_needed(bf16, scaled):
    with pretended_card(bf16=bf16):
        result = train(replace(ON_CARD, precision="auto"), coloured(12))
    assert all(0 < line["loss"] < 100 for line in result.metrics)
    assert any("skipped_steps" in line for line in result.metrics) or not scaled


def test_a_run_on_the_card_resumes_to_the_same_losses(tmp_path):
    with pretended_card():
        whole = losses(replace(ON_CARD, steps=4, out=str(tmp_path / "whole"), log_every=1))
        parts = replace(ON_CARD, steps=4, out=str(tmp_path / "parts"), log_every=1, save_every=2)
        with pytest.raises(ZeroDivisionError):
            train(parts, coloured(12), callbacks=[StopAfter(3)])
        assert losses(parts) == pytest.approx(whole, rel=1e-6)


@pytest.mark.parametrize(
    ("change", "bf16"),
    [
        ({"batch_size": 8, "grad_clip": 0.5, "log_every": 1}, True),
        ({"objective": "clip", "non_finite": "skip", "precision": "auto", "accumulate": 2}, True),
        ({"objective": "silc", "precision": "auto", "ema_before_step": False}, False),
        ({"objective": "siglip", "save_every": 100, "save_minutes": 60.0}, True),
    ],
)
def test_the_host_waits_once_a_step_and_only_after_the_next_one_was_launched(change, bf16, monkeypatch, tmp_path):
    launch, launches = Stepper.launch, []

    def counted(stepper, batch):
        before = card.launched()
        launched = launch(stepper, batch)
        launches.append((before, card.launched()))
        return launched

    monkeypatch.setattr(Stepper, "launch", counted)
    with pretended_card(bf16=bf16) as card:
        train(replace(ON_CARD, steps=6, warmup=1, out=str(tmp_path), **change), coloured(32))
    # constants are made before the third step, and nothing follows the last
    (first, _), *_ = middle = launches[2:-1]
    waits = [count for count in card.launched_before_waits if first < count < launches[-1][1]]
    assert waits == [after for _, after in middle]  # each for the step before, whose log line needs no other
    assert {place.partition(":")[0] for place in card.late_waits} == {"event at cosmos_core/host_copy.py"}
    assert card.late_waits.total() == 5


def test_pixels_travel_in_one_pinned_copy_for_each_size_while_a_step_computes():
    def copies_of(steps):
        order = []

        class Order(Callback):
            def on_step(self, run):
                order.append(sum(count for place, count in card.copies.items() if "data/loader.py" in place))

        with pretended_card() as card:
            config = replace(ON_CARD, steps=steps, warmup=1, views=MultiCrop(global_size=32, local_size=16))
            train(config, coloured(32), callbacks=[Order()])
        assert not any("pageable" in place and "loader" in place for place in card.copies)
        return card, order

    card, order = copies_of(3)
    # uint8 views of two sizes; the third batch is on its way before the second step ends, and there is no fourth
    pixels = [count for place, count in card.copies.items() if "pinned at cosmos_core/data/loader.py" in place]
    assert sum(pixels) >= 6
    assert order[0] > 0
    assert order[1] == order[2]
    assert not card.waits_in("data/")
    assert card.waits_in("device_views.py") <= 1  # for a constant, once in a process


def test_a_cpu_run_and_a_card_change_views_alike():
    with pretended_card():
        found = losses(replace(ON_CARD, precision="fp32"))
    expected = losses(replace(ON_CARD, device="cpu", augment="device"))
    assert found == pytest.approx(expected, rel=1e-5)


def test_answers_of_ranks_that_meet_on_the_cpu_are_read_with_the_numbers_of_the_card(monkeypatch):
    monkeypatch.setattr(World, "any_of", lambda world, flags: torch.tensor([float(flag) for flag in flags]))
    with pretended_card() as card:
        numbers = StepNumbers()
        numbers.add({"loss": torch.ones((), device=card.device)})
        stepper = SimpleNamespace(device=card.device, run=SimpleNamespace(world=World(size=2)))
        reports = StepReports(stepper, None, None, [], None, None)
        reports.unread = _Unread(SimpleNamespace(numbers=numbers), None, [], 0)
        reports.read_later([True, False])
        assert numbers.read() == {"loss": 1.0, "request 0": 1.0, "request 1": 0.0}
