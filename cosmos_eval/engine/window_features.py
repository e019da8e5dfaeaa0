"""Patch features of sliding windows by an engine: its model, precision, batch size and progress."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from cosmos_eval.datasets.image_sources import ImageSource
from cosmos_eval.engine.dense import DenseFeatures, Normalise, dense_features
from cosmos_eval.engine.precision import tower_precision
from cosmos_eval.engine.unit_features import image_name, normalise_features, require_items
from cosmos_eval.models.base import require_patch_encoder
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

    def encode_batch(windows: Tensor, window_images: list[ImageSource]) -> Tensor:
        """A batch of windows and the image of each -> (B, h, w, D) of unit length."""
        # Progress counts images. The last image of the batch may have windows in the next batch, so it does not count.
        finished_images = len({id(image) for image in window_images}) - 1
        engine.layer_progress.start(finished_images)
        with phase("windows"), tower_precision(engine.precision, engine.device):
            features = engine.batch_splitter.encode("windows", windows, encode_part)
        patches = features.shape[1] * features.shape[2]
        patch_images = [image for image in window_images for _ in range(patches)]
        return normalise_features(features.flatten(0, 2), patch_images, image_name).reshape(features.shape)

    task = (reporter or engine.reporter).task("encoding windows", len(images), "images")
    with task as advance, engine.layer_progress.shown(advance):
        for dense in dense_features(
            images,
            settings,
            engine.batch_size,
            engine.workers,
            encode_batch,
            normalise if keep_pixels else None,
            decoder,
        ):
            engine.layer_progress.finish(1)
            yield dense
