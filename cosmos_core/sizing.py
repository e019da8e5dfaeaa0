"""Estimates for a dry run: parameters, steps, memory of a device, arithmetic of a step.

No model is allocated: parameters are counted on torch's meta device, the rest is arithmetic on shapes.

**Activations** are the tensors that autograd keeps for the backward pass. A block of width W with a hidden layer of F W
keeps for every token 2 W values of float32 (the inputs of its two norms), and (6 + 2 F) W values in the type of the
matrix products: both norms' outputs, queries, keys, values, the output of attention, and the hidden layer before and
after its activation. Attention weights are not kept: fused kernels recompute them. With `grad_checkpointing` a block
keeps its input only, and one block at a time keeps the rest while it runs again. Texts count with their whole context;
they need less unless the networks are compiled, since most of their padding is trimmed.

**Arithmetic.** A product of (n, k) and (k, m) is 2 n k m operations. A block of T tokens does 2 T W^2 (4 + 2 F) for its
matrices and 4 T^2 W for attention, without a discount for the causal half. The backward pass costs twice the forward.
Norms, softmax and activations are not counted, as is usual for model FLOPs utilisation (MFU).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn

from cosmos_core.device_views import BYTES_PER_VALUE, MOST_VALUES
from cosmos_core.fsdp import blocks_of
from cosmos_core.loss_costs import loss_costs
from cosmos_core.model import COSMOS
from cosmos_core.workload import FLOAT, Workload


def parameter_counts(model: dict[str, Any] | str, chosen: Callable[[str], bool] = lambda name: True) -> dict[str, int]:
    """Parameters of one network by part, counted without allocating it; only those whose names are `chosen`."""
    with torch.device("meta"):
        network = COSMOS.from_config(model)
    counts = dict.fromkeys(("image tower", "text tower", "poolers and token maps", "temperatures"), 0)
    for name, parameter in network.named_parameters():
        if not chosen(name):
            continue
        if "cross_pool" in name or "token_mapping" in name:
            part = "poolers and token maps"
        elif "logit_scale" in name:
            part = "temperatures"
        else:
            part = "image tower" if name.startswith("visual.") else "text tower"
        counts[part] += parameter.numel()
    return counts


def memory(work: Workload) -> dict[str, float]:
    """Bytes on one device by use, between forward and backward of a step.

    Activations of frozen parts are counted, although none are kept below the first part that is trained.
    Not counted: the allocator's slack, workspaces of kernels, communication buffers, and temporaries of the backward
    pass (about the activations of one block).
    """
    config, objective_parameters = work.config, work.objective_parameters
    parameters = sum(parameter_counts(work.model).values())
    untrained = parameter_counts(work.model, lambda name: name in work.frozen or work.objective.unused(name))
    trained = parameters - sum(untrained.values())
    share = work.ranks if config.fsdp else 1
    copied = count_block_parameters(work.model).outside if config.fsdp else parameters
    part_size = work.local_batch // config.accumulate
    images = [(part_size * count, work.image_tokens(size), work.item) for count, size in work.image_views]
    texts = (part_size * work.captions, work.context, work.item)
    pixels = sum(count * 3 * size**2 for count, size in work.image_views)
    sizes = {
        "weights": (parameters / share + objective_parameters) * FLOAT,
        "gradients": (trained / share + objective_parameters) * FLOAT,
        "AdamW's two moments": 2 * (trained / share + objective_parameters) * FLOAT,
        "teacher (the average)": parameters / share * FLOAT,
        "weights and gradients that are gathered": gathered_bytes(work) if config.fsdp else 0,
        "16-bit copies of the weights": copied * work.item if work.item < FLOAT else 0,
        "images": work.local_batch * pixels * FLOAT,
        "next batch": next_batch_bytes(work),
        "activations of images": sum(work.image_tower.kept_bytes(*part, config.grad_checkpointing) for part in images),
        "activations of texts": work.text_tower.kept_bytes(*texts, config.grad_checkpointing),
        "activations of cross-attention": pooler_bytes(work, part_size),
        "activations of the block that runs again": max(
            work.text_tower.block_bytes(*texts), *(work.image_tower.block_bytes(*part) for part in images)
        )
        if config.grad_checkpointing
        else 0,
        "loss": loss_bytes(work),
    }
    return {name: size for name, size in sizes.items() if size}


def next_batch_bytes(work: Workload) -> float:
    """Most bytes of the batch that is prepared on a GPU while a step computes; none on a CPU.

    Its memory is that of another stream, which the step cannot use meanwhile.
    """
    if work.config.device.startswith("cpu"):
        return 0.0
    most = ready = 0.0
    for count, size in work.image_views:  # views of one size travel together
        values = work.local_batch * count * 3 * size**2
        changed = 0 if work.config.augment == "cpu" else min(values, MOST_VALUES)
        ready += values * FLOAT
        most = max(most, ready + values + changed * BYTES_PER_VALUE)  # with its 8-bit pixels
    return most


class BlockParameters(NamedTuple):
    """Numbers of a network's parameters, by transformer blocks."""

    outside: int
    """In no block."""
    largest: int
    """In its largest block."""
    image: int
    """In all blocks of the image tower."""


def count_block_parameters(model: dict[str, Any] | str) -> BlockParameters:
    with torch.device("meta"):
        network = COSMOS.from_config(model)
    blocks = [_parameters(block) for block in blocks_of(network)]
    return BlockParameters(
        _parameters(network) - sum(blocks), max(blocks), _parameters(network.visual.transformer.resblocks)
    )


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def gathered_bytes(work: Workload) -> float:
    """Bytes of whole weights and whole gradients on a rank in the backward pass, with `fsdp`.

    Those outside of the blocks are there throughout. Of the blocks, two have their weights, in the type of matrix
    products (one that is used, and the next, which is on its way), and two their gradients (as computed, and packed to
    be sent). A tower that is called once for each size of views has whole gradients of all its blocks until the
    backward pass of the last call (autograd hands a gradient on when it is complete); on a CPU texts, too, are called
    in groups, which is not counted.
    """
    count = count_block_parameters(work.model)
    waiting = count.image if len(work.image_views) > 1 else 0
    return count.outside * 2 * FLOAT + count.largest * 2 * (work.item + FLOAT) + waiting * work.item


def pooler_bytes(work: Workload, batch: int) -> float:
    """Bytes kept of token maps and cross-attention: tokens, keys and values for each sample, queries for each view."""
    if not work.objective.cross_attention:
        return 0.0
    dim, item = work.model["embed_dim"], work.item
    first = work.image_tokens(work.image_views[0][1]) - 1
    tokens = 0.0
    for width, count in ((work.image_tower.width, first), (work.text_tower.width, work.context)):
        tokens += count * (width * item + dim * (FLOAT + 3 * item))
    queries = (sum(count for count, _ in work.image_views) + work.captions) * dim * (4 * FLOAT + 4 * item)
    return batch * (tokens + queries)


def step_flops(work: Workload) -> dict[str, float]:
    """Operations of one device in one step by network; `recomputed` are forwards that are repeated to save memory."""
    config, batch, dim = work.config, work.local_batch, work.model["embed_dim"]
    images = [
        work.image_tower.flops(batch * count, work.image_tokens(size), dim) / count for count, size in work.image_views
    ]
    student_images = sum(each * count for each, (count, _) in zip(images, work.image_views, strict=True))
    text = work.text_tower.flops(batch, work.context, dim)
    towers = student_images + text * work.captions
    poolers = pooler_flops(work) if work.objective.cross_attention else 0.0
    teacher = 2 * images[0] + min(2, work.captions) * text if work.objective.needs_teacher else 0.0
    recomputed = (towers + poolers if config.accumulate > 1 else 0.0) + (towers if config.grad_checkpointing else 0.0)
    counts = {
        "student": 3 * (towers + poolers),
        "teacher": teacher,
        "loss": 3 * 2 * loss_costs(config)[0] * batch * config.batch_size * dim,
        "recomputed": recomputed,
    }
    return {name: count for name, count in counts.items() if count}


def pooler_flops(work: Workload) -> float:
    """Operations of a forward of token maps and cross-attention."""
    dim = work.model["embed_dim"]
    views = sum(count for count, _ in work.image_views)
    first = work.image_tokens(work.image_views[0][1]) - 1
    total = 0.0
    for queries, tokens, width in (
        (views, work.context, work.text_tower.width),
        (work.captions, first, work.image_tower.width),
    ):
        total += 2 * tokens * (width * dim + 2 * dim**2) + 2 * queries * 2 * dim**2 + 4 * queries * tokens * dim
    return work.local_batch * total


def loss_bytes(work: Workload) -> float:
    """Most bytes of the loss at one time, its backward pass included: proportional to local batch x whole batch.

    All activations are still there at that time. What autograd keeps of the loss is only a quarter of it.
    """
    return loss_costs(work.config)[1] * work.local_batch * work.config.batch_size
