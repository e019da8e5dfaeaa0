"""What `train_step.py` does in every process: equality first, then collectives, then times of loss and step."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist
from torch.nn import functional as F

from benchmarks.agreement import TEMPERATURES, Found, difference, equal_scales
from benchmarks.peers.plain_loss import PlainLoss
from benchmarks.peers.plain_step import FORWARDS, Hyper, PlainStep
from benchmarks.timing import Times, take_turns
from benchmarks.train_step_plan import TOLERANCE, Plan, Views
from cosmos_core.config import TrainConfig, load_preset
from cosmos_core.data import Batch
from cosmos_core.loss import Losses
from cosmos_core.model import COSMOS, Features
from cosmos_core.networks import build_optimizer
from cosmos_core.objectives.cosmos import CosmosLoss
from cosmos_core.seeds import sample_generator
from cosmos_core.step import Run, Stepper
from cosmos_core.text_crop import TextCrop
from cosmos_core.tokenizer import build_tokenizer
from cosmos_core.train import initial_model
from cosmos_core.world import World
from cosmos_eval.datasets.toybox import train_records
from cosmos_eval.results.environment import environment

GLOBAL = 2
ROWS = ("image_features", "text_features", "image_cross_features", "text_cross_features")


def measure(world: World, plan: Plan) -> dict[str, Any]:
    """Everything of one world, in plain values, equal on all ranks."""
    gathers = plan.gathers if world.size > 1 else plan.gathers[:1]
    found: dict[str, Any] = {"environment": environment(), "steps": []}
    found["loss_difference"], times = loss_case(world, plan, gathers)
    found["loss"] = times.seconds
    if times.seconds:
        fastest = min(gathers, key=times.median)
        found["fastest"] = fastest
        for views in plan.steps:
            apart, step_times = step_case(world, plan, views, fastest)
            found["steps"].append({"views": views.label, "difference": apart, "seconds": step_times.seconds})
        if 1 < world.size == plan.largest:
            found["collectives"] = collectives(world, plan, gathers)
    return found


def some_features(views: Views, width: int, world: World) -> tuple[Features, Features]:
    """A student's and a teacher's random unit rows; another draw on each rank, the same draw at each call."""
    generator = torch.Generator().manual_seed(world.rank)

    def rows(count: int, live: bool) -> Tensor:
        drawn = torch.randn(count * views.batch, width, generator=generator)
        return F.normalize(drawn, dim=-1).requires_grad_(live)

    def scale(value: float) -> Tensor:
        return torch.tensor(value, requires_grad=True)

    counts = (views.images, views.texts, views.images, views.texts)
    student = Features(
        **dict(zip(ROWS, (rows(n, True) for n in counts), strict=True)),
        logit_scale=scale(1 / 0.07),
        distill_logit_scale=scale(1 / 0.07),
    )
    return student, Features(rows(GLOBAL, False), rows(GLOBAL, False), torch.ones(()), torch.ones(()))


def loss_arm(
    loss: Callable[..., Losses], views: Views, width: int, world: World
) -> tuple[Callable[[], Losses], Features]:
    """Forward and backward of a loss on features of its own, and those features."""
    student, teacher = some_features(views, width, world)

    def once() -> Losses:
        for name in (*ROWS, *TEMPERATURES):
            getattr(student, name).grad = None
        losses = loss(student, teacher, views.batch)
        losses.total.backward()
        return losses

    return once, student


def loss_case(world: World, plan: Plan, gathers: tuple[str, ...]) -> tuple[float, Times]:
    """Difference and times of our loss and of the plain one in every way to gather; no times where they differ."""
    arms = {"ours": loss_arm(CosmosLoss(world), plan.loss, plan.width, world)}
    for gather in gathers:
        arms[gather] = loss_arm(PlainLoss(world.rank, world.size, gather), plan.loss, plan.width, world)
    found = {}
    for name, (once, student) in arms.items():
        total = once().total.item()
        gradients = {key: getattr(student, key).grad for key in (*ROWS, *TEMPERATURES)}
        found[name] = Found(total, equal_scales(gradients, world, name))
    apart = max(difference(found["ours"], found[name], world) for name in gathers)
    return apart, timed(
        {name: once for name, (once, _) in arms.items()}, apart, plan.loss_repetitions * shorter(world, plan), world
    )


def timed(arms: dict[str, Callable[[], object]], apart: float, repetitions: int, world: World) -> Times:
    """Times of arms that are equal and have run once, nothing of those that are not."""
    return take_turns(arms, repetitions, world, warm_up=0) if apart <= TOLERANCE else Times({})


def shorter(world: World, plan: Plan) -> int:
    """How many times as often things are repeated in this world as in the largest, where they take longest."""
    return max(1, plan.largest // world.size)


def toybox_batch(config: TrainConfig, views: Views, world: World, model: COSMOS) -> tuple[list[Tensor], Tensor]:
    """Scenes and captions of this rank: one (B, 3, H, W) tensor for each view, and (B, n, L) ids."""
    size = min(config.views.global_size, *model.image_size)
    crops = replace(
        config.views,
        local_crops=views.images - GLOBAL,
        global_size=size,
        local_size=max(max(model.patch_size), size // 2),
    )
    draw, tokenize = TextCrop(views.texts), build_tokenizer(model.config["text_cfg"])
    images, texts = [], []
    records = train_records(0, views.batch * world.size)
    for key, image, record in (records[i] for i in range(world.rank, len(records), world.size)):
        images.append(crops(image, sample_generator(0, 0, key, "views")))
        texts.append(tokenize(draw(record, sample_generator(0, 0, key, "captions"))))
    return [torch.stack(view) for view in zip(*images, strict=True)], torch.stack(texts)


def step_arms(
    world: World, plan: Plan, views: Views, gather: str
) -> tuple[dict[str, Callable[[], float]], dict[str, COSMOS]]:
    """Our whole step, the plain one, and the plain one with our forward; and the student that each of them trains."""
    config = replace(
        load_preset("toybox"), model=plan.model, batch_size=views.batch * world.size, captions=views.texts, warmup=1
    )
    first = initial_model(config.model, 0).train()
    images, texts = toybox_batch(config, views, world, first)
    students, arms = {}, {}

    student, teacher = copy.deepcopy(first), copy.deepcopy(first).requires_grad_(False)
    run = Run(config, student, teacher, build_optimizer(config, student), steps=1_000_000, world=world)
    stepper, batch = Stepper(run), Batch(images, texts, [str(i) for i in range(len(texts))])
    students["ours"], arms["ours"] = student, lambda: stepper(batch)["loss"]

    hyper = Hyper(config.lr, config.weight_decay, (config.beta1, config.beta2), config.eps, config.momentum_teacher)
    for forward in FORWARDS:
        student, teacher = copy.deepcopy(first), copy.deepcopy(first).requires_grad_(False)
        step = PlainStep(student, teacher, PlainLoss(world.rank, world.size, gather), hyper, forward)
        name = "plain" if forward == "plain" else "plain, our forward"
        students[name], arms[name] = student, lambda step=step: step(images, texts).total.item()
    return arms, students


def step_case(world: World, plan: Plan, views: Views, gather: str) -> tuple[float, Times]:
    """Difference of the first steps and times of those that follow; no times where they differ."""
    arms, students = step_arms(world, plan, views, gather)
    found = {}
    for name, once in arms.items():
        total = once()
        gradients = {key: parameter.grad for key, parameter in students[name].named_parameters()}
        found[name] = Found(total, equal_scales(gradients, world, "" if name == "ours" else gather))
    apart = max(difference(found["ours"], found[name], world) for name in arms if name != "ours")
    return apart, timed(arms, apart, plan.step_repetitions * shorter(world, plan), world)


def collectives(world: World, plan: Plan, gathers: tuple[str, ...]) -> dict[str, dict[str, int]]:
    """Collectives of one loss, forward and backward, and of one whole step, by arm and number of views."""
    found: dict[str, dict[str, int]] = {}
    for images, texts in plan.counted:
        views, label = Views(images, texts, 2), f"{images} + {texts}"
        losses = {"ours": CosmosLoss(world), **{name: PlainLoss(world.rank, world.size, name) for name in gathers}}
        for name, loss in losses.items():
            once, _ = loss_arm(loss, views, 16, world)
            found.setdefault(f"loss, {name}", {})[label] = counted(once, warm_up=1)
        steps = step_arms(world, plan, views, gathers[0])[0]
        for name, step in ((name, steps[name]) for name in ("ours", "plain")):
            found.setdefault(f"step, {name}", {})[label] = counted(step, warm_up=2)
    return found


def counted(once: Callable[[], object], warm_up: int) -> int:
    """Collectives that the process group issues in a call, whoever asks for them, after calls that do not count.

    The first call of a loss may compare shapes over ranks, the second of a network behind DDP arranges its buckets.
    """
    for _ in range(warm_up):
        once()
    group = dist.distributed_c10d._get_default_group()
    before = group._get_sequence_number_for_group()
    once()
    return group._get_sequence_number_for_group() - before
