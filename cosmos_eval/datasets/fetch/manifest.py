"""What was fetched into a data root, and from where: `.cosmos-eval/fetched.json`.

The part that concerns a benchmark enters its results as provenance. It says where files came from, not that they are
unchanged: for that results have the fingerprint of the data that were read.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from cosmos_core.errors import RequestError
from cosmos_core.files import atomic_write_text
from cosmos_core.json_text import JsonError, load_json
from cosmos_core.run_lock import one_writer
from cosmos_core.text_files import read_text

if TYPE_CHECKING:
    from cosmos_eval.datasets.fetch.plan import Planned
    from cosmos_eval.datasets.fetch.table import Source
    from cosmos_eval.protocol.benchmark import Benchmark

STATE_FOLDER = ".cosmos-eval"
"""Below the data root: the manifest, and whatever is not complete yet."""
MANIFEST = "fetched.json"
VERSION = 1
MAX_BYTES = 100 * 10**6
ADVICE = "move it away, and the next fetch starts a new one"


@dataclass(frozen=True)
class ManifestFile:
    """One file as it came over the network."""

    name: str
    """Of the archive, or the path below the folder of the artifact."""
    url: str
    size: int
    sha256: str


@dataclass(frozen=True)
class ManifestEntry:
    """Where the files of an artifact came from."""

    artifact: str
    source: str
    """Its name in the table of sources."""
    address: str
    revision: str | None
    """Full commit of a hub dataset; None elsewhere."""
    date: str
    """ISO 8601, UTC."""
    terms: str
    restricted_copy: bool
    """Whether it is a copy by others of data that the publisher gives only to people who ask for it."""
    accepted_terms: tuple[str, ...]
    """Benchmarks for which the user accepted the terms of such a copy."""
    benchmarks: tuple[str, ...]
    """That need it."""
    provides: tuple[str, ...]
    """Files and folders below the data root."""
    files: tuple[ManifestFile, ...]
    missing: int = 0
    """Of single addresses: how many gave no image."""


def manifest_entry(
    planned: "Planned", source: "Source", revision: str | None, files: tuple[ManifestFile, ...]
) -> ManifestEntry:
    """What the manifest says of an artifact from this source, fetched now."""
    return ManifestEntry(
        artifact=planned.artifact.name,
        source=source.name,
        address=source.address,
        revision=revision or source.revision,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        terms=planned.artifact.terms,
        restricted_copy=source.restricted_copy,
        accepted_terms=planned.accepted_terms if source.restricted_copy else (),
        benchmarks=planned.benchmarks,
        provides=planned.artifact.provides,
        files=files,
    )


def add_to_manifest(data_root: Path, entry: ManifestEntry) -> None:
    """Write an entry, in the place of an earlier one for the same artifact.

    Raises:
        RequestError: the manifest that is there cannot be read; it is left as it is.
    """
    folder = data_root / STATE_FOLDER
    with one_writer(folder):
        entries = read_manifest(data_root)
        record = asdict(entry)
        entries[record.pop("artifact")] = record
        content = {"version": VERSION, "artifacts": dict(sorted(entries.items()))}
        atomic_write_text(folder / MANIFEST, json.dumps(content, indent=1) + "\n")


def read_manifest(data_root: Path) -> dict[str, dict[str, Any]]:
    """Artifact -> what is known of it; empty where nothing was fetched.

    Raises:
        RequestError: not a manifest, or one of a newer version; names the file.
    """
    path = data_root / STATE_FOLDER / MANIFEST
    if not path.exists():
        return {}
    try:
        content = load_json(read_text(path, MAX_BYTES), finite=True)
    except JsonError as error:
        raise RequestError(f"{path} is damaged ({error}); {ADVICE}") from error
    entries = content.get("artifacts") if isinstance(content, dict) else None
    if not isinstance(entries, dict) or content.get("version") != VERSION:
        raise RequestError(f"{path} is not a manifest of this version of cosmos-eval; {ADVICE}")
    for name, entry in entries.items():
        if not _is_entry(entry):
            raise RequestError(f"{path} is damaged at {name[:80]!r}; {ADVICE}")
    return entries


def _is_entry(entry: Any) -> bool:
    """Whether a value of the manifest has what is read of it."""
    if not isinstance(entry, dict) or not isinstance(entry.get("files"), list):
        return False
    lists = [entry.get("provides"), entry.get("benchmarks", [])]
    return all(isinstance(list_, list) and all(isinstance(text, str) for text in list_) for list_ in lists) and all(
        isinstance(file, dict)
        and isinstance(file.get("name"), str)
        and isinstance(file.get("sha256"), str)
        and type(file.get("size")) is int
        for file in entry["files"]
    )


def fetched_parts(benchmark: "Benchmark", data_root: Path) -> dict[str, dict[str, Any]]:
    """What results of a benchmark say of where its data were fetched: artifact -> source, commit, date, terms, ...

    Counted are artifacts that were fetched for it, and those that hold a path that it reads, so that a user's own
    definition on the same files has them, too. Of several files there are their number, size and a digest of all
    (SHA-256 of the lines `sha256  name`, sorted, as `sha256sum` prints them).

    Raises:
        RequestError: as `read_manifest`.
    """
    from cosmos_eval.datasets.fetch.plan import read_paths

    read = [path for alternatives in read_paths(benchmark.dataset) for path in alternatives]
    parts = {}
    for name, entry in sorted(read_manifest(data_root).items()):
        if benchmark.name in entry.get("benchmarks", ()) or _overlap(entry["provides"], read):
            parts[name] = summarise_entry(entry)
    return parts


def _overlap(provided: Sequence[str], read: Sequence[str]) -> bool:
    """Whether one of the provided paths is, or is in, or holds, one of the paths that are read."""
    pairs = [(PurePosixPath(a), PurePosixPath(b)) for a in provided for b in read]
    return any(a.is_relative_to(b) or b.is_relative_to(a) for a, b in pairs if b.parts)


def summarise_entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return what results say of an entry: of several files their number, size and a digest of all."""
    import hashlib

    files = entry["files"]
    lines = sorted(f"{file['sha256']}  {file['name']}\n" for file in files)
    digest = files[0]["sha256"] if len(files) == 1 else hashlib.sha256("".join(lines).encode()).hexdigest()
    summary = {key: entry.get(key) for key in ("source", "address", "revision", "date", "terms")}
    summary |= {"files": len(files), "size": sum(file["size"] for file in files), "sha256": digest}
    if entry.get("restricted_copy"):
        summary |= {"restricted_copy": True, "accepted_terms": list(entry.get("accepted_terms", ()))}
    if entry.get("missing"):
        summary["missing"] = entry["missing"]
    return summary
