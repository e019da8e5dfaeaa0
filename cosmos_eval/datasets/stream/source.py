"""Where a dataset is streamed from: a dataset of the hub, or a folder of a web server."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit

from cosmos_core.errors import RequestError
from cosmos_core.printable import printable
from cosmos_core.short_repr import short_repr
from cosmos_eval.datasets.dataset_checks import is_outside_folder
from cosmos_eval.datasets.fetch.errors import FetchError
from cosmos_eval.datasets.fetch.hub import (
    COMMIT,
    DEFAULT_ENDPOINT,
    HubFile,
    gated_line,
    list_files,
    remote_of,
    resolve_revision,
)
from cosmos_eval.datasets.fetch.transfer import Remote

HUB_PATH = "hf://datasets/"
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
FORMS = "https://HOST/FOLDER, or hf://datasets/OWNER/NAME@COMMIT/FOLDER"


@dataclass(frozen=True)
class StreamSource:
    """A folder of files elsewhere."""

    kind: str
    """`hub` or `http`."""
    address: str
    """Id of a dataset of the hub, or a URL without the last slash."""
    name: str = ""
    """Of the source in the table; empty for an address in a definition."""
    revision: str | None = None
    folder: str = ""
    """Of the hub: the folder in the repository, without slashes at its ends."""
    artifact: str = ""
    """Of the table; empty for an address in a definition."""
    terms: str = ""
    about_size: int | None = None
    """Bytes of all files, about, where the table says it."""

    @property
    def page(self) -> str:
        """The address for people."""
        if self.kind != "hub":
            return self.address
        at = f" at {self.revision[:12]}" if self.revision else ""
        return f"https://huggingface.co/datasets/{self.address}{at}{f', folder {self.folder}' if self.folder else ''}"

    def locate(self) -> "LocatedStream":
        """Return the files; asks the hub, but no other server.

        Raises:
            FetchError: the hub has no such dataset or commit, or does not answer.
        """
        if self.kind != "hub":
            return LocatedStream(self, None, None)
        try:
            commit = resolve_revision(self.address, self.revision)
            files = list_files(self.address, commit)
        except FetchError as error:
            if error.kind == "gated":
                raise FetchError("gated", gated_line(self.address)) from error
            raise
        prefix = f"{self.folder}/" if self.folder else ""
        return LocatedStream(
            self, commit, {file.path.removeprefix(prefix): file for file in files if file.path.startswith(prefix)}
        )


@dataclass(frozen=True)
class LocatedStream:
    """The files of a source, by their paths below its folder."""

    source: StreamSource
    commit: str | None
    files: Mapping[str, HubFile] | None = field(repr=False)
    """None where only requests can tell which files there are."""

    def remote(self, path: str) -> Remote | None:
        """Return where a file is fetched; None if it is known not to exist."""
        if self.files is None:
            return Remote(f"{self.source.address}/{quote(path)}")
        file = self.files.get(path)
        return None if file is None else remote_of(self.source.address, self.commit or "", file)


def is_address(path: str) -> bool:
    """Whether a path of a definition is an address of something elsewhere."""
    return "://" in path


def parse_address(address: str, benchmark: str) -> StreamSource:
    """Return the source that an address in a definition names.

    A page of the hub's web site, as a browser shows it (`https://huggingface.co/datasets/OWNER/NAME/tree/COMMIT`), is
    the dataset itself.

    Raises:
        RequestError: another scheme, or an address without host, with a query, a password or `..`.
    """

    def refuse(reason: str) -> RequestError:
        return RequestError(f"{benchmark}: dataset.path {printable(short_repr(address))} {reason}; give {FORMS}")

    try:
        parts = urlsplit(address)
        host = parts.hostname
        _ = parts.port  # raises for one that is not a number, or too large
    except ValueError as error:
        raise refuse(f"cannot be read as an address ({error})") from error
    if address.startswith(HUB_PATH):
        return _hub_source(address.removeprefix(HUB_PATH), refuse)
    if parts.scheme not in ("http", "https"):
        raise refuse("has a scheme from which nothing is streamed")
    if not host or parts.query or parts.fragment or parts.username or parts.password:
        raise refuse("must have a host, and no query, fragment, user or password")
    if ".." in unquote(parts.path).split("/"):
        raise refuse("leads out of its folder (..)")
    if host == urlsplit(DEFAULT_ENDPOINT).hostname and parts.path.startswith("/datasets/"):
        owner_and_name, tree, rest = parts.path.removeprefix("/datasets/").strip("/").partition("/tree/")
        return _hub_source(f"{owner_and_name}@{rest}" if tree else owner_and_name, refuse)
    return StreamSource("http", address.rstrip("/"))


def _hub_source(path: str, refuse: object) -> StreamSource:
    owner, _, rest = path.partition("/")
    name_and_revision, _, folder = rest.strip("/").partition("/")
    name, at, revision = name_and_revision.partition("@")
    repository, folder = f"{owner}/{name}", unquote(folder).strip("/")
    if not _REPOSITORY.fullmatch(repository) or ".." in repository or len(repository) > 200:
        raise refuse("names no dataset of the hub")  # type: ignore[operator]
    if (at and not revision) or (folder and is_outside_folder(folder)):
        raise refuse("has no revision behind @, or a folder outside the repository")  # type: ignore[operator]
    return StreamSource("hub", repository, revision=unquote(revision) or None, folder=folder)


def is_pinned(source: StreamSource) -> bool:
    """Whether the source can only ever have the same files: a full commit of the hub."""
    return source.revision is not None and COMMIT.fullmatch(source.revision) is not None
