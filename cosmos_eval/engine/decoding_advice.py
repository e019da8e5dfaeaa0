"""A note where decoding limits a benchmark: how long the engine waited for images, and what would help in this case."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cosmos_core.errors import RequestError
from cosmos_eval.datasets.decoders import PIL, use_decoder
from cosmos_eval.datasets.image_sources import ImageSource
from cosmos_eval.engine.image_tower import decoder_for

if TYPE_CHECKING:
    from cosmos_eval.engine.engine import Engine

WAITED_SHARE = 0.5
"""Share of the encoding of images from which waiting for them is noted."""
WAITED_SECONDS = 10.0
"""Waiting below this is not noted: nothing that a user changes would repay."""
LOOKED_AT = 4
"""Images whose size tells whether `--decoder draft` would decode them smaller."""


def decoding_note(engine: "Engine", benchmark: str, images: Sequence[ImageSource], windows: bool) -> str:
    """The note for a benchmark that has been encoded; empty where decoding was not the limit.

    Args:
        benchmark: its name, for the command in the note; empty where no command can read its images, as those that were
            streamed or passed in Python.
        images: of the benchmark.
        windows: whether they were encoded as sliding windows.
    """
    workers = engine.workers
    if not workers.elapsed or workers.waited < WAITED_SECONDS or workers.waited < WAITED_SHARE * workers.elapsed:
        return ""
    advice = [
        *_more_workers(engine),
        *([] if windows else _resized_images(engine, benchmark)),
        *([] if windows else _smaller_decoding(engine, images)),
    ]
    waiting = f"images waited for decoding {workers.waited / workers.elapsed:.0%} of the time ({workers.waited:,.0f} s)"
    if advice:
        return f"{waiting}: {' or '.join(advice)} would help"
    return f"{waiting}: all usable cores decoded" if 0 < workers.most <= workers.used else waiting


def _more_workers(engine: "Engine") -> list[str]:
    workers = engine.workers
    if workers.is_short_of_shared_memory:
        return ["a larger /dev/shm (docker run --shm-size)"]
    return [] if workers.is_auto or workers.used >= workers.most else [f"--workers {workers.most}"]


def _resized_images(engine: "Engine", benchmark: str) -> list[str]:
    """The command that resizes images once, where the model's preprocessing is one that it has."""
    geometry = getattr(engine.model.preprocess, "geometry", None)
    settings = geometry() if callable(geometry) else {}
    size, fill = settings.get("image_size"), settings.get("fill", 0)
    if not benchmark or engine.resized is not None or engine.decoder.name != PIL or not isinstance(size, int) or fill:
        return []
    options = f" --resize {settings['resize']}" * (settings["resize"] != "shortest")
    options += f" --interpolation {settings['interpolation']}" * (settings["interpolation"] != "bicubic")
    return [
        "--resized (for every further model of this input size; made by 'cosmos-eval data prepare resized "
        f"{benchmark} --size {size}{options}')"
    ]


def _smaller_decoding(engine: "Engine", images: Sequence[ImageSource]) -> list[str]:
    """`--decoder draft` where it decodes all of the first images at a smaller size."""
    draft = decoder_for("draft", getattr(engine.model, "preprocess", None))
    if engine.resized is not None or engine.decoder.name == "draft" or draft.size is None or not images:
        return []
    try:
        for image in images[:LOOKED_AT]:
            full_size = image.load().size
            with use_decoder(draft):
                if image.load().size == full_size:
                    return []
    except (RequestError, OSError):
        return []
    return ["--decoder draft (other pixels)"]
