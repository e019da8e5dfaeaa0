"""From a source of the table to the files to fetch: their addresses, what is known of them, and where they go first."""

from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, urlsplit

from cosmos_core.errors import RequestError
from cosmos_eval.datasets.fetch.errors import FetchError
from cosmos_eval.datasets.fetch.hub import HubFile, gated_line, list_files, remote_of, resolve_revision
from cosmos_eval.datasets.fetch.manifest import STATE_FOLDER
from cosmos_eval.datasets.fetch.table import Artifact, Source
from cosmos_eval.datasets.fetch.transfer import Remote

STAGED = f"{STATE_FOLDER}/incomplete"
"""Below the data root: files that are kept as they come, until all of an artifact are there; unfinished unpacking."""
DRIVE_HOST = "drive.google.com"
DRIVE_DOWNLOAD = "https://drive.usercontent.google.com/download?id={id}&export=download&confirm=t"
"""Where Google Drive serves a file of any size without the page that asks whether to skip the scan for viruses."""


@dataclass(frozen=True)
class FileToFetch:
    """One file of a source."""

    name: str
    """Of the archive, or its path below the folder of the artifact."""
    remote: Remote
    path: Path
    """Where it is fetched to: not where readers look."""
    may_be_at: Path | None = None
    """Where readers look for it, and where it may be already: then it is not fetched."""


@dataclass(frozen=True)
class Located:
    """All files of a source."""

    files: tuple[FileToFetch, ...]
    revision: str | None
    """Full commit of a hub dataset."""

    @property
    def size(self) -> int:
        """Bytes, as far as they are known."""
        return sum(file.remote.size or 0 for file in self.files)


def locate(artifact: Artifact, source: Source, data_root: Path) -> Located:
    """The files of a source; asks the hub where it is one of its datasets.

    Raises:
        FetchError: the hub has no such dataset, commit or file, or does not answer.
    """
    if source.kind == "hub":
        return _locate_on_hub(artifact, source, data_root)
    kept = artifact.unpacking(source) is None and not source.convert
    name = PurePosixPath(artifact.path).name if kept else PurePosixPath(artifact.landing(source)).name
    path = staged_folder(artifact, source, data_root) / name if kept else data_root / artifact.landing(source)
    url = drive_url(source.address) if source.kind == "drive" else source.address
    return Located((FileToFetch(name, Remote(url, source.size, source.checksums), path),), None)


def staged_folder(artifact: Artifact, source: Source, data_root: Path) -> Path:
    """Where files wait, and are unpacked, until all are there: of one source, since two may cut shards differently."""
    return data_root / STAGED / f"{artifact.name}--{source.name}"


def final_path(artifact: Artifact, source: Source, file: FileToFetch, data_root: Path) -> Path:
    """Where readers look for a file that is kept as it comes."""
    return data_root / artifact.path / file.name if source.kind == "hub" else data_root / artifact.path


def _locate_on_hub(artifact: Artifact, source: Source, data_root: Path) -> Located:
    try:
        commit = resolve_revision(source.address, source.revision)
        files = _list_files(artifact, source, commit)
    except FetchError as error:
        if error.kind == "gated":
            raise FetchError("gated", gated_line(source.address)) from error
        raise
    kept = artifact.unpacking(source) is None and not source.convert
    folder = staged_folder(artifact, source, data_root) if kept else data_root / artifact.landing(source)
    located = []
    for file in files:
        remote = remote_of(source.address, commit, _with_table(source, file, len(files)))
        to_fetch = FileToFetch(file.path, remote, folder / file.path)
        if kept and remote.checksums:  # without them nothing tells that a file is the one of this commit
            to_fetch = replace(to_fetch, may_be_at=final_path(artifact, source, to_fetch, data_root))
        located.append(to_fetch)
    return Located(tuple(located), commit)


def _list_files(artifact: Artifact, source: Source, commit: str) -> list[HubFile]:
    """The files of a source at a commit: those of its patterns, or those that the definition's reader selects."""
    if artifact.files_of_reader is None:
        return list_files(source.address, commit, source.files)
    files = {file.path: file for file in list_files(source.address, commit)}
    try:
        return [files[path] for path in artifact.files_of_reader.select(list(files))]
    except FetchError:
        raise
    except RequestError as error:
        raise FetchError("not-found", str(error)) from error


def _with_table(source: Source, file: HubFile, count: int) -> HubFile:
    """What the hub says of a file and what the table says, which must agree."""
    if count > 1:
        return file
    if source.size is not None and file.size != source.size:
        raise FetchError(
            "size", f"{source.address} has {file.path} with {file.size:,} bytes, expected {source.size:,}; not fetched"
        )
    for name, expected in source.checksums.items():
        if file.checksums.get(name, expected) != expected:
            raise FetchError(
                "checksum",
                f"{source.address}: {file.path} has {name} {file.checksums[name]}, expected {expected}; not fetched",
            )
    return HubFile(file.path, file.size, {**file.checksums, **source.checksums})


def drive_url(address: str) -> str:
    """The address that serves a file of Google Drive; other addresses are as they are."""
    parts = urlsplit(address)
    if parts.hostname != DRIVE_HOST:
        return address
    found = parse_qs(parts.query).get("id", [""])[0]
    if not found:
        raise FetchError("not-found", f"{address} names no file of Google Drive (?id=...)")
    return DRIVE_DOWNLOAD.format(id=found)
