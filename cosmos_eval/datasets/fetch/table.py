"""The table of sources: where the data of each shipped benchmark are fetched, as `sources.yaml` says.

artifact    one file, archive or set of files that is fetched as a whole, such as val2017.zip
source      one place that an artifact can come from; an artifact has one or several, in the order to try them
recipe      what a benchmark needs: artifacts, and the `data prepare` steps that follow
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from cosmos_core.errors import RequestError
from cosmos_core.short_repr import short_repr
from cosmos_core.suggestions import near
from cosmos_core.yaml_text import Keys, read_yaml

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
DIGITS = {"sha256": 64, "md5": 32, "git": 40}
PLAIN: dict[Any, type] = {str: str, bool: bool, int | None: int, str | None: str}
"""Type of a field -> type of its value in the table."""
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
    """Of a Drive file, whose address does not tell it."""
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
    """Of `manual`: what a person does, with `{data_root}` for the folder of the datasets."""
    unpack: Unpack | None = None
    """Where it differs from the artifact's."""
    convert: str = ""
    """One of `CONVERSIONS`."""

    @property
    def is_automatic(self) -> bool:
        """Whether it may be fetched without being named."""
        return self.kind != "manual" and not self.restricted_copy and not self.by_name_only

    @property
    def is_pinned(self) -> bool:
        """Whether what is fetched cannot change unnoticed: a commit of the hub, or a checksum."""
        return bool(self.revision) or bool(self.checksums)

    @property
    def known_size(self) -> int | None:
        """Bytes, exact or about; None where nothing is known."""
        return self.size if self.size is not None else self.about_size

    @property
    def page(self) -> str:
        """The address for people; for a dataset of the hub its page."""
        return f"https://huggingface.co/datasets/{self.address}" if self.kind == "hub" else self.address


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


def load_table(path: Path = SOURCES) -> Table:
    """Read and check the table.

    Raises:
        RequestError: an unknown or missing key, a value of another type, or what cannot be fetched; names file and
            line.
    """
    return _read_table(path)


@cache
def _read_table(path: Path) -> Table:
    lines: dict[Keys, int] = {}
    reader = _Reader(path, read_yaml(path, lines), lines)
    return reader.table()


class _Reader:
    """Builds the dataclasses from plain values, with the line of what is wrong."""

    def __init__(self, path: Path, value: Any, lines: dict[Keys, int]) -> None:
        self.path, self.value, self.lines = path, value, lines

    def refuse(self, at: Keys, message: str) -> RequestError:
        while at and at not in self.lines:
            at = at[:-1]
        return RequestError(f"{self.path}:{self.lines.get(at, 1)}: {message}")

    def table(self) -> Table:
        top = self.map_of(self.value, (), {"artifacts", "recipes", "not_used"})
        artifacts = {
            str(name): self.artifact(name, value, ("artifacts", name))
            for name, value in self.of_type(top["artifacts"], dict, ("artifacts",)).items()
        }
        recipes: dict[str, Recipe] = {}
        for i, value in enumerate(self.of_type(top["recipes"], list, ("recipes",))):
            for recipe in self.recipes(value, artifacts, ("recipes", i)):
                if recipe.benchmark in recipes:
                    raise self.refuse(("recipes", i), f"{recipe.benchmark} has a recipe already")
                recipes[recipe.benchmark] = recipe
        used = {artifact.name for recipe in recipes.values() for artifact in recipe.artifacts}
        for name in artifacts:
            if name not in used:
                raise self.refuse(("artifacts", name), f"no recipe needs the artifact {name}")
        not_used = [
            self.map_of(value, ("not_used", i), {"address", "reason"}) for i, value in enumerate(top["not_used"])
        ]
        return Table(artifacts, recipes, {value["address"]: value["reason"] for value in not_used})

    def recipes(self, value: Any, artifacts: Mapping[str, Artifact], at: Keys) -> list[Recipe]:
        value = self.map_of(value, at, {"benchmarks", "artifacts"}, {"prepare", "instead"})
        needed = self.texts(value["artifacts"], (*at, "artifacts"))
        for name in needed:
            if name not in artifacts:
                raise self.refuse((*at, "artifacts"), f"no artifact {short_repr(name)}{near(name, artifacts)}")
        prepare = self.texts(value.get("prepare", []), (*at, "prepare"))
        for step in prepare:
            self.one_of(step, PREPARE, (*at, "prepare"))
        instead = self.of_type(value.get("instead", ""), str, (*at, "instead"))
        return [
            Recipe(name, tuple(artifacts[one] for one in needed), prepare, instead)
            for name in self.texts(value["benchmarks"], (*at, "benchmarks"))
        ]

    def artifact(self, name: Any, value: Any, at: Keys) -> Artifact:
        value = dict(
            self.map_of(value, at, {"sources", "provides", "terms"}, {"path", "or_there", "unpack", "unpacked_size"})
        )
        sources = self.of_type(value["sources"], list, (*at, "sources"))
        value["sources"] = tuple(self.source(one, (*at, "sources", i)) for i, one in enumerate(sources))
        value["unpack"] = self.unpack(value.get("unpack"), (*at, "unpack"))
        artifact = self.build(Artifact, {"name": name, **value}, at)
        if not artifact.sources or not artifact.provides:
            raise self.refuse(at, "an artifact has at least one source, and provides at least one path")
        for path in (*artifact.provides, *artifact.or_there, *([artifact.path] if artifact.path else [])):
            self.path_below(path, at)
        names = [source.name for source in artifact.sources]
        if len(set(names)) < len(names):
            raise self.refuse(at, f"two sources of {name} have one name")
        for i, source in enumerate(artifact.sources):
            keeps = source.kind != "manual" and artifact.unpacking(source) is None and not source.convert
            if keeps and not artifact.path:
                raise self.refuse((*at, "sources", i), f"{source.name} is not unpacked, so the artifact needs a path")
            if source.restricted_copy and not artifact.manual:
                raise self.refuse((*at, "sources", i), "a restricted copy needs the publisher's own way beside it")
        return artifact

    def source(self, value: Any, at: Keys) -> Source:
        optional = {one.name for one in fields(Source)} - {"name", "kind", "address"}
        value = dict(self.map_of(value, at, {"name", "kind", "address"}, optional))
        value["unpack"] = self.unpack(value.get("unpack"), (*at, "unpack"))
        source = self.build(Source, value, at)
        self.one_of(source.kind, KINDS, (*at, "kind"))
        self.one_of(source.access, ACCESS, (*at, "access"))
        if source.convert:
            self.one_of(source.convert, CONVERSIONS, (*at, "convert"))
        for name, digest in source.checksums.items():
            self.one_of(name, tuple(DIGITS), (*at, "checksums"))
            if not re.fullmatch(f"[0-9a-f]{{{DIGITS[name]}}}", str(digest)):
                raise self.refuse((*at, "checksums"), f"{name} has {DIGITS[name]} hexadecimal digits, got {digest}")
        if source.revision is not None and not re.fullmatch("[0-9a-f]{7,40}", source.revision):
            raise self.refuse((*at, "revision"), f"a revision is 7 to 40 digits of a commit, got {source.revision}")
        if source.size is not None and source.about_size is not None:
            raise self.refuse(at, "size is exact, about_size is not; give one of them")
        if wrong := _problem_of(source):
            raise self.refuse(at, f"{source.name}: {wrong}")
        return source

    def unpack(self, value: Any, at: Keys) -> Unpack | None:
        if value is None:
            return None
        value = self.map_of(value, at, {"format"}, {"into", "only", "flatten"})
        unpack = self.build(Unpack, value, at)
        self.one_of(unpack.format, FORMATS, (*at, "format"))
        if unpack.into != ".":
            self.path_below(unpack.into, at)
        if unpack.format == "nested" and len(unpack.only) != 1:
            raise self.refuse(at, "a nested archive names, with only, the one member that is unpacked")
        return unpack

    def build(self, kind: Callable[..., Any], value: Mapping[str, Any], at: Keys) -> Any:
        """A dataclass from a map: lists of texts become tuples, and each value has the type of its field."""
        made: dict[str, Any] = {}
        for one in fields(kind):  # type: ignore[arg-type]
            if one.name not in value:
                continue
            given: Any = value[one.name]
            if one.type == tuple[str, ...]:
                given = self.texts(given, (*at, one.name))
            elif one.type in PLAIN:
                if type(given) is not PLAIN[one.type]:  # not isinstance: a truth value is no number of bytes
                    raise self.refuse((*at, one.name), f"{one.name} cannot be {short_repr(given)}")
                if PLAIN[one.type] is int and given <= 0:
                    raise self.refuse((*at, one.name), f"{one.name} must be above 0")
            made[one.name] = given
        return kind(**made)

    def map_of(self, value: Any, at: Keys, required: set[str], optional: set[str] = frozenset()) -> Any:  # type: ignore[assignment]
        """A map that has the required keys, and no others than the optional ones."""
        self.of_type(value, dict, at)
        for key in value:
            if key not in required | optional:
                raise self.refuse((*at, key), f"unknown key {short_repr(key)}{near(key, sorted(required | optional))}")
        for key in sorted(required - value.keys()):
            raise self.refuse(at, f"the key {key} is missing")
        return value

    def texts(self, value: Any, at: Keys) -> tuple[str, ...]:
        self.of_type(value, list, at)
        return tuple(self.of_type(one, str, (*at, i)) for i, one in enumerate(value))

    def of_type(self, value: Any, kind: type, at: Keys) -> Any:
        if not isinstance(value, kind):
            raise self.refuse(at, f"{at[-1] if at else 'the table'} cannot be {short_repr(value)}")
        return value

    def one_of(self, value: str, known: tuple[str, ...], at: Keys) -> None:
        if value not in known:
            raise self.refuse(at, f"{at[-1]} cannot be {short_repr(value)}{near(value, known)}")

    def path_below(self, path: str, at: Keys) -> None:
        if PurePosixPath(path).is_absolute() or ".." in path.split("/") or "\\" in path:
            raise self.refuse(at, f"{short_repr(path)} is not a path below the data root")


def _problem_of(source: Source) -> str:
    """Why a source could not be fetched; empty where it can."""
    if source.kind == "manual":
        return "" if source.steps else "a manual source says what to do, with steps"
    if source.steps:
        return "steps are for manual sources"
    if source.kind in ("http", "drive"):
        address = urlsplit(source.address)
        if address.scheme not in ("http", "https") or not address.hostname:
            return "its address must be a URL with http or https"
        if source.kind == "drive" and not source.file_name:
            return "a Drive file needs its file_name"
    elif not re.fullmatch(r"[\w.-]+/[\w.-]+", source.address):
        return "its address must be owner/name"
    elif not source.files:
        return "files are missing"
    return ""
