"""The networks as a step calls them (compiled, with gradient checkpointing, wrapped in DDP), and the optimizer.

A `Run` holds the unwrapped modules. The wrappers live here, so that the names in a checkpoint are always those of
`COSMOS`.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import reduce

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from cosmos_core.compilation import compile_networks
from cosmos_core.config import TrainConfig
from cosmos_core.errors import RequestError
from cosmos_core.fsdp import forget_forward, is_sharded, split_groups
from cosmos_core.model import COSMOS, Features
from cosmos_core.objectives import Objective
from cosmos_core.parts import frozen_names
from cosmos_core.schedule import parameter_groups
from cosmos_core.text_groups import TextGroups, group_texts
from cosmos_core.world import World


def build_optimizer(config: TrainConfig, student: COSMOS, objective: Objective | None = None) -> torch.optim.AdamW:
    """AdamW over two groups, without and with weight decay, in the model's order; fused kernels on a CUDA device.

    With `layer_decay` there are two for each depth (`cosmos_core.schedule.parameter_groups`). The groups hold every
    parameter of the student for every objective, also frozen ones; AdamW leaves one without a gradient alone. The
    objective's own parameters follow in further groups, split by the same rule, so that the student's parameters keep
    their numbers in the optimizer's state.
    """
    objective_groups = [] if objective is None else parameter_groups(objective, config.weight_decay)
    # None lets torch choose, so that runs on a CPU keep their bits.
    fused = True if next(student.parameters()).device.type == "cuda" else None
    groups = [
        *parameter_groups(student, config.weight_decay, config.layer_decay),
        *(group for group in objective_groups if group["params"]),
    ]
    return torch.optim.AdamW(
        split_groups(groups),
        lr=config.lr,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        fused=fused,
    )


def freeze_parameters(student: COSMOS, objective: Objective, freeze: str = "") -> list[str]:
    """Freeze the parts that the configuration names, and the parameters that the objective leaves without a gradient.

    Returns the names of all. DDP waits for the gradient of every parameter with `requires_grad`; its
    `find_unused_parameters` would walk through the graph in each step.
    """
    names = [name for name, _ in student.named_parameters()]
    by_user = frozen_names(names, freeze)
    frozen = [name for name in names if name in by_user or objective.unused(name)]
    if by_user and len(frozen) == len(names):
        raise RequestError(f"freeze={freeze} leaves no parameter to train that the objective uses")
    for name in frozen:
        student.get_parameter(name).requires_grad_(False)
    return frozen


class Networks:
    """Student and teacher with the wrappers that the configuration asks for.

    Args:
        student, teacher: the unwrapped modules, equal on all ranks, or split over them (`cosmos_core.fsdp`).
            Parameters the objective does not use are frozen.
        objective: decides which parameters are used, and whether cross-modal features are.
        world: the ranks; with several, gradients of `student` are averaged over them in the backward pass.
    """

    def __init__(
        self, config: TrainConfig, student: COSMOS, teacher: COSMOS, objective: Objective, world: World
    ) -> None:
        freeze_parameters(student, objective, config.freeze)
        student.set_grad_checkpointing(config.grad_checkpointing)
        self.cross_attention, self.needs_teacher = objective.cross_attention, objective.needs_teacher
        self.device = next(student.parameters()).device
        # Compiled networks get whole texts: other lengths would be compiled again. So do split ones, whose blocks are
        # gathered anew for each group. On a CPU the network plans groups itself, unless it is compiled.
        self.groups_texts = self.device.type != "cpu" and not config.compile and not is_sharded(student)
        self._student: Callable[..., Features] = student
        self._teacher: Callable[..., Features] = teacher
        if config.compile:
            if world.size > 1 and config.grad_checkpointing:
                # splitting the graph at DDP's buckets is not implemented for graphs that hold checkpoints
                torch._dynamo.config.optimize_ddp = False
            self._student, self._teacher = compile_networks(student, teacher)
        self._split = (student, teacher) if is_sharded(student) else None
        self._ddp = wrap_in_ddp(self._student, world) if world.size > 1 and self._split is None else None

    def group_texts(self, ids: Tensor, batch_size: int) -> tuple[TextGroups | None, TextGroups | None]:
        """Groups for student and teacher of caption-major ids (n * B, L) in main memory; None: texts pass whole."""
        if not self.groups_texts or ids.device.type != "cpu":
            return None, None
        teacher = group_texts(ids[: 2 * batch_size], self.device) if self.needs_teacher else None
        return group_texts(ids[batch_size if self.cross_attention else 0 :], self.device), teacher

    def student(
        self,
        images: list[Tensor],
        texts: Tensor,
        batch_size: int,
        groups: TextGroups | None = None,
        sync: bool = True,
    ) -> Features:
        """The student's features, with cross-modal ones if the objective uses them.

        Args:
            images: one (B, 3, H, W) tensor for each view.
            texts: (n * B, L), caption-major.
            batch_size: B.
            groups: of the texts (`group_texts`).
            sync: whether the backward pass through these features averages over ranks all gradients accumulated so far;
                if not, gradients are only added on this rank. Split networks average in every backward pass: else
                all gradients would be whole.
        """
        cross_batch_size = batch_size if self.cross_attention else None
        if self._ddp is None or not torch.is_grad_enabled():
            features = self._student(images, texts, cross_batch_size, groups)
            if self._split is not None and not torch.is_grad_enabled():
                forget_forward(self._split[0])
            return features
        gradient_sync: AbstractContextManager = nullcontext() if sync else self._ddp.no_sync()
        with gradient_sync:
            return self._ddp(images, texts, cross_batch_size, groups)

    @torch.no_grad()
    def teacher(
        self, images: list[Tensor], texts: Tensor, batch_size: int, groups: TextGroups | None = None
    ) -> Features:
        """The teacher's features of the two global crops and the two global captions, without gradient."""
        features = self._teacher(images[:2], texts[: 2 * batch_size], groups=groups)
        if self._split is not None:
            forget_forward(self._split[1])
        return features


def wrap_in_ddp(network: Callable[..., Features], world: World) -> DistributedDataParallel:
    """The network in DDP: the backward pass averages gradients over the ranks of the default group.

    DDP sends rank 0's parameters to all ranks at the start, which changes nothing since all start from one seed.
    Buffers are constants here and never sent.
    """
    assert isinstance(network, torch.nn.Module)
    wrapped = DistributedDataParallel(network, broadcast_buffers=False, gradient_as_bucket_view=True)
    if world.size > 2 and dist.get_backend() == "gloo":
        wrapped.register_comm_hook(world.size, average_in_rank_order)
    return wrapped


@torch.no_grad()
def average_gradients(parameters: Sequence[nn.Parameter], world: World) -> None:
    """Average gradients over ranks in place, in one collective; for an objective's parameters, which DDP does not hold.

    A parameter that has no gradient on any rank keeps none, so that the optimizer leaves it alone; if only some ranks
    have one, those of the others count as zero. Every rank must call it. The host waits for the numbers only where it
    lacks a gradient: with all of them it knows that each parameter has one somewhere.
    """
    if world.size == 1 or not parameters:
        return
    dtype = reduce(torch.promote_types, (parameter.dtype for parameter in parameters), torch.float32)
    has_gradient = [
        parameter.new_zeros(()) if parameter.grad is None else parameter.new_ones(()) for parameter in parameters
    ]
    gradients = [torch.zeros_like(parameter) if parameter.grad is None else parameter.grad for parameter in parameters]
    packed = torch.cat([value.detach().reshape(-1).to(dtype) for value in (*gradients, *has_gradient)])
    dist.all_reduce(packed)
    lacks_some = any(parameter.grad is None for parameter in parameters)
    counts = packed[-len(parameters) :].tolist() if lacks_some else [world.size] * len(parameters)
    means = (packed[: -len(parameters)] / world.size).split([parameter.numel() for parameter in parameters])
    for parameter, mean, count in zip(parameters, means, counts, strict=True):
        parameter.grad = mean.view_as(parameter).to(parameter.dtype) if count else None


def average_in_rank_order(size: int, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    """DDP communication hook: average a bucket of gradients over `size` ranks, every element summed in rank order.

    A ring all-reduce sums in an order that depends on an element's position in its bucket, and DDP rebuilds its buckets
    after the first backward pass of a process: with three ranks or more, a resumed run would get other bits. As much is
    sent as by a ring: each rank receives its share of the elements from all ranks, sums, and sends the result to all.
    """
    flat = bucket.buffer()
    share = -(-len(flat) // size)
    padded = torch.nn.functional.pad(flat, (0, share * size - len(flat)))
    shares = torch.empty_like(padded)
    dist.all_to_all_single(shares, padded)
    total, *rest = shares.view(size, share)
    for part in rest:
        total += part
    dist.all_gather_into_tensor(padded, total / size)
    future: torch.futures.Future[Tensor] = torch.futures.Future()
    future.set_result(flat.copy_(padded[: len(flat)]))
    return future
