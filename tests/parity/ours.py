"""What our code gives for the pack's inputs, file by file: the keys are the pack's."""

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from cosmos_core.model import COSMOS, Features
from cosmos_core.objectives.cosmos import CosmosLoss
from cosmos_core.positions import resize_image_positions, resize_text_positions, run_time_positions
from tests.helpers.cosmos_networks import image_logits
from tests.oracles.cosmos_loss import cosmos_loss_of_ranks
from tests.parity.golden import Pack, flatten

GLOBAL_VIEWS = 2


def model(pack: Pack, weights: str = "student_init") -> COSMOS:
    network = COSMOS.from_config(pack.json("model/config.json"))
    network.load_state_dict(pack.tensors(f"model/{weights}.safetensors"))
    return network


def images(tensors: dict[str, Tensor], prefix: str = "") -> list[Tensor]:
    start = f"{prefix}images."
    return [tensors[key].float() for key in sorted(tensors) if key.startswith(start)]


def caption_major(texts: Tensor) -> Tensor:
    return texts.long().transpose(0, 1).flatten(0, 1)


@torch.no_grad()
def encode_outputs(pack: Pack) -> dict[str, Any]:
    network = model(pack).eval()
    inputs = pack.tensors("model/inputs.safetensors")
    views, texts = images(inputs), inputs["texts_nB_L"]
    ours: dict[str, Any] = {}
    for name, view in (("global0", views[0]), ("local0", views[GLOBAL_VIEWS])):
        pooled, tokens = network.image_tower(view)
        ours |= {
            f"{name}.visual_raw_tokens": tokens,
            f"{name}.visual_pooled": pooled,
            f"{name}.image_tokens": network.image_token_mapping(tokens),
            f"{name}.image_features": network.encode_image(view),
            f"{name}.image_features_normalized": network.encode_image(view, normalize=True),
        }
    ours["text.text_tokens"] = network.text_token_mapping(network.text_tower(texts)[1])
    ours["text.text_features"] = network.encode_text(texts)
    ours["text.text_features_normalized"] = network.encode_text(texts, normalize=True)
    first_captions = texts[: len(views[0])]
    ours["get_logits.image_logits"] = image_logits(network, views[0], first_captions)
    called = network(views[0], first_captions)
    for name in ("image_features", "text_features", "logit_scale", "distill_logit_scale"):
        ours[f"eval_forward.{name}"] = getattr(called, name)
    return ours


@dataclasses.dataclass
class Step:
    """Forward and backward of one process."""

    student: nn.Module
    features: Features
    teacher: Features
    batch: int


def forward(student: nn.Module, teacher: COSMOS, views: list[Tensor], texts: Tensor) -> Step:
    batch = len(views[0])
    with torch.no_grad():
        targets = teacher(views[:GLOBAL_VIEWS], texts[: GLOBAL_VIEWS * batch])
    return Step(student, student(views, texts, batch), targets, batch)


def first_step(pack: Pack, dtype: torch.dtype = torch.float32) -> Step:
    inputs = pack.tensors("model/inputs.safetensors")
    networks = [model(pack, name).to(dtype) for name in ("student_init", "teacher_init")]
    return forward(*networks, [view.to(dtype) for view in images(inputs)], inputs["texts_nB_L"])


def train_forward(pack: Pack) -> dict[str, Any]:
    step = first_step(pack)
    ours: dict[str, Any] = {}
    for who, features in (("student", step.features), ("teacher", step.teacher)):
        for field, name in (
            ("image_features", "image_features"),
            ("text_features", "text_features"),
            ("image_cross_features", "img_crossmodal_features"),
            ("text_cross_features", "txt_crossmodal_features"),
            ("logit_scale", "logit_scale"),
            ("distill_logit_scale", "distill_logit_scale"),
        ):
            if getattr(features, field) is not None:
                ours[f"{who}.{name}"] = getattr(features, field)
    return ours


def losses(pack: Pack) -> dict[str, Any]:
    inputs = pack.tensors("model/inputs.safetensors")
    step = first_step(pack)
    found = CosmosLoss()(step.features, step.teacher, step.batch)
    exact = first_step(pack, torch.float64)
    double = CosmosLoss()(exact.features, exact.teacher, exact.batch)
    parts = ("distill_loss", "clip_loss", "total")
    ours: dict[str, Any] = {name: getattr(found, name).item() for name in parts}
    ours |= {f"float64/{name}": getattr(double, name).item() for name in parts}
    ours |= {f"distill_terms/{name}": value.item() for name, value in found.distill_terms.items()}
    ours |= {
        "logit_scale_exp": step.features.logit_scale.item(),
        "distill_logit_scale_exp": step.features.distill_logit_scale.item(),
        "batch_size": step.batch,
        "num_images": len(step.features.image_features) // step.batch,
        "num_texts": inputs["texts_BnL"].shape[1],
    }
    return ours


def gradients(pack: Pack) -> dict[str, Tensor]:
    step = first_step(pack)
    CosmosLoss()(step.features, step.teacher, step.batch).total.backward()
    return named_gradients(step.student)


def named_gradients(network: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def gradient_summary(pack: Pack) -> dict[str, Any]:
    return dict(
        flatten(
            {
                name: {
                    "shape": list(value.shape),
                    "sum": value.double().sum().item(),
                    "l2": value.double().norm().item(),
                    "absmax": value.abs().max().item(),
                }
                for name, value in pack.ours("model/grads.safetensors", gradients).items()
            }
        )
    )


@torch.no_grad()
def positions(pack: Pack) -> dict[str, Any]:
    network = model(pack).eval()
    stored = pack.tensors("model/pos_embed.safetensors")
    ours: dict[str, Any] = {}
    own, grid = network.visual.positional_embedding, network.visual.grid_size
    for key in stored:
        kind, _, size = key.partition(".")
        if kind == "run":
            height, width = (int(side) for side in size.split("x"))
            patches = (height // network.patch_size[0], width // network.patch_size[1])
            ours[key] = run_time_positions(own, grid, patches, square=height == width)
        elif kind == "image":
            pooled, tokens = network.image_tower(stored[key].float())
            ours[f"image_features.{size}"], ours[f"image_raw_tokens_sum.{size}"] = pooled, tokens.sum(1)
        elif kind == "load" and size.startswith("grid_"):
            rows, columns = (int(side) for side in size.removeprefix("grid_").split("x"))
            ours[key] = resize_image_positions(own, (rows, columns))
        elif kind == "load":
            ours[key] = resize_text_positions(network.positional_embedding, int(size.removeprefix("text_")))
    return ours


def batch_of_rank(pack: Pack, rank: int) -> tuple[list[Tensor], Tensor]:
    """Views and caption-major ids of one of the pack's processes."""
    if rank == 0:
        first = pack.tensors("model/inputs.safetensors")
        return images(first), first["texts_nB_L"]
    others = pack.tensors("model/distributed.safetensors")
    return images(others, f"rank{rank}."), caption_major(others[f"rank{rank}.texts_BnL"])


@dataclasses.dataclass
class Ranks:
    """The pack's processes, each with its own batch, played by one.

    Features come from our model, the losses from the oracle (`tests.oracles.cosmos_loss`), which knows all modes of the
    original. Ours has one formulation, and `tests.parity.processes` runs it.
    """

    steps: list[Step]

    @classmethod
    def of(cls, pack: Pack) -> "Ranks":
        student, teacher = model(pack), model(pack, "teacher_init")
        ranks = range(pack.json("model/distributed.json")["world_size"])
        batches = [batch_of_rank(pack, rank) for rank in ranks]
        return cls([forward(student, teacher, *batch) for batch in batches])

    def loss(self, rank: int, local: bool, with_grad: bool) -> dict[str, Tensor]:
        """What process `rank` computes, by the oracle; where the gathering passes no gradients, only its own features
        carry any."""
        students = [
            step.features if with_grad or i == rank else detached(step.features) for i, step in enumerate(self.steps)
        ]
        teachers, batches = [step.teacher for step in self.steps], [step.batch for step in self.steps]
        return cosmos_loss_of_ranks(students, teachers, batches, rank, local, live=with_grad)

    def gradients(self, local: bool, with_grad: bool) -> dict[str, Tensor]:
        """The mean over processes, as DDP forms it."""
        student = self.steps[0].student
        student.zero_grad()
        totals = [self.loss(rank, local, with_grad)["total"] for rank in range(len(self.steps))]
        (sum(totals[1:], totals[0]) / len(totals)).backward(retain_graph=True)
        return named_gradients(student)


def detached(features: Features) -> Features:
    values = {field.name: getattr(features, field.name) for field in dataclasses.fields(features)}
    return Features(**{name: None if value is None else value.detach() for name, value in values.items()})


def full_batch(pack: Pack) -> dict[str, Any]:
    """Losses and gradients of one process on the batches of all, put together: our own training path."""
    first, others = pack.tensors("model/inputs.safetensors"), pack.tensors("model/distributed.safetensors")
    ranks = range(1, pack.json("model/distributed.json")["world_size"])
    views = zip(images(first), *(images(others, f"rank{rank}.") for rank in ranks), strict=True)
    texts = torch.cat([first["texts_BnL"].long(), *(others[f"rank{rank}.texts_BnL"].long() for rank in ranks)])
    step = forward(model(pack), model(pack, "teacher_init"), [torch.cat(v) for v in views], caption_major(texts))
    found = CosmosLoss()(step.features, step.teacher, step.batch)
    found.total.backward()
    values = {"distill_loss": found.distill_loss.item(), "clip_loss": found.clip_loss.item()}
    return {"losses": values, "gradients": named_gradients(step.student)}


MODES = {
    "default": (False, False),
    "gather_with_grad": (False, True),
    "local_and_gather_with_grad": (True, True),
    "local_only": (True, False),
}
"""Local loss, gather with gradient."""


OURS = ("gather_with_grad", "local_and_gather_with_grad")
"""Modes whose gradients are those of one process: what our loss gives on several."""


def played_runs(pack: Pack) -> dict[str, Any]:
    """For each mode the losses of every process and the mean gradients, by the oracle."""
    ranks = Ranks.of(pack)
    losses = {mode: [ranks.loss(rank, *flags) for rank in range(len(ranks.steps))] for mode, flags in MODES.items()}
    return {
        mode: (
            [{name: value.item() for name, value in found.items()} for found in losses[mode]],
            ranks.gradients(*flags),
        )
        for mode, flags in MODES.items()
    }


def real_runs(pack: Pack) -> dict[str, Any]:
    """The same of our loss in real processes, of which each reports the losses of the whole batch."""
    from tests.parity.processes import all_processes

    found = pack.ours("processes", all_processes)["ranks"]
    return {mode: ([rank["losses"] for rank in found], found[0]["gradients"]) for mode in OURS}


def distributed_runs(pack: Pack) -> dict[str, Any]:
    """Gradients from our real processes where they are to be equal; all else from the oracle.

    That is the modes that we do not offer, and with the local loss what each process reports: its own rows' part.
    """
    played, real = pack.ours("played runs", played_runs), pack.ours("real runs", real_runs)
    local = {mode: (played[mode][0], real[mode][1]) for mode in OURS if MODES[mode][0]}
    return {**played, **real, **local}


def distributed_tensors(pack: Pack) -> dict[str, Any]:
    """Every stored gradient: of a single process, of our processes, and of the modes that only the oracle has."""
    single = pack.ours("full batch", full_batch)["gradients"]
    runs = pack.ours("distributed runs", distributed_runs)
    ours: dict[str, Any] = {}
    for key in pack.compared("model/distributed.safetensors"):
        mode, _, parameter = key.partition(".")
        ours[key] = single[parameter] if mode == "single_process" else runs[mode][1][parameter]
    return ours


def distributed_numbers(pack: Pack) -> dict[str, Any]:
    single_losses, single = pack.ours("full batch", full_batch).values()
    ours: dict[str, Any] = {f"single_process_full_batch/losses/{name}": v for name, v in single_losses.items()}
    stored = pack.json("model/distributed.json")["modes"]
    for mode, (losses_of_ranks, grads) in pack.ours("distributed runs", distributed_runs).items():
        for rank, found in enumerate(losses_of_ranks):
            for name in ("distill_loss", "clip_loss", "total"):
                ours[f"modes/{mode}/rank{rank}/{name}"] = found[name]
        for name in stored[mode]["grad_ratio_to_single_process"]:
            a, b = grads[name].double(), single[name].double()
            ours[f"modes/{mode}/grad_ratio_to_single_process/{name}"] = ((a * b).sum() / (b * b).sum()).item()
        for name in stored[mode]["grad_l2"]:
            ours[f"modes/{mode}/grad_l2/{name}"] = grads[name].double().norm().item()
    return ours


FILES = {
    "model/encode_outputs.safetensors": encode_outputs,
    "model/train_forward.safetensors": train_forward,
    "model/losses.json": losses,
    "model/grads.safetensors": gradients,
    "model/grads_summary.json": gradient_summary,
    "model/pos_embed.safetensors": positions,
    "model/distributed.safetensors": distributed_tensors,
    "model/distributed.json": distributed_numbers,
}
"""Files of the pack and what our code gives for them."""
