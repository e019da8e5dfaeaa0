"""Features of distinct items by key: from memory, else from the feature cache on disk, else encoded now.

`CachedFeatures.get_or_encode` looks for features in this order:

1. memory: features of this run, of an earlier benchmark for example, up to `BUDGET` bytes;
2. the feature cache on disk (`cosmos_eval.cache.feature_cache`): features of earlier runs;
3. the encoder, for everything that is missing. These features are written to the cache batch by batch.

So benchmarks with the same images (COCO, for example) encode each of them once, and a run that was killed continues.

A continued run gives the same bits as one that was never interrupted, although the last bits of a feature depend on the
other members of its batch. The reason is that only *whole* batches are written. Batches are consecutive missing items:
with batch size 4, images 0 to 11 form the batches 0-3, 4-7 and 8-11. If a killed run has stored 4-7, then 0-3 and 8-11
are missing, and 4 at a time these form the same two batches again. Had it stored single images, the missing ones would
form other batches, with other bits.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from cosmos_core.devices import send
from cosmos_core.errors import RequestError
from cosmos_eval.cache.feature_cache import ModelCache
from cosmos_eval.profiling import phase

BUDGET = 2**29
"""Bytes of features of one kind that are kept in memory (250,000 of 512 dimensions); the oldest are removed first."""

EncodedBatches = Iterator[tuple[Sequence[int], Tensor]]
"""For each encoded batch: the positions of its members among the requested items, and their features (B, D) or
(B, L, D)."""


def feature_key(kind: bytes, content: bytes) -> str:
    """Return the key of an item: a digest of what the model is given for it.

    Args:
        kind: separates the keys of items of different kinds with the same bytes.
    """
    return hashlib.blake2b(content, digest_size=16, person=kind).hexdigest()


class CachedFeatures:
    """Features of unit length of one kind of item, by key.

    Args:
        kind: "images", "texts" or "pairs"; of "pairs", an item is a batch of pairs, and its features are their scores.
        model_cache: the features of the model on disk; None to keep features in memory only.
        device: where features are returned.
        budget: bytes of features that are kept in memory.
    """

    def __init__(
        self,
        kind: str = "images",
        model_cache: ModelCache | None = None,
        device: torch.device | str = "cpu",
        budget: int = BUDGET,
    ) -> None:
        self.kind = kind
        self.model_cache = model_cache
        self.device = torch.device(device)
        self.budget = budget
        # Features stay in the tensors they came in ("blocks"), one for each call: no copies, and the oldest block can
        # be freed as a whole. Blocks are numbered in the order of their creation.
        self._blocks: dict[int, tuple[list[str], Tensor]] = {}  # block number -> keys, features
        self._locations: dict[str, tuple[int, int]] = {}  # key -> block number, position in the block
        self._blocks_created = 0
        self._held: set[int] = set()
        """Numbers of blocks that stay whatever the budget says, until `release`."""
        self.read_count = 0
        """Items whose features came from the cache on disk."""

    def __contains__(self, key: str) -> bool:
        """Whether the features of a key are in memory."""
        return key in self._locations

    def get_or_encode(self, keys: Sequence[str], encode: Callable[[list[int]], EncodedBatches]) -> Tensor:
        """Return the features (N, D) or (N, L, D) of distinct keys, in their order.

        Args:
            keys: one for each item; no key twice.
            encode: computes features: it is given the positions in `keys` whose features are neither in memory nor on
                disk, ascending, and yields them in whole batches. The members of a batch are given as positions in the
                list that it was given.

        Raises:
            RequestError: features of one item have another shape than those of the others.
        """
        features = _FeatureBuffer(len(keys))
        # Features in memory come first: keeping the new ones below may free the blocks of these.
        in_memory = [i for i, key in enumerate(keys) if key in self]
        if in_memory:
            features.put(in_memory, self._from_memory([keys[i] for i in in_memory]))
        not_in_memory = [i for i, key in enumerate(keys) if key not in self]
        if self.model_cache is not None and not_in_memory:
            with phase("store"):
                for positions, stored in self.model_cache.find(self.kind, [keys[i] for i in not_in_memory]):
                    features.put([not_in_memory[i] for i in positions], torch.from_numpy(stored).to(self.device))
                    self.read_count += len(positions)
        missing = [i for i in not_in_memory if not features.is_filled[i]]
        if missing:
            self._encode_missing(features, keys, missing, encode)
        result = features.tensor()
        if not_in_memory:
            is_everything_new = len(not_in_memory) == len(keys)  # then the result itself can be kept, without a copy
            new = result if is_everything_new else result[send(torch.tensor(not_in_memory), result.device)]
            self._keep_in_memory([keys[i] for i in not_in_memory], new)
        return result

    def _encode_missing(
        self,
        features: "_FeatureBuffer",
        keys: Sequence[str],
        missing: list[int],
        encode: Callable[[list[int]], EncodedBatches],
    ) -> None:
        """Fill `features` at the positions `missing`, and write each batch to the cache as soon as it is encoded."""
        if self.model_cache is None:
            for members, batch in encode(missing):
                features.put([missing[i] for i in members], batch)
            return
        with self.model_cache.writer(self.kind) as writer:
            for members, batch in encode(missing):
                positions = [missing[i] for i in members]
                features.put(positions, batch)
                writer.add([keys[i] for i in positions], batch)

    def hold(self, keys: Sequence[str]) -> set[str]:
        """Return those of distinct keys whose features are in memory or on disk, and keep them in memory until
        `release`: their items are about to disappear, so that they could not be encoded again."""
        in_memory = [key for key in keys if key in self]
        self._held.update(self._locations[key][0] for key in in_memory)
        wanted = [key for key in keys if key not in self]
        found = set(in_memory)
        if self.model_cache is not None and wanted:
            with phase("store"):
                for positions, stored in self.model_cache.find(self.kind, wanted):
                    keys_found = [wanted[i] for i in positions]
                    self.add_held(keys_found, [torch.from_numpy(stored).to(self.device)])
                    found.update(keys_found)
        return found

    def add_held(self, keys: Sequence[str], features: Sequence[Tensor]) -> None:
        """Keep the features of keys, in parts (B, ...), in memory until `release`, beyond the budget.

        Raises:
            RequestError: features of one item have another shape than those of the others.
        """
        buffer, start = _FeatureBuffer(len(keys)), 0
        for part in features:
            buffer.put(range(start, start + len(part)), part)
            start += len(part)
        self._held.add(self._add_block(keys, buffer.tensor()))

    def release(self) -> None:
        """Let the budget decide again about the features that are held."""
        self._held.clear()
        self._shrink(self.budget)

    def _keep_in_memory(self, keys: Sequence[str], features: Tensor) -> None:
        """Keep features (N, ...) as a new block. If they exceed the budget by themselves, they are not kept."""
        if features.nbytes > self.budget:
            return
        self._shrink(self.budget - features.nbytes)
        self._add_block(keys, features)

    def _shrink(self, size: int) -> None:
        """Remove the oldest blocks until the others, without those that are held, have at most `size` bytes."""
        free = [number for number in self._blocks if number not in self._held]
        total = sum(self._blocks[number][1].nbytes for number in free)
        for number in free:
            if total <= size:
                return
            block_keys, block = self._blocks.pop(number)
            total -= block.nbytes
            for key in block_keys:
                del self._locations[key]

    def _add_block(self, keys: Sequence[str], features: Tensor) -> int:
        """Add a block and return its number."""
        number = self._blocks_created
        self._blocks[number] = (list(keys), features)
        self._locations |= {key: (number, position) for position, key in enumerate(keys)}
        self._blocks_created += 1
        return number

    def _from_memory(self, keys: Sequence[str]) -> Tensor:
        """Return the features (N, ...) of keys that are all in memory; at least one key."""
        locations = [self._locations[key] for key in keys]
        features = _FeatureBuffer(len(keys))
        positions_by_block: dict[int, list[int]] = {}
        for i, (number, _) in enumerate(locations):
            positions_by_block.setdefault(number, []).append(i)
        for number, of_block in positions_by_block.items():
            block = self._blocks[number][1]
            positions = send(torch.tensor([locations[i][1] for i in of_block]), block.device)
            features.put(of_block, block[positions])
        return features.tensor()


class _FeatureBuffer:
    """Features (N, D) or (N, L, D) that arrive in parts. The first part decides L, D, the type and the device."""

    def __init__(self, count: int) -> None:
        self.is_filled = [False] * count
        self._values: Tensor | None = None

    def put(self, positions: Sequence[int], features: Tensor) -> None:
        """Set the features at some positions.

        Raises:
            RequestError: their shape differs from that of the first part.
        """
        if self._values is None:
            full_shape = (len(self.is_filled), *features.shape[1:])
            self._values = torch.empty(full_shape, dtype=features.dtype, device=features.device)
        if features.shape[1:] != self._values.shape[1:]:
            shape, first_shape = _shape_of_item(features), _shape_of_item(self._values)
            advice = "pad all items to one length; " if features.ndim > 2 and self._values.ndim > 2 else ""
            raise RequestError(
                f"the model gives {shape} numbers an item and gave {first_shape} before under the same digest; "
                f"{advice}a digest must change whenever the numbers can, or run with --no-cache"
            )
        start, stop = positions[0], positions[-1] + 1
        if list(positions) == list(range(start, stop)):  # the usual case: no indices are copied to the device
            self._values[start:stop] = features
        else:
            self._values[send(torch.tensor(positions), features.device)] = features
        for position in positions:
            self.is_filled[position] = True

    def tensor(self) -> Tensor:
        """Return all features; each position must have been set."""
        assert self._values is not None
        assert all(self.is_filled)
        return self._values


def _shape_of_item(features: Tensor) -> str:
    """Return the shape of one item's features for a message: `512`, or `7 x 512` for a model that keeps tokens."""
    return " x ".join(f"{size:,}" for size in features.shape[1:])
