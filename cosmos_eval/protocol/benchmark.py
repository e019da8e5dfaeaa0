"""A benchmark definition: one frozen protocol, read from YAML, checked, and hashed into a fingerprint."""

import hashlib
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from cosmos_core.errors import RequestError
from cosmos_core.file_checks import user_path
from cosmos_core.plugins import off_note
from cosmos_eval.datasets.catalog import PLACE, READERS, reader_info
from cosmos_eval.datasets.prompts import Words, resolve_words
from cosmos_eval.protocol.definition_checks import OPTIONAL, TOP, check_definition, check_suite
from cosmos_eval.protocol.differences import Difference
from cosmos_eval.protocol.folders import definition_files, provider_of, suite_files
from cosmos_eval.protocol.source import Source, read_source
from cosmos_eval.protocol.suite import Suite, read_averages
from cosmos_eval.protocol.task_registry import task_info

Read = TypeVar("Read")


@dataclass(frozen=True)
class Benchmark:
    """Dataset, split, task, prompts and metrics of one benchmark. Changing what it computes changes its version."""

    name: str
    version: int
    task: str
    """The name of a task (`cosmos_eval.protocol.task_registry`)."""
    dataset: dict[str, Any]
    """`reader`, its options (paths relative to the data root), `expected` counts, and `needs` for people."""
    metrics: dict[str, Any]
    """`primary`, and what the task takes (`k`)."""
    prompts: dict[str, Any] = field(default_factory=dict)
    """Classification: `class_names` and `templates`, each a named set, a list or a file. Segmentation: `words`, one
    query word or several for each class, and `templates`. The method `words` gives them."""
    settings: dict[str, Any] = field(default_factory=dict)
    """The task's own section of the definition, filled in; for segmentation how label maps are made
    (`cosmos_eval.tasks.segmentation.settings.SETTINGS`)."""
    source: str = ""
    summary: str = ""
    fingerprint: str = ""
    """Of everything above that decides a number, prompts resolved to their words."""
    folder: Path | None = None
    """The folder of a user's own YAML: its data root when none is given."""
    published: tuple[Difference, ...] = ()
    """Why and how far published figures may differ from ours; for people, and not in the fingerprint."""

    @property
    def data_kind(self) -> str:
        """The kind of data that its task takes, which its reader must give."""
        return task_info(self.task).kind.name

    def words(self) -> Words:
        """Class names and templates as words; None where the dataset brings them."""
        return resolve_words(self.prompts, self.folder)


def load_benchmark(name_or_path: str | Path) -> Benchmark:
    """The definition of that name, or of a user's own YAML file.

    Raises:
        RequestError: an unknown name (with near ones), or a definition that does not hold (with file and line).
    """
    path, own = _find(name_or_path)
    source = read_definition(path)
    value = check_definition(source)
    if not own and value["name"] != path.stem:
        raise source.refuse(("name",), f"the name must be the file's, {path.stem}")
    benchmark = Benchmark(**value, folder=path.parent if own else None)
    _check_words(benchmark, source)
    return replace(benchmark, fingerprint=protocol_fingerprint(benchmark))


def read_definition(path: Path) -> Source:
    """The YAML of a definition; one with `base: NAME` is that definition with its own keys laid over it.

    Maps (`segmentation`, `dataset`, ...) are laid over each other key by key; with another reader or task what belongs
    to the base's is left out. A base is a shipped definition or a file
    beside this one, and has no base of its own; a user's file may be called as the shipped one that it changes.

    Raises:
        RequestError: no such base, or one that has a base.
    """
    source = read_source(path)
    if not isinstance(source.value, dict) or "base" not in source.value:
        return source
    name = source.value["base"]
    beside = path.parent / f"{name}.yaml"
    shipped = definition_files().get(name) if isinstance(name, str) else None
    found = beside if beside.is_file() and beside != path else shipped
    if not isinstance(name, str) or found is None or found == path:
        raise source.refuse(("base",), f"there is no definition {name!r}{_suggest(str(name), list_benchmarks())}")
    base = read_source(found)
    below = base.value
    if not isinstance(below, dict) or "base" in below:
        raise source.refuse(("base",), f"{name} has a base itself; name that one")
    value = dict(below)
    dataset = source.value.get("dataset")
    of_base = below.get("dataset")
    reader = of_base.get("reader") if isinstance(of_base, dict) else None
    if isinstance(dataset, dict) and dataset.get("reader", reader) != reader:
        value["dataset"] = {}  # options belong to their reader
    if source.value.get("task", below.get("task")) != below.get("task"):
        for key in {"metrics", "prompts", *(value.keys() - {*TOP, *OPTIONAL})}:  # and these to their task
            value.pop(key, None)
    for key, own in source.value.items():
        both = isinstance(own, dict) and isinstance(value.get(key), dict)
        value[key] = {**value[key], **own} if both else own
    del value["base"]
    return Source(path, value, source.lines, base)


def list_benchmarks() -> list[str]:
    """The names of all definitions that come with the package or a plug-in, in alphabetical order."""
    return sorted(definition_files())


def every_benchmark() -> list[Benchmark]:
    """All definitions, by name; a plug-in's that cannot be read is left out with a warning."""
    return _readable(list_benchmarks(), load_benchmark)


def every_suite() -> list[Suite]:
    """All suites, by name; a plug-in's that cannot be read is left out with a warning."""
    return _readable(list_suites(), read_suite)


def _readable(names: list[str], read: Callable[[str], Read]) -> list[Read]:
    found = []
    for name in names:
        try:
            found.append(read(name))
        except RequestError as error:
            if not (provider := provider_of(name)):
                raise
            warnings.warn(f"{error}; it is of {provider}, and left out", stacklevel=3)
    return found


def load_suite(name: str) -> list[Benchmark]:
    """The benchmarks of a suite, in its order.

    Raises:
        RequestError: as `read_suite`.
    """
    return list(read_suite(name).benchmarks)


def read_suite(name: str) -> Suite:
    """A suite: its benchmarks in order, and the averages that tables of it show.

    Raises:
        RequestError: an unknown suite (with near names), or one that lists something unknown.
    """
    if name not in list_suites():
        raise RequestError(f"there is no suite {name!r}{_suggest(name, list_suites())}")
    source = read_source(suite_files()[name])
    value = check_suite(source)
    benchmarks = {one: load_benchmark(one) for one in value["benchmarks"]}
    averages = read_averages(source, benchmarks)
    return Suite(name, tuple(benchmarks.values()), averages, value.get("summary", ""), value["published"])


def list_suites() -> list[str]:
    """The names of all suites, in alphabetical order."""
    return sorted(suite_files())


def canonical_json(values: Any) -> str:
    """The text that is hashed; TypeError for what JSON has no word for."""
    return json.dumps(values, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def deciding_values(benchmark: Benchmark) -> dict[str, Any]:
    """Everything in a definition that decides a number, by the key that holds it.

    Name, version, task, the dataset's reader and options, metrics, and the prompts as words (so that a new wording in
    a library or a file is another protocol). Left out: where the data lie and how many there should be (the dataset's
    own fingerprint covers what was read); the source, what is known of published figures, and other words for people;
    `benchmark.fingerprint` itself, so that a definition changed in memory (`dataclasses.replace`) gets its own here.

    Raises:
        RequestError: an unknown reader, or words that cannot be resolved.
    """
    reader = benchmark.dataset.get("reader")
    if reader not in READERS.names():
        known = ", ".join(READERS.names())
        raise RequestError(f"{benchmark.name}: there is no dataset reader {reader!r}; known: {known}{off_note()}")
    info, task = reader_info(reader), task_info(benchmark.task)

    def deciding(options: dict[str, Any]) -> dict[str, Any]:
        kept = {key: value for key, value in options.items() if key not in ("expected", "needs", "splits")}
        return {key: value for key, value in kept.items() if info.kind(key) != PLACE}

    options = deciding(benchmark.dataset)
    if benchmark.dataset.get("splits"):
        options["splits"] = {name: deciding(own) for name, own in benchmark.dataset["splits"].items()}
    decides: dict[str, Any] = {
        "name": benchmark.name,
        "version": benchmark.version,
        "task": benchmark.task,
        "dataset": options,
        "metrics": task.filled_metrics(benchmark.metrics),
    }
    if task.prompt_keys:
        words = benchmark.words()
        decides["class_names"] = words.class_names
        decides["templates"] = words.templates
        if "words" in task.prompt_keys:
            decides["words"] = words.query_words
    if task.settings_key:
        decides[task.settings_key] = benchmark.settings
    return decides


def protocol_fingerprint(benchmark: Benchmark) -> str:
    """SHA-256 of `deciding_values`.

    Raises:
        RequestError: as there, or a value that no definition can hold.
    """
    try:
        text = canonical_json(deciding_values(benchmark))
    except TypeError as error:
        raise RequestError(f"{benchmark.name}: {error}; definitions hold texts, numbers, lists and maps") from error
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _find(name_or_path: str | Path) -> tuple[Path, bool]:
    """The definition's file, and whether it is a user's own."""
    text = str(name_or_path)
    if (shipped := definition_files().get(text)) is not None:
        return shipped, False
    path = user_path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise RequestError(f"there is no definition {path}; give a YAML file that exists or a name")
        return path, True
    if text in list_suites():
        raise RequestError(f"{text} is a suite, not a benchmark; give it with --suite")
    raise RequestError(f"there is no benchmark {text!r}{_suggest(text, list_benchmarks())}")


def _suggest(name: str, known: list[str]) -> str:
    close = get_close_matches(name, known, n=3, cutoff=0.5) or [one for one in known if name and name in one][:3]
    return (f"; did you mean {' or '.join(close)}?" if close else "; see `cosmos-eval list`") + off_note()


def _check_words(benchmark: Benchmark, source: Source) -> None:
    def refuse(key: str, message: str) -> RequestError:
        return source.refuse(("prompts", key), f"{key}: {message}")

    resolve_words(benchmark.prompts, benchmark.folder, refuse)
