"""Patch features of sliding windows: how an engine's model, precision and batch size encode them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from cosmos_eval.datasets.base import ImageSource
from cosmos_eval.engine.dense import Dense, Normalise, dense_features
from cosmos_eval.engine.precision import tower_precision
from cosmos_eval.engine.unit_features import image_name, refuse_none, unit_rows
from cosmos_eval.models.base import patch_encoder
from cosmos_eval.profiling import phase
from cosmos_eval.progress import Reporter

if TYPE_CHECKING:
    from cosmos_eval.engine.features import Engine


def window_features(
    engine: "Engine",
    images: Sequence[ImageSource],
    settings: Mapping[str, Any],
    keep_pixels: bool = False,
    reporter: Reporter | None = None,
) -> Iterator[Dense]:
    """See `Engine.window_features`."""
    refuse_none(images, "images")
    encode_patches = patch_encoder(engine.model)
    decoder = engine.decoder._replace(size=None)  # the size of windows is not that of images
    engine.compare_decoders(images, decoder)
    normalise = Normalise.of(engine.model, engine.device)

    def encode_part(windows: Tensor) -> Tensor:
        with phase("copy"):
            x = normalise(windows)
        return encode_patches(x, attention=settings["attention"])

    def encode(windows: Tensor, members: list[ImageSource]) -> Tensor:
        engine.pass_progress.start(len({id(image) for image in members}) - 1)  # the last may go on in the next
        with phase("windows"), tower_precision(engine.precision, engine.device):
            found = engine.parts.encode("windows", windows, encode_part)
        patches = found.shape[1] * found.shape[2]
        owners = [image for image in members for _ in range(patches)]
        return unit_rows(found.flatten(0, 2), owners, image_name).reshape(found.shape)

    kept = normalise if keep_pixels else None
    task = (reporter or engine.reporter).task("encoding windows", len(images), "images")
    with task as advance, engine.pass_progress.shown(advance):
        for dense in dense_features(images, settings, engine.batch_size, engine.workers, encode, kept, decoder):
            engine.pass_progress.finish(1)
            yield dense
