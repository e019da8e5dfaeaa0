"""What would be fetched for some benchmarks: from the table, a user's own definitions and the files on disk, without
network and questions.

A copy by others of data that their publisher gives only after a form, login or click is planned only if its source is
named (`--source`) and the terms are accepted for a benchmark that needs it (`--accept-terms`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from cosmos_core.errors import RequestError
from cosmos_core.suggestions import near
from cosmos_core.text_files import parse_integer, read_text
from cosmos_eval.datasets.fetch.manifest import read_manifest
from cosmos_eval.datasets.fetch.own_sources import recipe_of
from cosmos_eval.datasets.fetch.table import Artifact, Recipe, Source, Table, load_table
from cosmos_eval.datasets.reader import PATH
from cosmos_eval.datasets.reader_registry import READERS, reader_info

if TYPE_CHECKING:
    from cosmos_eval.protocol.benchmark import Benchmark

SHARD_COUNT = "nshards.txt"
"""Beside WebDataset shards: their number."""
MAX_COUNT_BYTES = 1000


@dataclass(frozen=True)
class Planned:
    """An artifact that is fetched."""

    artifact: Artifact
    sources: tuple[Source, ...]
    """To try, in order."""
    benchmarks: tuple[str, ...]
    """Of those asked for, the ones that need it."""
    accepted_terms: tuple[str, ...] = ()
    """Benchmarks for which the user accepted the terms of a restricted copy; for the manifest."""

    @property
    def first(self) -> Source:
        return self.sources[0]

    @property
    def download_size(self) -> int | None:
        """Bytes that come over the network, where they are known, for this source or another."""
        return next((source.known_size for source in self.sources if source.known_size is not None), None)

    @property
    def is_unpacked(self) -> bool:
        """Whether what is downloaded is not what is kept."""
        return self.artifact.unpacking(self.first) is not None or bool(self.first.convert)

    @property
    def kept_size(self) -> int | None:
        """Bytes that stay on disk, about: images do not shrink in an archive."""
        return (self.artifact.unpacked_size if self.is_unpacked else None) or self.download_size


@dataclass(frozen=True)
class ByHand:
    """An artifact that a person must get."""

    artifact: Artifact
    benchmarks: tuple[str, ...]


@dataclass(frozen=True)
class Amount:
    """A number of bytes, as far as it is known."""

    size: int
    is_exact: bool
    unknown: int = 0
    """How many artifacts have no known size and are not counted."""


@dataclass(frozen=True)
class FetchPlan:
    """What is fetched, what is there, and what is left to a person."""

    data_root: Path
    benchmarks: tuple[str, ...]
    fetched: tuple[Planned, ...]
    by_hand: tuple[ByHand, ...]
    there: tuple[Artifact, ...]
    prepare: tuple[str, ...]
    """Steps of `data prepare` that can be made once everything is fetched."""
    without_source: tuple[tuple[str, str], ...] = ()
    """Benchmarks without a source in the table or their definition -> their note on where the data come from."""
    instead: tuple[tuple[str, str], ...] = ()
    """Benchmark of which something is fetched or left to a person -> one to prefer, and why."""

    @property
    def incomplete(self) -> tuple[str, ...]:
        """Benchmarks whose data are not complete after fetching."""
        names = {name for step in self.by_hand for name in step.benchmarks} | {name for name, _ in self.without_source}
        return tuple(name for name in self.benchmarks if name in names)

    @property
    def completed(self) -> tuple[str, ...]:
        """Benchmarks that lack something and whose data are complete after fetching."""
        lacking = {name for planned in self.fetched for name in planned.benchmarks} - {*self.incomplete}
        return tuple(name for name in self.benchmarks if name in lacking)

    @property
    def download(self) -> Amount:
        """Bytes over the network; an archive that holds several artifacts counts once."""
        archives = {planned.artifact.landing(planned.first): planned for planned in self.fetched if planned.is_unpacked}
        kept = [planned for planned in self.fetched if not planned.is_unpacked]
        counted = [*archives.values(), *kept]
        sizes = [planned.download_size for planned in counted]
        exact = all(planned.first.size is not None for planned in counted)
        return Amount(sum(size or 0 for size in sizes), exact, sizes.count(None))

    @property
    def kept(self) -> Amount:
        """Bytes on disk after unpacking, about."""
        sizes = [planned.kept_size for planned in self.fetched]
        exact = all(planned.first.size is not None and not planned.is_unpacked for planned in self.fetched)
        return Amount(sum(size or 0 for size in sizes), exact, sizes.count(None))

    @property
    def disk_needed(self) -> Amount:
        """Bytes on disk while unpacking, at most: all archives and all that comes out of them."""
        unpacked = [planned for planned in self.fetched if planned.is_unpacked]
        archives = {planned.artifact.landing(planned.first): planned.download_size or 0 for planned in unpacked}
        kept = self.kept
        return Amount(kept.size + sum(archives.values()), kept.is_exact, kept.unknown)


def make_fetch_plan(
    benchmarks: Sequence["Benchmark"],
    data_root: Path,
    *,
    sources: Sequence[str] = (),
    accepted_terms: Sequence[str] = (),
    table: Table | None = None,
) -> FetchPlan:
    """Plan what to fetch for benchmarks; what is there already is left out, and what they share is fetched once.

    Args:
        benchmarks: the benchmarks, in order.
        data_root: the folder of the datasets; it need not exist.
        sources: names of sources; an artifact that has one of them is fetched from no other.
        accepted_terms: benchmarks for which the user accepts the terms of a restricted copy.
        table: None: the shipped one.

    Raises:
        RequestError: own definitions that fetch different files to one path; a source that nothing of this has, a
            restricted copy whose terms were not accepted, or accepted terms of a benchmark that is not asked for or
            takes no restricted copy.
    """
    table = table or load_table()
    by_name = {benchmark.name: benchmark for benchmark in benchmarks}
    found = {name: recipe_of(benchmark, table) for name, benchmark in by_name.items()}
    recipes = {name: recipe for name, recipe in found.items() if recipe is not None}
    needing: dict[str, list[str]] = {}
    artifacts: dict[str, Artifact] = {}
    for name, recipe in recipes.items():
        for artifact in recipe.artifacts:
            artifacts.setdefault(artifact.name, artifact)
            needing.setdefault(artifact.name, []).append(name)
    _refuse_unknown_names(sources, accepted_terms, by_name, [*artifacts.values()])
    manifest = _read_manifest(data_root)
    fetched: list[Planned] = []
    by_hand: list[ByHand] = []
    there: list[Artifact] = []
    for name, users in needing.items():
        artifact = artifacts[name]
        chosen = _choose(artifact, sources)
        if any(source.by_name_only for source in chosen):  # what an earlier attempt brought may be continued
            missing_for = tuple(users)
        else:
            missing_for = tuple(
                user
                for user in users
                if _lacks_files(artifact, data_root, manifest) or not is_there(artifact, by_name[user], data_root)
            )
        if not missing_for:
            there.append(artifact)
            continue
        if any(source.restricted_copy for source in chosen):
            _require_accepted_terms(artifact, chosen, missing_for, accepted_terms)
        if chosen:
            accepted = tuple(user for user in missing_for if user in accepted_terms)
            restricted = any(source.restricted_copy for source in chosen)
            fetched.append(Planned(artifact, chosen, missing_for, accepted if restricted else ()))
        else:
            by_hand.append(ByHand(artifact, missing_for))
    _refuse_idle_acceptance(accepted_terms, fetched, there, recipes)
    _refuse_conflicts(fetched)
    left = {user for step in by_hand for user in step.benchmarks}
    steps = dict.fromkeys(step for name, recipe in recipes.items() if name not in left for step in recipe.prepare)
    busy = left | {user for planned in fetched for user in planned.benchmarks}
    return FetchPlan(
        data_root,
        tuple(by_name),
        tuple(fetched),
        tuple(by_hand),
        tuple(there),
        tuple(steps),
        tuple((name, str(by_name[name].dataset.get("needs", ""))) for name in by_name if name not in recipes),
        tuple((name, recipe.instead) for name, recipe in recipes.items() if recipe.instead and name in busy),
    )


def _choose(artifact: Artifact, names: Sequence[str]) -> tuple[Source, ...]:
    """The sources to try in order; empty where only a person can get it."""
    named = [source for source in artifact.sources if source.name in names]
    if named:
        return tuple(source for source in named if source.kind != "manual")
    return artifact.automatic


def is_there(artifact: Artifact, benchmark: "Benchmark", data_root: Path) -> bool:
    """Whether all that an artifact provides is on disk, where it lands or at another place that the benchmark reads.

    Folders must hold something, and WebDataset shards be as many as announced. Contents are not read: that is for
    `data check`.
    """
    if artifact.files_of_reader is not None:
        return artifact.files_of_reader.are_there(data_root)
    if any(_is_complete(data_root / path) for path in artifact.or_there):
        return True
    return all(
        any(_is_complete(data_root / path) for path in places_of(provided, benchmark)) for provided in artifact.provides
    )


def has_some_of(benchmark: "Benchmark", table: Table, data_root: Path) -> bool:
    """Whether anything that a benchmark reads, or that is fetched for it, is on disk.

    The data root itself, which some definitions name as the last place to search, proves nothing.
    """
    paths = [path for alternatives in read_paths(benchmark.dataset) for path in alternatives if path != "."]
    recipe = table.recipe_of(benchmark)
    for artifact in recipe.artifacts if recipe is not None else ():
        paths += artifact.or_there
        paths += [place for provided in artifact.provides for place in places_of(provided, benchmark)]
    return any(_is_complete(data_root / path) for path in dict.fromkeys(paths))


def _lacks_files(artifact: Artifact, data_root: Path, manifest: Mapping[str, Any]) -> bool:
    """Whether files that the manifest has of an artifact are missing in its folder: one of many was deleted, or a
    process was killed while it moved them there."""
    if not artifact.path or artifact.name not in manifest or not (data_root / artifact.path).is_dir():
        return False
    for file in manifest[artifact.name]["files"]:
        name = PurePosixPath(file["name"])
        if name.is_absolute() or ".." in name.parts or not (data_root / artifact.path / name).is_file():
            return True
    return False


def _read_manifest(data_root: Path) -> dict[str, dict[str, Any]]:
    """The manifest of a data root; empty where it cannot be read, which is reported when it would be written."""
    try:
        return read_manifest(data_root)
    except (RequestError, OSError):
        return {}


def places_of(path: str, benchmark: "Benchmark") -> Iterator[str]:
    """A path, and where else the benchmark would read it: its options name alternatives (`coco/val2017`)."""
    yield path
    for alternatives in read_paths(benchmark.dataset):
        for alternative in alternatives:
            if not (path + "/").startswith(alternative + "/"):
                continue
            rest = path[len(alternative) :].lstrip("/")
            for other in alternatives:
                leaves = ".." in other.split("/") or PurePosixPath(other).is_absolute()
                # the folder around it proves nothing: other files may lie there
                is_around = not rest and PurePosixPath(alternative).is_relative_to(other)
                if other != alternative and not leaves and not is_around:
                    yield (PurePosixPath(other) / rest).as_posix()


def read_paths(dataset: dict[str, Any]) -> list[list[str]]:
    """The paths that the options of a definition's dataset name, each with its alternatives."""
    reader = dataset.get("reader")
    if reader not in READERS.names():
        return []
    values = [value for key, value in dataset.items() if reader_info(reader).kind(key) == PATH]
    return [[value] if isinstance(value, str) else [str(path) for path in value] for value in values]


def _is_complete(path: Path) -> bool:
    try:
        if path.is_dir():
            return next(path.iterdir(), None) is not None
        if not path.is_file():
            return False
        if path.name == SHARD_COUNT:
            count = parse_integer(read_text(path, MAX_COUNT_BYTES).strip())
            return bool(count) and all((path.parent / f"{i}.tar").is_file() for i in range(count or 0))
        return path.stat().st_size > 0
    except (OSError, RequestError, ValueError):
        return False


def _refuse_conflicts(fetched: Sequence[Planned]) -> None:
    """Refuse users' own definitions that want different files at one path: one would be taken for the other."""
    files: dict[str, tuple[str, Any]] = {}
    for planned in fetched:
        artifact, first = planned.artifact, planned.first
        if first.kind not in ("http", "drive"):
            continue
        wanted = (first.address, first.size, dict(first.checksums))
        name, other = files.setdefault(artifact.landing(first), (planned.benchmarks[0], wanted))
        if other != wanted:
            raise RequestError(
                f"{name} and {planned.benchmarks[0]} fetch different files to {artifact.landing(first)}; give them one "
                "address and checksum, or different paths"
            )


def _refuse_unknown_names(
    sources: Sequence[str], accepted_terms: Sequence[str], benchmarks: dict[str, "Benchmark"], needed: list[Artifact]
) -> None:
    known = sorted({source.name for artifact in needed for source in artifact.sources})
    for name in sources:
        if name not in known:
            raise RequestError(f"nothing that is asked for has a source {name!r} (--source){near(name, known)}")
    for name in accepted_terms:
        if name not in benchmarks:
            raise RequestError(
                f"--accept-terms {name}: that benchmark is not asked for{near(name, benchmarks)}; the terms are "
                "accepted for each benchmark by its name"
            )


def _require_accepted_terms(
    artifact: Artifact, chosen: tuple[Source, ...], users: Sequence[str], accepted_terms: Sequence[str]
) -> None:
    """Refuse a restricted copy; the message shows the terms and the publisher's own way."""
    if any(user in accepted_terms for user in users):
        return
    copy = next(source for source in chosen if source.restricted_copy)
    raise RequestError(
        f"{copy.name} is a copy by others of data ({artifact.name}) that their publisher gives only to people who ask "
        f"for it; terms: {artifact.terms}; the publisher's own way: {artifact.manual[0].page}; to take the copy all "
        f"the same, and only if you accept these terms, add --accept-terms {users[0]}"
    )


def _refuse_idle_acceptance(
    accepted_terms: Sequence[str], fetched: Sequence[Planned], there: Sequence[Artifact], recipes: dict[str, Recipe]
) -> None:
    """Refuse accepted terms that nothing needs: the user means a source that was not named."""
    used = {name for planned in fetched for name in planned.accepted_terms}
    for name in accepted_terms:
        artifacts = recipes[name].artifacts if name in recipes else ()
        copies = [source.name for artifact in artifacts for source in artifact.sources if source.restricted_copy]
        restricted = [artifact for artifact in artifacts if any(source.restricted_copy for source in artifact.sources)]
        if name in used or (restricted and all(artifact in there for artifact in restricted)):
            continue
        if copies:
            raise RequestError(f"--accept-terms {name} needs the copy to take as well: --source {' or '.join(copies)}")
        raise RequestError(f"--accept-terms {name}: nothing of it is a restricted copy; leave it out")
