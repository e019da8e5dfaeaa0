"""Carrying out a fetch plan: files in parallel, mirrors in order, then unpacking, conversion, masks and the manifest.

Network work is done by threads. Whatever changes the data root (unpacking, moving, the manifest) is done by the calling
thread, one artifact after the other, so that a Ctrl-C ends it at once and two archives never compete for the disk.
"""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event, Lock

from cosmos_core.errors import RequestError
from cosmos_core.printable import plural
from cosmos_core.run_lock import locked
from cosmos_core.text_files import impostor_at
from cosmos_eval.datasets.fetch.byte_progress import ByteProgress, FetchStopped
from cosmos_eval.datasets.fetch.convert import convert
from cosmos_eval.datasets.fetch.errors import FetchError
from cosmos_eval.datasets.fetch.locating import FileToFetch, Located, final_path, locate, staged_folder
from cosmos_eval.datasets.fetch.manifest import STATE_FOLDER, ManifestFile, add_to_manifest, manifest_entry
from cosmos_eval.datasets.fetch.moving import move_tree, remove_empty_folders
from cosmos_eval.datasets.fetch.plan import FetchPlan, Planned
from cosmos_eval.datasets.fetch.single_images import fetch_single_images
from cosmos_eval.datasets.fetch.table import Source
from cosmos_eval.datasets.fetch.transfer import SPARE_BYTES, Fetched, Network, download, find_whole_file
from cosmos_eval.datasets.fetch.unpack import disk_error, unpack_archive
from cosmos_eval.progress import Reporter, Silent

THREADS = 4
"""Files that are fetched at the same time: more help on few lines, and servers refuse them."""


@dataclass(frozen=True)
class FetchReport:
    """What `fetch` did."""

    fetched: tuple[str, ...]
    """Names of artifacts."""
    failed: tuple[str, ...]
    """One line for each artifact, or step after it, that failed."""


@dataclass
class _Job:
    """One artifact, and the sources that are left to try."""

    planned: Planned
    sources: tuple[Source, ...]
    failures: list[str] = field(default_factory=list)

    @property
    def source(self) -> Source:
        return self.sources[0]


@dataclass(frozen=True)
class _Received:
    located: Located
    files: tuple[Fetched, ...]


def fetch(
    plan: FetchPlan,
    reporter: Reporter | None = None,
    *,
    network: Network | None = None,
    keep_archives: bool = False,
    threads: int = THREADS,
) -> FetchReport:
    """Fetch what a plan says to the data root, and make it what readers read.

    What an earlier call left unfinished is continued. An artifact that fails from all of its sources does not keep the
    others from being fetched.

    Args:
        keep_archives: whether archives stay in `.cosmos-eval/downloads` after they were unpacked.
        threads: how many files are fetched at the same time.

    Raises:
        FetchError: kind "disk": no room, or no right to write.
        RequestError: another process fetches to this data root, or the manifest is damaged.
    """
    try:
        _require_room(plan)
        with locked(plan.data_root / STATE_FOLDER, advice="wait for it, or give another --data-root"):
            return _Fetching(plan, reporter or Silent(), network or Network(), keep_archives, threads).run()
    except OSError as error:
        raise disk_error(plan.data_root, error) from error


def _require_room(plan: FetchPlan) -> None:
    """Refuse a plan for which there is no room before anything is fetched; what is downloaded already counts."""
    plan.data_root.mkdir(parents=True, exist_ok=True)
    state = plan.data_root / STATE_FOLDER
    there = sum(path.stat().st_size for path in state.rglob("*") if path.is_file()) if state.is_dir() else 0
    needed, free = max(0, plan.disk_needed.size - there), shutil.disk_usage(plan.data_root).free
    if plan.fetched and needed + SPARE_BYTES > free:
        raise FetchError(
            "disk",
            f"{plan.data_root} has {free / 1e9:.1f} GB free; about {needed / 1e9:.1f} GB are needed while unpacking "
            f"and {SPARE_BYTES / 1e9:.1f} GB to spare; make room, give another --data-root, or fetch fewer benchmarks",
        )


class _Fetching:
    """One call of `fetch`."""

    def __init__(
        self, plan: FetchPlan, reporter: Reporter, network: Network, keep_archives: bool, threads: int
    ) -> None:
        self.plan, self.reporter, self.keep_archives, self.threads = plan, reporter, keep_archives, threads
        self.data_root = plan.data_root
        self.stop = Event()
        wait_or_stop = network.sleep if network.sleep is not time.sleep else self.sleep
        self.network = replace(network, sleep=wait_or_stop)
        self.files: dict[Path, Future[Fetched]] = {}
        """By where they are fetched to: an archive that several artifacts are parts of is fetched once."""
        self.files_lock = Lock()
        self.fetched: list[str] = []
        self.failed: list[str] = []

    def run(self) -> FetchReport:
        from_files = [planned for planned in self.plan.fetched if planned.first.kind != "addresses"]
        if from_files:
            self.fetch_all([_Job(planned, planned.sources) for planned in from_files])
        for planned in self.plan.fetched:
            if planned.first.kind == "addresses":  # in a table that is an artifact of its own, fetched above
                self.attempt(planned.artifact.name, lambda planned=planned: self.fetch_single_images(planned))  # type: ignore[misc]
        for step in self.plan.prepare:
            self.attempt(f"data prepare {step}", lambda name=step: self.prepare(name))  # type: ignore[misc]
        return FetchReport(tuple(self.fetched), tuple(self.failed))

    def fetch_all(self, jobs: list[_Job]) -> None:
        """Fetch and finish all artifacts; those that fail are in `failed`."""
        with (
            ThreadPoolExecutor(self.threads, "fetch-file") as file_pool,
            ThreadPoolExecutor(max(self.threads, 2), "fetch-artifact") as job_pool,
            self.stopping(),
        ):
            located = self.locate_first(jobs, job_pool)
            total = sum(_known_size(job, located.get(job.planned.artifact.name)) for job in jobs)
            unit, unit_bytes = ("MB", 10**6) if total >= 10**7 else ("kB", 10**3)
            with self.reporter.task("fetching", max(1, total // unit_bytes), unit) as advance:
                progress = ByteProgress(advance, unit_bytes, self.stop)

                def start(job: _Job, known: Located | None = None) -> "Future[_Received]":
                    return job_pool.submit(self.receive, job, known, file_pool, progress)

                running = {start(job, located.get(job.planned.artifact.name)): job for job in jobs}
                while running:
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        job = running.pop(future)
                        if self.finish_or_fail(job, future, [*running.values()]):
                            running[start(job)] = job

    @contextmanager
    def stopping(self) -> Iterator[None]:
        """Whatever ends the block early ends the threads, at the next bytes that arrive."""
        try:
            yield
        except BaseException:
            self.stop.set()
            with self.files_lock:
                for future in self.files.values():
                    future.cancel()
            raise

    def locate_first(self, jobs: Sequence[_Job], pool: ThreadPoolExecutor) -> dict[str, Located]:
        """Ask for the files of each first source, all at once, so that the size of everything is known."""
        futures = {
            job.planned.artifact.name: pool.submit(locate, job.planned.artifact, job.source, self.data_root)
            for job in jobs
        }
        located = {}
        for name, future in futures.items():
            with suppress(FetchError):  # it is asked again, and then the error counts
                located[name] = future.result()
        return located

    def receive(
        self, job: _Job, located: Located | None, pool: ThreadPoolExecutor, progress: "ByteProgress"
    ) -> _Received:
        """Fetch the files of the job's first source; in a thread."""
        if self.stop.is_set():
            raise FetchStopped
        located = located or locate(job.planned.artifact, job.source, self.data_root)
        futures = [self.start_file(file, pool, progress) for file in located.files]
        received, first_error = [], None
        for future in futures:  # all of them are waited for: none may be at work when the source is given up
            try:
                received.append(future.result())
            except FetchError as error:
                first_error = first_error or error
        if first_error is not None:
            raise first_error
        return _Received(located, tuple(received))

    def start_file(self, file: FileToFetch, pool: ThreadPoolExecutor, progress: "ByteProgress") -> "Future[Fetched]":
        with self.files_lock:
            if self.stop.is_set():
                raise FetchStopped
            future = self.files.get(file.path)
            if future is None or (future.done() and not future.cancelled() and future.exception() is not None):
                future = self.files[file.path] = pool.submit(self.download, file, progress)
            return future

    def download(self, file: FileToFetch, progress: "ByteProgress") -> Fetched:
        if self.stop.is_set():
            raise FetchStopped
        there = find_whole_file(file.remote, file.may_be_at) if file.may_be_at is not None else None
        if there is not None:
            progress.advance(there.size)
            return there
        fetched = download(file.remote, file.path, progress.advance, self.network)
        if not file.remote.checksums:  # a checksum has ruled it out
            impostor = impostor_at(file.path)
            if impostor:
                file.path.unlink()
                raise FetchError("http", f"{file.remote.url} gave {file.name}, but it is {impostor}")
        return fetched

    def finish_or_fail(self, job: _Job, future: "Future[_Received]", others: Sequence[_Job]) -> bool:
        """Make a received artifact what readers read; whether the job is to be tried from its next source."""
        name = job.planned.artifact.name
        try:
            received = future.result()
            try:
                self.finish(job, received, others)
            except FetchError as error:
                if error.kind == "archive":  # without a checksum nothing else would have it fetched again
                    self.forget(received)
                raise
            self.fetched.append(name)
        except FetchError as error:
            job.failures.append(f"{job.source.name}: {error}" if len(job.planned.sources) > 1 else str(error))
            if error.kind == "disk":
                raise
            if error.may_another_source_help and len(job.sources) > 1:
                self.reporter.note(f"{name}: {error}; trying {job.sources[1].name}")
                job.sources = job.sources[1:]
                return True
            by_hand = f"; by hand: {job.planned.artifact.manual[0].page}" if job.planned.artifact.manual else ""
            self.failed.append(f"{name}: {'; '.join(job.failures)}{by_hand}")
        return False

    def finish(self, job: _Job, received: _Received, others: Sequence[_Job]) -> None:
        """Unpack, convert or move what was received, and write the manifest before readers can see it."""
        artifact, source = job.planned.artifact, job.source
        for file in received.files:
            if not file.path.is_file():  # another artifact of the same archive found it damaged
                raise FetchError("archive", f"{file.path.name} is damaged; fetch again")
        staging = staged_folder(artifact, source, self.data_root)
        unpack = artifact.unpacking(source)

        def write_manifest() -> None:
            self.write_manifest(job.planned, source, received)

        if source.convert:
            convert(source.convert, received.files, artifact, self.data_root, staging, write_manifest, self.reporter)
        elif unpack is not None:
            for i, file in enumerate(received.files):
                # the manifest is written with the last one, when what it says is true of all
                last = i == len(received.files) - 1
                unpack_archive(
                    file.path,
                    unpack,
                    self.data_root,
                    staging / str(i),
                    file.sha256,
                    before_move=write_manifest if last else _do_nothing,
                    reporter=self.reporter,
                )
        else:
            write_manifest()
            for wanted, file in zip(received.located.files, received.files, strict=True):
                if file.path.is_relative_to(staging) and source.kind != "hub":
                    move_tree(file.path, final_path(artifact, source, wanted, self.data_root))
            if source.kind == "hub" and staging.is_dir():
                move_tree(staging, self.data_root / artifact.path)
        remove_empty_folders(staging)
        self.require_provided(job)
        if (unpack is not None or source.convert) and not self.keep_archives:
            self.remove_archives(received, others)

    def forget(self, received: _Received) -> None:
        """Delete files that cannot be used."""
        with self.files_lock:
            for file in received.files:
                if STATE_FOLDER in file.path.parts:
                    file.path.unlink(missing_ok=True)
                    self.files.pop(file.path, None)

    def require_provided(self, job: _Job) -> None:
        """FetchError where the archive did not hold what the table says of it."""
        missing = [path for path in job.planned.artifact.provides if not (self.data_root / path).exists()]
        if missing:
            raise FetchError("archive", f"{job.source.page} does not hold what is expected: {', '.join(missing[:3])}")

    def remove_archives(self, received: _Received, others: Sequence[_Job]) -> None:
        """Delete archives that no other artifact of this plan is still to be taken from."""
        needed = [self.data_root / job.planned.artifact.landing(source) for job in others for source in job.sources]
        for file in received.files:
            if not any(file.path == path or file.path.is_relative_to(path) for path in needed):
                file.path.unlink(missing_ok=True)
                remove_empty_folders(file.path.parent)

    def write_manifest(self, planned: Planned, source: Source, received: _Received) -> None:
        files = tuple(
            ManifestFile(wanted.name, file.url, file.size, file.sha256)
            for wanted, file in zip(received.located.files, received.files, strict=True)
        )
        add_to_manifest(self.data_root, manifest_entry(planned, source, received.located.revision, files))

    def fetch_single_images(self, planned: Planned) -> None:
        staging = staged_folder(planned.artifact, planned.first, self.data_root)
        images = fetch_single_images(
            self.data_root / planned.first.files[0], staging, replace(self.network, retries=0), self.reporter
        )
        if images.files:
            entry = manifest_entry(planned, planned.first, planned.first.revision, images.files)
            add_to_manifest(self.data_root, replace(entry, missing=images.dead))
            move_tree(images.folder, self.data_root / planned.artifact.path)
            shutil.rmtree(staging)
            self.fetched.append(planned.artifact.name)
        self.reporter.note(
            f"{planned.artifact.name}: {plural(len(images.files), 'image')} fetched, {images.dead:,} dead"
        )

    def prepare(self, step: str) -> None:
        from cosmos_eval.datasets.mmseg.prepare import prepare_masks

        prepare_masks(step, self.data_root, reporter=self.reporter)

    def attempt(self, name: str, action: Callable[[], None]) -> None:
        """Do a step after the downloads; where it fails the others are still made."""
        try:
            action()
        except RequestError as error:
            if isinstance(error, FetchError) and error.kind == "disk":
                raise
            self.failed.append(f"{name}: {error}")

    def sleep(self, seconds: float) -> None:
        if self.stop.wait(seconds):
            raise FetchStopped


def _known_size(job: _Job, located: Located | None) -> int:
    return (located.size if located is not None else 0) or job.source.known_size or 0


def _do_nothing() -> None:
    pass
