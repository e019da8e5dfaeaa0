"""The table of sources: where the data of each shipped benchmark are fetched, as `sources.yaml` says.

artifact    one file, archive or set of files that is fetched as a whole, such as val2017.zip
source      one place that an artifact can come from; an artifact has one or several, in the order to try them
recipe      what a benchmark needs: artifacts, and the `data prepare` steps that follow
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from cosmos_eval.protocol.benchmark import Benchmark

SOURCES = Path(__file__).with_name("sources.yaml")
KINDS = ("http", "hub", "drive", "addresses", "manual")
"""`http`: a file at a URL. `hub`: files of a dataset of the Hugging Face hub. `drive`: a file of Google Drive, behind a
page that asks. `addresses`: many single images whose addresses stand in a file. `manual`: a person's work."""
ACCESS = ("open", "token", "login", "form")
"""`token`: gated on the hub, for accounts that accepted the terms. `login`, `form`: of the publisher's own page."""
FORMATS = ("zip", "tar", "gz", "nested", "none")
CONVERSIONS = ("imagenet-parquet", "fer2013-shards")
"""Fetched files that no reader reads as they are; what they become is the artifact's `provides`."""
PREPARE = ("context", "coco-stuff", "coco-object", "cityscapes")
"""Steps of `data prepare` that need no more than the fetched files."""
DOWNLOADS = ".cosmos-eval/downloads"
"""Below the data root: archives, and what is to be converted, until they are unpacked."""


@dataclass(frozen=True)
class Unpack:
    """How an archive becomes files.

    Members of `__MACOSX` and `._*` are never unpacked.
    """

    format: str
    """`zip`; `tar`, compressed or not; `gz`, one file; `nested`, a zip whose one member `only` is a tar; `none`."""
    into: str = "."
    """Folder below the data root that the paths of the archive are relative to."""
    only: tuple[str, ...] = ()
    """Patterns of members (`fnmatch`, where `*` also matches a slash); empty: all."""
    flatten: bool = False
    """Files lie directly in `into`, whatever folders the archive has."""


@dataclass(frozen=True)
class Source:
    """One place that an artifact can come from."""

    name: str
    """What `--source` takes."""
    kind: str
    address: str
    """A URL, the id of a dataset of the hub, or a page for a person."""
    files: tuple[str, ...] = ()
    """Of the hub: patterns of paths in the repository. Of `addresses`: the file below the data root that has them."""
    file_name: str = ""
    """Of a Drive file, whose address does not contain it."""
    revision: str | None = None
    """Commit of the hub or of a repository in the URL; a short one is resolved when it is fetched."""
    size: int | None = None
    """Bytes of the file, exact: another size is refused."""
    about_size: int | None = None
    """Bytes of all files, for people."""
    checksums: Mapping[str, str] = field(default_factory=dict)
    """Algorithm (see digesting.py) -> hexadecimal digest of the one file."""
    access: str = "open"
    restricted_copy: bool = False
    """Others' copy of data that the publisher gives only after a form, login or click: never chosen unless it is named
    with `--source` and the terms are accepted with `--accept-terms`."""
    by_name_only: bool = False
    """Never chosen unless it is named with `--source`."""
    steps: tuple[str, ...] = ()
    """Of `manual`: what a person does, in Markdown, with `{data_root}` for the folder of the datasets."""
    unpack: Unpack | None = None
    """Where it differs from the artifact's."""
    convert: str = ""
    """One of `CONVERSIONS`."""

    @property
    def is_automatic(self) -> bool:
        """Whether it may be fetched without being named."""
        return self.kind != "manual" and not self.restricted_copy and not self.by_name_only

    @property
    def known_size(self) -> int | None:
        """Bytes, exact or about; None where nothing is known."""
        return self.size if self.size is not None else self.about_size

    @property
    def page(self) -> str:
        """The address for people; for a dataset of the hub its page."""
        return f"https://huggingface.co/datasets/{self.address}" if self.kind == "hub" else self.address


class FilesOfReader(Protocol):
    """Which files of a repository the reader of a definition reads; the reader says it itself."""

    def select(self, paths: Sequence[str]) -> list[str]:
        """Those of the repository's paths that are read; RequestError where nothing is, or it is not clear what."""

    def are_there(self, data_root: Path) -> bool:
        """Whether files on disk are read without a problem of missing ones; contents are not looked at."""


@dataclass(frozen=True)
class Artifact:
    """One file, archive or set of files that is fetched as a whole.

    Two artifacts may be parts of one archive: then their sources have the same address, and `landing` is the same.
    """

    name: str
    sources: tuple[Source, ...]
    """In the order to try them."""
    provides: tuple[str, ...]
    """Files and folders below the data root that are there once the artifact is."""
    terms: str
    """Licence or terms of use, as far as known."""
    or_there: tuple[str, ...] = ()
    """Paths of which one shows as well that the artifact is there, as people have it from elsewhere."""
    path: str = ""
    """Of files that are kept as they come: the file, or for the hub the folder of the repository's files."""
    unpack: Unpack | None = None
    unpacked_size: int | None = None
    """Bytes of what is kept after unpacking, about; None: taken as the size of the archive."""
    files_of_reader: FilesOfReader | None = field(default=None, compare=False)
    """Of a definition whose reader reads a dataset of the hub: which files. Those of the source's patterns may be a few
    more. None for everything in the table."""

    def unpacking(self, source: Source) -> Unpack | None:
        """How the files of a source are unpacked; None where they are kept as they are, or converted."""
        unpack = source.unpack or self.unpack
        return None if unpack is None or unpack.format == "none" or source.convert else unpack

    def landing(self, source: Source) -> str:
        """Where downloaded files land, below the data root: of the hub and of `addresses` a folder, else a file.

        Of the hub, a file has its path in the repository below that folder. A set of shards may be cut elsewhere at
        another source: files of two sources must not be mixed.
        """
        if self.unpacking(source) is None and not source.convert:
            return self.path
        if source.kind == "hub":
            return f"{DOWNLOADS}/{source.address.replace('/', '--')}"
        address = urlsplit(source.address)
        folder = f"{address.hostname}{PurePosixPath(address.path).parent}".replace("/", "-")
        if (address.query or address.port) and not source.file_name:  # what two files of users may differ in alone
            folder = f"{folder.rstrip('-')}-{hashlib.sha256(source.address.encode()).hexdigest()[:12]}"
        return f"{DOWNLOADS}/{folder.rstrip('-')}/{source.file_name or PurePosixPath(address.path).name}"

    @property
    def manual(self) -> tuple[Source, ...]:
        """What a person can do."""
        return tuple(source for source in self.sources if source.kind == "manual")

    @property
    def automatic(self) -> tuple[Source, ...]:
        """The sources that may be fetched without being named, in order."""
        return tuple(source for source in self.sources if source.is_automatic)


@dataclass(frozen=True)
class Recipe:
    """What a benchmark needs."""

    benchmark: str
    artifacts: tuple[Artifact, ...]
    prepare: tuple[str, ...] = ()
    """Steps of `data prepare` once the artifacts are there."""
    instead: str = ""
    """A benchmark to prefer, and why."""

    @property
    def how(self) -> str:
        """`automatic`; `token`, where an account of the hub must accept terms; `by hand`, where a person must act."""
        if any(not artifact.automatic for artifact in self.artifacts):
            return "by hand"
        gated = any(artifact.automatic[0].access == "token" for artifact in self.artifacts)
        return "token" if gated else "automatic"


@dataclass(frozen=True)
class Table:
    """All of `sources.yaml`."""

    artifacts: Mapping[str, Artifact]
    recipes: Mapping[str, Recipe]
    """Benchmark -> recipe."""
    not_used: Mapping[str, str]
    """Addresses that are known and not used -> reason."""

    def recipe_of(self, benchmark: "Benchmark") -> Recipe | None:
        """The recipe of a benchmark or of the one whose data it reads; None if there is none."""
        return self.recipes.get(benchmark.name) or self.recipes.get(benchmark.same_data_as)


def load_table(path: Path = SOURCES) -> Table:
    """Read and check the table; the shipped one also has the recipes that definitions inherit (`heirs.py`).

    Raises:
        RequestError: an unknown or missing key, a value of another type, or what cannot be fetched; names file and
            line.
    """
    return _read_table(path)


@cache
def _read_table(path: Path) -> Table:
    from cosmos_eval.datasets.fetch.table_reader import read_table

    table = read_table(path)
    if path != SOURCES:
        return table
    from cosmos_eval.datasets.fetch.heirs import inherited_recipes
    from cosmos_eval.protocol.folders import shipped_files

    return replace(table, recipes={**table.recipes, **inherited_recipes(table.recipes, shipped_files())})
