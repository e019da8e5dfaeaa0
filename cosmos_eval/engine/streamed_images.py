"""Encoding of images that come one after the other and are gone afterwards.

From disk, the distinct images of a dataset whose features are not stored are encoded in batches of consecutive images.
The same batches are formed here, across the borders of shards, so that the features have the same bits. They go into
the feature cache, and are held in memory until the benchmark ends, since nothing could compute them again.
"""

from collections.abc import Callable, Sequence

from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_eval.cache.feature_cache import ShardWriter
from cosmos_eval.datasets.decoders import PIL
from cosmos_eval.datasets.image_sources import ImageSource
from cosmos_eval.datasets.stream.images import hold_image
from cosmos_eval.engine.encoding import encode_images
from cosmos_eval.engine.engine import Engine
from cosmos_eval.models.abilities import is_pair_scorer

BATCHES_ON_RANK = 4
"""Batches whose bytes are sent to each rank at once."""


def require_streamable(engine: Engine) -> None:
    """Check that a model needs the pixels of an image once only.

    Raises:
        RequestError: a model that scores pairs of images and texts, or a decoder whose effect is measured.
    """
    if is_pair_scorer(engine.model):
        raise RequestError(
            f"{engine.model.spec} scores pairs and reads each image again for every text, so its data cannot be "
            "streamed; fetch them first (--fetch)"
        )
    if engine.decoder.name != PIL:
        raise RequestError(
            f"the effect of --decoder {engine.decoder.name} is measured on images on disk, so the data cannot be "
            "streamed with it; leave --decoder out, or fetch the data first (--fetch)"
        )


class StreamedImages:
    """Encodes images for an engine, as a context manager.

    What was encoded when its block ends, for whatever reason, is in the feature cache.

    Args:
        on_encoded: called with the number of images of each batch.
    """

    def __init__(self, engine: Engine, on_encoded: Callable[[int], None] = lambda n: None) -> None:
        self.engine, self.on_encoded = engine, on_encoded
        self._known: set[str] = set()
        """Digests whose features are held, or that wait."""
        self._waiting: list[ImageSource] = []
        self._writer: ShardWriter | None = None

    def __enter__(self) -> "StreamedImages":
        cache = self.engine.model_cache
        self._writer = None if cache is None else cache.writer("images").__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self._writer is not None:
            self._writer.__exit__(kind, error, trace)

    def find(self, digests: Sequence[str]) -> set[str]:
        """Return those of the digests whose features are known, or will be, and hold them."""
        if self.engine.is_precomputed:
            return set(digests)
        unknown = [digest for digest in dict.fromkeys(digests) if digest not in self._known]
        if unknown:
            self._known |= self.engine.cached_images.hold(unknown)
        return self._known.intersection(digests)

    def add(self, images: Sequence[ImageSource]) -> None:
        """Encode images whose features are not known, up to the last whole batch. The others wait in memory.

        The digests of the images must be known; their files may be deleted afterwards.
        """
        self.find([image.digest() for image in images])
        for image in images:
            if not self.engine.is_precomputed and image.digest() not in self._known:
                self._known.add(image.digest())
                self._waiting.append(image)
        size = self.engine.batch_size
        whole = len(self._waiting) // size * size
        self._encode(self._waiting[:whole])
        self._waiting = [hold_image(image) for image in self._waiting[whole:]]

    def finish(self) -> None:
        """Encode what is left: the last batch of the dataset may be smaller."""
        images, self._waiting = self._waiting, []
        self._encode(images)

    def _encode(self, images: list[ImageSource]) -> None:
        ranks, size = self.engine.ranks, self.engine.batch_size
        batches = [images[start : start + size] for start in range(0, len(images), size)]
        if ranks.size == 1:
            self._encode_batches(batches)
            return
        # Only this rank has the shard, and others may be on other machines: they get the bytes.
        at_once = BATCHES_ON_RANK * ranks.size
        for start in range(0, len(batches), at_once):
            self._encode_batches([[*map(hold_image, batch)] for batch in batches[start : start + at_once]])

    def _encode_batches(self, batches: list[list[ImageSource]]) -> None:
        if not batches:
            return
        keys: list[str] = []
        features: list[Tensor] = []
        for number, encoded in self.engine.ranks.distribute(encode_images, None, batches):
            batch_keys = [image.digest() for image in batches[number]]
            self.engine.encoded["images"] += len(batch_keys)
            keys += batch_keys
            features.append(encoded.to(self.engine.device))
            if self._writer is not None:
                self._writer.add(batch_keys, features[-1])
            self.on_encoded(len(batch_keys))
        self.engine.cached_images.add_held(keys, features)
