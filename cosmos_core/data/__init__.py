"""Training data: records in memory, tables, webdataset shards or any iterable, made into batches of views.

Start at `open_loader`. docs/data.md describes the sources it reads and what is reproducible.

A batch passes through these modules: `sources` (what `config.data` names) -> `shards` and `tables` (unread samples) ->
`streams` (one lane's samples of one source, in seeded order) -> `lanes` (a lane mixes the sources) -> `samples` (views
and captions of one sample) -> `workers` (processes that run lanes) -> `loader` (batches for the training loop).
"""

from cosmos_core.data.iterable import buffered
from cosmos_core.data.loader import Loader, join_positions
from cosmos_core.data.open_loader import open_loader
from cosmos_core.data.samples import Batch, BrokenNotes, BrokenSample, Sample, SampleViews, load_image, reason_kind

__all__ = [
    "Batch",
    "BrokenNotes",
    "BrokenSample",
    "Loader",
    "Sample",
    "SampleViews",
    "buffered",
    "join_positions",
    "load_image",
    "open_loader",
    "reason_kind",
]
