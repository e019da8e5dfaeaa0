"""Patch features of sliding windows by an engine: its model, precision, batch size and progress."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from cosmos_eval.datasets.image_sources import ImageSource
from cosmos_eval.engine.dense import DenseFeatures, Normalise, dense_features
from cosmos_eval.engine.device_copies import late_batches
from cosmos_eval.engine.image_loading import ReadTarget
from cosmos_eval.engine.kept_casts import kept_casts
from cosmos_eval.engine.precision import tower_precision
from cosmos_eval.engine.unit_features import FeatureCheck, image_name, normalise_and_check_later, require_items
from cosmos_eval.models.abilities import require_patch_encoder
from cosmos_eval.profiling import phase
from cosmos_eval.progress import Reporter

if TYPE_CHECKING:
    from cosmos_eval.engine.engine import Engine


def window_features(
    engine: "Engine",
    images: Sequence[ImageSource],
    settings: Mapping[str, Any],
    keep_pixels: bool = False,
    reporter: Reporter | None = None,
    read_target: ReadTarget | None = None,
) -> Iterator[DenseFeatures]:
    """Yield the patch features of each image; see `Engine.window_features`."""
    require_items(images, "images")
    encode_patches = require_patch_encoder(engine.model, settings["attention"])
    # Without a size: a decoder must not reduce images to the size of the whole-image tower.
    decoder = engine.decoder._replace(size=None)
    engine.compare_decoders(images, decoder)
    normalise = Normalise.from_model(engine.model, engine.device)

    def encode_part(windows: Tensor) -> Tensor:
        """(B, H, W, 3) uint8 windows, a batch or a part of one -> (B, h, w, D)."""
        with phase("copy"):
            x = normalise(windows)
        return encode_patches(x, attention=settings["attention"])

    checks = _LateChecks(late_batches(engine.device))

    def encode_batch(windows: Tensor, window_images: list[ImageSource]) -> Tensor:
        """A batch of windows and the image of each -> (B, h, w, D) of unit length, which are checked later."""
        # Progress counts images. The last image of the batch may have windows in the next batch, so it does not count.
        finished_images = len({id(image) for image in window_images}) - 1
        engine.layer_progress.start(finished_images)
        with phase("windows"), tower_precision(engine.precision, engine.device):
            features = engine.batch_splitter.encode("windows", windows, encode_part)
        patches = features.shape[1] * features.shape[2]
        patch_images = [image for image in window_images for _ in range(patches)]
        unit_features, check = normalise_and_check_later(features.flatten(0, 2), patch_images, image_name)
        checks.add(check)
        return unit_features.reshape(features.shape)

    task = (reporter or engine.reporter).task("encoding windows", len(images), "images")
    casts = kept_casts(engine.model, engine.keeps_casts)
    with task as advance, engine.layer_progress.shown(advance), casts:
        unchecked = dense_features(
            images,
            settings,
            engine.batch_size,
            engine.workers,
            encode_batch,
            normalise if keep_pixels else None,
            decoder,
            read_target,
            engine.device,
        )
        for dense in checks.pass_checked(unchecked):
            engine.layer_progress.finish(1)
            yield dense


class _LateChecks:
    """Reads the check of each batch `late` batches after it was launched, and holds images back until then.

    So the host waits for a batch of windows while the device computes the next one.
    """

    def __init__(self, late: int) -> None:
        self.late = late
        self.launched = self.passed = 0
        """Batches."""
        self._unread: deque[FeatureCheck] = deque()

    def add(self, check: FeatureCheck) -> None:
        """Add the check of the batch that was launched now; RequestError if that of an earlier batch fails."""
        self._unread.append(check)
        self.launched += 1
        self._read(self.late)

    def _read(self, left: int) -> None:
        while len(self._unread) > left:
            with phase("windows"):
                self._unread.popleft().require_valid()
            self.passed += 1

    def pass_checked(self, images: Iterator[DenseFeatures]) -> Iterator[DenseFeatures]:
        """Yield images, each once all batches up to its last one have passed."""
        held: deque[tuple[int, DenseFeatures]] = deque()  # number of batches that must have passed, image
        for image in images:
            held.append((self.launched, image))
            while held and held[0][0] <= self.passed:
                yield held.popleft()[1]
        self._read(0)
        for _, image in held:
            yield image
