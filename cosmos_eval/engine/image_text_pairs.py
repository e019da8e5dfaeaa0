"""Pairs of images and texts that a model scores itself: batches of pairs, shared by ranks, each image decoded once."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_eval.cache.known_features import Batches, key_of
from cosmos_eval.datasets.base import ImageSource
from cosmos_eval.engine.images import image_batches
from cosmos_eval.engine.precision import tower_precision
from cosmos_eval.engine.tiles import not_finite
from cosmos_eval.engine.unit_features import image_name, text_name
from cosmos_eval.models.base import as_scores
from cosmos_eval.profiling import phase, timed

if TYPE_CHECKING:
    from cosmos_eval.engine.features import Engine

Inputs = tuple[list[ImageSource], list[str]]
"""Distinct images and texts, which pairs point at."""
Keys = tuple[np.ndarray, np.ndarray]
"""(N, 16) and (M, 16) uint8 digests of the content of each."""


@dataclass(frozen=True)
class PairBatch:
    """Pairs that pass the model together, as far as they are prepared here."""

    pixels: Tensor
    """(I, ...) the distinct images among them, as workers make them."""
    image: Tensor
    """(P,) int64 which of those each pair has."""
    texts: Sequence[str]

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, part: slice) -> "PairBatch":
        return PairBatch(self.pixels, self.image[part], self.texts[part])


def scores_of_pairs(engine: "Engine", inputs: Inputs, keys: Keys, pairs: Tensor) -> Tensor:
    """(P,) float32 scores on the CPU of (P, 2) int64 distinct pairs, sorted by image and then by text.

    A batch is `batch_size` consecutive pairs, so that its members depend on the pairs asked for and the batch size
    only. Ranks take batches in turn. Scores are kept like features, a batch by what its images and texts are: a run
    that was killed goes on with the batches that are not there.

    Args:
        keys: digests of the images and of the texts.

    Raises:
        RequestError: an image that cannot be read or decoded, a score that is not finite (names the first pair), a
            return of another form, or memory that does not hold one pair.
    """
    # arrays, not views of one tensor, which would be sent to other ranks as a whole
    batches = [part.numpy().copy() for part in pairs.int().split(engine.batch_size)]

    def make(new: list[int]) -> Batches:
        some = [batches[i] for i in new]
        shared = engine.share(score_batches, inputs, some, [*map(len, some)], "pairs", "scoring pairs")
        for number, made in shared:
            yield [number], torch.nn.functional.pad(made, (0, engine.batch_size - len(made)))[None]

    known = [key_of(b"pairs", _content(batch, keys, engine.batch_size)) for batch in batches]
    return engine.pairs.complete(known, make).flatten()[: len(pairs)]  # only the last may be padded


def _content(batch: np.ndarray, keys: Keys, batch_size: int) -> bytes:
    """What decides the scores of a batch of (P, 2) pairs, besides the model; the size is that of the stored row."""
    of_images, of_texts = keys
    both = np.concatenate([of_images[batch[:, 0]], of_texts[batch[:, 1]]], axis=1)
    return batch_size.to_bytes(8, "little") + both.tobytes()


def key_bytes(keys: Sequence[str]) -> np.ndarray:
    """(N, 16) uint8 of N hexadecimal digests."""
    return np.frombuffer(bytes.fromhex("".join(keys)), dtype=np.uint8).reshape(len(keys), -1)


def score_batches(engine: "Engine", inputs: Inputs, batches: Iterable[np.ndarray]) -> Iterator[Tensor]:
    """The scores of batches of pairs: what one rank does."""
    images, texts = inputs
    for pairs, batch in timed(_prepared(engine, inputs, list(batches)), "waiting"):
        engine.pass_progress.start(len(batch))
        with phase("pairs"), tower_precision(engine.precision, engine.device):
            scores = engine.parts.encode("pairs", batch, partial(_scored, engine))
        bad = ~torch.isfinite(scores)
        if bad.any():
            image, text = pairs[int(bad.nonzero()[0])]
            raise RequestError(not_finite(engine.model, image_name(images[image]), text_name(texts[text])))
        yield scores.cpu()


def _scored(engine: "Engine", batch: PairBatch) -> Tensor:
    """(P,) float32 scores of pairs that pass the model together."""
    distinct, image = batch.image.unique(return_inverse=True)  # a part of a batch may lack some of its images
    with phase("copy"):
        pixels = engine.tower.input(batch.pixels[distinct])
    values = engine.model.score_pairs(pixels[image.to(pixels.device)], list(batch.texts))
    return as_scores(values, (len(batch),), f"{engine.model.spec}: score_pairs")


def _prepared(engine: "Engine", inputs: Inputs, batches: list[np.ndarray]) -> Iterator[tuple[np.ndarray, PairBatch]]:
    """Batches with their pixels. Images come in the order of the pairs, so each is decoded once and let go when the
    pairs have passed it."""
    images, texts = inputs
    needed = np.unique(np.concatenate([batch[:, 0] for batch in batches])) if batches else np.empty(0, dtype=np.int32)
    decoded = _images(engine, [images[i] for i in needed.tolist()])
    held: dict[int, Any] = {}
    upcoming = iter(needed.tolist())
    for batch in batches:
        distinct, image = np.unique(batch[:, 0], return_inverse=True)
        held = {i: pixels for i, pixels in held.items() if i >= distinct[0]}
        while not held or max(held) < distinct[-1]:
            held[next(upcoming)] = next(decoded)
        some = [held[i] for i in distinct.tolist()]
        other = next(
            (i for i, pixels in zip(distinct.tolist(), some, strict=True) if pixels.shape != some[0].shape), None
        )
        if other is not None:
            raise RequestError(
                f"image {images[other].key}: the model's preprocess made another size of it than of image "
                f"{images[int(distinct[0])].key}; make all of one size"
            )
        of_batch = [texts[j] for j in batch[:, 1].tolist()]
        yield batch, PairBatch(torch.stack(some), torch.from_numpy(image.reshape(-1).astype(np.int64)), of_batch)


def _images(engine: "Engine", images: list[ImageSource]) -> Iterator[Tensor]:
    """What workers make of each image, one after the other."""
    for pixels in image_batches(
        images,
        engine.tower.of_worker,
        max(1, min(engine.batch_size, len(images))),
        engine.workers,
        decoder=engine.decoder,
        resized=engine.resized,
    ):
        yield from pixels
