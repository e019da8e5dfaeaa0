"""What `train_step.py` runs in every process: compare results, then measure loss and step, and count collectives."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist
from torch.nn import functional as F

from benchmarks.agreement import TEMPERATURES, LossAndGradients, relative_difference, rescale_gradients
from benchmarks.peers.plain_loss import PlainLoss
from benchmarks.peers.plain_step import FORWARDS, Hyperparameters, PlainStep
from benchmarks.timing import Times, take_turns
from benchmarks.train_step_plan import TOLERANCE, TrainStepPlan, ViewCounts
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
FEATURES = ("image_features", "text_features", "image_cross_features", "text_cross_features")


def measure(world: World, plan: TrainStepPlan) -> dict[str, Any]:
    """Return all figures for one number of processes; they are equal on all ranks."""
    gathers = plan.gathers if world.size > 1 else plan.gathers[:1]
    figures: dict[str, Any] = {"environment": environment(), "steps": []}
    figures["loss_difference"], times = loss_case(world, plan, gathers)
    figures["loss"] = times.seconds
    if times.seconds:
        fastest = min(gathers, key=times.median)
        figures["fastest"] = fastest
        for views in plan.steps:
            difference, step_times = step_case(world, plan, views, fastest)
            figures["steps"].append({"views": views.label, "difference": difference, "seconds": step_times.seconds})
        if 1 < world.size == plan.largest:
            figures["collectives"] = collectives(world, plan, gathers)
    return figures


def random_features(views: ViewCounts, width: int, world: World) -> tuple[Features, Features]:
    """Return random unit features of a student and a teacher: different on each rank, the same at each call."""
    generator = torch.Generator().manual_seed(world.rank)

    def unit_features(count: int, requires_grad: bool) -> Tensor:
        features = torch.randn(count * views.batch, width, generator=generator)
        return F.normalize(features, dim=-1).requires_grad_(requires_grad)

    def scale(value: float) -> Tensor:
        return torch.tensor(value, requires_grad=True)

    counts = (views.images, views.texts, views.images, views.texts)
    student = Features(
        **dict(zip(FEATURES, (unit_features(n, True) for n in counts), strict=True)),
        logit_scale=scale(1 / 0.07),
        distill_logit_scale=scale(1 / 0.07),
    )
    teacher = Features(unit_features(GLOBAL, False), unit_features(GLOBAL, False), torch.ones(()), torch.ones(()))
    return student, teacher


def loss_arm(
    loss: Callable[..., Losses], views: ViewCounts, width: int, world: World
) -> tuple[Callable[[], Losses], Features]:
    """Return a function for forward and backward of a loss on its own features, and the student's features."""
    student, teacher = random_features(views, width, world)

    def once() -> Losses:
        for name in (*FEATURES, *TEMPERATURES):
            getattr(student, name).grad = None
        losses = loss(student, teacher, views.batch)
        losses.total.backward()
        return losses

    return once, student


def loss_case(world: World, plan: TrainStepPlan, gathers: tuple[str, ...]) -> tuple[float, Times]:
    """Compare and time our loss and the plain one with every method to gather; no times if they differ."""
    arms = {"ours": loss_arm(CosmosLoss(world), plan.loss, plan.width, world)}
    for gather in gathers:
        arms[gather] = loss_arm(PlainLoss(world.rank, world.size, gather), plan.loss, plan.width, world)
    results = {}
    for name, (once, student) in arms.items():
        total = once().total.item()
        gradients = {key: getattr(student, key).grad for key in (*FEATURES, *TEMPERATURES)}
        results[name] = LossAndGradients(total, rescale_gradients(gradients, world, name))
    difference = max(relative_difference(results["ours"], results[name], world) for name in gathers)
    functions = {name: once for name, (once, _) in arms.items()}
    return difference, timed(functions, difference, plan.loss_repetitions * repetition_factor(world, plan), world)


def timed(arms: Mapping[str, Callable[[], object]], difference: float, repetitions: int, world: World) -> Times:
    """Time arms that have run once and give equal results; return no times if they differ."""
    return take_turns(arms, repetitions, world, warm_up=0) if difference <= TOLERANCE else Times({})


def repetition_factor(world: World, plan: TrainStepPlan) -> int:
    """Return how many times more repetitions there are than with the largest number of processes, the slowest."""
    return max(1, plan.largest // world.size)


def toybox_batch(config: TrainConfig, views: ViewCounts, world: World, model: COSMOS) -> tuple[list[Tensor], Tensor]:
    """Return the batch of this rank: one (B, 3, H, W) tensor for each view, and (B, n, L) token ids."""
    size = min(config.views.global_size, *model.image_size)
    crops = replace(
        config.views,
        local_crops=views.images - GLOBAL,
        global_size=size,
        local_size=max(max(model.patch_size), size // 2),
    )
    draw_captions, tokenize = TextCrop(views.texts), build_tokenizer(model.config["text_cfg"])
    images, texts = [], []
    records = train_records(0, views.batch * world.size)
    for key, image, record in (records[i] for i in range(world.rank, len(records), world.size)):
        images.append(crops(image, sample_generator(0, 0, key, "views")))
        texts.append(tokenize(draw_captions(record, sample_generator(0, 0, key, "captions"))))
    return [torch.stack(view) for view in zip(*images, strict=True)], torch.stack(texts)


def step_arms(
    world: World, plan: TrainStepPlan, views: ViewCounts, gather: str
) -> tuple[dict[str, Callable[[], float]], dict[str, COSMOS]]:
    """Return our step, the plain one, and the plain one with our forward, and the student that each of them trains."""
    config = replace(
        load_preset("toybox"), model=plan.model, batch_size=views.batch * world.size, captions=views.texts, warmup=1
    )
    initial = initial_model(config.model, 0).train()
    images, texts = toybox_batch(config, views, world, initial)
    students, arms = {}, {}

    student, teacher = copy.deepcopy(initial), copy.deepcopy(initial).requires_grad_(False)
    run = Run(config, student, teacher, build_optimizer(config, student), steps=1_000_000, world=world)
    stepper, batch = Stepper(run), Batch(images, texts, [str(i) for i in range(len(texts))])
    students["ours"], arms["ours"] = student, lambda: stepper(batch)["loss"]

    hyper = Hyperparameters(
        config.lr, config.weight_decay, (config.beta1, config.beta2), config.eps, config.momentum_teacher
    )
    for forward in FORWARDS:
        student, teacher = copy.deepcopy(initial), copy.deepcopy(initial).requires_grad_(False)
        step = PlainStep(student, teacher, PlainLoss(world.rank, world.size, gather), hyper, forward)
        name = "plain" if forward == "plain" else "plain, our forward"
        students[name], arms[name] = student, partial(total_loss, step, images, texts)
    return arms, students


def total_loss(step: PlainStep, images: list[Tensor], texts: Tensor) -> float:
    """Take one step and return its total loss."""
    return step(images, texts).total.item()


def step_case(world: World, plan: TrainStepPlan, views: ViewCounts, gather: str) -> tuple[float, Times]:
    """Compare the first step of all arms and time the next ones; no times if they differ."""
    arms, students = step_arms(world, plan, views, gather)
    results = {}
    for name, once in arms.items():
        total = once()
        gradients = {key: parameter.grad for key, parameter in students[name].named_parameters()}
        gather_of_arm = "" if name == "ours" else gather
        results[name] = LossAndGradients(total, rescale_gradients(gradients, world, gather_of_arm))
    peers = [name for name in arms if name != "ours"]
    difference = max(relative_difference(results["ours"], results[name], world) for name in peers)
    return difference, timed(arms, difference, plan.step_repetitions * repetition_factor(world, plan), world)


def collectives(world: World, plan: TrainStepPlan, gathers: tuple[str, ...]) -> dict[str, dict[str, int]]:
    """Count the collectives of one loss (forward and backward) and one whole step, by arm and number of views."""
    counts: dict[str, dict[str, int]] = {}
    for images, texts in plan.counted:
        views, label = ViewCounts(images, texts, 2), f"{images} + {texts}"
        losses = {"ours": CosmosLoss(world), **{name: PlainLoss(world.rank, world.size, name) for name in gathers}}
        for name, loss in losses.items():
            once, _ = loss_arm(loss, views, 16, world)
            counts.setdefault(f"loss, {name}", {})[label] = count_collectives(once, warm_up=1)
        steps = step_arms(world, plan, views, gathers[0])[0]
        for name, step in ((name, steps[name]) for name in ("ours", "plain")):
            counts.setdefault(f"step, {name}", {})[label] = count_collectives(step, warm_up=2)
    return counts


def count_collectives(once: Callable[[], object], warm_up: int) -> int:
    """Return the number of collectives that the process group issues in one call, from any code.

    The warm-up is not counted: the first call of a loss may compare shapes over ranks, and in the second call of a
    network, DDP rearranges its gradient buckets.
    """
    for _ in range(warm_up):
        once()
    group = dist.distributed_c10d._get_default_group()
    number = group._get_sequence_number_for_group  # type: ignore[attr-defined]  # torch's types leave it out
    before = number()
    once()
    return number() - before
