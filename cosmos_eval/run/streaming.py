"""Data that are evaluated while they are downloaded: one streamed dataset of a run.

`load` reads all shards that are not known yet, in order, encodes their images, and makes the same `Data` as from disk,
with images whose digest is known and whose bytes are gone. `encode` does the rest for another model. Afterwards the
task finds the features of every image in memory.

At most `AHEAD` + 1 shards are on disk at any time, in a temporary folder that the next run removes if this one is
killed. What each finished shard holds (keys, digests, labels) is stored beside the feature cache: a shard whose samples
and features are known is not downloaded again.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.files import temporary_folder
from cosmos_core.plugins import resolve
from cosmos_eval import datasets, tasks
from cosmos_eval.cache.shard_items import ShardItems, ShardItemsStore
from cosmos_eval.datasets.data import Data
from cosmos_eval.datasets.data.base import spread_indices
from cosmos_eval.datasets.dataset_checks import DataProblems
from cosmos_eval.datasets.decoders import apply_exif
from cosmos_eval.datasets.fetch.addresses import shown
from cosmos_eval.datasets.fetch.errors import FetchError
from cosmos_eval.datasets.fetch.manifest import summarise_entry
from cosmos_eval.datasets.fetch.transfer import Fetched, Network, Remote, ask_validator, download
from cosmos_eval.datasets.image_sources import UprightImage
from cosmos_eval.datasets.reader import APPLY
from cosmos_eval.datasets.reader_registry import READERS, reader_info
from cosmos_eval.datasets.stream.downloads import ShardDownloads
from cosmos_eval.datasets.stream.images import StreamedImage
from cosmos_eval.datasets.stream.plan import StreamPlan, stream_record
from cosmos_eval.datasets.stream.reading import Samples, StreamedReading
from cosmos_eval.datasets.stream.source import LocatedStream, StreamSource
from cosmos_eval.engine import Engine
from cosmos_eval.engine.streamed_images import StreamedImages, require_streamable
from cosmos_eval.progress import Reporter
from cosmos_eval.protocol.benchmark import Benchmark

SPOOL = "stream"
"""Name of the temporary folder beside which the shards come and go."""
THREADS = 8
MAX_SMALL_FILE = 50_000_000
"""Bytes of the largest file of class names, templates or counts."""


@dataclass
class _Shard:
    """One shard of the dataset."""

    path: str
    """Below the folder of the dataset."""
    remote: Remote
    identity: tuple[str, ...] | None = None
    """What identifies its bytes and how they are read; None if nothing does."""
    items: ShardItems | None = None
    """What it holds, once that is known."""


class StreamedDataset:
    """The data of one benchmark of a run, for any number of models.

    Args:
        plan: where the data are.
        limit: number of images to take, spread evenly, as from disk.
        cache: folder of the feature cache; None records nothing on disk.
        folder: where shards come and go; None is the system's folder for temporary files.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        plan: StreamPlan,
        *,
        limit: int | None,
        cache: Path | None,
        folder: Path | None,
        reporter: Reporter,
        network: Network | None = None,
    ) -> None:
        self.benchmark, self.plan, self.limit, self.reporter = benchmark, plan, limit, reporter
        self.network = network or Network()
        self.folder = folder or Path(tempfile.gettempdir())
        self.store = ShardItemsStore(cache, reporter.note)
        self.is_upright = benchmark.dataset.get("exif") == APPLY
        self.data: Data | None = None
        self.fetched: dict[str, Any] = {}
        """What results say of where the data came from."""
        self._shards: list[_Shard] = []
        self._make_reading: Callable[..., StreamedReading] = resolve(reader_info(benchmark.dataset["reader"]).stream)

    def load(self, engine: Engine) -> Data:
        """Return the data with their fingerprint. Images of shards that must be downloaded for it are encoded.

        Raises:
            FetchError: the data cannot be downloaded.
            RequestError: a broken shard, bad labels, unexpected counts; or the model reads images more than once.
        """
        require_streamable(engine)
        if self.data is None:
            failures: list[str] = []
            for number, source in enumerate(self.plan.sources, start=1):
                try:
                    self.data = self._load_from(source, engine)
                    break
                except FetchError as error:
                    failures.append(f"{source.name}: {error}" if len(self.plan.sources) > 1 else str(error))
                    if not error.may_another_source_help or number == len(self.plan.sources):
                        raise FetchError(error.kind, f"{self.benchmark.name}: {'; '.join(failures)}") from error
                    self.reporter.note(f"{error}; trying {self.plan.sources[number].page}")
        assert self.data is not None
        return self.data

    def encode(self, engine: Engine) -> None:
        """Encode the images of the data that this model has no features of, and hold those of all others in memory.

        Raises:
            FetchError: a shard cannot be downloaded again.
            RequestError: a shard is not what it was.
        """
        assert self.data is not None
        with StreamedImages(engine) as images:
            known = images.find([image.digest() for image in self.data.images])
            if all(image.digest() in known for image in self.data.images):
                return
        self.reporter.note(
            f"{self.benchmark.name}: shards are downloaded for {engine.model.spec}, since streaming keeps none "
            "(--fetch does)"
        )
        wanted = {image.key for image in self.data.images}
        with self._spool() as folder:
            self._pass(engine, self._make_reading(self.benchmark, folder), folder, lambda position, key: key in wanted)

    @contextmanager
    def _spool(self) -> Iterator[Path]:
        """A folder for shards that is removed when the block ends; the next run removes that of a killed one."""
        with temporary_folder(self.folder / SPOOL) as folder:
            yield folder

    def _load_from(self, source: StreamSource, engine: Engine) -> Data:
        located = source.locate()
        with self._spool() as folder, READERS.at_work(self.benchmark.dataset["reader"]):
            reading = self._make_reading(self.benchmark, folder)
            small_files = self._fetch_small_files(located, reading, folder)
            self._shards = self._list_shards(located, reading)
            data = self._read(engine, reading, folder)
        self._record_source(located, small_files)
        data = self._finish(data)
        tasks.validate(self.benchmark, data)
        return data

    def _fetch_small_files(self, located: LocatedStream, reading: StreamedReading, folder: Path) -> list[Fetched]:
        fetched = []
        for path in (reading.count_file, *reading.small_files):
            remote = located.remote(path)
            if remote is None:
                if path == reading.count_file:
                    raise FetchError("not-found", f"{located.source.page} has no file {path}")
                continue
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            try:
                network = replace(self.network, max_bytes=MAX_SMALL_FILE)
                fetched.append(download(remote, folder / path, network=network))
            except FetchError as error:
                # a definition's own prompts replace these files, and the reader says which it lacks
                if error.kind != "not-found" or path == reading.count_file:
                    raise
        return fetched

    def _list_shards(self, located: LocatedStream, reading: StreamedReading) -> list[_Shard]:
        shards = []
        for path in reading.shard_paths():
            remote = located.remote(path)
            if remote is None:
                raise FetchError(
                    "not-found", f"{located.source.page} has no file {path}, which {reading.count_file} counts"
                )
            shard = _Shard(path, remote)
            shard.identity = self._identify(shard, reading)
            if shard.identity is not None:
                shard.items = self._restorable(self.store.find(shard.identity), reading)
            shards.append(shard)
        return shards

    def _identify(self, shard: _Shard, reading: StreamedReading) -> tuple[str, ...] | None:
        """Return what identifies a shard: its checksum, or else the server's tag of this version of the file."""
        version = [f"{name} {value}" for name, value in sorted(shard.remote.checksums.items())]
        if not version and self.store.folder is not None:
            validator = ask_validator(shard.remote, self.network)
            if validator.etag and validator.size is not None:  # a date alone has changed within a second
                version = [shard.remote.url, validator.etag, str(validator.size)]
        if not version:
            return None
        return (reading.identity, Path(shard.path).name, "exif" if self.is_upright else "", *version)

    def _restorable(self, items: ShardItems | None, reading: StreamedReading) -> ShardItems | None:
        """Return stored items if the reader understands their labels."""
        try:
            for label in items.labels if items is not None else ():
                reading.restore_label(label)
        except ValueError:
            return None
        return items

    def _read(self, engine: Engine, reading: StreamedReading, folder: Path) -> Data:
        """Read all shards that are not known, and return the data (of the chosen images, with a limit)."""
        if all(shard.items is not None for shard in self._shards):
            return self._take(self._build(reading, None))
        total = self.benchmark.dataset.get("expected", {}).get("images")
        if self.limit is None or (total is not None and self.limit >= total):
            self._pass(engine, reading, folder, lambda position, key: True)
            return self._take(self._build(reading, None))
        if total is not None:
            chosen = set(spread_indices(total, self.limit).tolist())
            self._pass(engine, reading, folder, lambda position, key: position in chosen, max(chosen))
            if any(shard.items is None for shard in self._shards):  # there were enough
                try:
                    return self._build(reading, chosen)
                except DataProblems:  # with all shards on disk, other images may be taken: they are all needed to know
                    pass
        if any(shard.items is None for shard in self._shards):
            if total is None:
                self.reporter.note(
                    "the definition does not say how many images there are (expected: {images: N}), so shards are "
                    "downloaded to count them, and again to encode those that --limit takes"
                )
            self._pass(None, reading, folder, lambda position, key: False)
        return self._take(self._build(reading, None))

    def _take(self, data: Data) -> Data:
        return data if self.limit is None else datasets.take_images(data, self.limit)

    def _build(self, reading: StreamedReading, chosen: set[int] | None) -> Data:
        """Return the data of all known shards, or of the images at the positions `chosen` alone."""
        parts: dict[str, Samples] = {}
        start = 0
        for shard in self._shards:
            items = shard.items
            if items is None:
                break
            positions = [i for i in range(len(items)) if chosen is None or start + i in chosen]
            start += len(items)
            address = shown(shard.remote.url)
            images = [StreamedImage.known(items.keys[i], address, items.digests[i], items.facts[i]) for i in positions]
            labels = [reading.restore_label(items.labels[i]) for i in positions]
            parts[shard.path] = reading.samples(images, labels, items.lone_block)
        if chosen is not None:
            parts = {path: samples for path, samples in parts.items() if samples.images}
        return reading.build(parts, partial=chosen is not None)

    def _finish(self, data: Data) -> Data:
        """Do what `datasets.load` does with data from disk."""
        if self.is_upright:
            data = data.upright()
        return datasets.with_fingerprint(data, THREADS, self.reporter)

    def _pass(
        self,
        engine: Engine | None,
        reading: StreamedReading,
        folder: Path,
        is_wanted: Callable[[int, str], bool],
        last: int | None = None,
    ) -> None:
        """Download shards in order, learn what they hold, and encode the wanted images whose features are not known.

        Args:
            engine: None encodes nothing.
            is_wanted: of a position in the dataset and a key.
            last: the last position that is wanted; shards behind it are not downloaded.
        """
        expected = self.benchmark.dataset.get("expected", {}).get("images")
        total, unit = (expected, "images") if expected else (len(self._shards), "shards")
        shown_images = seen_images = 0
        with self.reporter.task("streaming", total, unit) as advance:

            def show(count: int) -> None:
                nonlocal shown_images
                count = min(count, seen_images - shown_images)
                if unit == "images" and count > 0:
                    shown_images += count
                    advance(count)

            with StreamedImages(engine, show) if engine is not None else nullcontext() as images:
                to_download = self._find_missing(images, is_wanted, last)
                files = [(self._shards[i].path, self._shards[i].remote) for i in to_download]
                with ShardDownloads(files, folder, network=self.network) as downloads:
                    shards = iter(downloads)
                    start = 0
                    for i, shard in enumerate(self._shards):
                        if i in to_download:
                            fetched = next(shards)
                            seen_images += self._read_shard(shard, reading, fetched, start, is_wanted, images)
                        else:
                            assert shard.items is not None
                            seen_images += len(shard.items)
                        start = seen_images
                        show(seen_images)
                        if unit == "shards":
                            advance(1)
                        if last is not None and start > last:
                            break
                if images is not None:
                    images.finish()

    def _find_missing(
        self, images: StreamedImages | None, is_wanted: Callable[[int, str], bool], last: int | None
    ) -> set[int]:
        """Return the numbers of the shards to download: unknown ones, and those with a wanted image to encode."""
        known: set[str] = set()
        if images is not None:
            known = images.find([digest for shard in self._shards if shard.items for digest in shard.items.digests])
        missing = set()
        start: int | None = 0  # position of the shard's first image; None where a shard before it is unknown
        for number, shard in enumerate(self._shards):
            if start is not None and last is not None and start > last:
                break
            items = shard.items
            if items is None:
                missing.add(number)
                start = None
                continue
            if images is not None:
                for i, (key, digest) in enumerate(zip(items.keys, items.digests, strict=True)):
                    if digest not in known and (start is None or is_wanted(start + i, key)):
                        missing.add(number)
                        if start is not None:  # it is encoded then, and need not be again
                            known.add(digest)
            start = None if start is None else start + len(items)
        return missing

    def _read_shard(
        self,
        shard: _Shard,
        reading: StreamedReading,
        fetched: Fetched,
        start: int,
        is_wanted: Callable[[int, str], bool],
        images: StreamedImages | None,
    ) -> int:
        """Read a shard on disk, record what it holds, and encode its wanted images; the number of its samples."""
        with apply_exif() if self.is_upright else nullcontext():
            try:
                samples = reading.read_shard(fetched.path)
            except RequestError as error:
                raise RequestError(f"{error} (streamed from {shown(shard.remote.url)})") from error
        sources: Sequence[Any] = (
            [UprightImage(image) for image in samples.images] if self.is_upright else samples.images
        )
        with ThreadPoolExecutor(THREADS) as pool:
            digests = list(pool.map(lambda image: image.digest(), sources, chunksize=1))
        shard.items = ShardItems(
            fetched.sha256,
            fetched.size,
            [image.key for image in sources],
            digests,
            [image.facts for image in sources],
            [reading.store_label(label) for label in samples.labels],
            samples.lone_block,
        )
        if images is not None:
            images.add([image for i, image in enumerate(sources) if is_wanted(start + i, image.key)])
        if shard.identity is not None:
            self.store.put(shard.identity, shard.items)
        if not shard.remote.checksums:  # should it be downloaded again for another model, then it must be the same file
            shard.remote = replace(shard.remote, checksums={"sha256": fetched.sha256}, size=fetched.size)
        return len(sources)

    def _record_source(self, located: LocatedStream, small_files: Sequence[Fetched]) -> None:
        files = [{"name": file.path.name, "size": file.size, "sha256": file.sha256} for file in small_files]
        files += [
            {"name": shard.path, "size": shard.items.size, "sha256": shard.items.sha256}
            for shard in self._shards
            if shard.items is not None
        ]
        date = datetime.now(UTC).isoformat(timespec="seconds")
        entry = stream_record(located.source, located.commit, date, files)
        name = located.source.artifact or self.benchmark.name
        self.fetched = {name: {**summarise_entry(entry), "streamed": True}}
