"""Parameters of an objective from a plug-in: trained, shared by ranks, saved, resumed, refused where they differ."""

import copy
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed as dist

from cosmos_core.checkpoint import load_checkpoint, read_file
from cosmos_core.config import TrainConfig, load_preset
from cosmos_core.errors import RequestError
from cosmos_core.networks import build_optimizer
from cosmos_core.objective_state import plugin_facts
from cosmos_core.objectives.options import checked_options, options_of
from cosmos_core.plugins import installed
from cosmos_core.prepare import initial_model, initial_objective
from cosmos_core.rank_agreement import settings, state_facts
from cosmos_core.run_state import MAY_CHANGE, incompatible_settings, read_training_config
from cosmos_core.sizing import Workload, loss_costs, memory
from cosmos_core.step import Run, Stepper
from cosmos_core.train import Callback, train
from cosmos_core.world import World, leave_world
from tests.core.siglip import SigLip, put_distribution
from tests.core.small_steps import CONFIG as SMALL
from tests.core.small_steps import gradients, noise, parameters, share, stepper
from tests.core.test_snapshots import same
from tests.core.test_step import broken
from tests.core.test_train import CONFIG
from tests.helpers.fork_server import run_ranks
from tests.helpers.tiny_runs import coloured

CLASSES = {"sigmoid": "SigLip", "projected": "Projected", "forgetful": "Forgetful"}
ENTRIES = "\n".join(f"{name} = tests.core.siglip:{cls}" for name, cls in CLASSES.items())


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """The plug-in in version 1.0; called, another version of it in its place."""
    put = tmp_path / "plugins"
    monkeypatch.syspath_prepend(str(put_distribution(put / "1.0", ENTRIES)))

    def instead(version: str, entries: str = ENTRIES) -> None:
        monkeypatch.syspath_prepend(str(put_distribution(put / version, entries, version)))

    return instead


def siglip(**changes: Any) -> TrainConfig:
    return replace(CONFIG, objective="sigmoid", **changes)


def own(taking: Stepper) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in taking.objective.state_dict().items()}


# --- one process ------------------------------------------------------------------------------------------------------


def test_parameters_of_the_objective_are_trained_by_the_rule_for_gains_and_biases():
    taking = stepper(replace(SMALL, objective="projected", objective_options={"width": 16}))
    groups = taking.run.optimizer.param_groups
    names = {id(value): name for name, value in taking.objective.named_parameters()}
    held = [(sorted(names.get(id(one), "") for one in group["params"]), group["weight_decay"]) for group in groups[2:]]
    assert held == [(["bias", "head.bias", "log_scale"], 0.0), (["head.weight"], SMALL.weight_decay)]
    before = own(taking)
    taking(noise(taking.run.config))
    after = own(taking)
    assert [name for name, value in after.items() if torch.equal(value, before[name])] == []
    # moved by their first step of Adam: the learning rate, since weight decay leaves them alone
    assert (after["bias"] - before["bias"]).abs().item() == pytest.approx(taking.lr(0), rel=1e-4)


def test_what_an_objective_averages_follows_the_momentum_of_the_teacher():
    taking = stepper(replace(SMALL, objective="projected", objective_options={"width": 16}, ema_before_step=False))
    before = own(taking)
    taking(noise(taking.run.config))
    after = own(taking)
    expected = 0.9 * before["teacher_head.weight"] + 0.1 * after["head.weight"]
    torch.testing.assert_close(after["teacher_head.weight"], expected)


def test_initial_values_come_from_the_seed_and_leave_the_global_generator_alone():
    config = replace(SMALL, objective="projected", objective_options={"width": 16})
    state = torch.get_rng_state()
    first, again, other = (initial_objective(replace(config, seed=seed)) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert same(dict(first.state_dict()), dict(again.state_dict()))
    assert not torch.equal(first.head.weight, other.head.weight)


def test_the_gradient_that_is_clipped_holds_the_objectives_own():
    config = replace(SMALL, objective="sigmoid", grad_clip=1e-3)
    taking = stepper(config)
    norm = taking(noise(config))["grad_norm"]
    kept = [p.grad for p in [*taking.run.student.parameters(), *taking.objective.parameters()] if p.grad is not None]
    assert torch.nn.utils.get_total_norm(kept).item() == pytest.approx(1e-3, rel=1e-3)
    scale = norm / 1e-3
    assert taking.objective.bias.grad.abs().item() * scale > 0.5  # of 8 pairs that are far from their labels
    students = torch.nn.utils.get_total_norm([p.grad for p in taking.run.student.parameters() if p.grad is not None])
    assert students.item() * scale < norm


@pytest.mark.parametrize("parts", [2, 4])
def test_a_batch_in_parts_has_the_gradients_of_the_batch(parts: int):
    config = replace(SMALL, objective="sigmoid")
    batch = noise(config, dtype=torch.float64)
    whole, accumulated = stepper(config, torch.float64), stepper(replace(config, accumulate=parts), torch.float64)
    for taking in (whole, accumulated):
        taking.backward(batch)
    for of in ("student", "objective"):
        found, expected = (gradients(getattr(one.run, of)) for one in (accumulated, whole))
        assert list(found) == list(expected)
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-13, msg=name)
    assert set(gradients(whole.objective)) == {"bias", "log_scale"}
    assert own(accumulated)["samples"] == own(whole)["samples"] == 8  # called once, not once a part


def test_scaled_gradients_of_float16_are_unscaled_for_the_objective_too():
    config = replace(SMALL, objective="sigmoid", grad_clip=1.0)
    plain, scaled = stepper(config), stepper(config)
    scaled.scaler = scaled.run.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for taking in (plain, scaled):
        taking(noise(config))
    assert same(own(scaled), own(plain))


@pytest.mark.parametrize("scale", [0.0, 1024.0])
def test_a_step_that_is_left_out_leaves_parameters_and_buffers(scale: float):
    config = replace(SMALL, objective="sigmoid", non_finite="skip")
    taking = stepper(config)
    if scale:
        taking.scaler = taking.run.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    before = own(taking)
    taking(broken(noise(config)))
    assert taking.run.skipped_steps == 1
    assert same(own(taking), before)


def test_an_optimizer_without_the_objectives_parameters_is_refused():
    student = initial_model(SMALL.model, 0)
    config = replace(SMALL, objective="sigmoid")
    run = Run(config, student, initial_model(SMALL.model, 1), build_optimizer(config, student), steps=20)
    with pytest.raises(ValueError, match="the optimizer lacks parameters of the objective"):
        Stepper(run)


# --- checkpoints ------------------------------------------------------------------------------------------------------


def test_a_run_that_goes_on_has_the_bits_of_one_that_was_never_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config = siglip(out=str(tmp_path / "whole"), save_every=2, keep=0, objective_options={"init_bias": -2})
    whole = train(config, coloured(8))
    content = read_file(tmp_path / "whole" / "step-00000006.pt")
    stored = content["objective"]
    assert (stored["name"], stored["distribution"], stored["version"]) == ("sigmoid", "learned-bias", "1.0")
    assert set(stored["state"]) == {"bias", "log_scale", "samples"}
    assert stored["state"]["bias"].item() not in (-2.0, -10.0)
    assert stored["state"]["samples"].item() == 24
    assert content["training"]["objective_options"] == {"init_bias": -2.0}

    part = tmp_path / "part"
    part.mkdir()
    for name in ("step-00000004.pt", "metrics.jsonl"):
        shutil.copy(tmp_path / "whole" / name, part / name)
    again = train(replace(config, out=str(part)), coloured(8))
    resumed = read_file(part / "step-00000006.pt")
    for key in ("student", "teacher", "optimizer", "objective"):
        assert same(resumed[key], content[key]), key
    assert [line["loss"] for line in again.metrics] == [line["loss"] for line in whole.metrics]

    monkeypatch.setenv("COSMOS_EVAL_PLUGINS", "0")  # weights are weights: evaluating them needs no objective
    assert load_checkpoint(part / "last.pt") is not None


def started(folder: Path) -> TrainConfig:
    """A training that was stopped after its second step."""
    config = siglip(out=str(folder), save_every=2)

    class Stop(Callback):
        def on_step(self, run: Run) -> None:
            if run.step == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, coloured(8), callbacks=[Stop()])
    return config


class Notes:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, line: str) -> None:
        self.lines.append(line)

    def task(self, description: str, total: int, unit: str = "it") -> Any:
        return nullcontext(lambda n, text="": None)


def test_another_version_of_the_plugin_goes_on_and_says_so(tmp_path: Path, plugin: Callable[..., None]):
    config, notes = started(tmp_path / "run"), Notes()
    plugin("1.1")
    train(config, coloured(8), reporter=notes)
    said = [line for line in notes.lines if "learned-bias" in line]
    assert said == ["objective sigmoid is of learned-bias 1.1 now, and was of learned-bias 1.0 before"]
    assert read_file(tmp_path / "run" / "last.pt")["objective"]["version"] == "1.1"


def test_a_checkpoint_of_other_parameters_is_refused_and_stays(tmp_path: Path, plugin: Callable[..., None]):
    config = started(tmp_path / "run")
    before = (tmp_path / "run" / "step-00000002.pt").read_bytes()
    plugin("2.0", "sigmoid = tests.core.siglip:WiderSigLip")
    why = r"does not fit objective sigmoid: bias is \(\) of torch.float32 in the file and \(2,\) of .* here; "
    with pytest.raises(RequestError, match=why + r"install learned-bias 1\.0, which it was trained with") as refused:
        train(config, coloured(8))
    assert "\n" not in str(refused.value)
    assert (tmp_path / "run" / "step-00000002.pt").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda content: content.pop("objective"), "bias is missing from the file"),
        (lambda content: content["objective"]["state"].pop("samples"), "samples is missing from the file"),
        (lambda content: content["objective"]["state"].update(more=torch.ones(1)), "more is in the file only"),
        (lambda content: content["objective"].update(state=3), "is damaged"),
        (lambda content: content.update(objective=[1]), "is damaged"),
        (lambda content: content["objective"]["state"].update(bias="x"), "bias is missing from the file"),
    ],
)
def test_a_checkpoint_that_lacks_or_adds_something_is_refused(tmp_path: Path, change: Any, why: str):
    config = started(tmp_path / "run")
    path = tmp_path / "run" / "step-00000002.pt"
    content = copy.deepcopy(read_file(path))
    change(content)
    path.unlink()
    (tmp_path / "run" / "last.pt").unlink()
    torch.save(content, path)
    with pytest.raises(RequestError, match=why) as refused:
        train(config, coloured(8))
    assert "\n" not in str(refused.value)


def test_the_advice_to_install_the_version_of_before_leads_on(tmp_path: Path, plugin: Callable[..., None]):
    config = started(tmp_path / "run")
    plugin("2.0", "sigmoid = tests.core.siglip:WiderSigLip")
    with pytest.raises(RequestError, match=r"install learned-bias 1\.0"):
        train(config, coloured(8))
    shutil.rmtree(tmp_path / "plugins" / "2.0")
    installed.cache_clear()
    assert train(config, coloured(8)).steps == 6


@pytest.mark.parametrize("objective", ["cosmos", "clip"])
def test_objectives_of_ours_leave_no_trace_in_a_checkpoint(tmp_path: Path, objective: str):
    train(replace(CONFIG, objective=objective, out=str(tmp_path), steps=2), coloured(8))
    content = read_file(tmp_path / "last.pt")
    assert "objective" not in content
    assert "objective_options" not in content["training"]
    assert len(content["optimizer"]["param_groups"]) == 2
    assert read_training_config(content, "it").objective_options == {}


# --- ranks ------------------------------------------------------------------------------------------------------------

CASES: dict[str, dict[str, Any]] = {
    "sigmoid": {"grad_clip": 0.5},
    "sigmoid, in parts": {"grad_clip": 0.5, "accumulate": 2},
    "projected": {"objective_options": {"width": 16}},
}


def steps_of(case: str, world: World) -> dict[str, Any]:
    config = replace(SMALL, objective=case.split(",")[0], **CASES[case])
    taking = stepper(config, torch.float64, world)
    for i in range(3):
        metrics = taking(share(noise(config, seed=i, dtype=torch.float64), world))
        taking.run.step += 1
    skipping = stepper(replace(config, non_finite="skip"), torch.float64, world)
    before, batch = own(skipping), share(noise(config, dtype=torch.float64), world)
    skipping(broken(batch) if world.rank == world.size - 1 else batch)
    return {
        "metrics": metrics,
        "student": parameters(taking.run.student),
        "objective": own(taking),
        "left out": same(own(skipping), before) and skipping.run.skipped_steps == 1,
    }


def idle(world: World) -> str:
    """What is said of an objective that leaves a parameter of the student idle without saying so."""
    config = replace(SMALL, objective="forgetful")
    try:
        stepper(config, torch.float64, world)(share(noise(config, dtype=torch.float64), world))
    except RequestError as error:
        return str(error)
    return ""


def work(rank: int, size: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", f"file://{folder}/store", rank=rank, world_size=size, timeout=timedelta(seconds=300)
    )
    world = World(rank, size, rank)
    torch.save({"idle": idle(world), **{case: steps_of(case, world) for case in CASES}}, f"{folder}/{rank}.pt")
    leave_world(world)


def test_two_ranks_do_what_one_process_does_and_hold_the_same_bits(tmp_path: Path):
    folder = tmp_path / "ranks"
    folder.mkdir()
    first, second = run_ranks(work, 2, folder)
    assert same(first, second)
    assert first.pop("idle").startswith(
        "objective forgetful gives the student's logit_scale no gradient, which several"
    )
    with pytest.warns(UserWarning, match="objective forgetful gives the student's logit_scale no gradient"):
        assert idle(World()) == ""
    for case, found in first.items():
        alone = steps_of(case, World())
        assert found["left out"] is True
        assert alone["left out"] is True
        for name in ("loss", "clip_loss", "distill_loss", "grad_norm"):
            assert found["metrics"][name] == pytest.approx(alone["metrics"][name], rel=1e-9), (case, name)
        for kind in ("student", "objective"):
            assert list(found[kind]) == list(alone[kind])
            for name, value in alone[kind].items():
                torch.testing.assert_close(found[kind][name], value, rtol=1e-7, atol=1e-9, msg=f"{case} {kind} {name}")


# --- settings ---------------------------------------------------------------------------------------------------------


def test_options_are_typed_merged_and_taken_away():
    changes = ["objective_options.init_bias=-3", "objective=sigmoid", "objective_options.init_scale=5e-1"]
    config = load_preset("toybox", changes)  # in any order
    assert repr(config.objective_options) == "{'init_bias': -3.0, 'init_scale': 0.5}"
    built = initial_objective(config)
    assert (built.bias.item(), round(built.log_scale.exp().item(), 6)) == (-3.0, 0.5)
    assert load_preset("toybox", [*changes, "objective=cosmos", "objective_options={}"]).objective_options == {}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (["objective_options.bias=1"], "objective cosmos has no option 'bias': it has none"),
        (["objective=sigmoid", "objective_options.bias=1"], "has no option 'bias': it has init_bias, init_scale"),
        (["objective=sigmoid", "objective_options.init_bias=much"], "init_bias takes a number, got 'much'"),
        (["objective=sigmoid", "objective_options.init_bias=.nan"], "init_bias takes numbers that are finite"),
        (["objective=sigmoid", "objective_options=3"], "objective_options takes key: value pairs, got 3"),
        (["objective=projected"], "objective projected needs a value for objective_options.width"),
        (
            ["objective=sigmoidd"],
            "objective: 'sigmoidd' is none of cosmos, .*siglip, forgetful, projected, sigmoid",
        ),
    ],
)
def test_options_that_an_objective_does_not_take_are_refused_in_one_line(changes: list[str], why: str):
    with pytest.raises(RequestError, match=why) as refused:
        load_preset("toybox", changes)
    assert "\n" not in str(refused.value)
    assert f"--set {changes[-1]}" in str(refused.value)


def test_ranks_that_begin_with_other_parameters_differ_in_a_fact():
    facts = []
    for bias in (-3.0, -4.0):
        taking = stepper(replace(SMALL, objective="sigmoid", objective_options={"init_bias": bias}))
        facts.append(state_facts(taking.run, None))
    differing = [name for name in facts[0] if facts[0][name] != facts[1][name]]
    assert differing == ["the objective's parameters and buffers"]


class Lazy(SigLip):
    def __init__(self, world: World | None = None) -> None:
        super().__init__(world)
        self.head = torch.nn.LazyLinear(4)


class WithObject(SigLip):
    def get_extra_state(self) -> Any:
        return {"an": object()}


@pytest.mark.parametrize(
    ("cls", "why"), [(Lazy, "head.weight has no shape"), (WithObject, "_extra_state of its state")]
)
def test_a_state_that_could_not_be_saved_is_refused_before_the_first_step(
    plugin: Callable[..., None], cls: type, why: str
):
    plugin("4.0", f"sigmoid = {cls.__module__}:{cls.__name__}")
    with pytest.raises(RequestError, match=f"objective sigmoid: {why}") as refused:
        train(siglip(), coloured(8))
    assert "\n" not in str(refused.value)


def test_options_may_be_optional_and_need_not_be_keyword_only():
    class Loose(SigLip):
        def __init__(self, world: World | None = None, margin: float | None = None, names: Any = ()) -> None:
            super().__init__(world)

    assert list(options_of(Loose)) == ["margin", "names"]
    given = {"margin": "5e-1", "names": ["a"]}
    assert checked_options("loose", Loose, given) == {"margin": 0.5, "names": ["a"]}
    assert checked_options("loose", Loose, {"margin": None}) == {"margin": None}
    with pytest.raises(RequestError, match="margin takes a number, got 'x'"):
        checked_options("loose", Loose, {"margin": "x"})
    with pytest.raises(RequestError, match="names takes numbers that are finite, text"):
        checked_options("loose", Loose, {"names": [object()]})
    with pytest.raises(RequestError, match="has no option 'world': it has margin, names"):
        checked_options("loose", Loose, {"world": 1})


def test_options_are_settings_on_which_a_resumed_run_and_ranks_must_agree():
    assert "objective_options" not in MAY_CHANGE
    one, other = (siglip(objective_options={"init_bias": bias}) for bias in (-10.0, -5.0))
    assert incompatible_settings(one, other) == ["objective_options.init_bias -10.0 there and -5.0 here"]
    assert settings(one)["objective_options.init_bias"] == "-10.0"
    facts = plugin_facts("sigmoid")
    assert facts["the plug-in of objective sigmoid"] == "learned-bias 1.0"
    assert len(facts["the code of objective sigmoid"]) == 8
    assert plugin_facts("cosmos") == {}


def test_values_that_a_constructor_refuses_are_told_in_one_line():
    with pytest.raises(
        RequestError, match=r"sigmoid of plug-in learned-bias 1.0 cannot be built with init_scale=-1"
    ) as no:
        train(siglip(objective_options={"init_scale": -1.0}), coloured(8))
    assert "\n" not in str(no.value)


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("tests.core.absent:SigLip", "ModuleNotFoundError: No module named 'tests.core.absent'"),
        ("tests.core.siglip:Absent", "AttributeError"),
        ("tests.core.siglip:put_distribution", "it is not a subclass of cosmos_core.objectives.Objective"),
        ("tests.core.siglip:Objective", "it has no forward"),
        ("tests.core.siglip:InstanceViews", "its views must be a classmethod"),
    ],
)
def test_an_objective_that_cannot_be_used_is_named_with_its_plugin(plugin: Callable[..., None], target: str, why: str):
    plugin("3.0", f"sigmoid = {target}\nprojected = tests.core.siglip:Projected")
    with pytest.raises(RequestError, match=f"objective sigmoid of plug-in learned-bias 3.0 .*{why}") as refused:
        load_preset("toybox", ["objective=sigmoid"])
    assert "\n" not in str(refused.value)
    load_preset("toybox", ["objective=projected", "objective_options.width=64"])


def test_a_plan_counts_the_objectives_own_parameters():
    work = Workload(replace(SMALL, objective="projected", objective_options={"width": 16}))
    assert work.objective_parameters == 16 * 16 + 16 + 2
    clip = Workload(replace(SMALL, objective="clip"))
    assert clip.objective_parameters == 0
    assert memory(work)["weights"] - memory(clip)["weights"] == 4 * work.objective_parameters
    assert loss_costs(work.config)[0] == 1  # the head's layers grow with the batch, not with its square
