"""Benchmark definitions and suites: frozen protocols that are read from YAML and checked."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from cosmos_core.errors import RequestError
from cosmos_core.file_checks import is_file, is_folder, user_path
from cosmos_core.short_repr import short_repr
from cosmos_eval.datasets.fetch.table import Artifact
from cosmos_eval.datasets.prompts import ResolvedPrompts, resolve_prompts
from cosmos_eval.protocol.bases import find_same_data, read_definition
from cosmos_eval.protocol.data_folder import describe_folder
from cosmos_eval.protocol.definition_checks import check_definition, check_suite
from cosmos_eval.protocol.feature_transforms import FeatureTransforms
from cosmos_eval.protocol.fingerprint import protocol_fingerprint
from cosmos_eval.protocol.folders import definition_files, find_provider, suggest_names, suite_files
from cosmos_eval.protocol.known_differences import KnownDifference
from cosmos_eval.protocol.own_suite import BENCHMARK_KEYS, find_member, find_own_suite, is_suite
from cosmos_eval.protocol.source import Source, read_source
from cosmos_eval.protocol.suite import Suite, read_averages, read_headlines
from cosmos_eval.protocol.task_registry import task_info

Definition = TypeVar("Definition")
IN_MEMORY = "in-memory"
"""What stands for the reader in a definition of data that were built in Python. There is no such reader in YAML."""


@dataclass(frozen=True, repr=False)
class Benchmark:
    """Dataset, split, task, prompts and metrics of one benchmark.

    A definition is frozen: whoever changes what it computes raises its `version`.
    """

    name: str
    version: int
    task: str
    """Name of a task (`cosmos_eval.protocol.task_registry`)."""
    dataset: dict[str, Any]
    """`reader`, its options (paths are relative to the data root), `expected` counts to check what was read, and
    `needs`, a note for users on where the data come from."""
    metrics: dict[str, Any]
    """`primary`, the metric that stands for the benchmark, and options of the task such as `k`."""
    prompts: dict[str, Any] = field(default_factory=dict)
    """Classification: `class_names` and `templates`, each a named set, a list or a file. Segmentation: `words`, one or
    several query words for each class, and `templates`. The method `words` resolves them."""
    settings: dict[str, Any] = field(default_factory=dict)
    """The task's own section of the definition, with default values filled in. For segmentation how label maps are
    computed (`cosmos_eval.tasks.segmentation.settings.SETTINGS`)."""
    embeddings: dict[str, Any] = field(default_factory=dict)
    """What is done to embeddings after the fact (`cosmos_eval.protocol.feature_transforms`); empty: nothing."""
    source: str = ""
    """Papers and code that the protocol follows; a note for users."""
    summary: str = ""
    """One line for lists."""
    fingerprint: str = ""
    """SHA-256 of everything above that decides a number (`hashed_values`), with prompts resolved to their words."""
    folder: Path | None = None
    """Folder of a user's own YAML file, which is the data root where none is given; None for shipped definitions."""
    data_root: Path | None = None
    """Folder of the data whatever data root is given: the benchmark was given as this folder."""
    published: tuple[KnownDifference, ...] = ()
    """Why and by how much published figures may differ from ours; not in the fingerprint."""
    fetch: tuple[Artifact, ...] = ()
    """Where the data of a user's own definition are fetched, as it says itself; not in the fingerprint."""
    path: Path | None = field(default=None, compare=False)
    """A user's own YAML file, for commands that messages advise."""
    same_data_as: str = field(default="", compare=False)
    """The shipped definition whose data a user's own one reads: its base, whose reader, paths and split it keeps."""
    data: Any = field(default=None, compare=False)
    """`cosmos_eval.Data` that were built in Python and are evaluated in place of what a reader reads
    (`cosmos_eval.make_benchmark`); the reader is then `IN_MEMORY`. They have a fingerprint of their own."""

    def __repr__(self) -> str:
        primary = f", {self.metrics['primary']}" if "primary" in self.metrics else ""
        data = f", {self.data!r}" if self.data is not None else ""
        return f"Benchmark({self.name!r}, version {self.version}, {self.task}{primary}{data})"

    @property
    def transforms(self) -> FeatureTransforms:
        """What is done to embeddings after the fact."""
        return FeatureTransforms.from_record(self.embeddings)

    @property
    def data_kind(self) -> str:
        """Name of the kind of data that the task takes and the reader must return."""
        return task_info(self.task).kind.name

    def resolve_prompts(self) -> ResolvedPrompts:
        """Resolve class names and templates to their words; they are None where the dataset provides them."""
        return resolve_prompts(self.prompts, self.folder)


def load_benchmark(name_or_path: str | Path) -> Benchmark:
    """Read and check the definition of a benchmark.

    Args:
        name_or_path: name of a shipped or plug-in definition, path of a user's own YAML file, or a folder of class
            folders or shards (`data_folder.py`).

    Raises:
        RequestError: an unknown name (suggests similar ones), or an invalid definition (names file and line).
    """
    path, is_users_own = _find_definition(name_or_path)
    if path.is_dir():
        benchmark = Benchmark(**describe_folder(path))
        return replace(benchmark, fingerprint=protocol_fingerprint(benchmark))
    source = read_definition(path)
    if is_users_own and is_suite(source.value):
        raise RequestError(f"{path} is a suite, not a benchmark; give it with --suite")
    value = check_definition(source)
    if not is_users_own and value["name"] != path.stem:
        raise source.refuse(("name",), f"the name must be that of the file, {path.stem}")
    benchmark = Benchmark(**value)
    if is_users_own:
        benchmark = replace(benchmark, folder=path.parent, path=path, same_data_as=find_same_data(source))
    _check_words(benchmark, source)
    return replace(benchmark, fingerprint=protocol_fingerprint(benchmark))


def list_benchmarks() -> list[str]:
    """Return the names of all shipped definitions and those of plug-ins, sorted."""
    return sorted(definition_files())


def load_every_benchmark() -> list[Benchmark]:
    """Load all shipped definitions and those of plug-ins, sorted by name; invalid ones of plug-ins only warn."""
    return _read_valid(list_benchmarks(), load_benchmark)


def read_every_suite() -> list[Suite]:
    """Read all shipped suites and those of plug-ins, sorted by name; invalid ones of plug-ins only warn."""
    return _read_valid(list_suites(), read_suite)


def _read_valid(names: list[str], read: Callable[[str], Definition]) -> list[Definition]:
    """Read definitions or suites; an invalid one of a plug-in is left out with a warning, so that it stops no other."""
    definitions = []
    for name in names:
        try:
            definitions.append(read(name))
        except RequestError as error:
            if not (provider := find_provider(name)):
                raise
            warnings.warn(f"{error}; left out, as it is provided by {provider}", stacklevel=3)
    return definitions


def load_suite(name: str | Path) -> list[Benchmark]:
    """Load the benchmarks of a suite, in its order.

    Raises:
        RequestError: as `read_suite`.
    """
    return list(read_suite(name).benchmarks)


def read_suite(name: str | Path) -> Suite:
    """Read a suite: its benchmarks in order, and the averages that its tables show.

    Args:
        name: name of a shipped or plug-in suite, or path of a user's own YAML file, whose benchmarks may be files in
            its folder (`own_suite.py`).

    Raises:
        RequestError: an unknown suite (suggests similar names), or an invalid definition of it or of a benchmark.
    """
    shipped = suite_files()
    path = shipped.get(str(name)) or find_own_suite(name)
    if path is None:
        raise RequestError(f"there is no suite {str(name)!r}{suggest_names(str(name), list_suites())}")
    source = read_source(path)
    if isinstance(source.value, dict) and source.value.keys() & BENCHMARK_KEYS:
        raise RequestError(f"{path} is a benchmark, not a suite; give it with --benchmark")
    value = check_suite(source)
    benchmarks: dict[str, Benchmark] = {}
    for i, entry in enumerate(value["benchmarks"]):
        benchmark = load_benchmark(entry if str(name) in shipped else find_member(source, i))
        if benchmark.name in benchmarks:
            raise source.refuse(("benchmarks", i), f"two benchmarks are called {benchmark.name}; rename one of them")
        benchmarks[benchmark.name] = benchmark
    headlines = read_headlines(source, benchmarks)
    return Suite(
        str(name) if str(name) in shipped else value.get("name", path.stem),
        tuple(benchmarks.values()),
        read_averages(source, benchmarks, headlines),
        value.get("summary", ""),
        value["published"],
        headlines,
        value.get("reproduces", ""),
        value["lacks"],
    )


def list_suites() -> list[str]:
    """Return the names of all shipped suites and those of plug-ins, sorted."""
    return sorted(suite_files())


def _find_definition(name_or_path: str | Path) -> tuple[Path, bool]:
    """Find the file of a definition, or the folder of data, and whether it is a user's own (given by its path)."""
    text = str(name_or_path)
    if (shipped := definition_files().get(text)) is not None:
        return shipped, False
    path = user_path(name_or_path)
    if is_folder(path):
        return path, True
    if path.suffix in (".yaml", ".yml"):
        if not is_file(path):
            raise RequestError(f"there is no definition {path}; give an existing YAML file, or a name")
        return path, True
    if text in list_suites():
        raise RequestError(f"{text} is a suite, not a benchmark; give it with --suite")
    raise RequestError(f"there is no benchmark {short_repr(text)}{suggest_names(text, list_benchmarks())}")


def _check_words(benchmark: Benchmark, source: Source) -> None:
    """Check that prompts can be resolved; RequestError with file and line."""

    def refuse(key: str, message: str) -> RequestError:
        return source.refuse(("prompts", key), f"{key}: {message}")

    resolve_prompts(benchmark.prompts, benchmark.folder, refuse)
