"""Geometry of embeddings and calibration as data of the page, from every geometry.json below a folder.

The page computes none of it: `show geometry` does, from the features that the run has cached. What is absent is listed
with the command that makes it.
"""

import os
import shlex
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.json_text import read_json
from cosmos_eval.datasets.kinds import CLASSIFICATION, RETRIEVAL
from cosmos_eval.protocol.benchmark import load_benchmark
from cosmos_eval.protocol.folders import definition_files
from cosmos_eval.protocol.task_registry import find_task
from cosmos_eval.results.portable import portable_text

GEOMETRY = "geometry.json"
"""The file that `show geometry` writes."""
MOST_COMMANDS = 30
"""Commands in a page; the number of the others is given."""
LARGEST = 2**20
"""Bytes of a file at most; one has a few kilobytes."""
PRECISIONS = ("fp32", "bf16", "fp16")
"""What --precision takes; results have others of models that do not compute."""
DIGITS = 6
"""Significant digits of values in the page."""


def geometry_data(
    folder: Path, page: Mapping[str, Any], shortened: Collection[str] = ()
) -> tuple[dict[str, Any], list[str]]:
    """What the page shows of embeddings, and lines about files that it leaves out.

    `entries` are what was computed, of the results with the same weights, protocol and data; `commands` make what is
    absent, to be run in the folder that holds the results; `further` is the number of commands beyond MOST_COMMANDS,
    and `withoutCommand` that of absent ones that no command line with a name of model and benchmark makes.

    Args:
        folder: the reported one.
        page: `groups`, `records` and `results` as `report_data` makes them.
        shortened: the specs in `records` that lack a part of their path.
    """
    results = [result for result in page["results"] if result["limit"] is None]
    by_key: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for result in results:
        group, record = page["groups"][result["group"]], page["records"][result["record"]]
        key = (record["digest"] or record["spec"], group["name"], group["fingerprint"], group["dataset"])
        by_key.setdefault(key, []).append(result)
    entries: dict[tuple[int, int], dict[str, Any]] = {}
    left_out = []
    for path in _geometry_files(folder):
        name = path.relative_to(folder).as_posix()
        try:
            identity, precision, entry = _read_entry(path)
        except (RequestError, AttributeError, KeyError, TypeError, ValueError) as error:
            left_out.append(portable_text(f"{name}: not what show geometry writes ({error!s:.80}); make it again"))
            continue
        same = by_key.get(identity, [])
        if not same:
            left_out.append(portable_text(f"{name}: of no result in this page (other weights, protocol or data)"))
        # measured in several precisions, it belongs to the row of its own
        for result in [one for one in same if one["precision"] == precision] or same[:1]:
            place = (result["row"], result["group"])
            entries[place] = {"row": place[0], "group": place[1], "precision": precision, "path": name, **entry}
    results = [result for result in results if _has_geometry(page, result)]
    absent = [result for result in results if (result["row"], result["group"]) not in entries]
    named = [result for result in absent if _is_named(page, result, shortened)]
    unnamed = {(one["row"], one["group"]) for one in absent} - {(one["row"], one["group"]) for one in named}
    commands = list(dict.fromkeys(_command(folder, page, result) for result in named))
    shown = commands[:MOST_COMMANDS]
    data = {"entries": [entries[place] for place in sorted(entries)], "commands": shown}
    return {**data, "further": len(commands) - len(shown), "withoutCommand": len(unnamed)}, left_out


def _geometry_files(folder: Path) -> Iterator[Path]:
    """Every geometry.json below a folder, the oldest first, so that of two of one result the newer one counts."""
    paths = []
    for current, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if GEOMETRY in names:
            paths.append(Path(current) / GEOMETRY)
    return iter(sorted(paths, key=_modified))


def _modified(path: Path) -> int:
    """When a file was written, in ns; 0 for a link to nothing, which `_read_entry` refuses by name."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _read_entry(path: Path) -> tuple[tuple[str, ...], str, dict[str, Any]]:
    """What identifies the result that a file belongs to, its precision, and what the page shows of it.

    Raises:
        RequestError, AttributeError, KeyError, TypeError, ValueError: another file, or one of an older version, which
            does not say what it was computed of. One that has no intervals yet is read.
    """
    record = read_json(path, finite=True, largest=LARGEST)
    key = tuple(_text(record[name]) for name in ("benchmark", "protocol", "dataset"))
    weights = _text(record["digest"]) or _text(record["model"])
    figures = {_text(name): None if value is None else _number(value) for name, value in record["figures"].items()}
    intervals = {_text(name): _interval(bounds) for name, bounds in record.get("intervals", {}).items()}
    bins = [[_number(one["count"]), *(_share(one.get(name)) for name in ("confidence", "accuracy", "low", "high"))]
            for one in record.get("reliability", [])]  # fmt: skip
    confused = [[_text(one["true"]), _text(one["predicted"]), _number(one["images"]),
                 *(None if one.get(name) is None else _number(one[name]) for name in ("low", "high"))]
                for one in record["confused"]]  # fmt: skip
    entry = {"figures": figures, "intervals": intervals, "bins": bins, "confused": confused,
             "against": _text(record.get("against", ""))}  # fmt: skip
    return (weights, *key), _text(record["precision"]), entry


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is not a text")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) >= 2**53:
        raise TypeError(f"{value!r:.40} is not a number")
    return value if isinstance(value, int) else float(f"{value:.{DIGITS}g}")


def _interval(bounds: Any) -> list[float]:
    if not isinstance(bounds, list) or len(bounds) != 2:
        raise TypeError(f"{bounds!r:.40} is not an interval")
    return [_number(bound) for bound in bounds]


def _share(value: Any) -> float | None:
    """A fraction, or None for a bin without queries."""
    if value is None:
        return None
    share = _number(value)
    if not 0 <= share <= 1:
        raise ValueError(f"{value!r:.40} is not a fraction")
    return share


def _has_geometry(page: Mapping[str, Any], result: Mapping[str, Any]) -> bool:
    """Whether `show geometry` takes benchmarks of the result's task."""
    group = page["groups"][result["group"]]
    info = find_task(group["task"])
    is_transformed = group["name"].endswith(")")  # `pets (dim 64)`, while geometry is of embeddings as they are
    if info is None or info.splits or is_transformed:
        return False
    return info.kind.name == RETRIEVAL.name or (
        info.kind.name == CLASSIFICATION.name and "templates" in info.prompt_keys
    )


def _is_named(page: Mapping[str, Any], result: Mapping[str, Any], shortened: Collection[str]) -> bool:
    """Whether the spec and the benchmark's name in the page lead to what was measured: not for models in memory, paths
    that were shortened, users' own definitions, and protocols that options such as --templates changed."""
    record, group = page["records"][result["record"]], page["groups"][result["group"]]
    if record["spec"] in shortened or str(record.get("source")).startswith("in memory"):
        return False
    return shipped_fingerprint(group["name"]) == group["fingerprint"]


@lru_cache
def shipped_fingerprint(name: str) -> str:
    """The fingerprint of the shipped or plug-in definition of a name; empty if there is none."""
    try:
        return load_benchmark(name).fingerprint if name in definition_files() else ""
    except RequestError:
        return ""


def _command(folder: Path, page: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    """The command that computes it from the cache of the run and writes it beside the result."""
    record, group = page["records"][result["record"]], page["groups"][result["group"]]
    root = Path(folder.name) if folder.is_absolute() else folder
    out = (root / result["path"]).parent.as_posix()
    words = ["show", "geometry", "--model", record["spec"], "--benchmark", group["name"], "--out", out]
    precision = result["precision"].partition("+")[0]  # bf16+compile
    words += ["--precision", precision] if precision in PRECISIONS else []
    return shlex.join(["cosmos-eval", *words])
