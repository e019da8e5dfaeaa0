"""Reading `sources.yaml`: every key, type and path is checked, and what is wrong is named with its line."""

import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from cosmos_core.errors import RequestError
from cosmos_core.short_repr import short_repr
from cosmos_core.suggestions import near
from cosmos_core.yaml_text import Keys, read_yaml
from cosmos_eval.datasets.fetch.table import (
    ACCESS,
    CONVERSIONS,
    FORMATS,
    KINDS,
    PREPARE,
    Artifact,
    Recipe,
    Source,
    Table,
    Unpack,
)

DIGITS = {"sha256": 64, "md5": 32, "git": 40}
PLAIN: dict[Any, type] = {str: str, bool: bool, int | None: int, str | None: str}
"""Type of a field -> type of its value in the table."""


def read_table(path: Path) -> Table:
    """The table in a file; errors as of `cosmos_eval.datasets.fetch.table.load_table`."""
    lines: dict[Keys, int] = {}
    return TableReader(path, read_yaml(path, lines), lines).table()


class TableReader:
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
        self.of_type(value.get("checksums", {}), dict, (*at, "checksums"))
        source = self.build(Source, value, at)
        self.one_of(source.kind, KINDS, (*at, "kind"))
        self.one_of(source.access, ACCESS, (*at, "access"))
        if source.convert:
            self.one_of(source.convert, CONVERSIONS, (*at, "convert"))
        for name, digest in source.checksums.items():
            self.one_of(name, tuple(DIGITS), (*at, "checksums"))
            if not re.fullmatch(f"[0-9a-f]{{{DIGITS[name]}}}", str(digest)):
                raise self.refuse(
                    (*at, "checksums"), f"{name} has {DIGITS[name]} hexadecimal digits, got {short_repr(digest)}"
                )
        if source.revision is not None and not re.fullmatch("[0-9a-f]{7,40}", source.revision):
            raise self.refuse(
                (*at, "revision"), f"a revision is 7 to 40 digits of a commit, got {short_repr(source.revision)}"
            )
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
                if type(given) is not PLAIN[one.type]:  # not isinstance: a truth value is not a number of bytes
                    raise self.refuse((*at, one.name), f"{one.name} cannot be {short_repr(given)}")
                if isinstance(given, int) and PLAIN[one.type] is int and given <= 0:
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
