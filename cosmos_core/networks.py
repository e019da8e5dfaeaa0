"""The networks as a step calls them: compiled, checkpointed, synchronised over ranks; and the student's optimizer.

What a run keeps are the plain modules. Whatever wraps them is held here, so that the names in a checkpoint are always
those of `COSMOS`.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import reduce

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from cosmos_core.config import TrainConfig
from cosmos_core.model import COSMOS, Features
from cosmos_core.objectives import Objective
from cosmos_core.schedule import parameter_groups
from cosmos_core.world import World


def build_optimizer(config: TrainConfig, student: COSMOS, objective: Objective | None = None) -> torch.optim.AdamW:
    """AdamW over two groups, without and with decay, in the model's order; one kernel for all of them on a CUDA card.

    The groups hold every parameter whatever the objective: one without a gradient is never touched. An objective's own
    parameters follow in groups of theirs, by the same rule, so that the student's places in the state stay.
    """
    own = [] if objective is None else parameter_groups(objective, config.weight_decay)
    # Only where it is faster: elsewhere torch chooses, and on a CPU the bits of older runs stay.
    fused = True if next(student.parameters()).device.type == "cuda" else None
    return torch.optim.AdamW(
        [*parameter_groups(student, config.weight_decay), *(group for group in own if group["params"])],
        lr=config.lr,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        fused=fused,
    )


def freeze_unused(student: COSMOS, objective: Objective) -> list[str]:
    """Take the parameters that the objective leaves without a gradient out of training; their names.

    DDP waits for the gradient of every parameter that asks for one; looking for absent ones would cost it a walk
    through the graph in each step.
    """
    frozen = [name for name, _ in student.named_parameters() if objective.unused(name)]
    for name in frozen:
        student.get_parameter(name).requires_grad_(False)
    return frozen


class Networks:
    """Student and teacher behind whatever the configuration wraps them in.

    Args:
        student, teacher: the plain modules, equal on all ranks. Parameters that the objective does not use are frozen.
        objective: says which parameters and which cross-modal features are used.
        world: the ranks; with several, gradients of `student` are averaged over them in the backward pass.
    """

    def __init__(
        self, config: TrainConfig, student: COSMOS, teacher: COSMOS, objective: Objective, world: World
    ) -> None:
        freeze_unused(student, objective)
        student.set_grad_checkpointing(config.grad_checkpointing)
        self.cross_attention = objective.cross_attention
        self._student: Callable[..., Features] = student
        self._teacher: Callable[..., Features] = teacher
        if config.compile:
            if world.size > 1 and config.grad_checkpointing:
                # splitting the graph at DDP's buckets is not implemented for graphs that hold checkpoints
                torch._dynamo.config.optimize_ddp = False
            self._student, self._teacher = torch.compile(student), torch.compile(teacher)
        self._ddp = distributed(self._student, world) if world.size > 1 else None

    def student(self, images: list[Tensor], texts: Tensor, batch_size: int, sync: bool = True) -> Features:
        """The student's features, with cross-modal ones where the objective reads them.

        Args:
            images: one (B, 3, H, W) tensor for each view.
            texts: (n * B, L), caption-major.
            batch_size: B.
            sync: whether the backward pass through these features averages gradients over ranks, those that parameters
                hold already among them; where not, they are added to this rank's.
        """
        cross = batch_size if self.cross_attention else None
        if self._ddp is None or not torch.is_grad_enabled():
            return self._student(images, texts, cross)
        waiting: AbstractContextManager = nullcontext() if sync else self._ddp.no_sync()
        with waiting:
            return self._ddp(images, texts, cross)

    @torch.no_grad()
    def teacher(self, images: list[Tensor], texts: Tensor, batch_size: int) -> Features:
        """The teacher's features of the two global crops and the two global captions, without gradient."""
        return self._teacher(images[:2], texts[: 2 * batch_size])


def distributed(network: Callable[..., Features], world: World) -> DistributedDataParallel:
    """The network with gradients that are averaged over the default group's ranks during the backward pass.

    Parameters are those of rank 0 to begin with, which changes nothing where all ranks start from one seed. Buffers
    are constants here and never sent.
    """
    assert isinstance(network, torch.nn.Module)
    wrapped = DistributedDataParallel(network, broadcast_buffers=False, gradient_as_bucket_view=True)
    if world.size > 2 and dist.get_backend() == "gloo":
        wrapped.register_comm_hook(world.size, mean_in_the_order_of_ranks)
    return wrapped


@torch.no_grad()
def average_gradients(parameters: Sequence[nn.Parameter], world: World) -> None:
    """Average gradients over ranks in place, in one collective: for an objective's parameters, outside of DDP.

    A parameter without a gradient on any rank stays without one, so that the optimizer leaves it alone; where only some
    ranks have one, the others count as zero. Every rank must call it.
    """
    if world.size == 1 or not parameters:
        return
    dtype = reduce(torch.promote_types, (one.dtype for one in parameters), torch.float32)
    found = [one.new_zeros(()) if one.grad is None else one.new_ones(()) for one in parameters]
    gradients = [torch.zeros_like(one) if one.grad is None else one.grad for one in parameters]
    packed = torch.cat([value.detach().reshape(-1).to(dtype) for value in (*gradients, *found)])
    dist.all_reduce(packed)
    counts = packed[-len(parameters) :].tolist()
    means = (packed[: -len(parameters)] / world.size).split([one.numel() for one in parameters])
    for one, mean, count in zip(parameters, means, counts, strict=True):
        one.grad = mean.view_as(one).to(one.dtype) if count else None


def mean_in_the_order_of_ranks(size: int, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    """Average a bucket of gradients over `size` ranks, every element added in the order of the ranks.

    A ring adds in an order that depends on an element's place in its bucket, and DDP moves gradients to other places
    after the first backward pass of a process: from three ranks on, a run that was stopped and goes on would get other
    bits. As much is sent as by a ring: each rank gets its share of the elements from all, adds, and gives it to all.
    """
    flat = bucket.buffer()
    share = -(-len(flat) // size)
    padded = torch.nn.functional.pad(flat, (0, share * size - len(flat)))
    shares = torch.empty_like(padded)
    dist.all_to_all_single(shares, padded)
    first, *others = shares.view(size, share)
    for other in others:
        first += other
    dist.all_gather_into_tensor(padded, first / size)
    done: torch.futures.Future[Tensor] = torch.futures.Future()
    done.set_result(flat.copy_(padded[: len(flat)]))
    return done
