"""One sample, from what a source gives to the views that the networks see."""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_core.image_files import Impostor, NotAnImage, decode_image
from cosmos_core.printable import one_line, printable
from cosmos_core.seeds import sample_generator
from cosmos_core.text_crop import Record, TextCrop, has_words
from cosmos_core.text_files import open_regular
from cosmos_core.views import MultiCrop

Sample = tuple[str, Any, Record]
"""(key, picture, record): a name that is unique in the data; a PIL image, an (H, W, 3) uint8 array, encoded bytes, the
path of a file, or None where it is missing; and a record that TextCrop understands."""
Tokenizer = Callable[[list[str]], Tensor]
MadeViews = tuple[str, list[np.ndarray], list[str]]
"""Key, views (H, W, 3) uint8 and captions of one sample."""


class BrokenSample(RequestError):
    """A sample that cannot be used. The message begins with its kind (`words`, `picture`, `shard`) and a colon."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {printable(message)}")


def kind_of(reason: str) -> str:
    """`words`, `picture` or `shard`: what the reason in `Batch.broken` is about."""
    return reason.partition(":")[0]


class BrokenNotes:
    """Says once for each kind of broken sample that there are some, and again whenever there are ten times as many."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self.note = note
        self.counts: Counter[str] = Counter()

    def __call__(self, broken: Mapping[str, str]) -> None:
        """Count what `Batch.broken` holds, and say so where it is time."""
        for reason in broken.values():
            kind = kind_of(reason)
            self.counts[kind] += 1
            count = self.counts[kind]
            if count == 1:
                self.note(f"left out, {reason}")
            elif math.log10(count).is_integer():
                self.note(f"left out, {kind}: {count:,} so far; the last: {reason.partition(': ')[2]}")


@dataclass(frozen=True)
class Batch:
    """One step's input: this rank's share of it. The global views come first, in images and in texts."""

    images: list[Tensor]
    """One (B, 3, H, W) float32 tensor for each view."""
    texts: Tensor
    """(B, n, L) token ids."""
    keys: list[str]
    epoch: int = 0
    """The pass over the data that the samples belong to."""
    ends_epoch: bool = False
    """Whether it is the last batch of that pass."""
    broken: dict[str, str] = field(default_factory=dict)
    """Samples left out while this batch was drawn: key and reason."""
    seen: int = 0
    """Samples read for it, those left out among them."""
    left_out: int = 0
    """Samples that this rank's lanes have left out since the run began."""
    state: dict[str, Any] = field(default_factory=dict)
    """Where this rank's lanes stand after it, in values that JSON holds; see `cosmos_core.data.lanes`."""


@dataclass(frozen=True)
class SampleViews:
    """Makes the views of one sample, from generators of its own: seed, epoch and key decide, and nothing else."""

    images: MultiCrop
    captions: TextCrop
    seed: int = 0
    kept_captions: int | None = None
    """Use only this many of the drawn captions (an objective with one caption takes the first global one)."""

    def __call__(self, key: str, picture: Any, record: Record, epoch: int | str) -> MadeViews:
        """Key, views and captions. The picture is decoded once for all of its crops.

        Args:
            epoch: the pass over the data; its text tells passes apart.

        Raises:
            BrokenSample: no words (the original would train on empty captions), or a picture that is none.
        """
        try:
            captions = self.captions(record, sample_generator(self.seed, epoch, key, "captions"), key)
            wordless = not any(caption.strip(" .") for caption in captions)
            if wordless and not has_words(record, self.captions.mode, key):
                raise RequestError(f"record {key} has no words to draw a caption from; drop it or give it a caption")
        except RequestError as error:
            raise BrokenSample("words", str(error)) from error
        try:
            views = self.images.pixels(open_picture(picture, key), sample_generator(self.seed, epoch, key, "views"))
        except BrokenSample:
            raise
        except (RequestError, ValueError, OSError) as error:
            raise BrokenSample("picture", f"no views can be made of the picture of {key}: {one_line(error)}") from error
        return key, views, captions[: self.kept_captions]


def open_picture(picture: Any, key: str) -> Image.Image | np.ndarray:
    """A picture in memory as it is, one that PIL has only opened read whole; encoded bytes or a file decoded to RGB.

    Raises:
        BrokenSample: bytes or a file that are no whole picture; names the sample.
    """
    if picture is None:
        raise BrokenSample("picture", f"sample {key} has no picture (jpg, jpeg, png or webp)")
    try:
        if isinstance(picture, Image.Image):
            picture.load()
        if isinstance(picture, Path):
            with open_regular(picture) as file:  # a named pipe would be waited for without an end
                picture = file.read()
        if not isinstance(picture, bytes):
            return picture
        return decode_image(picture)
    except MemoryError:
        raise
    except Exception as error:  # what decoders raise for damaged bytes has no bounds: struct.error, IndexError, ...
        reason = f"{error.strerror}: {error.filename}" if isinstance(error, OSError) and error.filename else error
        if isinstance(error, NotAnImage) and not isinstance(error, Impostor):
            reason = "not a picture in a format that is read"
        raise BrokenSample("picture", f"cannot decode the picture of {key}: {one_line(reason)}") from error
