"""One training sample: from the image and record of a source to the views that the networks get."""

import math
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_core.image_files import Impostor, NotAnImage, decode_image, decode_scaled
from cosmos_core.printable import one_line, printable
from cosmos_core.seeds import sample_generator
from cosmos_core.text_crop import Record, TextCrop, has_words
from cosmos_core.text_files import open_regular
from cosmos_core.view_draws import COLUMNS, DrawnView
from cosmos_core.views import MultiCrop, as_rgb

Sample = tuple[str, Any, Record]
"""(key, image, record): a name that is unique in the data; a PIL image, an (H, W, 3) uint8 array, encoded bytes, the
path of a file, or None if it is missing; and a record that TextCrop understands."""
Tokenizer = Callable[[list[str]], Tensor]
MadeViews = tuple[str, list[np.ndarray], list[str], np.ndarray]
"""Key, views (H, W, 3) uint8 and captions of one sample, and the table of changes (V, 11) that are still to be made of
its views (`cosmos_core.view_draws.changes_table`); (0, 11) if the views are ready."""
READY = np.empty((0, COLUMNS), np.float32)


class BrokenSample(RequestError):
    """A sample that cannot be used. The message begins with its kind (`words`, `image`, `shard`) and a colon."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {printable(message)}")


def reason_kind(reason: str) -> str:
    """`words`, `image` or `shard`: the kind of a reason in `Batch.broken`."""
    return reason.partition(":")[0]


class BrokenNotes:
    """Notes the first broken sample of each kind, then the tenth, the hundredth, and so on."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self.note = note
        self.counts: Counter[str] = Counter()

    def __call__(self, broken: Mapping[str, str]) -> None:
        """Count the samples of a `Batch.broken`, and note those that are due."""
        for reason in broken.values():
            kind = reason_kind(reason)
            self.counts[kind] += 1
            count = self.counts[kind]
            if count == 1:
                self.note(f"skipped, {reason}")
            elif math.log10(count).is_integer():
                self.note(f"skipped, {kind}: {count:,} so far; the last: {reason.partition(': ')[2]}")


@dataclass(frozen=True)
class Batch:
    """This rank's share of the input of one step. The global views come first, in images and in texts."""

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
    """Samples skipped while this batch was drawn: key and reason."""
    seen: int = 0
    """Samples read for it, including skipped ones."""
    left_out: int = 0
    """Samples that this rank's lanes have skipped since the run began."""
    state: dict[str, Any] = field(default_factory=dict)
    """State of this rank's lanes after the batch, as JSON values; see `cosmos_core.data.lanes`."""


@dataclass(frozen=True)
class SampleViews:
    """Makes the views of one sample. Its random draws depend on seed, epoch and key only."""

    images: MultiCrop
    captions: TextCrop
    seed: int = 0
    kept_captions: int | None = None
    """Use only this many of the drawn captions (an objective with one caption takes the first global one)."""
    on_device: bool = False
    """Only crop and resize: jitter, blur and the like are done on the device, for the whole batch
    (`cosmos_core.device_views`)."""

    def __call__(self, key: str, image: Any, record: Record, epoch: int | str) -> MadeViews:
        """Key, views, captions, and what is left to change on the device. The image is decoded once for all crops.

        Args:
            epoch: the pass over the data; it enters the seed as text.

        Raises:
            BrokenSample: no words (the original would train on empty captions), or an image that cannot be read.
        """
        try:
            captions = self.captions(record, sample_generator(self.seed, epoch, key, "captions"), key)
            has_no_words = not any(caption.strip(" .") for caption in captions)
            if has_no_words and not has_words(record, self.captions.mode, key):
                raise RequestError(f"record {key} has no words to draw a caption from; drop it or give it a caption")
        except RequestError as error:
            raise BrokenSample("words", str(error)) from error
        try:
            views, changes = self._views(image, key, sample_generator(self.seed, epoch, key, "views"))
        except BrokenSample:
            raise
        except (RequestError, ValueError, OSError) as error:
            raise BrokenSample("image", f"no views can be made of the image of {key}: {one_line(error)}") from error
        return key, views, captions[: self.kept_captions], changes

    def _views(self, image: Any, key: str, draw: random.Random) -> tuple[list[np.ndarray], np.ndarray]:
        if not self.on_device:
            return self.images.pixels(load_image(image, key), draw), READY
        # the size is known before a file is decoded, and so are the boxes, so that no more is decoded than they need
        drawn: list[DrawnView] = []
        scale = 1

        def draw_views(size: tuple[int, int]) -> int:
            nonlocal drawn, scale
            drawn = self.images.draw(size, draw)
            scale = self.images.largest_scale(drawn)
            return scale

        loaded = load_image(image, key, draw_views)
        if not drawn:  # not a JPEG file
            loaded = as_rgb(loaded)
            drawn = self.images.draw(loaded.size, draw)
        return self.images.crops(loaded, drawn, scale)


def load_image(
    image: Any, key: str, choose_scale: Callable[[tuple[int, int]], int] | None = None
) -> Image.Image | np.ndarray:
    """The image of a sample: one in memory as it is (loaded if PIL has only opened it), bytes or a file decoded to RGB.

    Args:
        choose_scale: called for a JPEG file with its width and height; it is decoded at 1 / the returned number (1, 2,
            4 or 8) of its size, which is faster.

    Raises:
        BrokenSample: bytes or a file that do not decode completely; names the sample.
    """
    if image is None:
        raise BrokenSample("image", f"sample {key} has no image (jpg, jpeg, png or webp)")
    try:
        if isinstance(image, Image.Image):
            image.load()
        if isinstance(image, Path):
            with open_regular(image) as file:  # refuses a named pipe, which would block forever
                image = file.read()
        if not isinstance(image, bytes):
            return image
        return decode_image(image) if choose_scale is None else decode_scaled(image, choose_scale)
    except MemoryError:
        raise
    except Exception as error:  # decoders raise anything for damaged bytes: struct.error, IndexError, ...
        reason = f"{error.strerror}: {error.filename}" if isinstance(error, OSError) and error.filename else error
        if isinstance(error, NotAnImage) and not isinstance(error, Impostor):
            reason = "not an image in a format that is read"
        raise BrokenSample("image", f"cannot decode the image of {key}: {one_line(reason)}") from error
