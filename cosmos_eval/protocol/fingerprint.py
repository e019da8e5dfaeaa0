"""The fingerprint of a definition: everything in it that decides a number, hashed."""

import hashlib
import json
from typing import TYPE_CHECKING, Any

from cosmos_core.errors import RequestError
from cosmos_core.plugins import off_note
from cosmos_eval.datasets.prompts import resolve_names
from cosmos_eval.datasets.reader import NAMES_OR_FILE, PATH, ReaderInfo
from cosmos_eval.datasets.reader_registry import READERS, reader_info
from cosmos_eval.protocol.task_registry import task_info

if TYPE_CHECKING:
    from cosmos_eval.protocol.benchmark import Benchmark


def canonical_json(values: Any) -> str:
    """Return the JSON text that is hashed, the same for equal values.

    Raises:
        TypeError: a value that JSON cannot hold.
    """
    return json.dumps(values, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def hashed_values(benchmark: "Benchmark") -> dict[str, Any]:
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


def _hashed_parts(benchmark: "Benchmark", options: dict[str, Any]) -> dict[str, Any]:
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


def protocol_fingerprint(benchmark: "Benchmark") -> str:
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
