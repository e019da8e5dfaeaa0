"""The pack's processes for real: our model behind DDP, our loss, gloo."""

import tempfile
from pathlib import Path
from typing import Any

from torch.nn.parallel import DistributedDataParallel

from cosmos_core.objectives.cosmos import CosmosLoss
from cosmos_core.world import World
from tests.core.gloo_ranks import on_ranks
from tests.parity import ours
from tests.parity.golden import Pack


def one_process(world: World, folder: str) -> dict[str, Any]:
    """Losses that this process reports and the gradients that DDP leaves on it."""
    pack = Pack.at(folder)
    views, texts = ours.batch_of_rank(pack, world.rank)
    student = ours.model(pack)
    called = DistributedDataParallel(student)
    step = ours.forward(called, ours.model(pack, "teacher_init"), views, texts)
    found = CosmosLoss(world)(step.features, step.teacher, step.batch)
    found.total.backward()
    losses = {name: getattr(found, name).item() for name in ("distill_loss", "clip_loss", "total")}
    return {"losses": losses, "gradients": ours.named_gradients(student)}


def all_processes(pack: Pack) -> dict[str, Any]:
    """What each process has, by rank, under `ranks`."""
    size = pack.json("model/distributed.json")["world_size"]
    with tempfile.TemporaryDirectory() as folder:
        return {"ranks": on_ranks(one_process, [size], Path(folder), str(pack.folder))[size]}
