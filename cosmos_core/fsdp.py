"""Networks that are split over the ranks (FSDP2), for towers that do not fit on one card beside their optimizer.

Fully sharded data parallelism (Zhao et al., VLDB 2023, arXiv 2304.11277) by torch's `fully_shard`. Every rank keeps one
part of each weight, of its gradient and of AdamW's moments, for the student, and one part of each of the teacher's
weights. The weights of a transformer block are gathered when it is called, freed after it, and gathered again in its
backward pass, which averages its gradients over the ranks and leaves each rank its part, once those of all calls
in the step (one for each size of views) are complete. What is outside of the blocks
(embeddings, projections, poolers) is one more group.

The rest of cosmos_core sees a `COSMOS` with the names it always has, whose parameters are DTensors between steps.
The functions here that take tensors also take ordinary ones, and treat those as if this file did not exist. Scalars
(the two temperatures) cannot be split: every rank has them whole. Checkpoints hold whole tensors, as without sharding.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from cosmos_core.config import TrainConfig
from cosmos_core.errors import RequestError
from cosmos_core.model import COSMOS, Features
from cosmos_core.world import World

OLDEST_TORCH = (2, 11)
SECOND_HALF = "second_half"
"""Key of an optimizer's group that holds the split parameters of the group before it."""


def torch_version() -> tuple[int, int]:
    major, minor = torch.__version__.split(".")[:2]
    return int(major), int(minor)


def require_fsdp(config: TrainConfig, world: World, device: torch.device, dtype: torch.dtype | None) -> None:
    """RequestError on all ranks if `fsdp` is set and this run cannot have it.

    Args:
        world: the ranks that train together.
        dtype: of mixed precision; None for float32.
    """
    problem = ""
    if torch_version() < OLDEST_TORCH:
        problem = f"needs torch {'.'.join(map(str, OLDEST_TORCH))}, with which it was tested: install it"
    elif world.size < 2:
        problem = "needs at least two ranks to split the networks over: start them with torchrun (a dry run: --ranks 8)"
    elif device.type not in ("cuda", "cpu"):
        problem = f"runs on CUDA and on CPUs, not on {device.type}: set device=cpu, or train where CUDA is"
    elif config.compile:
        problem = "does not go with compile=true: set compile=false"
    elif dtype is torch.float16 or config.precision == "amp":
        problem = "has no loss scaling, which float16 needs: set precision=fp32, or amp_bf16 where the card has it"
    if config.fsdp and problem:
        error = RequestError(f"fsdp=true {problem}, or set fsdp=false")
        error.quiet = not world.is_main
        raise error


def shard_networks(
    student: COSMOS, teacher: COSMOS, world: World, device: torch.device, dtype: torch.dtype | None
) -> None:
    """Split two networks over the ranks, in place, and move them to `device`, a group of weights at a time.

    Every rank must call it with the same weights.

    Args:
        student, teacher: on any device, so that they need not fit on the card whole; optimizers are built afterwards.
        dtype: of mixed precision, in which the blocks' weights are gathered. Their own type, that of the rest, of
            gradients and of moments stays. None: everything in its own type.
    """
    register_features()
    mesh = init_device_mesh(device.type, (world.size,))
    # Autocast alone would keep a whole 16-bit copy of every weight from the forward to the backward pass. It still
    # chooses the type of each operation, so inputs are left as they are.
    policy = MixedPrecisionPolicy()
    if dtype is not None:
        policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for network in (student, teacher):
        scalars = {parameter for parameter in network.parameters() if parameter.ndim == 0}
        for parameter in scalars:
            parameter.data = parameter.data.to(device)
        for block in blocks_of(network):
            fully_shard(block, mesh=mesh, mp_policy=policy)
        # A group that stayed gathered after the teacher's forward would not see the next update of the average. The
        # student's may stay (None) until its backward pass, which splits it again.
        reshard = None if network is student else True
        fully_shard(network, mesh=mesh, ignored_params=scalars, reshard_after_forward=reshard)


@cache
def register_features() -> None:
    """Let torch find the tensors in `Features`: the backward pass of a network begins at those."""
    torch.export.register_dataclass(Features)


def blocks_of(network: COSMOS) -> list[nn.Module]:
    """The transformer blocks of both towers."""
    return [*network.visual.transformer.resblocks, *cast(Any, network.transformer).resblocks]


def is_sharded(network: nn.Module) -> bool:
    return isinstance(network, FSDPModule)


def forget_forward(network: nn.Module) -> None:
    """Drop the order of calls that torch has noted for a backward pass; after a forward without gradients.

    Nothing else empties the list of a network that is never trained: it would grow for the whole run, by some bytes for
    each block and step. torch has no public way to do it (2.11); where another version keeps the lists elsewhere, they
    stay.
    """
    for module in network.modules():
        if isinstance(module, FSDPModule):
            group = getattr(module._get_fsdp_state(), "_fsdp_param_group", None)
            for noted in (
                getattr(group, "_post_forward_indices", None),
                getattr(getattr(group, "comm_ctx", None), "post_forward_order", None),
            ):
                if noted is not None:
                    noted.clear()


def local_parts(tensors: Iterable[Tensor]) -> list[Tensor]:
    """This rank's part of each tensor that is split, and the others as they are; they share memory with `tensors`."""
    return [each.to_local() if isinstance(each, DTensor) else each for each in tensors]


@torch.no_grad()
def average_scalars(network: nn.Module, world: World) -> None:
    """Average the gradients of a split network's scalars over the ranks, in one collective; every rank must call it.

    Without sharding they are averaged in the backward pass, with all others.
    """
    gradients = [each.grad for each in network.parameters() if each.ndim == 0 and each.grad is not None]
    if is_sharded(network) and gradients:
        packed = torch.stack(gradients)
        dist.all_reduce(packed)
        torch._foreach_copy_(gradients, list(packed / world.size))


@torch.no_grad()
def gradient_norm(gradients: Sequence[Tensor]) -> Tensor:
    """The norm of all gradients together, a scalar, equal on all ranks; a collective where some are split."""
    split = [each for each in gradients if isinstance(each, DTensor)]
    if not split:
        return nn.utils.get_total_norm(gradients)
    whole = [each for each in gradients if not isinstance(each, DTensor)]
    square = nn.utils.get_total_norm(local_parts(split)).square()
    dist.all_reduce(square)
    return (square + nn.utils.get_total_norm(whole).square() if whole else square).sqrt()


@torch.no_grad()
def clip_gradients(parameters: Sequence[Tensor], largest: float, norm: Tensor) -> None:
    """Scale the gradients of parameters in place so that their norm, which is `norm` now, is at most `largest`."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if any(isinstance(each, DTensor) for each in gradients):
        torch._foreach_mul_(local_parts(gradients), (largest / (norm + 1e-6)).clamp(max=1.0))  # torch's own formula
    else:
        nn.utils.clip_grads_with_norm_(parameters, largest, norm)


def split_groups(groups: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Optimizer groups of which none holds both split and whole parameters: fused kernels do not take a mixture.

    The scalars of a group come first, as they do in a `COSMOS`, so that all parameters keep their numbers.
    """
    result: list[dict[str, Any]] = []
    for group in groups:
        whole = [parameter for parameter in group["params"] if not isinstance(parameter, DTensor)]
        if 0 < len(whole) < len(group["params"]):
            split = group["params"][len(whole) :]
            assert all(isinstance(parameter, DTensor) for parameter in split)
            result += [{**group, "params": whole}, {**group, "params": split, SECOND_HALF: True}]
        else:
            result.append(group)
    return result


def joined_groups(groups: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The groups of an optimizer's state as they are without sharding."""
    result: list[dict[str, Any]] = []
    for group in groups:
        if group.get(SECOND_HALF):
            result[-1]["params"] = [*result[-1]["params"], *group["params"]]
        else:
            result.append(dict(group))
    return result


def divided_groups(groups: Sequence[Mapping[str, Any]], stored: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Groups of a checkpoint, divided as those of an optimizer are: the opposite of `joined_groups`."""
    result: list[Mapping[str, Any]] = []
    remaining = list(stored)
    for index, group in enumerate(groups):
        if group.get(SECOND_HALF):
            whole, numbers = len(groups[index - 1]["params"]), result[-1]["params"]
            result[-1:] = [{"params": numbers[:whole]}, {"params": numbers[whole:]}]
        elif remaining:
            result.append(remaining.pop(0))
    return result + remaining


@torch.no_grad()
def whole_tensor(tensor: Tensor, keep: bool = True) -> Tensor:
    """All of a tensor, on the CPU if it was split; every rank must call it, and gets it if `keep`, else nothing of it.

    An ordinary tensor is returned as it is.
    """
    if not isinstance(tensor, DTensor):
        return tensor
    whole = tensor.full_tensor()
    # copied, since it may be a part of a padded buffer, which a file would hold as well
    return whole.to("cpu", copy=True) if keep else whole.new_empty(0)


def whole_weights(network: COSMOS, keep: bool = True) -> COSMOS | dict[str, Tensor]:
    """A network, or if it is split the state dict of whole tensors; a collective then, as `whole_tensor`."""
    return _whole_state(network, keep) if is_sharded(network) else network


def _whole_state(network: COSMOS, keep: bool) -> dict[str, Tensor]:
    return {name: whole_tensor(value, keep) for name, value in network.state_dict().items()}


def whole_moments(optimizer: torch.optim.Optimizer, keep: bool = True) -> dict[str, Any]:
    """An optimizer's state dict as it is without sharding; a collective where parameters are split."""
    state = optimizer.state_dict()
    moments = {
        number: {
            name: whole_tensor(value, keep) if isinstance(value, Tensor) else value for name, value in entry.items()
        }
        for number, entry in state["state"].items()
    }
    return {"state": moments, "param_groups": joined_groups(state["param_groups"])}


def whole_network(network: COSMOS, keep: bool = True) -> COSMOS:
    """A network as it is, or if it is split a copy with whole weights on the CPU; every rank must call it then.

    The copy has the modes and frozen parameters of the original. Without `keep` it has no weights, on the meta device.
    """
    if not is_sharded(network):
        return network
    state = _whole_state(network, keep)
    with torch.device("meta"):
        copied = COSMOS.from_config(network.config)
    for name, parameter in network.named_parameters():
        copied.get_parameter(name).requires_grad_(parameter.requires_grad)
    if keep:
        copied.load_state_dict({name: value.cpu() for name, value in state.items()}, assign=True)
        copied.attn_mask = network.attn_mask.cpu()
    return copied.train(network.training)


@torch.no_grad()
def copy_whole(target: Tensor, whole: Tensor) -> None:
    """Copy values into a tensor; if it is split, each rank gets its part of rank 0's, and every rank must call it."""
    if isinstance(target, DTensor):
        whole = whole.to(device=target.device, dtype=target.dtype)
        whole = distribute_tensor(whole, target.device_mesh, target.placements)
    target.copy_(whole)


def split_like(values: Mapping[str, Any], parameter: Tensor) -> dict[str, Any]:
    """An optimizer's values of one parameter, split as that is; scalars, such as the number of steps, stay as they are.

    Raises:
        ValueError: a moment has another shape than its parameter.
    """
    result = dict(values)
    if isinstance(parameter, DTensor):
        for name, value in values.items():
            if isinstance(value, Tensor) and value.ndim:
                if value.shape != parameter.shape:
                    raise ValueError(f"{name} is {tuple(value.shape)} for a parameter of {tuple(parameter.shape)}")
                result[name] = torch.zeros_like(parameter, requires_grad=False)
                copy_whole(result[name], value)
    return result
