"""benchmarks/train_step.py: the peer gives the same loss and step as ours, and the last line is the record."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks import processes, train_step, train_step_cases
from benchmarks.agreement import LossAndGradients, relative_difference
from benchmarks.peers.plain_loss import PlainLoss
from benchmarks.processes import run_in_processes
from benchmarks.timing import Times, take_turns
from benchmarks.train_step_plan import TOLERANCE, TrainStepPlan, ViewCounts
from cosmos_core.errors import RequestError
from cosmos_core.world import World
from tests.core.test_loss import some_features
from tests.helpers.fork_server import SERVER
from tests.helpers.tiny_runs import TINY as TINY_MODEL
from tests.oracles.cosmos_loss import cosmos_loss

TINY = TrainStepPlan(
    loss=ViewCounts(2, 3, 3),
    width=8,
    steps=(ViewCounts(3, 3, 2),),
    loss_repetitions=1,
    step_repetitions=1,
    model=TINY_MODEL,
    counted=((2, 2), (3, 3)),
)


pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_plain_loss_equals_the_slow_oracle():
    student, teacher = some_features(3, 4, 5, 6, seed=0), some_features(3, 2, 2, 6, seed=1, cross=False)
    expected = cosmos_loss(student, teacher, 3)
    losses = PlainLoss()(student, teacher, 3)
    assert losses.total.item() == pytest.approx(expected["total"].item(), rel=1e-6)
    assert losses.clip_loss.item() == pytest.approx(expected["clip_loss"].item(), rel=1e-6)
    for name, term in losses.distill_terms.items():
        assert term.item() == pytest.approx(expected[name].item(), rel=1e-6)


def test_in_one_process_loss_and_step_of_the_peer_equal_ours():
    difference, times = train_step_cases.loss_case(World(), TINY, ("without_gradient",))
    assert difference < 1e-5
    assert set(times.seconds) == {"ours", "without_gradient"}
    difference, times = train_step_cases.step_case(World(), TINY, TINY.steps[0], "without_gradient")
    assert difference < 1e-5
    assert set(times.seconds) == {"ours", "plain", "plain, our forward"}
    turns = 4 * TINY.step_repetitions  # the plan has the repetitions with four processes
    assert all(len(seconds) == turns for seconds in times.seconds.values())


def test_results_that_differ_are_not_timed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        PlainLoss, "mean_over_pairs", lambda self, firsts, seconds, scale: 1.01 * scale * firsts[0].sum()
    )
    difference, times = train_step_cases.loss_case(World(), TINY, ("without_gradient",))
    assert difference > TOLERANCE
    assert times.seconds == {}


def test_a_difference_is_relative_to_the_whole_gradient_and_infinite_for_nan():
    def result(loss: float, x: float, scale: float) -> LossAndGradients:
        return LossAndGradients(loss, {"x": torch.tensor([0.0, x]), "logit_scale": torch.tensor(scale)})

    reference = result(2.0, 3.0, 4.0)  # a gradient of norm 5
    assert relative_difference(reference, reference, World()) == 0
    assert relative_difference(result(2.0, 3.5, 4.0), reference, World()) == pytest.approx(0.1)
    assert relative_difference(result(2.5, 3.0, 4.0), reference, World()) == pytest.approx(0.25)
    assert relative_difference(result(2.0, 3.0, 5.0), reference, World()) == pytest.approx(0.2)
    assert relative_difference(result(2.0, float("nan"), 4.0), reference, World()) == float("inf")


def test_arms_take_turns_and_the_first_one_changes():
    order: list[str] = []
    arms = {name: lambda name=name: order.append(name) for name in "abc"}
    times = take_turns(arms, 3, World(), warm_up=1)
    assert [order[i : i + 3] for i in range(0, 12, 3)] == [list("cab"), list("abc"), list("bca"), list("cab")]
    assert all(len(seconds) == 3 for seconds in times.seconds.values())


def test_a_ratio_is_the_median_of_the_ratios_of_the_turns():
    times = Times({"ours": [1.0, 2.0, 1.0], "plain": [3.0, 4.0, 5.0]})
    assert times.median("plain") == 4
    assert times.ratio("plain", "ours") == 3  # of 3, 2 and 5
    assert times.quartiles("plain", "ours") == (2.5, 4.0)


def test_two_processes_agree_and_our_number_of_collectives_does_not_depend_on_views(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    monkeypatch.setattr(train_step, "QUICK", TINY)
    monkeypatch.setattr(processes, "CONTEXT", SERVER)
    out = tmp_path / "train_step.md"
    assert train_step.main(["--quick", "--processes", "2", "--threads", "1", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    figures = json.loads(printed.splitlines()[-1])["figures"]
    assert figures["loss_2_processes"]["largest_difference"] < 1e-5
    assert figures[f"step_2_processes, {TINY.steps[0].label}"]["largest_difference"] < 1e-5

    counts = figures["collectives"]
    assert set(counts["loss, ours"].values()) == {3}  # the gather, the sum, and the gradients of the gather
    assert len(set(counts["step, ours"].values())) == 1
    # two gathers for each pair of views: 2 x 2 + 4 x 4 pairs, then 2 x 3 + 6 x 4
    assert counts["loss, without_gradient"] == {"2 + 2": 40, "3 + 3": 60}
    assert "| loss, without gradient | 40 | 60 |" in printed
    assert "| loss, without gradient | 40 | 60 |" in out.read_text()


def test_the_last_line_has_the_names_of_the_contract(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def measured(size: int) -> dict:
        steps = {"ours": [1.0, 1.0, 1.0], "plain": [1.0 + size, 3.0, 1.0 + size], "plain, our forward": [1.0, 2.0, 2.0]}
        loss = {"ours": [1.0, 2.0, 1.0], "local": [9.0, 9.0, 9.0], "without_gradient": [6.0, 6.0, 6.0]}
        return {
            "environment": {"hardware": {"cores": 2, "threads": 1}},
            "loss_difference": 0.0,
            "loss": loss,
            "fastest": "without_gradient",
            "steps": [{"views": "4 + 4", "difference": 0.0, "seconds": steps}],
        }

    monkeypatch.setattr(train_step, "run_in_processes", lambda *_, **__: {size: measured(size) for size in (1, 2, 4)})
    assert train_step.main(["--quick"]) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(record) == {"name", "ratios", "figures", "environment"}
    assert record["name"] == "train_step"
    assert record["ratios"]["loss_4_processes"] == 6  # to the fastest peer, of turns of 6, 3 and 6
    assert record["ratios"]["step"] == 2  # the smallest of 2 (1 process), 3 and 5
    assert record["ratios"]["step_same_forward"] == 2
    assert record["environment"]["processes"]["oversubscribed"] == "4 processes share 2 cores"


def test_a_loss_that_differs_from_the_peer_prints_no_ratios(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    measured = {"loss_difference": 0.1, "steps": [], "loss": {}}
    monkeypatch.setattr(train_step, "run_in_processes", lambda *arguments, **options: {2: measured})
    assert train_step.main(["--quick"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert "loss in 2 processes by 0.1" in printed.err


def test_a_process_that_fails_is_named_and_ends_the_benchmark(capfd: pytest.CaptureFixture[str]):
    with pytest.raises(RequestError, match="rank 0 of 1 processes failed: AttributeError"):
        run_in_processes([1], "benchmarks.timing:no_such_work", threads=1)
    assert "Traceback" in capfd.readouterr().err
