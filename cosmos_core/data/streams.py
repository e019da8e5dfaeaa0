"""One lane's samples of one source, in an order that depends on the seed and the pass over the data, from any position.

A position is a few integers. Records are permuted anew in each epoch; the remainder after its last whole batch is left
out of that epoch. Shards are read pass after pass, independently of epochs, so no sample is left out forever; lanes
with larger shards begin their next pass later.
"""

import random
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

from cosmos_core.data.samples import Sample
from cosmos_core.data.shards import LostSamples, UnreadSample, entries
from cosmos_core.data.sources import DataSource, Records, ShardList, parts_per_shard
from cosmos_core.errors import RequestError
from cosmos_core.seeds import derive_seed

MAX_EMPTY_PASSES = 100
ALREADY_GIVEN = LostSamples("", "")


class SampleStream(Protocol):
    """Endless unread samples: after its last sample a source starts over, in another order."""

    def next(self) -> UnreadSample: ...

    def position(self) -> list[int]:
        """The position after the last sample that `next` returned."""

    def drawn_in(self) -> int | str:
        """The pass over the data that this sample belongs to: seeds its views, with the run's seed and its key."""


@dataclass(frozen=True)
class UnreadRecord:
    """A sample of a sequence, fetched when it is read: that may take long, since a sequence may render its samples."""

    source: Records
    number: int

    def read(self) -> Sample:
        return self.source.data[self.number]


@lru_cache(maxsize=4)
def shuffled(seed: int, count: int) -> array:
    """A permutation of 0..count-1. All lanes of a process share one."""
    permutation = array("q", range(count))
    random.Random(seed).shuffle(permutation)
    return permutation


@dataclass
class RecordStream:
    """Every `lanes`-th sample of a permutation of all samples. Position: [turn, next].

    A lane that has given all its samples before the epoch ends takes another turn, with another order and other views.
    """

    source: Records
    seed: int
    epoch: int
    salt: tuple[str, ...]
    """Added to the seed, so that sources have different orders; empty for the first source."""
    lane: int
    lanes: int
    at: list[int] = field(default_factory=lambda: [0, 0])

    def __post_init__(self) -> None:
        self.at = list(self.at)
        self.order = self._order()

    def next(self) -> UnreadSample:
        if self.at[1] == len(self.order):
            self.at = [self.at[0] + 1, 0]
            self.order = self._order()
        self.at[1] += 1
        return UnreadRecord(self.source, self.order[self.at[1] - 1])

    def position(self) -> list[int]:
        return list(self.at)

    def drawn_in(self) -> int | str:
        return f"{self.epoch}+{self.at[0]}" if self.at[0] else self.epoch

    def _order(self) -> array:
        # lanes take every `lanes`-th sample and give in turn, so batches follow this one permutation
        turn = [f"turn {self.at[0]}"] if self.at[0] else []
        permutation = shuffled(derive_seed(self.seed, self.epoch, "order", *self.salt, *turn), self.source.samples)
        # with fewer samples than lanes, some lanes share a sample
        return permutation[self.lane % len(permutation) :: self.lanes]


@dataclass
class ShardStream:
    """This lane's share of the shards, shuffled in blocks. Position: [pass, block, unit, offset, taken].

    A unit is a shard, or one of the interleaved parts of a shard. A block begins `offset` samples into the lane's unit
    number `unit`; `taken` of its samples, in shuffled order, have been given. To resume, the block is read again and
    shuffled with the same seed.
    """

    source: ShardList
    seed: int
    salt: tuple[str, ...]
    lane: int
    lanes: int
    block: int
    """Samples in a block."""
    expected: int = 0
    """Average number of samples of a shard; 0: unknown."""
    at: list[int] = field(default_factory=lambda: [0, 0, 0, 0, 0])

    def __post_init__(self) -> None:
        self.at = list(self.at)
        self.parts = parts_per_shard(len(self.source.urls), self.lanes)
        self._choose_units()
        self._start_block()

    def next(self) -> UnreadSample:
        empty = 0
        while self.at[4] == len(self.ready):
            number, block = self.at[:2]
            if self.next_block[0] < len(self.units):
                self.at = [number, block + 1, *self.next_block, 0]
            else:
                empty += not self.ready and not block
                if empty == MAX_EMPTY_PASSES:
                    raise RequestError(f"training data {self.source.name}: too few samples for {self.lanes} lanes")
                self.at = [number + 1, 0, 0, 0, 0]
                self._choose_units()
            self._start_block()
        # Read one sample of the next block for each that is given, so that no batch waits for a whole block.
        self._read_ahead(min(self.block, len(self.ahead) + 1))
        self.at[4] += 1
        entry, self.ready[self.at[4] - 1] = (
            self.ready[self.at[4] - 1],
            ALREADY_GIVEN,
        )  # frees the memory of what is given
        return entry

    def position(self) -> list[int]:
        return list(self.at)

    def drawn_in(self) -> int | str:
        return self.at[0]

    def _choose_units(self) -> None:
        """Choose this lane's units of this pass, and start at the position's unit and offset."""
        seed = derive_seed(self.seed, self.at[0], "shards", *self.salt)
        units = shuffled(seed, len(self.source.urls) * self.parts)
        self.units = [divmod(unit, self.parts) for unit in units[self.lane :: self.lanes]]
        self.unit, self.offset = self.at[2:4]
        self.reader: Iterator[UnreadSample] | None = None
        self.ahead: list[UnreadSample] = []

    def _start_block(self) -> None:
        """Read the block that begins at the current position, and shuffle it."""
        number, block = self.at[:2]
        # first blocks differ in size, so that the lanes do not all reach the end of a block at the same step
        self._read_ahead(self.block if block else max(1, self.block * (self.lane + 1) // self.lanes))
        order = random.Random(derive_seed(self.seed, number, "block", *self.salt, self.lane, block))
        order.shuffle(self.ahead)
        self.ready, self.ahead = self.ahead, []
        self.next_block = (self.unit, self.offset)

    def _read_ahead(self, count: int) -> None:
        """Read on, across units, until `ahead` holds `count` samples or the pass is over."""
        while len(self.ahead) < count and self.unit < len(self.units):
            if self.reader is None:
                shard, part = self.units[self.unit]
                self.reader = entries(
                    self.source.urls[shard],
                    self.source.names[shard],
                    part,
                    self.parts,
                    skip=self.offset,
                    expected=self.expected // self.parts,
                )
            entry = next(self.reader, None)
            if entry is not None:
                self.ahead.append(entry)
                self.offset += 1
            if entry is None or isinstance(entry, LostSamples):
                self.unit, self.offset, self.reader = self.unit + 1, 0, None


def open_stream(
    source: DataSource, seed: int, epoch: int, number: int, lane: int, lanes: int, block: int, at: list[int] | None
) -> SampleStream:
    """This lane's stream of a source.

    Args:
        number: index of the source among those that are mixed.
        at: a position that `position()` returned; None: the beginning.
    """
    salt = (f"source {number}",) if number else ()
    if isinstance(source, Records):
        return RecordStream(source, seed, epoch, salt, lane, lanes, at or [0, 0])
    expected = source.samples // len(source.urls)
    return ShardStream(source, seed, salt, lane, lanes, block, expected, at or [0, 0, 0, 0, 0])
