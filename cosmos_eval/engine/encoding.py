"""Encoding of batches on one rank: the functions that `RankGroup` runs on each rank with the rank's own batches."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from torch import Tensor

from cosmos_core.host_copy import HostCopy
from cosmos_eval.datasets.image_sources import ImageSource
from cosmos_eval.engine.device_copies import late_batches
from cosmos_eval.engine.image_loading import image_batches
from cosmos_eval.engine.kept_casts import kept_casts
from cosmos_eval.engine.precision import tower_precision
from cosmos_eval.engine.unit_features import FeatureCheck, image_name, text_name
from cosmos_eval.models.abilities import in_language
from cosmos_eval.profiling import phase, time_items

if TYPE_CHECKING:
    from cosmos_eval.engine.engine import Engine

_Value = TypeVar("_Value")


def encode_images(engine: "Engine", common: None, batches: Iterable[list[ImageSource]]) -> Iterator[Tensor]:
    """Load and encode batches of images; yield the features (B, ...) of each.

    Args:
        common: not used; part of the signature of `cosmos_eval.engine.rank_group.Work`.
        batches: this rank's batches. All have the engine's batch size, but for the last batch of the dataset.
    """
    own_batches = list(batches)
    # One loader for all batches of this rank, joined, so that workers prepare the next batches while one is encoded.
    # It cuts the joined list by the size of the largest batch. That gives the same batches again, because only the last
    # one can be smaller.
    loaded_batches = image_batches(
        [image for batch in own_batches for image in batch],
        engine.tower.worker_preprocess,
        max(map(len, own_batches), default=1),
        engine.workers,
        pin_memory=engine.device.type == "cuda",
        decoder=engine.decoder,
        resized=engine.resized,
    )
    yield from _encode_batches(engine, zip(own_batches, loaded_batches, strict=True), engine.tower, "images")


def encode_texts(
    engine: "Engine", common: tuple[bool, str | None], batches: Iterable[tuple[list[str], Any]]
) -> Iterator[Tensor]:
    """Encode batches of texts; yield the features (B, ...) of each.

    Args:
        common: whether the inputs are trimmed tokens (`cosmos_eval.models.trimmed_text`), not strings, and the language
            that the model is told, or None.
        batches: the texts of each batch of this rank, for error messages, and the input of the model.
    """
    is_trimmed, language = common
    model = engine.model
    encode = model.trimmed_text.encode if is_trimmed else model.encode_text
    yield from _encode_batches(engine, batches, in_language(model, language, encode), "texts")


def _encode_batches(
    engine: "Engine", batches: Iterable[tuple[Sequence[Any], Any]], encode: Callable[[Any], Tensor], unit: str
) -> Iterator[Tensor]:
    """Yield the features (B, D) or (B, L, D) of each batch, of unit length in float32.

    Args:
        batches: for each batch, its items (for error messages) and the input of `encode`.
        unit: "images" or "texts".
    """
    name = image_name if unit == "images" else text_name

    def launch() -> Iterator[tuple[Tensor | HostCopy, FeatureCheck]]:
        for items, batch in time_items(batches, "waiting" if unit == "images" else "tokens"):
            engine.layer_progress.start(len(items))
            with phase(unit), tower_precision(engine.precision, engine.device):
                encoded = engine.batch_splitter.encode(unit, batch, encode)
            features, check = engine.normalise_and_check_later(encoded, items, name)
            # Other ranks send their features to rank 0 through main memory.
            yield features if engine.ranks.is_main else HostCopy(features), check

    with kept_casts(engine.model, engine.keeps_casts):
        for features in check_late(launch(), late_batches(engine.device), unit):
            yield features.read() if isinstance(features, HostCopy) else features


class Check(Protocol):
    """A check of values that the device may still compute."""

    def require_valid(self) -> None:
        """Wait for the values; raise RequestError if they are not valid."""
        ...


def check_late(launched: Iterable[tuple[_Value, Check]], late: int, phase_name: str) -> Iterator[_Value]:
    """Yield values that have passed their check, which is read `late` batches after they were launched.

    So the host waits for a batch while the device computes the next one. If launching fails, the values before it are
    still checked and yielded: the first failure in order is the one that is raised, and nothing that is good is lost.

    Args:
        launched: for each batch, a value and its check.
        phase_name: of the profile, for the time that the host waits.
    """
    waiting: deque[tuple[_Value, Check]] = deque()
    failure: Exception | None = None
    batches = iter(launched)
    while failure is None:
        try:
            waiting.append(next(batches))
        except StopIteration:
            break
        except Exception as error:
            failure = error
        while len(waiting) > late:
            yield _first_checked(waiting, phase_name)
    while waiting:
        yield _first_checked(waiting, phase_name)
    if failure is not None:
        raise failure


def _first_checked(waiting: deque[tuple[_Value, Check]], phase_name: str) -> _Value:
    value, check = waiting.popleft()
    with phase(phase_name):
        check.require_valid()
    return value
