"""Batches for the training loop: endless, resumable from any batch, and equal for any number of workers."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from cosmos_core.config import TrainConfig
from cosmos_core.data.lanes import LanePlan, Slice, slices
from cosmos_core.data.mixing import describe_weights
from cosmos_core.data.samples import Batch
from cosmos_core.data.workers import WorkerPool
from cosmos_core.device_views import change_views
from cosmos_core.devices import choose_device
from cosmos_core.errors import RequestError, report_dead_worker
from cosmos_core.views import MultiCrop, normalize_channels, normalize_pixels
from cosmos_core.world import World

MIN_SEEN = 200
"""Samples that must have been read before the share of unusable ones is judged."""


class Loader:
    """The training data of one rank."""

    steps_per_epoch: int
    """0: unknown."""
    samples_per_epoch: int
    """0: unknown."""

    def batches(self, start: dict[str, Any] | None = None) -> Iterator[Batch]:
        """This rank's shares of the global batches, endless, epoch after epoch.

        Args:
            start: the states of all ranks' lanes after a batch, as `join_positions` returns them; None: the beginning.

        Raises:
            RequestError: `start` is of other data, or more than `max_broken` of the samples are unusable.
        """
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """Sources, order and sharing of the data among ranks and workers, for a dry run."""
        raise NotImplementedError

    def change_on_device(self, on_device: bool) -> None:
        """Choose, before the first batch, where views are changed (`augment`); at first it is the CPU."""
        raise NotImplementedError

    def close(self) -> None:
        """End all workers."""


class LaneLoader(Loader):
    """Records, tables and shards, drawn through lanes."""

    def __init__(self, config: TrainConfig, plan: LanePlan, samples: int, world: World) -> None:
        self.config, self.plan, self.world = config, plan, world
        self.samples_per_epoch = samples
        self.steps_per_epoch = samples // config.batch_size
        self.lanes = list(range(world.rank, plan.lanes, world.size))
        self.rounds = plan.rounds
        # the largest number that divides the lanes, so that each worker gives equally many samples to a batch
        self.workers = next((n for n in range(config.workers, 0, -1) if len(self.lanes) % n == 0), 0)
        self.device = pixel_device(config.device)
        self.worker_pools: list[WorkerPool] = []

    def batches(self, start: dict[str, Any] | None = None) -> Iterator[Batch]:
        with report_dead_worker("workers"):
            yield from self._batches(start)

    def _batches(self, start: dict[str, Any] | None) -> Iterator[Batch]:
        fingerprint = self.plan.fingerprint()
        epoch, step = self._position(start or {}, fingerprint)
        for parts in self._slices(start or {}):
            state = {number: lane for part in parts for number, lane in part.lanes.items()}
            reason = next((reason for part in parts for reason in part.broken.values()), "")
            seen, broken = (sum(lane[key] for lane in state.values()) for key in ("seen", "broken"))
            require_few_broken(self.config.max_broken, broken, seen, reason)
            step += 1
            ends = step == self.steps_per_epoch
            position = {**state, "plan": fingerprint}
            yield assemble(parts, self.plan.views.images, self.device, epoch, ends, position, broken)
            if ends:
                epoch, step = epoch + 1, 0

    def describe(self) -> dict[str, Any]:
        return {
            "sources": [
                {**source.describe(self.plan.lanes), **describe_weights(self.plan.stages, number)}
                for number, source in enumerate(self.plan.sources)
            ],
            "samples_per_epoch": self.samples_per_epoch or None,
            "steps_per_epoch": self.steps_per_epoch or None,
            "lanes": self.plan.lanes,
            "shuffle": self.plan.block,
            "ranks": self.world.size,
            "workers_per_rank": self.workers,
            "samples_per_rank": self.rounds * len(self.lanes),
        }

    def change_on_device(self, on_device: bool) -> None:
        self.plan = replace(self.plan, views=replace(self.plan.views, on_device=on_device))

    def close(self) -> None:
        for pool in self.worker_pools:
            pool.close()
        self.worker_pools = []

    def _slices(self, start: dict[str, Any]) -> Iterator[list[Slice]]:
        if not self.workers:
            for part in slices(self.plan, self.lanes, self.rounds, start):
                yield [part]
        pool = WorkerPool(self.plan, self.lanes, self.rounds, start, self.workers)
        self.worker_pools.append(pool)
        try:
            yield from pool
        finally:
            pool.close()

    def _position(self, start: dict[str, Any], fingerprint: int) -> tuple[int, int]:
        """Epoch of the next batch, and its step in it."""
        if not start:
            return 0, 0
        if start.get("plan") != fingerprint or not all(str(lane) in start for lane in self.lanes):
            raise RequestError(
                "the checkpoint is of other data, or of another seed, lanes, shuffle, samples or batch_size: set them "
                "as they were, or start a new run"
            )
        positions = {(start[str(lane)]["epoch"], start[str(lane)]["given"]) for lane in self.lanes}
        if len(positions) != 1:
            raise RequestError("the checkpoint's position in the data is damaged: its lanes are at different batches")
        epoch, samples_given = positions.pop()
        return epoch, samples_given // self.rounds


def pixel_device(name: str) -> torch.device:
    """Where pixels become floats: on the run's GPU, since uint8 is a quarter of the bytes to copy, else on the CPU."""
    if name == "auto":
        name = choose_device()[0].type
    return torch.device(name) if name.startswith("cuda") and torch.cuda.is_available() else torch.device("cpu")


def assemble(
    parts: list[Slice],
    views: MultiCrop,
    device: torch.device,
    epoch: int,
    ends: bool,
    state: dict[str, Any],
    skipped: int,
) -> Batch:
    """One batch from the slices of all workers, in the order of the lanes: of W workers, number w has samples w, w + W,
    ..."""
    keys = [key for turn in zip(*(part.keys for part in parts), strict=True) for key in turn]
    return Batch(
        images=finish_views(parts, views, device),
        texts=pin(device, interleave([part.texts for part in parts])),
        keys=keys,
        epoch=epoch,
        ends_epoch=ends,
        broken={key: reason for part in parts for key, reason in part.broken.items()},
        seen=sum(part.seen for part in parts),
        left_out=skipped,
        state=state,
    )


def finish_views(parts: list[Slice], views: MultiCrop, device: torch.device) -> list[Tensor]:
    """The views of a batch on the device, (B, 3, H, W) float32 each: changed, where workers only cropped, and
    normalised.

    All views of one size travel in one copy of uint8 pixels from page-locked memory, for which the host does not wait.
    """
    changes = interleave([part.changes for part in parts]).transpose(0, 1)  # (V, B, 11)
    by_size: dict[tuple[int, ...], list[int]] = {}
    for index, view in enumerate(parts[0].images):
        by_size.setdefault(tuple(view.shape[1:]), []).append(index)
    finished: dict[int, Tensor] = {}
    for shape, indices in by_size.items():
        # on a CPU each view is a tensor already, and joining them would be one more copy
        groups = [[index] for index in indices] if device.type == "cpu" else [indices]
        for group in groups:
            pixels = to_device(device, gather_views(parts, group, shape, device))
            if len(changes):
                rows = changes[group].flatten(0, 1).numpy()
                whole = change_views(pixels, rows, lambda values: to_device(device, pin(device, torch.tensor(values))))
                normalised = normalize_channels(whole, views.mean, views.std)
            else:
                normalised = normalize_pixels(pixels, views.mean, views.std)
            finished.update(zip(group, normalised.chunk(len(group)), strict=True))
    return [finished[index] for index in range(len(finished))]


def gather_views(parts: list[Slice], indices: list[int], shape: tuple[int, ...], device: torch.device) -> Tensor:
    """(V * B, H, W, 3) uint8: some views of one size, view by view, in page-locked memory if they go to a GPU."""
    if len(indices) == 1 and device.type == "cpu":
        return interleave([part.images[indices[0]] for part in parts])
    batch = sum(len(part.keys) for part in parts)
    pixels = torch.empty((len(indices), batch, *shape), dtype=torch.uint8, pin_memory=device.type != "cpu")
    for view, index in zip(pixels, indices, strict=True):
        for number, part in enumerate(parts):
            view[number :: len(parts)] = part.images[index]
    return pixels.flatten(0, 1)


def to_device(device: torch.device, values: Tensor) -> Tensor:
    """Values from page-locked memory (see `pin`) on the run's device; the host does not wait for the copy to a GPU."""
    return values.to(device, non_blocking=True)


def pin(device: torch.device, values: Tensor) -> Tensor:
    """The values in page-locked memory, from which the copy to a GPU needs no waiting; unchanged for the CPU."""
    return values if device.type == "cpu" else values.pin_memory()


def interleave(parts: list[Tensor]) -> Tensor:
    """The first row of every part, then the second of every part, ..."""
    return parts[0] if len(parts) == 1 else torch.stack(parts, dim=1).flatten(0, 1)


def require_few_broken(most: float, broken: int, seen: int, reason: str) -> None:
    """RequestError if more of the samples than allowed are unusable."""
    if seen >= MIN_SEEN and broken > most * seen:
        raise RequestError(
            f"{broken} of the first {seen} samples are unusable, more than max_broken={most:g} allows"
            + (f"; the last: {reason}" if reason else "")
        )


def join_positions(states: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The position of the whole run in the data, from the `Batch.state` of every rank."""
    return {lane: state for part in states for lane, state in part.items()}
