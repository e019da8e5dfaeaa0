"""Where the data of a user's own definition are fetched: its section `fetch`, or the options of its reader.

    fetch:
      - url: https://example.org/pets.zip
        sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
        unpack: {format: zip, into: pets}
      - hub: somebody/pets-wds
        revision: 0123456789abcdef0123456789abcdef01234567
        files: [test/*, classnames.txt]
        path: wds/pets

A part becomes an `Artifact` as the table has them, by the same checks, so that all that is true of fetching from the
table is true of it. Mirrors have the checksum of the first address.
"""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from cosmos_core.errors import RequestError
from cosmos_core.plugins import resolve
from cosmos_core.short_repr import short_repr
from cosmos_core.yaml_text import Keys
from cosmos_eval.datasets.fetch.addresses import is_repository
from cosmos_eval.datasets.fetch.locating import DRIVE_HOST
from cosmos_eval.datasets.fetch.manifest import STATE_FOLDER
from cosmos_eval.datasets.fetch.table import Artifact, Recipe, Source, Table
from cosmos_eval.datasets.fetch.table_reader import TableReader
from cosmos_eval.datasets.reader_registry import READERS, reader_info

if TYPE_CHECKING:
    from cosmos_eval.protocol.benchmark import Benchmark

OF_ARTIFACT = ("path", "unpack", "provides", "terms", "unpacked_size")
OF_URL = ("mirrors", "sha256", "md5", "size")
OF_HUB = ("revision", "files", "about_size")
NOT_STATED = "not stated here; those of the publisher hold"
MAX_PARTS = 1000
LONGEST_URL = 2000
Refuse = Callable[[Keys, str], RequestError]
"""Builds the error for a value, from the keys that lead to it and what is wrong."""


def recipe_of(benchmark: "Benchmark", table: Table) -> Recipe | None:
    """What a benchmark needs: as its definition says, or its reader's options, or the table; None if nothing does.

    A user's own definition that changes, for example, the prompts of a shipped one needs what that one needs.

    Raises:
        RequestError: the options of the reader do not name a dataset.
    """
    artifacts = (*benchmark.fetch, *_artifacts_of_reader(benchmark))
    if artifacts:
        return Recipe(benchmark.name, artifacts)
    return table.recipe_of(benchmark)


def _artifacts_of_reader(benchmark: "Benchmark") -> tuple[Artifact, ...]:
    reader = benchmark.dataset.get("reader")
    if reader not in READERS.names() or (needed_files := reader_info(reader).needed_files) is None:
        return ()
    needed = resolve(needed_files)(benchmark)
    source = Source("hub", "hub", needed.repository, files=tuple(needed.patterns), revision=needed.revision)
    # Two splits are two artifacts, of which each has its own files in the manifest.
    name = _name(needed.repository, [needed.revision, needed.patterns, needed.selection])
    return (Artifact(name, (source,), (needed.folder,), NOT_STATED, path=needed.folder, files_of_reader=needed),)


def read_own_sources(value: Sequence[Any], refuse: Refuse) -> tuple[Artifact, ...]:
    """The section `fetch` of a definition, a list of parts.

    Raises:
        RequestError: an unknown or missing key, a value of another type, or what cannot be fetched.
    """
    if not value:
        raise refuse((), "fetch is empty; write a part with url or hub, or leave it out")
    if len(value) > MAX_PARTS:
        raise refuse((), f"fetch has more than {MAX_PARTS:,} parts; pack the files into archives")
    reader = _OwnReader(refuse)
    parts = [reader.part(part, (i,)) for i, part in enumerate(value)]
    for i, part in enumerate(parts):
        for j, other in enumerate(parts[:i]):
            if part == other or (part.path and part.path == other.path):
                raise refuse((i,), f"parts {j + 1} and {i + 1} of fetch have one path; give each its own")
    return tuple(parts)


class _OwnReader(TableReader):
    """Builds artifacts from the parts of a definition; messages name the lines of the definition."""

    def __init__(self, refuse: Refuse) -> None:
        self._refuse = refuse

    def refuse(self, at: Keys, message: str) -> RequestError:
        return self._refuse(at, message)

    def part(self, value: Any, at: Keys) -> Artifact:
        self.of_type(value, dict, at)
        if ("url" in value) == ("hub" in value):
            raise self.refuse(at, "a part of fetch has an address: url, or hub (owner/name of a dataset)")
        kind, of_kind = ("url", OF_URL) if "url" in value else ("hub", OF_HUB)
        value = self.map_of(value, at, {kind}, {*OF_ARTIFACT, *of_kind})
        if ("path" in value) == ("unpack" in value):
            raise self.refuse(
                at,
                "a part of fetch has path, where the files belong below the data root, or "
                "unpack: {format: zip, into: FOLDER}",
            )
        if "unpack" in value:
            unpack = self.map_of(value["unpack"], (*at, "unpack"), {"format", "into"}, {"only", "flatten"})
            if unpack["format"] == "none":
                raise self.refuse((*at, "unpack"), "format none unpacks nothing; write path in place of unpack")
            target = unpack["into"]
        else:
            target = value["path"]
        self.own_path(target, (*at, "unpack" if "unpack" in value else "path"))
        for i, path in enumerate(self.texts(value.get("provides", []), (*at, "provides"))):
            self.own_path(path, (*at, "provides", i))
        sources = self.url_sources(value, at) if kind == "url" else [self.hub_source(value, at)]
        terms = self.of_type(value.get("terms", NOT_STATED), str, (*at, "terms"))
        artifact = {key: value[key] for key in OF_ARTIFACT if key in value}
        artifact |= {"sources": sources, "terms": " ".join(terms.split()), "provides": value.get("provides", [target])}
        return self.artifact(_name(value[kind], value), artifact, at)

    def url_sources(self, value: Any, at: Keys) -> list[dict[str, Any]]:
        """The sources of a file: its address and its mirrors, of which all must give the same bytes."""
        self.address(value["url"], (*at, "url"))
        known: dict[str, Any] = {key: value[key] for key in ("size",) if key in value}
        checksums = {}
        for name in ("sha256", "md5"):
            if name in value:
                checksums[name] = self.digits(value[name], (*at, name)).lower()
        if checksums:
            known["checksums"] = checksums
        sources = [{"name": "url", **_kind_of_url(value["url"]), **known}]
        for i, mirror in enumerate(self.texts(value.get("mirrors", []), (*at, "mirrors"))):
            self.address(mirror, (*at, "mirrors", i))
            sources.append({"name": f"mirror-{i + 1}", **_kind_of_url(mirror), **known})
        return sources

    def hub_source(self, value: Any, at: Keys) -> dict[str, Any]:
        hub = self.of_type(value["hub"], str, (*at, "hub"))
        if not is_repository(hub) or "/" not in hub:
            raise self.refuse((*at, "hub"), f"hub is owner/name of a dataset on the hub, not {short_repr(hub)}")
        if not value.get("files"):
            raise self.refuse(at, "a part of the hub says which files it needs: files: [test/*, classnames.txt]")
        if "revision" in value:
            self.digits(value["revision"], (*at, "revision"))
        return {"name": "hub", "kind": "hub", "address": hub, **{key: value[key] for key in OF_HUB if key in value}}

    def digits(self, value: Any, at: Keys) -> str:
        """A text of hexadecimal digits, which YAML takes for a number where no letter is among them."""
        if not isinstance(value, str):
            raise self.refuse(at, f"{at[-1]} cannot be {short_repr(value)}; write its digits between quotes")
        return value

    def address(self, url: Any, at: Keys) -> None:
        """Refuse what is not an address of a file, and one with a password, which would be written into results."""
        self.of_type(url, str, at)
        try:
            parts = urlsplit(url)
            has_host = (
                parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
            )
        except ValueError:
            parts, has_host = urlsplit(""), False
        if not has_host or not re.fullmatch(r"[!-~]+", url) or len(url) > LONGEST_URL:
            raise self.refuse(at, f"{short_repr(url)} is not an address that begins with https:// or http://")
        if parts.username is not None or parts.password is not None:
            raise self.refuse(at, "an address with a user or a password would be written into results; leave it out")
        if not PurePosixPath(parts.path).name:
            raise self.refuse(at, f"{short_repr(url)} names no file")

    def own_path(self, path: Any, at: Keys) -> None:
        """Refuse what is not below the data root, the data root itself, and the folder of unfinished downloads."""
        self.of_type(path, str, at)
        self.path_below(path, at)
        names = PurePosixPath(path).parts
        if not names or names[0].casefold() == STATE_FOLDER or "\0" in path:
            raise self.refuse(
                at, f"{short_repr(path)} is not a path of data below the data root; name a folder or file"
            )


def _kind_of_url(url: str) -> dict[str, str]:
    """How an address is fetched; Google Drive's has no file name."""
    parts = urlsplit(url)
    if parts.hostname == DRIVE_HOST and (found := parse_qs(parts.query).get("id")):
        return {"kind": "drive", "address": url, "file_name": f"drive-{re.sub('[^A-Za-z0-9_-]', '-', found[0])[:100]}"}
    return {"kind": "http", "address": url}


def _name(address: str, values: Any) -> str:
    """The name of an artifact: equal parts of several definitions have one, and are fetched once."""
    text = json.dumps([address, values], sort_keys=True, ensure_ascii=False, default=list)
    words = re.sub(r"[^A-Za-z0-9.]+", "-", urlsplit(address).path.strip("/")).strip("-.") or "file"
    return f"{words[-60:].strip('-.')}-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"
