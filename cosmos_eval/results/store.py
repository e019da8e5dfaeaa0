"""Reads and writes results: OUT/<model>/<benchmark>/RESULT.json beside samples.parquet, each written atomically."""

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cosmos_core.errors import RequestError
from cosmos_core.files import atomic_path, atomic_write_text
from cosmos_core.json_text import read_json
from cosmos_core.printable import plural
from cosmos_core.text_files import impostor_of, open_regular, read_content, read_text
from cosmos_eval.results.record import Result, first_fault, with_classes
from cosmos_eval.results.sections import SamplesSection
from cosmos_eval.results.versions import NewerSchema, rename_old_columns

if TYPE_CHECKING:
    import pandas

RESULT = "RESULT.json"
SAMPLES = "samples.parquet"
NOT_RUN = "NOT_RUN.json"
LARGEST_SAMPLES = 2**34
"""Bytes of samples.parquet at most; a million samples take a thousandth of it."""


def write_samples(folder: Path, samples: "pandas.DataFrame") -> SamplesSection:
    """Write the per-sample table; return what RESULT.json records of it."""
    path = folder / SAMPLES
    with atomic_path(path) as temporary:
        try:
            samples.to_parquet(temporary, index=False)
        except UnicodeEncodeError:  # pyarrow takes no path that is not UTF-8
            with temporary.open("wb") as stream:
                samples.to_parquet(stream, index=False)
    return SamplesSection(SAMPLES, len(samples), file_digest(path))


def write_result(folder: Path, result: Result) -> Path:
    """Write RESULT.json last, after its samples: a folder that has one is finished."""
    path = folder / RESULT
    text = result.to_json()
    fault = first_fault(json.loads(text))
    if fault:
        raise RequestError(f"{result.label} on {result.benchmark.name}: the result would not be valid: {fault}")
    atomic_write_text(path, text)
    (folder / NOT_RUN).unlink(missing_ok=True)
    return path


def write_not_run(folder: Path, model: str, benchmark: str, reason: str) -> None:
    """Record why a requested benchmark was not run, unless the folder has a result of it."""
    if not (folder / RESULT).is_file():
        record = {"model": model, "benchmark": benchmark, "reason": reason}
        atomic_write_text(folder / NOT_RUN, json.dumps(record, indent=2, ensure_ascii=False) + "\n")


def read_not_run(folder: Path) -> list[str]:
    """A line for each benchmark below a folder that was requested and not run."""
    lines = []
    for path in visible_files(folder, NOT_RUN):
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
            file and how to repair it.
    """
    return with_classes(Result.from_json(read_text(path), path), path.parent)


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
    located: list[tuple[Path, Result]] = []
    errors: list[RequestError] = []
    for path in result_paths(folder):
        try:
            located.append((path, read_result(path)))
        except RequestError as error:
            errors.append(error)
    if errors:
        more = f" (and {len(errors) - 1} more below {folder})" if len(errors) > 1 else ""
        raise RequestError(f"{errors[0]}{more}") from errors[0]
    if not located:
        raise RequestError(f"no {RESULT} below {folder}; give the --out folder of a run")
    return located


def read_model(path: Path) -> dict[str, tuple[Path, Result]]:
    """Read the results of the only model below a folder, or one RESULT.json; by benchmark, in path order.

    Returns:
        name of the benchmark (`Result.benchmark_name`) -> path of its RESULT.json, and the result.

    Raises:
        RequestError: nothing there, a broken result, several models, or several results of one benchmark.
    """
    if not path.exists():
        raise RequestError(f"there is no {path}; give a {RESULT}, or a folder with the results of one model")
    located = [(path, read_result(path))] if path.is_file() else located_results(path)
    models: dict[str, Path] = {}
    for result_path, result in located:  # a model without a digest is identified by its spec
        models.setdefault(result.model.digest or result.model.spec, result_path.parent.parent)
    if len(models) > 1:
        folders = ", ".join(str(folder) for folder in list(models.values())[:3])
        raise RequestError(
            f"{path} holds results of {len(models)} models; give the folder of one: {folders}"
            + (", ..." if len(models) > 3 else "")
        )
    by_benchmark: dict[str, tuple[Path, Result]] = {}
    for result_path, result in located:
        name = result.benchmark_name
        if name in by_benchmark:
            raise RequestError(
                f"two results of {name}: {by_benchmark[name][0]} and {result_path}; give the path of one"
            )
        by_benchmark[name] = (result_path, result)
    return by_benchmark


def result_paths(folder: Path) -> Iterator[Path]:
    """Paths of the results below a folder, sorted."""
    yield from visible_files(folder, RESULT)


def visible_files(folder: Path, name: str) -> Iterator[Path]:
    """Files with this name below a folder, sorted; hidden folders (as of a running merge) are left out."""
    for path in sorted(folder.rglob(name)):
        if not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path


def read_samples(path: Path, result: Result) -> "pandas.DataFrame":
    """Read the per-sample table beside a RESULT.json; refuse another table than the one written with it.

    Columns have their present names, also where an older version wrote the file.

    Args:
        path: of RESULT.json, as `read_result` takes it.
        result: as `read_result` returned it.

    Raises:
        RequestError: the file is absent, truncated or altered (its SHA-256 is not the recorded one), or not Parquet.
    """
    import pandas

    samples_path = path.parent / SAMPLES
    if not samples_path.exists():
        raise RequestError(f"{samples_path} is missing; copy it with its {RESULT}, or delete that file and run again")
    content = read_content(samples_path, LARGEST_SAMPLES)
    advice = f"copy it again with its {RESULT}, or delete both and run again"
    # the bytes that are checked are the bytes that are read
    if hashlib.sha256(content).hexdigest() != result.samples.sha256:
        if impostor := impostor_of(content):
            raise RequestError(f"{samples_path} is {impostor}")
        raise RequestError(
            f"{samples_path} is not the file that {RESULT} was written with: truncated or altered; {advice}"
        )
    try:
        frame = pandas.read_parquet(io.BytesIO(content))
    except Exception as error:  # errors of the Parquet reader have no common class
        raise RequestError(
            f"{samples_path} is not a Parquet table: {str(error).splitlines()[0] if str(error) else error!r}; {advice}"
        ) from error
    if len(frame) != result.samples.rows:
        raise RequestError(
            f"{samples_path} has {plural(len(frame), 'row')}, but {RESULT} records {result.samples.rows:,}; {advice}"
        )
    return frame.rename(columns=rename_old_columns(list(frame.columns), result.file_version))


def find_finished(folder: Path, identity: str) -> Result | None:
    """The result in `folder` if it is the same measurement and its samples are intact; else None.

    Raises:
        NewerSchema: a newer cosmos-eval wrote it; it must not be replaced like a damaged one.
    """
    path = folder / RESULT
    if not path.is_file():
        return None
    try:
        result = read_result(path)
    except NewerSchema:
        raise
    except RequestError:
        return None  # a damaged record is measured again and replaced
    if not identity:
        return None
    samples = folder / SAMPLES
    if result.identity != identity or not samples.is_file() or file_digest(samples) != result.samples.sha256:
        return None
    return result


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with open_regular(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
