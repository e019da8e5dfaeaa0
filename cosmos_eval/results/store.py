"""Results on disk: OUT/<model>/<benchmark>/RESULT.json beside samples.parquet, whole or absent."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cosmos_core.errors import RequestError
from cosmos_core.files import atomic_path, atomic_write_text
from cosmos_eval.results.record import Result, first_fault

if TYPE_CHECKING:
    import pandas

RESULT = "RESULT.json"
SAMPLES = "samples.parquet"
NOT_RUN = "NOT_RUN.json"


def write_samples(folder: Path, samples: "pandas.DataFrame") -> dict[str, object]:
    """Write the per-sample table; returns what RESULT.json says of it (`file`, `rows`, `sha256`)."""
    path = folder / SAMPLES
    with atomic_path(path) as temporary:
        samples.to_parquet(temporary, index=False)
    return {"file": SAMPLES, "rows": len(samples), "sha256": file_digest(path)}


def write_result(folder: Path, result: Result) -> Path:
    """Write RESULT.json last, after its samples: a folder that has one is finished."""
    path = folder / RESULT
    text = result.to_json()
    fault = first_fault(json.loads(text))
    if fault:
        raise RequestError(f"{result.label} on {result.benchmark['name']}: the result would not be valid: {fault}")
    atomic_write_text(path, text)
    (folder / NOT_RUN).unlink(missing_ok=True)
    return path


def write_not_run(folder: Path, model: str, benchmark: str, reason: str) -> None:
    """Record that a benchmark was asked for and why it was not run, unless a result of it stands there."""
    if not (folder / RESULT).is_file():
        record = {"model": model, "benchmark": benchmark, "reason": reason}
        atomic_write_text(folder / NOT_RUN, json.dumps(record, indent=2, ensure_ascii=False) + "\n")


def read_not_run(folder: Path) -> list[str]:
    """A line for each benchmark below a folder that was asked for and not run."""
    lines = []
    for path in sorted(folder.rglob(NOT_RUN)):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            lines.append(f"{record['model']}, {record['benchmark']}: not run: {record['reason']}")
        except (ValueError, KeyError, TypeError):
            lines.append(f"{path} is not readable; delete it and run again")
    return lines


def read_result(path: Path) -> Result:
    """Read one RESULT.json.

    Raises:
        RequestError: unreadable, truncated or edited into something that is no result; names the file.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"cannot read {path}: {error}") from error
    return Result.from_json(text, path)


def read_results(folder: Path) -> list[Result]:
    """Every result below a folder, in path order.

    Raises:
        RequestError: the folder is absent, holds no result, or holds a broken one.
    """
    if not folder.is_dir():
        raise RequestError(f"no folder {folder}; give the --out folder of a run")
    results = [read_result(path) for path in result_paths(folder)]
    if not results:
        raise RequestError(f"no {RESULT} below {folder}; give the --out folder of a run")
    return results


def result_paths(folder: Path) -> Iterator[Path]:
    """Paths of the results below a folder, sorted."""
    yield from sorted(folder.rglob(RESULT))


def finished(folder: Path, identity: str) -> Result | None:
    """The result that stands in `folder` if it is the same measurement and its samples are whole; else None."""
    path = folder / RESULT
    if not identity or not path.is_file():
        return None
    try:
        result = read_result(path)
    except RequestError:
        return None  # a broken record is measured again and replaced
    samples = folder / SAMPLES
    if result.identity != identity or not samples.is_file() or file_digest(samples) != result.samples["sha256"]:
        return None
    return result


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
