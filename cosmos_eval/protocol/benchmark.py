"""Benchmark definitions: frozen protocols that are read from YAML, checked, and hashed into a fingerprint."""

import hashlib
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from cosmos_core.errors import RequestError
from cosmos_core.file_checks import is_file, is_folder, user_path
from cosmos_core.plugins import off_note
from cosmos_core.short_repr import short_repr
from cosmos_eval.datasets.fetch.table import Artifact
from cosmos_eval.datasets.prompts import ResolvedPrompts, resolve_names, resolve_prompts
from cosmos_eval.datasets.reader import NAMES_OR_FILE, PATH, ReaderInfo
from cosmos_eval.datasets.reader_registry import READERS, reader_info, reads_same_data
from cosmos_eval.protocol.data_folder import describe_folder
from cosmos_eval.protocol.definition_checks import OPTIONAL_KEYS, REQUIRED_KEYS, check_definition, check_suite
from cosmos_eval.protocol.feature_transforms import FeatureTransforms
from cosmos_eval.protocol.folders import definition_files, find_provider, suite_files
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
        benchmark = replace(benchmark, folder=path.parent, path=path, same_data_as=_find_same_data(source))
    _check_words(benchmark, source)
    return replace(benchmark, fingerprint=protocol_fingerprint(benchmark))


def read_definition(path: Path, before: tuple[Path, ...] = ()) -> Source:
    """Read the YAML of a definition, without checking it; a definition with `base: NAME` overrides that one.

    Maps (`segmentation`, `dataset`, ...) are merged key by key. Options of the base's reader are dropped if the reader
    is another one; metrics, prompts and settings of its task, if the task is another one. A base is a file beside this
    one, or else a shipped definition, and may have a base itself. A user's file may have the name of the shipped
    definition that it overrides.

    Args:
        before: definitions of which this one is a base.

    Raises:
        RequestError: there is no such base, or it leads back to a definition that it is a base of.
    """
    source = read_source(path)
    if not isinstance(source.value, dict) or "base" not in source.value:
        return source
    name = source.value["base"]
    base_path = _find_base(path, name, source)
    if base_path in before:
        raise source.refuse(("base",), f"{name} has this definition as its own base; take out one of the two")
    base = read_definition(base_path, (*before, path))
    if not isinstance(base.value, dict):
        raise source.refuse(("base",), f"{name} is not a map of keys; repair {base_path}")
    value = _override(base.value, source.value)
    del value["base"]
    return Source(path, value, source.lines, base)


def _find_same_data(source: Source) -> str:
    """Return the name of the shipped base whose data a definition reads unchanged; empty if there is none."""
    base = source.base
    if base is None or not reads_same_data(source.value.get("dataset", {}), base.value.get("dataset", {})):
        return ""
    return base.path.stem if base.path == definition_files().get(base.path.stem) else _find_same_data(base)


def _find_base(path: Path, name: Any, source: Source) -> Path:
    """Find the file of a base: one beside the definition in `path`, or else a shipped one."""
    beside = path.parent / f"{name}.yaml"
    shipped = definition_files().get(name) if isinstance(name, str) else None
    base_path = beside if is_file(beside) and beside != path else shipped
    if not isinstance(name, str) or base_path is None or base_path == path:
        raise source.refuse(
            ("base",), f"there is no definition {short_repr(name)}{_suggest(str(name)[:200], list_benchmarks())}"
        )
    return base_path


def _override(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Merge the keys of a definition into those of its base."""
    value = dict(base)
    dataset, base_dataset = changes.get("dataset"), base.get("dataset")
    base_reader = base_dataset.get("reader") if isinstance(base_dataset, dict) else None
    if isinstance(dataset, dict) and dataset.get("reader", base_reader) != base_reader:
        value["dataset"] = {}  # these options are those of the base's reader
    if changes.get("task", base.get("task")) != base.get("task"):
        task_settings = value.keys() - {*REQUIRED_KEYS, *OPTIONAL_KEYS}
        for key in {"metrics", "prompts", "published", *task_settings}:  # these are those of the base's task
            value.pop(key, None)
    for key, change in changes.items():
        both_are_maps = isinstance(change, dict) and isinstance(value.get(key), dict)
        value[key] = {**value[key], **change} if both_are_maps else change
    return value


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
        raise RequestError(f"there is no suite {str(name)!r}{_suggest(str(name), list_suites())}")
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


def canonical_json(values: Any) -> str:
    """Return the JSON text that is hashed, the same for equal values.

    Raises:
        TypeError: a value that JSON cannot hold.
    """
    return json.dumps(values, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def hashed_values(benchmark: Benchmark) -> dict[str, Any]:
    """Collect everything in a definition that decides a number.

    These are the name, version and task, the reader and its options, the metrics, and the prompts. Prompts are resolved
    to their words: if a library or a file changes the wording of a named set, that is another protocol.

    Left out are the paths of the data and the expected counts (the dataset has a fingerprint of its own, of what was
    read), and notes for users: source, summary, known differences to published figures. `benchmark.fingerprint` is not
    used, so that a definition that was changed in memory (`dataclasses.replace`) is hashed as it is now.

    Returns:
        Key of the definition -> value. These keys and values are hashed: they must not change for shipped definitions.

    Raises:
        RequestError: an unknown reader, or prompts that cannot be resolved.
    """
    reader = benchmark.dataset.get("reader")
    if benchmark.data is not None:
        return _hashed_parts(benchmark, dict(benchmark.dataset))
    if reader not in READERS.names():
        known = ", ".join(READERS.names())
        raise RequestError(f"{benchmark.name}: there is no dataset reader {reader!r}; known: {known}{off_note()}")
    info = reader_info(reader)

    def without_paths(options: dict[str, Any]) -> dict[str, Any]:
        of_reader = reader_info(options["reader"]) if "reader" in options else info
        return {
            key: resolve_option(of_reader, key, value)
            for key, value in options.items()
            if key not in ("expected", "needs", "splits") and of_reader.kind(key) != PATH
        }

    def resolve_option(of_reader: ReaderInfo, key: str, value: Any) -> Any:
        if of_reader.kind(key) != NAMES_OR_FILE:
            return value
        return resolve_names(
            value, benchmark.folder, lambda message: RequestError(f"{benchmark.name}: dataset.{key}: {message}")
        )

    options = without_paths(benchmark.dataset)
    if benchmark.dataset.get("splits"):
        splits = benchmark.dataset["splits"]
        options["splits"] = {name: without_paths(split_options) for name, split_options in splits.items()}
    return _hashed_parts(benchmark, options)


def _hashed_parts(benchmark: Benchmark, options: dict[str, Any]) -> dict[str, Any]:
    """Return `hashed_values` with these options of the dataset."""
    task = task_info(benchmark.task)
    values: dict[str, Any] = {
        "name": benchmark.name,
        "version": benchmark.version,
        "task": benchmark.task,
        "dataset": options,
        "metrics": task.filled_metrics(benchmark.metrics),
    }
    if task.prompt_keys:
        words = benchmark.resolve_prompts()
        values["class_names"] = words.class_names
        values["templates"] = words.templates
        if "words" in task.prompt_keys:
            values["words"] = words.query_words
    if task.settings_key:
        values[task.settings_key] = benchmark.settings
    if benchmark.transforms:
        values["embeddings"] = benchmark.transforms.record()
    return values


def protocol_fingerprint(benchmark: Benchmark) -> str:
    """Return the SHA-256 of `hashed_values`, in hexadecimal.

    Raises:
        RequestError: as `hashed_values`, or a value that no definition can hold.
    """
    try:
        text = canonical_json(hashed_values(benchmark))
    except TypeError as error:
        raise RequestError(
            f"{benchmark.name}: {error}; a definition may hold texts, numbers, lists and maps"
        ) from error
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


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
    raise RequestError(f"there is no benchmark {short_repr(text)}{_suggest(text, list_benchmarks())}")


def _suggest(name: str, known: list[str]) -> str:
    """End of a message on an unknown name: similar names, or else names that contain it."""
    similar = get_close_matches(name, known, n=3, cutoff=0.5)
    if name and not similar:
        similar = [known_name for known_name in known if name in known_name][:3]
    return (f"; did you mean {' or '.join(similar)}?" if similar else "; see `cosmos-eval list`") + off_note()


def _check_words(benchmark: Benchmark, source: Source) -> None:
    """Check that prompts can be resolved; RequestError with file and line."""

    def refuse(key: str, message: str) -> RequestError:
        return source.refuse(("prompts", key), f"{key}: {message}")

    resolve_prompts(benchmark.prompts, benchmark.folder, refuse)
