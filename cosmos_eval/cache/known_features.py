"""Rows that were made before: in this run, which are in memory, or in an earlier one, which are in a store on disk.

Benchmarks on the same images (COCO's, say) encode each of them once, and a run that was killed goes on.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_eval.cache.store import Space
from cosmos_eval.profiling import phase

BUDGET = 2**29
"""Bytes of rows of one kind that are kept in memory, 250,000 in 512 dimensions; what came first goes first."""


def key_of(kind: bytes, content: bytes) -> str:
    """The digest of what a model sees of an item; `kind` keeps apart what is alike by chance."""
    return hashlib.blake2b(content, digest_size=16, person=kind).hexdigest()


Batches = Iterator[tuple[Sequence[int], Tensor]]
"""Batch by batch, which of the items asked for it holds, and their (B, D) or (B, L, D) rows."""


class KnownRows:
    """Rows of unit length by the digest of their item.

    Args:
        kind: "images", "texts" or "pairs", where a row holds the scores of a batch.
        space: where rows are kept on disk; None keeps them in memory only.
        device: where rows are wanted.
    """

    def __init__(
        self,
        kind: str = "images",
        space: Space | None = None,
        device: torch.device | str = "cpu",
        budget: int = BUDGET,
    ) -> None:
        self.kind = kind
        self.space = space
        self.device = torch.device(device)
        self.budget = budget
        self.place: dict[str, tuple[int, int]] = {}
        """Digest -> number of the block, row in it."""
        self.blocks: dict[int, tuple[list[str], Tensor]] = {}
        self.made = 0

    def __contains__(self, key: str) -> bool:
        return key in self.place

    def complete(self, keys: Sequence[str], encode: Callable[[list[int]], Batches]) -> Tensor:
        """(N, D) rows of distinct keys; `encode` makes those of the places in `keys` that are not known.

        Whole batches are stored as they are made, so that what a killed run leaves to do falls into the batches that it
        would have had: removing whole batches from a list leaves the borders of the others where they are.

        Raises:
            RequestError: a known row is of another length than a new one.
        """
        rows = _Rows(len(keys))
        old = [i for i, key in enumerate(keys) if key in self]
        if old:
            rows.put(old, self.rows([keys[i] for i in old]))  # first: room for others may cost these
        rest = [i for i, key in enumerate(keys) if key not in self]
        if self.space is not None and rest:
            with phase("store"):
                for found, stored in self.space.find(self.kind, [keys[i] for i in rest]):
                    rows.put([rest[i] for i in found], torch.from_numpy(stored).to(self.device))
        new = [i for i in rest if not rows.filled[i]]
        if new:
            self._make(rows, keys, new, encode)
        found_now = rows.whole()
        if len(rest) == len(keys):
            self.add(keys, found_now)
        elif rest:
            self.add([keys[i] for i in rest], found_now[torch.tensor(rest, device=found_now.device)])
        return found_now

    def _make(self, rows: "_Rows", keys: Sequence[str], new: list[int], encode: Callable[[list[int]], Batches]) -> None:
        if self.space is None:
            for members, made in encode(new):
                rows.put([new[i] for i in members], made)
            return
        with self.space.writer(self.kind) as writer:
            for members, made in encode(new):
                places = [new[i] for i in members]
                rows.put(places, made)
                writer.add([keys[i] for i in places], made)

    def add(self, keys: Sequence[str], rows: Tensor) -> None:
        """Keep (N, D) rows, unless they are more than the budget by themselves."""
        if rows.nbytes > self.budget:
            return
        while self.blocks and rows.nbytes + sum(block.nbytes for _, block in self.blocks.values()) > self.budget:
            oldest = next(iter(self.blocks))
            for key in self.blocks.pop(oldest)[0]:
                del self.place[key]
        self.blocks[self.made] = (list(keys), rows)
        self.place |= {key: (self.made, row) for row, key in enumerate(keys)}
        self.made += 1

    def rows(self, keys: Sequence[str]) -> Tensor:
        """(N, D) of keys that are all known, at least one."""
        places = [self.place[key] for key in keys]
        found = _Rows(len(keys))
        for number in dict.fromkeys(number for number, _ in places):
            block = self.blocks[number][1]
            where = [i for i, (own, _) in enumerate(places) if own == number]
            found.put(where, block[torch.tensor([places[i][1] for i in where], device=block.device)])
        return found.whole()


class _Rows:
    """(N, D) or (N, L, D) rows that arrive in parts; L, D and the device are the first part's."""

    def __init__(self, count: int) -> None:
        self.filled = [False] * count
        self.values: Tensor | None = None

    def put(self, places: Sequence[int], rows: Tensor) -> None:
        if self.values is None:
            self.values = torch.empty(len(self.filled), *rows.shape[1:], dtype=rows.dtype, device=rows.device)
        if rows.shape[1:] != self.values.shape[1:]:
            now, before = (_per_item(each) for each in (rows, self.values))
            pad = "pad all items to one length; " if rows.ndim > 2 and self.values.ndim > 2 else ""
            raise RequestError(
                f"the model gives {now} numbers an item and gave {before} before under the same digest; {pad}a digest "
                "must change whenever the numbers can, or run with --no-cache"
            )
        self.values[torch.tensor(places, device=rows.device)] = rows
        for place in places:
            self.filled[place] = True

    def whole(self) -> Tensor:
        assert self.values is not None
        assert all(self.filled)
        return self.values


def _per_item(rows: Tensor) -> str:
    """How many numbers an item has: `512`, or `7 x 512` where it keeps tokens."""
    return " x ".join(f"{size:,}" for size in rows.shape[1:])
