"""Scores of image-text pairs by a model's own `score_pairs`: batches of pairs, ranks, and images decoded once.

Pairs are sorted by image, then by text. A batch is `batch_size` consecutive pairs, so its members depend on the
requested pairs and the batch size only. Ranks take batches in turn, as for features.

The cache stores the scores of whole batches. The key of a batch is a digest of the contents of its images and texts in
their order; its "features" are one row of `batch_size` scores. So a run that was killed continues with the batches that
are missing, and a batch with other members, or of another size, has another key.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from cosmos_core.devices import send
from cosmos_core.errors import RequestError
from cosmos_core.host_copy import HostCopy
from cosmos_eval.cache.cached_features import EncodedBatches, feature_key
from cosmos_eval.datasets.image_sources import ImageSource
from cosmos_eval.engine.device_copies import late_batches
from cosmos_eval.engine.encoding import check_late
from cosmos_eval.engine.image_loading import image_batches
from cosmos_eval.engine.kept_casts import kept_casts
from cosmos_eval.engine.precision import tower_precision
from cosmos_eval.engine.tiles import not_finite
from cosmos_eval.engine.unit_features import image_name, text_name
from cosmos_eval.models.abilities import in_language, shares_pair_images
from cosmos_eval.models.returned_values import as_scores
from cosmos_eval.profiling import phase, time_items

if TYPE_CHECKING:
    from cosmos_eval.engine.engine import Engine

PairInputs = tuple[list[ImageSource], list[str]]
"""The distinct images and texts that pairs refer to by index."""
PairKeys = tuple[np.ndarray, np.ndarray]
"""Digests of the contents of these images (N, 16) and texts (M, 16), uint8."""


@dataclass(frozen=True)
class PairBatch:
    """Pairs that pass the model together, with their images decoded and preprocessed."""

    pixels: Tensor
    """(I, ...) the distinct images among them, from workers."""
    image: Tensor
    """(P,) int64 index of each pair's image in `pixels`."""
    texts: Sequence[str]
    """P texts."""

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, part: slice) -> "PairBatch":
        return PairBatch(self.pixels, self.image[part], self.texts[part])


def compute_pair_scores(
    engine: "Engine", inputs: PairInputs, keys: PairKeys, pairs: Tensor, language: str | None = None
) -> Tensor:
    """Return the scores (P,) float32, on the CPU, of distinct pairs.

    Args:
        inputs: distinct images and texts.
        keys: their digests.
        pairs: (P, 2) int64 indices of an image and a text, sorted by image and then by text.
        language: of the texts, for a model that is told it (then `keys` hold it); else None.

    Raises:
        RequestError: an image cannot be read or decoded, a score is not finite (the message names the first pair), the
            model returns something else than P scores, or a single pair does not fit in memory.
    """
    # Copies: a view would be sent to another rank with the whole array behind it.
    batches = [batch.numpy().copy() for batch in pairs.int().split(engine.batch_size)]

    def encode(missing: list[int]) -> EncodedBatches:
        missing_batches = [batches[i] for i in missing]
        sizes = [len(batch) for batch in missing_batches]
        for number, scores in engine.encode_on_ranks(
            score_batches, (inputs, language), missing_batches, sizes, "pairs", "scoring image-text pairs"
        ):
            # All rows of the cache have one length: the scores of a smaller batch are padded with zeros.
            padded_scores = torch.nn.functional.pad(scores, (0, engine.batch_size - len(scores)))
            yield [number], padded_scores[None]

    batch_keys = [feature_key(b"pairs", _batch_content(batch, keys, engine.batch_size)) for batch in batches]
    scores = engine.cached_pair_scores.get_or_encode(batch_keys, encode)  # (number of batches, batch size)
    return scores.flatten()[: len(pairs)]  # only the last batch can be smaller, so the padding is at the end


def _batch_content(batch: np.ndarray, keys: PairKeys, batch_size: int) -> bytes:
    """Return what determines the stored scores of a batch (P, 2) for one model; the batch size is their length."""
    image_keys, text_keys = keys
    pair_keys = np.concatenate([image_keys[batch[:, 0]], text_keys[batch[:, 1]]], axis=1)
    return batch_size.to_bytes(8, "little") + pair_keys.tobytes()


def key_bytes(keys: Sequence[str]) -> np.ndarray:
    """Return N hexadecimal digests as an array (N, 16) uint8."""
    return np.frombuffer(bytes.fromhex("".join(keys)), dtype=np.uint8).reshape(len(keys), -1)


def score_batches(
    engine: "Engine", common: tuple[PairInputs, str | None], batches: Iterable[np.ndarray]
) -> Iterator[Tensor]:
    """Score batches of pairs on one rank; yield the scores (P,) of each (a `cosmos_eval.engine.rank_group.Work`).

    Args:
        common: the images and texts, and the language that the model is told, or None.
    """
    inputs, language = common
    score_batch = in_language(engine.model, language, partial(_score_batch, engine))

    def launch() -> Iterator[tuple[HostCopy, ScoreCheck]]:
        for pairs, batch in time_items(_prepare_batches(engine, inputs, list(batches)), "waiting"):
            engine.layer_progress.start(len(batch))
            with phase("pairs"), tower_precision(engine.precision, engine.device):
                scores = HostCopy(engine.batch_splitter.encode("pairs", batch, score_batch))
            yield scores, ScoreCheck(engine.model, inputs, pairs, scores)

    with kept_casts(engine.model, engine.keeps_casts):
        for scores in check_late(launch(), late_batches(engine.device), "pairs"):
            yield scores.read()


@dataclass(frozen=True)
class ScoreCheck:
    """The check of the scores of a batch, which the device may still compute."""

    model: Any
    inputs: PairInputs
    pairs: np.ndarray
    """(P, 2) the pairs of the batch."""
    scores: HostCopy

    def require_valid(self) -> None:
        """Wait for the scores; raise RequestError if one is not finite (the message names the first pair)."""
        is_bad = ~torch.isfinite(self.scores.read())
        if is_bad.any():
            (images, texts), (image, text) = self.inputs, self.pairs[int(is_bad.nonzero()[0])]
            raise RequestError(not_finite(self.model, image_name(images[image]), text_name(texts[text])))


def _score_batch(engine: "Engine", batch: PairBatch) -> Tensor:
    """Return the scores (P,) float32 of pairs that pass the model together."""
    # A part of a batch may need only some of the batch's images.
    needed_images, image = batch.image.unique(return_inverse=True)
    with phase("copy"):
        pixels = batch.pixels[needed_images]
        pixels = engine.tower.input(pixels.pin_memory() if engine.device.type == "cuda" else pixels)
    model, texts = engine.model, list(batch.texts)
    if not shares_pair_images(model):
        values = model.score_pairs(pixels[send(image, pixels.device)], texts)
        return as_scores(values, (len(batch),), f"{model.spec}: score_pairs")
    states = model.encode_pair_images(pixels)
    if not isinstance(states, Tensor) or states.ndim < 1 or len(states) != len(pixels):
        shape = tuple(states.shape) if isinstance(states, Tensor) else type(states).__name__
        raise RequestError(
            f"{model.spec}: encode_pair_images returned {shape} for {len(pixels)} images; return a tensor "
            f"({len(pixels)}, ...)"
        )
    values = model.score_encoded_pairs(states[send(image, states.device)], texts)
    return as_scores(values, (len(batch),), f"{model.spec}: score_encoded_pairs")


def _prepare_batches(
    engine: "Engine", inputs: PairInputs, batches: list[np.ndarray]
) -> Iterator[tuple[np.ndarray, PairBatch]]:
    """Yield each batch of pairs with its decoded images.

    Pairs are sorted by image, so images are needed in ascending order. Each image is decoded once, kept while batches
    need it, and freed when they are past it.
    """
    images, texts = inputs
    needed_images = np.unique(np.concatenate([batch[:, 0] for batch in batches])).tolist() if batches else []
    decoded_images = zip(needed_images, _decode(engine, [images[i] for i in needed_images]), strict=True)
    pixels_of_image: dict[int, Any] = {}
    for batch in batches:
        batch_images, image = np.unique(batch[:, 0], return_inverse=True)
        pixels_of_image = {i: pixels for i, pixels in pixels_of_image.items() if i >= batch_images[0]}
        while not pixels_of_image or max(pixels_of_image) < batch_images[-1]:
            i, pixels = next(decoded_images)
            pixels_of_image[i] = pixels
        batch_pixels = [pixels_of_image[i] for i in batch_images.tolist()]
        for i, pixels in zip(batch_images.tolist(), batch_pixels, strict=True):
            if pixels.shape != batch_pixels[0].shape:
                raise RequestError(
                    f"image {images[i].key}: the model's preprocess returned another shape for it than for image "
                    f"{images[int(batch_images[0])].key}; return one shape for all images"
                )
        image_index = torch.from_numpy(image.reshape(-1).astype(np.int64))
        yield batch, PairBatch(torch.stack(batch_pixels), image_index, [texts[j] for j in batch[:, 1].tolist()])


def _decode(engine: "Engine", images: list[ImageSource]) -> Iterator[Tensor]:
    """Yield the preprocessed pixels of each image, as workers return them."""
    for batch in image_batches(
        images,
        engine.tower.worker_preprocess,
        max(1, min(engine.batch_size, len(images))),
        engine.workers,
        decoder=engine.decoder,
        resized=engine.resized,
    ):
        yield from batch
