"""Results on disk: OUT/<model>/<benchmark>/RESULT.json beside samples.parquet, whole or absent."""

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cosmos_core.errors import RequestError
from cosmos_core.files import atomic_path, atomic_write_text
from cosmos_core.json_text import read_json
from cosmos_core.text_files import impostor_of, open_regular, read_content, read_text
from cosmos_eval.results.record import Result, first_fault
from cosmos_eval.results.versions import NewerSchema, rename_old_columns

if TYPE_CHECKING:
    import pandas

RESULT = "RESULT.json"
SAMPLES = "samples.parquet"
NOT_RUN = "NOT_RUN.json"
LARGEST_SAMPLES = 2**34
"""Bytes of a table of samples; tables of a million samples have a thousandth of it."""


def write_samples(folder: Path, samples: "pandas.DataFrame") -> dict[str, object]:
    """Write the per-sample table; returns what RESULT.json says of it (`file`, `rows`, `sha256`)."""
    path = folder / SAMPLES
    with atomic_path(path) as temporary:
        try:
            samples.to_parquet(temporary, index=False)
        except UnicodeEncodeError:  # pyarrow takes no path that is not UTF-8
            with temporary.open("wb") as stream:
                samples.to_parquet(stream, index=False)
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
    for path in visible(folder, NOT_RUN):
        try:
            record = read_json(path)
            lines.append(f"{record['model']}, {record['benchmark']}: not run: {record['reason']}")
        except (ValueError, KeyError, TypeError):
            lines.append(f"{path} is not readable; delete it and run again")
    return lines


def read_result(path: Path) -> Result:
    """Read one RESULT.json.

    Raises:
        RequestError: unreadable, truncated, edited after it was written, or of a newer version (NewerSchema); names the
            file and how to mend it.
    """
    return Result.from_json(read_text(path), path)


def read_results(folder: Path) -> list[Result]:
    """Every result below a folder, in path order.

    Raises:
        RequestError: the folder is absent, holds no result, or holds a broken one.
    """
    return [result for _, result in located_results(folder)]


def located_results(folder: Path) -> list[tuple[Path, Result]]:
    """Every result below a folder with the path of its RESULT.json, in path order; errors as of `read_results`."""
    if not folder.is_dir():
        raise RequestError(f"no folder {folder}; give the --out folder of a run")
    found: list[tuple[Path, Result]] = []
    broken: list[RequestError] = []
    for path in result_paths(folder):
        try:
            found.append((path, read_result(path)))
        except RequestError as error:
            broken.append(error)
    if broken:
        more = f" (and {len(broken) - 1} more below {folder})" if len(broken) > 1 else ""
        raise RequestError(f"{broken[0]}{more}") from broken[0]
    if not found:
        raise RequestError(f"no {RESULT} below {folder}; give the --out folder of a run")
    return found


def one_model(path: Path) -> dict[str, tuple[Path, Result]]:
    """The results of the one model below a folder, or the one of a RESULT.json, by benchmark in path order.

    Returns:
        Name of the benchmark -> path of its RESULT.json, and the result.

    Raises:
        RequestError: nothing there, a broken result, several models, or several results of one benchmark.
    """
    if not path.exists():
        raise RequestError(f"there is no {path}; give a {RESULT}, or a folder with the results of one model")
    located = [(path, read_result(path))] if path.is_file() else located_results(path)
    models: dict[str, Path] = {}
    for place, result in located:  # a model without a digest is known by its spec
        models.setdefault(result.model["digest"] or result.model["spec"], place.parent.parent)
    if len(models) > 1:
        some = ", ".join(str(folder) for folder in list(models.values())[:3])
        raise RequestError(
            f"{path} holds results of {len(models)} models; give the folder of one: {some}"
            + (", ..." if len(models) > 3 else "")
        )
    found: dict[str, tuple[Path, Result]] = {}
    for place, result in located:
        name = result.benchmark["name"]
        if name in found:
            raise RequestError(f"two results of {name}: {found[name][0]} and {place}; give the path of one")
        found[name] = (place, result)
    return found


def result_paths(folder: Path) -> Iterator[Path]:
    """Paths of the results below a folder, sorted."""
    yield from visible(folder, RESULT)


def visible(folder: Path, name: str) -> Iterator[Path]:
    """Files of a name below a folder, sorted; folders whose names begin with a dot (a merge under way) are left out."""
    for path in sorted(folder.rglob(name)):
        if not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path


def read_samples(path: Path, result: Result) -> "pandas.DataFrame":
    """Read the per-sample table beside a RESULT.json; refuse another table than the one written with it.

    Columns have their present names, also where an older version wrote the file.

    Args:
        path: of RESULT.json, as `read_result` takes it.
        result: what stands in it.

    Raises:
        RequestError: the table is absent, truncated or altered (its SHA-256 is not the recorded one), or no table.
    """
    import pandas

    place = path.parent / SAMPLES
    if not place.exists():
        raise RequestError(f"{place} is not there; copy it with its {RESULT}, or delete that file and run again")
    content = read_content(place, LARGEST_SAMPLES)
    mend = f"copy it again with its {RESULT}, or delete both and run again"
    # the bytes that were checked are the bytes that are read
    if hashlib.sha256(content).hexdigest() != result.samples["sha256"]:
        if impostor := impostor_of(content):
            raise RequestError(f"{place} is {impostor}")
        raise RequestError(f"{place} is not what {RESULT} was written with: truncated or altered; {mend}")
    try:
        frame = pandas.read_parquet(io.BytesIO(content))
    except Exception as error:  # what the reader of parquet raises has no common class
        raise RequestError(
            f"{place} is no table: {str(error).splitlines()[0] if str(error) else error!r}; {mend}"
        ) from error
    if len(frame) != result.samples["rows"]:
        raise RequestError(f"{place} has {len(frame):,} rows, and {RESULT} says {result.samples['rows']:,}; {mend}")
    return frame.rename(columns=rename_old_columns(list(frame.columns), result.file_version))


def finished(folder: Path, identity: str) -> Result | None:
    """The result that stands in `folder` if it is the same measurement and its samples are whole; else None.

    Raises:
        NewerSchema: a newer cosmos-eval wrote it; it is not to be replaced as if it were broken.
    """
    path = folder / RESULT
    if not path.is_file():
        return None
    try:
        result = read_result(path)
    except NewerSchema:
        raise
    except RequestError:
        return None  # a broken record is measured again and replaced
    if not identity:
        return None
    samples = folder / SAMPLES
    if result.identity != identity or not samples.is_file() or file_digest(samples) != result.samples["sha256"]:
        return None
    return result


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with open_regular(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
