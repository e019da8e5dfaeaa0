"""Lanes: the streams of samples that a global batch is drawn from in turn (sample i of a batch is of lane i mod lanes).

Ranks and their workers share the lanes, and no draw depends on how many they are: so batches are the same for any
number of ranks and workers. A lane's state is a few integers, so a run can be resumed from any batch:

    epoch   the pass over the data
    given   samples that the lane has given in it
    at      its position in each source (see `cosmos_core.data.streams`)
    seen    samples read since the run began, including unusable ones
    broken  how many of them were unusable
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cosmos_core.data.mixing import Stage
from cosmos_core.data.samples import BrokenSample, MadeViews, SampleViews, Tokenizer
from cosmos_core.data.shards import LostSamples
from cosmos_core.data.sources import DataSource, Records
from cosmos_core.data.streams import SampleStream, open_stream
from cosmos_core.errors import RequestError
from cosmos_core.seeds import derive_seed

MAX_UNUSABLE_IN_A_ROW = 200
"""Unusable samples in a row after which the run stops."""


@dataclass(frozen=True)
class LanePlan:
    """Everything that the samples of a lane depend on; equal in every process."""

    sources: list[DataSource]
    stages: list[Stage]
    """How often each source is drawn from; at least the first, which begins at step 0."""
    seed: int
    lanes: int
    block: int
    """Samples of a shard stream that are shuffled at a time."""
    rounds: int
    """Samples of a lane in a step."""
    quota: int
    """Samples of a lane in an epoch, `rounds` times its steps; 0: one endless epoch."""
    views: SampleViews
    tokenizer: Tokenizer

    def fingerprint(self) -> int:
        """A number that changes with the data and with every setting on which a position in it depends."""
        return derive_seed(
            self.seed,
            self.lanes,
            self.block,
            self.quota,
            *self.stages[0].weights,
            *(value for stage in self.stages[1:] for value in ("stage", stage.first_step, *stage.weights)),
            *(getattr(source, "names", source.samples) for source in self.sources),
        )


class Lane:
    """One endless stream of samples, in views."""

    def __init__(self, plan: LanePlan, number: int, state: dict[str, Any] | None = None) -> None:
        self.plan, self.number = plan, number
        state = state or {}
        self.epoch: int = state.get("epoch", 0)
        self.given: int = state.get("given", 0)
        self.seen: int = state.get("seen", 0)
        self.broken: int = state.get("broken", 0)
        self.positions: list[list[int] | None] = list(state.get("at") or [None] * len(plan.sources))
        self.streams: list[SampleStream | None] = [None] * len(plan.sources)

    def state(self) -> dict[str, Any]:
        positions = [
            stream.position() if stream is not None else position
            for stream, position in zip(self.streams, self.positions, strict=True)
        ]
        return {"epoch": self.epoch, "given": self.given, "at": positions, "seen": self.seen, "broken": self.broken}

    def next(self, skipped: dict[str, str]) -> MadeViews:
        """The next usable sample; unusable ones before it are recorded in `skipped`, key and reason.

        Raises:
            RequestError: too many samples in a row were unusable.
        """
        number = self._next_source()
        stream = self.streams[number]
        if stream is None:
            plan = self.plan
            stream = self.streams[number] = open_stream(
                plan.sources[number],
                plan.seed,
                self.epoch,
                number,
                self.number,
                plan.lanes,
                plan.block,
                self.positions[number],
            )
        in_a_row = 0
        while True:
            entry = stream.next()
            key = getattr(entry, "key", "")
            try:
                key, image, record = entry.read()
                sample_views = self.plan.views(key, image, record, stream.drawn_in())
            except BrokenSample as error:
                lost = entry.samples if isinstance(entry, LostSamples) else 1
                self.seen += lost
                self.broken += lost
                # 20, so that it stops after ten shards: each of them may take long to fail
                in_a_row += 20 if isinstance(entry, LostSamples) else 1
                skipped[key] = str(error)
                if in_a_row >= MAX_UNUSABLE_IN_A_ROW:
                    raise RequestError(
                        f"training data {self.plan.sources[number].name}: nothing usable in "
                        f"{MAX_UNUSABLE_IN_A_ROW} samples, or 10 shards, in a row; the last: {error}"
                    ) from error
                continue
            self.seen += 1
            self._advance()
            return sample_views

    def _next_source(self) -> int:
        """Index of the source of the next sample; depends on the seed, the epoch, the lane and the sample's number.

        Its weights are those of the step that the sample belongs to, which follows from the same numbers.
        """
        if len(self.plan.sources) == 1:
            return 0
        step = (self.epoch * self.plan.quota + self.given) // self.plan.rounds
        stage = next(stage for stage in reversed(self.plan.stages) if stage.first_step <= step)
        return stage.choose(derive_seed(self.plan.seed, self.epoch, self.number, "source") << 1, self.given)

    def _advance(self) -> None:
        self.given += 1
        if self.given == self.plan.quota:
            self.epoch, self.given = self.epoch + 1, 0
            for number, source in enumerate(self.plan.sources):
                if isinstance(source, Records):
                    self.positions[number] = self.streams[number] = None


@dataclass(frozen=True)
class Slice:
    """The samples of some lanes for one batch, the lanes taking turns."""

    images: list[Tensor]
    """One (b, H, W, 3) uint8 tensor for each view."""
    texts: Tensor
    """(b, n, L) token ids."""
    keys: list[str]
    seen: int
    broken: dict[str, str]
    lanes: dict[str, dict[str, Any]]
    """State of each lane after the batch, by its number as text."""
    changes: Tensor
    """(b, V, 11) changes that the device makes of each view, or (b, 0, 11); see `cosmos_core.view_draws`."""


def slices(plan: LanePlan, lanes: list[int], rounds: int, start: dict[str, Any]) -> Iterator[Slice]:
    """Endless slices, in each of which every lane gives `rounds` samples, in turn.

    Args:
        start: states by lane, as in `Slice.lanes`; a lane without one starts at the beginning.
    """
    streams = [Lane(plan, lane, start.get(str(lane))) for lane in lanes]
    while True:
        before = sum(lane.seen for lane in streams)
        broken: dict[str, str] = {}
        sample_views = [lane.next(broken) for _ in range(rounds) for lane in streams]
        seen = sum(lane.seen for lane in streams) - before
        yield stack_samples(
            sample_views, plan.tokenizer, seen, broken, {str(lane.number): lane.state() for lane in streams}
        )


def stack_samples(
    sample_views: list[MadeViews],
    tokenizer: Tokenizer,
    seen: int,
    broken: dict[str, str],
    lanes: dict[str, dict[str, Any]],
) -> Slice:
    keys, views, captions, changes = zip(*sample_views, strict=True)
    ids = tokenizer([caption for drawn in captions for caption in drawn])
    images = [torch.from_numpy(np.stack(view)) for view in zip(*views, strict=True)]
    texts = ids.reshape(len(keys), len(captions[0]), -1)
    return Slice(images, texts, list(keys), seen, broken, lanes, torch.from_numpy(np.stack(changes)))
