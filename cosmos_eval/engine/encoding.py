"""Batches of images and texts through the towers: what each rank does of an engine's work."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from cosmos_eval.datasets.base import ImageSource
from cosmos_eval.engine.images import image_batches
from cosmos_eval.engine.precision import tower_precision
from cosmos_eval.engine.unit_features import image_name, text_name
from cosmos_eval.profiling import phase, timed

if TYPE_CHECKING:
    from cosmos_eval.engine.features import Engine


def encode_images(engine: "Engine", common: None, batches: Iterable[list[ImageSource]]) -> Iterator[Tensor]:
    """Rows of batches of images, each of the engine's batch size but the last: what one rank does."""
    whole = list(batches)
    pixels = image_batches(
        [image for batch in whole for image in batch],
        engine.tower.of_worker,
        max(map(len, whole), default=1),
        engine.workers,
        pin_memory=engine.device.type == "cuda",
        decoder=engine.decoder,
        resized=engine.resized,
    )
    yield from encode_batches(engine, zip(whole, pixels, strict=True), engine.tower, "images")


def encode_texts(engine: "Engine", trimmed: bool, batches: Iterable[tuple[list[str], Any]]) -> Iterator[Tensor]:
    """Rows of batches of texts, each with what the model takes: what one rank does."""
    yield from encode_batches(
        engine, batches, engine.model.trimmed_text.encode if trimmed else engine.model.encode_text, "texts"
    )


def encode_batches(
    engine: "Engine", batches: Iterable[tuple[Sequence[Any], Any]], encode: Callable[[Any], Tensor], unit: str
) -> Iterator[Tensor]:
    """(B, D) or (B, L, D) of unit length for each batch: its items, which errors name, and what `encode` takes."""
    name = image_name if unit == "images" else text_name
    for items, batch in timed(batches, "waiting" if unit == "images" else "tokens"):
        engine.pass_progress.start(len(items))
        with phase(unit), tower_precision(engine.precision, engine.device):
            encoded = engine.parts.encode(unit, batch, encode)
        rows = engine.unit_rows(encoded, items, name)
        yield rows if engine.crew.is_main else rows.cpu()
