"""What a plan says against what can be measured on a CPU: tensors that autograd keeps, operations that torch counts."""

import copy
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.distributed._tools.mem_tracker import MemTracker
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from cosmos_core.config import TrainConfig, load_preset
from cosmos_core.device_views import change_views
from cosmos_core.errors import RequestError
from cosmos_core.loss_costs import loss_costs
from cosmos_core.model import COSMOS
from cosmos_core.objectives import OBJECTIVES, build_objective
from cosmos_core.peak_bytes import PeakBytes
from cosmos_core.sizing import count_block_parameters, memory, parameter_counts, pooler_bytes, step_flops
from cosmos_core.view_draws import changes_table
from cosmos_core.views import MultiCrop
from cosmos_core.workload import Workload, steps_of

SMALL = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 64, "layers": 3, "width": 96, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 24, "vocab_size": 200, "width": 64, "heads": 4, "layers": 2},
}
CONFIG = TrainConfig(
    model=SMALL, batch_size=8, views=MultiCrop(global_size=64, local_size=32), captions=4, device="cpu", steps=10
)
ACTIVATIONS = 0.05
"""How far, relatively, the estimate of activations may lie from what autograd keeps."""


pytestmark = pytest.mark.usefixtures("one_thread")


class KeptBytes(torch.autograd.graph.saved_tensors_hooks):
    """A context that counts the bytes of the tensors that autograd keeps, each storage once."""

    def __init__(self) -> None:
        self.storages: dict[int, torch.UntypedStorage] = {}
        super().__init__(self.pack, lambda tensor: tensor)

    def __enter__(self) -> "KeptBytes":  # type: ignore[override]
        super().__enter__()
        return self

    def pack(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        self.storages[storage.data_ptr()] = storage
        return tensor

    @property
    def total(self) -> int:
        return sum(storage.nbytes() for storage in self.storages.values())


def student_and_batch(work: Workload) -> tuple[COSMOS, list[torch.Tensor], torch.Tensor]:
    """A network and a batch of noise whose captions fill the context: no padding to leave out."""
    torch.manual_seed(0)
    model = COSMOS.from_config(work.model).train()
    model.set_grad_checkpointing(work.config.grad_checkpointing)
    n = work.local_batch
    images = [torch.randn(n, 3, size, size) for count, size in work.image_views for _ in range(count)]
    texts = torch.randint(1, 100, (n * work.captions, work.context))
    texts[:, -1] = model.vocab_size - 1
    return model, images, texts


def kept_by(model: COSMOS, images: list[torch.Tensor], texts: torch.Tensor, batch: int | None) -> int:
    """Bytes that autograd keeps of a forward, weights aside."""
    with KeptBytes() as kept:
        model(images, texts, batch)
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    return sum(storage.nbytes() for place, storage in kept.storages.items() if place not in weights)


def activations(work: Workload) -> float:
    return sum(size for use, size in memory(work).items() if use.startswith("activations"))


@pytest.mark.parametrize("model", [SMALL, "toybox"])
def test_activations_are_what_autograd_keeps(model):
    work = Workload(replace(CONFIG, model=model))
    kept = kept_by(*student_and_batch(work), work.local_batch)
    assert activations(work) == pytest.approx(kept, rel=ACTIVATIONS)


def test_activations_without_cross_attention_are_fewer_by_those_of_the_poolers():
    work = Workload(replace(CONFIG, objective="distill"))
    assert "activations of cross-attention" not in memory(work)
    assert activations(work) == pytest.approx(kept_by(*student_and_batch(work), None), rel=ACTIVATIONS)
    whole = Workload(CONFIG)
    assert activations(whole) - activations(work) == pooler_bytes(whole, whole.local_batch) > 0


def test_checkpointing_keeps_the_inputs_of_blocks_and_one_block_more():
    work = Workload(replace(CONFIG, grad_checkpointing=True, model="toybox"))
    found = memory(work)
    again = found.pop("activations of the block that runs again")
    kept = kept_by(*student_and_batch(work), work.local_batch)
    estimate = sum(size for use, size in found.items() if use.startswith("activations"))
    assert estimate == pytest.approx(kept, rel=2 * ACTIVATIONS)  # what is left is small, and norms' statistics show
    texts = work.local_batch * work.captions
    assert again == work.text_tower.block_bytes(texts, work.context, 4)
    assert activations(work) < activations(Workload(replace(work.config, grad_checkpointing=False))) / 2


def test_accumulation_divides_activations_and_mixed_precision_nearly_halves_them():
    whole, parts = (activations(Workload(replace(CONFIG, accumulate=n))) for n in (1, 4))
    assert parts == whole / 4
    mixed = memory(Workload(replace(CONFIG, device="cuda", precision="amp")))
    ratio = sum(size for use, size in mixed.items() if use.startswith("activations")) / whole
    assert 0.5 < ratio < 0.6  # the residual stream stays in float32
    assert mixed["16-bit copies of the weights"] == mixed["weights"] / 2
    assert "16-bit copies of the weights" not in memory(Workload(replace(CONFIG, precision="amp")))  # on a CPU


@pytest.mark.parametrize("objective", list(OBJECTIVES))
def test_operations_of_a_forward_are_those_that_torch_counts(objective: str):
    work = Workload(replace(CONFIG, objective=objective))
    model, images, texts = student_and_batch(work)
    cross = work.local_batch if build_objective(objective).cross_attention else None
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(images, texts, cross)
    flops = step_flops(work)
    assert flops["student"] == 3 * counter.get_total_flops()
    if not build_objective(objective).needs_teacher:
        assert "teacher" not in flops
        return
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(images[:2], texts[: 2 * work.local_batch])
    assert flops["teacher"] == counter.get_total_flops()


def test_a_backward_pass_costs_twice_the_forward():
    work = Workload(CONFIG)
    model, images, texts = student_and_batch(work)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        features = model(images, texts, work.local_batch)
        assert features.image_cross_features is not None
        assert features.text_cross_features is not None
        (features.image_cross_features.sum() + features.text_cross_features.sum()).backward()
    # images need no gradient of their own: the first product has one backward product, not two
    assert step_flops(work)["student"] == pytest.approx(counter.get_total_flops(), rel=0.05)


def test_what_runs_twice_is_counted_on_its_own():
    once, parts, again = (
        step_flops(Workload(replace(CONFIG, **change)))
        for change in ({}, {"accumulate": 2}, {"grad_checkpointing": True})
    )
    assert "recomputed" not in once
    assert parts["recomputed"] == pytest.approx(once["student"] / 3)
    assert once["student"] == parts["student"] == again["student"]
    assert 0 < again["recomputed"] < parts["recomputed"]  # the poolers keep what they need


def test_the_loss_compares_every_pair_of_views_that_the_paper_does():
    config = replace(CONFIG, captions=8)
    # 2 global crops x 8 captions; (8 crops + 8 captions) x (2 + 2) views of the teacher
    assert loss_costs(config)[0] == 2 * 8 + 16 * 4
    assert loss_costs(replace(config, objective="clip"))[0] == 1
    assert loss_costs(replace(config, objective="slip"))[0] == 2 * 2 + 1
    assert loss_costs(replace(config, objective="silc"))[0] == 2 + 8 * 2


NARROW = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 8, "vocab_size": 200, "width": 32, "heads": 2, "layers": 1},
}


@pytest.mark.parametrize("objective", ["cosmos", "clip", "silc"])
def test_memory_of_a_large_batch_is_the_peak_that_torch_tracks(objective: str):
    views = MultiCrop(global_size=32, local_size=16)
    work = Workload(replace(CONFIG, model=NARROW, views=views, objective=objective, batch_size=256))
    student, images, texts = student_and_batch(work)
    teacher, module = copy.deepcopy(student), build_objective(objective)
    optimizer = torch.optim.AdamW(student.parameters())
    for parameter in student.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()  # makes the moments
    optimizer.zero_grad()
    tracker = MemTracker()
    tracker.track_external(student, teacher, optimizer, *images)
    with tracker:
        with torch.no_grad():
            targets = teacher(images[:2], texts[: 2 * 256], 256) if module.needs_teacher else None
        module(student(images, texts, 256), targets, 256).total.backward()
        optimizer.step()
    (sizes,) = tracker.get_tracker_snapshot("peak").values()
    assert sum(memory(work).values()) == pytest.approx(max(sizes.values()), rel=0.2)


def test_the_next_batch_takes_what_its_changes_take_at_most():
    work = Workload(replace(CONFIG, batch_size=64, device="cuda", precision="fp32"))
    views, draw = work.config.views, random.Random(0)
    drawn = [views.draw((96, 80), draw) for _ in range(work.local_batch)]
    finished = []
    with PeakBytes() as counted:
        first = 0
        for count, size in work.image_views:
            table = np.concatenate([changes_table(sample[first : first + count]) for sample in drawn])
            pixels = torch.zeros(len(table), size, size, 3, dtype=torch.uint8)
            finished.append(change_views(pixels, table, torch.from_numpy))
            first += count
            del pixels
    assert memory(work)["next batch"] == pytest.approx(counted.peak, rel=0.1)
    assert memory(Workload(replace(work.config, augment="cpu")))["next batch"] < 0.6 * counted.peak
    assert "next batch" not in memory(Workload(replace(work.config, device="cpu")))


def test_split_networks_take_a_share_of_each_state_and_what_is_gathered():
    config = replace(CONFIG, objective="siglip", objective_options={})
    whole, split = memory(Workload(config, 4)), memory(Workload(replace(config, fsdp=True), 4))
    outside, block, _ = count_block_parameters(SMALL)
    count, bias = sum(parameter_counts(SMALL).values()), 1
    # the wider tower's: two norms, attention's and the hidden layer's matrices, each with its bias
    assert block == 4 * 96 + (4 + 8) * 96**2 + (4 + 5) * 96
    assert count - outside == 3 * block + 2 * (4 * 64 + 12 * 64**2 + 9 * 64)
    assert split.pop("weights and gradients that are gathered") == 8 * outside + 2 * 8 * block
    assert split["weights"] == (count / 4 + bias) * 4
    assert split["teacher (the average)"] == count
    trained = whole["gradients"] / 4 - bias
    assert (split["gradients"], split["AdamW's two moments"]) == (trained + 4 * bias, 2 * (trained + 4 * bias))
    same = {use: size for use, size in whole.items() if use.startswith(("images", "activations", "loss"))}
    assert {use: split[use] for use in same} == same


def test_gradients_of_image_blocks_wait_for_the_views_of_the_other_size():
    config = replace(CONFIG, fsdp=True)
    one_size = replace(config, views=replace(config.views, local_crops=0))
    gathered = [memory(Workload(each, 4))["weights and gradients that are gathered"] for each in (config, one_size)]
    with torch.device("meta"):
        blocks = COSMOS.from_config(SMALL).visual.transformer.resblocks
    assert gathered[0] - gathered[1] == 4 * sum(parameter.numel() for parameter in blocks.parameters())


def test_parameters_are_those_of_the_published_models():
    for name, count in (("ViT-B-16", 152_382_466), ("ViT-B-32", 154_039_042)):
        assert sum(parameter_counts(name).values()) == count
    parts = parameter_counts(SMALL)
    model = COSMOS.from_config(SMALL)
    assert sum(parts.values()) == sum(p.numel() for p in model.parameters())
    poolers = [model.visual.attn_cross_pool, model.text_attn_cross_pool, model.image_token_mapping]
    poolers.append(model.text_token_mapping)
    assert parts["poolers and token maps"] == sum(p.numel() for m in poolers for p in m.parameters())
    assert parts["temperatures"] == 2


def test_counting_the_parameters_of_a_large_model_allocates_none(monkeypatch: pytest.MonkeyPatch):
    made = []

    class Recorded(COSMOS):
        def __init__(self, *args, **kwargs) -> None:
            super().__init__(*args, **kwargs)
            made.append(self)

    monkeypatch.setattr("cosmos_core.sizing.COSMOS", Recorded)
    parameter_counts("ViT-B-16")
    assert {parameter.device.type for parameter in made[0].parameters()} == {"meta"}


def test_more_ranks_share_the_batch_and_not_the_weights():
    alone, shared = Workload(load_preset("cc3m")), Workload(load_preset("cc3m"), 16)
    assert (alone.local_batch, shared.local_batch) == (1024, 64)
    ours, theirs = memory(alone), memory(shared)
    assert ours["weights"] == theirs["weights"] == 4 * 152_382_466
    assert ours["AdamW's two moments"] == 8 * 152_382_466
    assert ours["teacher (the average)"] == ours["gradients"] == ours["weights"]
    assert theirs["images"] == 4 * 64 * 3 * (2 * 224**2 + 6 * 96**2)
    assert theirs["loss"] == ours["loss"] / 16
    assert activations(alone) == 16 * activations(shared)
    assert step_flops(alone)["student"] == pytest.approx(16 * step_flops(shared)["student"])


def test_parameters_that_an_objective_leaves_alone_have_neither_gradient_nor_moments():
    whole, plain = memory(Workload(CONFIG)), memory(Workload(replace(CONFIG, objective="clip")))
    unused = parameter_counts(SMALL)["poolers and token maps"] + 1  # and the temperature of distillation
    assert whole["gradients"] - plain["gradients"] == 4 * unused
    assert whole["AdamW's two moments"] - plain["AdamW's two moments"] == 8 * unused
    assert whole["weights"] == plain["weights"] == whole["gradients"]


def test_the_length_of_a_run():
    config = load_preset("cc3m")
    assert steps_of(config, config.samples) == (88_192, 2_756)
    assert steps_of(replace(config, steps=7), config.samples) == (7, 2_756)
    assert steps_of(config, 0) == (0, 0)


@pytest.mark.parametrize(
    ("change", "ranks", "why"),
    [
        ({}, 3, "batch_size=8 does not divide among 3 ranks: set 6 or 9"),
        ({}, 16, "batch_size=8 does not divide among 16 ranks: set 16"),
        ({"accumulate": 3}, 2, "accumulate=3 does not divide the 4 samples that a rank has of a batch: set 2 or 4"),
    ],
)
def test_a_batch_that_cannot_be_shared_is_refused(change: dict, ranks: int, why: str):
    with pytest.raises(RequestError, match=why):
        Workload(replace(CONFIG, **change), ranks)
