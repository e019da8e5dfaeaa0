"""Reading what is on disk: `load` gives the data of a benchmark, `check` says what is missing.

A reader is a function (benchmark, data root) -> Data that raises `DataProblems` with everything it finds missing, so
that `load` and `check` can never disagree. Readers are found by name in `catalog.READERS`, imported when first used.
"""

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from cosmos_eval.datasets.base import Data, DataCheck, Reader
    from cosmos_eval.progress import Reporter
    from cosmos_eval.protocol import Benchmark

__all__ = ["check", "dataset_fingerprint", "limit", "load", "read"]


def load(
    benchmark: "Benchmark",
    data_root: Path | str | None = None,
    limit: int | None = None,
    workers: int = 8,
    reporter: "Reporter | None" = None,
) -> "Data":
    """The data of a benchmark, checked, with their fingerprint.

    Args:
        data_root: the folder that holds the datasets; None is a user's own YAML's folder.
        limit: only this many pictures, spread evenly; the others are not even hashed.
        workers: threads that read the pictures for the fingerprint.

    Raises:
        RequestError: something is missing or does not fit together; one line with all of it.
    """
    from dataclasses import replace

    from cosmos_eval.datasets.consistency import equal_images
    from cosmos_eval.datasets.fingerprint import dataset_fingerprint
    from cosmos_eval.datasets.pixel_rules import pixel_remarks
    from cosmos_eval.datasets.subset import take_pictures

    data = read(benchmark, data_root, reporter)
    if limit is not None:
        data = take_pictures(data, limit)
    if data.fingerprint:
        return data
    fingerprint = dataset_fingerprint(data, workers, reporter)
    remarks = (*data.remarks, *equal_images(data), *pixel_remarks(data.pictures))
    return replace(data, fingerprint=fingerprint, remarks=remarks)


def check(
    benchmark: "Benchmark",
    data_root: Path | str | None = None,
    deep: bool = False,
    workers: int = 8,
    reporter: "Reporter | None" = None,
    validate: "Callable[[Benchmark, Data], None] | None" = None,
) -> "DataCheck":
    """Whether the disk holds what a benchmark needs: counts, and every problem found.

    Args:
        deep: also decode every picture.
        validate: what else must hold of the data read (`cosmos_eval.tasks.validate`); its RequestError is a problem.
    """
    from cosmos_core.errors import RequestError
    from cosmos_core.printable import printable
    from cosmos_eval.datasets.base import DataCheck
    from cosmos_eval.datasets.consistency import counts_of, equal_images
    from cosmos_eval.datasets.survey import DataProblems

    expected = dict(benchmark.dataset.get("expected", {}))
    try:
        data = read(benchmark, data_root, reporter)
    except DataProblems as error:
        return DataCheck(benchmark.name, expected, error.found, error.problems)
    except RequestError as error:
        return DataCheck(benchmark.name, expected, {}, (f"{benchmark.name}: {printable(str(error))}",))
    problems: list[str] = []
    remarks = tuple(data.remarks)
    if validate is not None:
        try:
            validate(benchmark, data)
        except RequestError as error:
            problems.append(printable(str(error)))
    if deep:
        from cosmos_eval.datasets.deep import undecodable
        from cosmos_eval.datasets.pixel_rules import pixel_remarks

        undecoded = undecodable(benchmark.name, data, workers, reporter)
        problems += undecoded
        if not undecoded:
            remarks += (*equal_images(data), *pixel_remarks(data.pictures))
    left_out = tuple(printable(one) for one in getattr(data, "left_out", ()))
    return DataCheck(benchmark.name, expected, counts_of(data), tuple(problems), left_out, remarks)


def limit(data: "Data", n: int, workers: int = 8) -> "Data":
    """The data of `n` pictures spread evenly over the order, with a fingerprint of their own (see subset.py)."""
    from dataclasses import replace

    from cosmos_eval.datasets.fingerprint import dataset_fingerprint
    from cosmos_eval.datasets.subset import take_pictures

    part = take_pictures(data, n)
    return part if part.fingerprint else replace(part, fingerprint=dataset_fingerprint(part, workers))


def dataset_fingerprint(data: "Data", workers: int = 8) -> str:
    """See fingerprint.py."""
    from cosmos_eval.datasets import fingerprint

    return fingerprint.dataset_fingerprint(data, workers)


def find_reader(name: str) -> "Reader":
    """The function of a reader.

    Raises:
        RequestError: no reader of that name.
    """
    from cosmos_core.errors import RequestError
    from cosmos_eval.datasets.catalog import READERS

    if name not in READERS:
        raise RequestError(f"there is no dataset reader {name!r}; known: {', '.join(READERS)}")
    module, _, function = READERS[name].where.partition(":")
    reader: Any = getattr(importlib.import_module(module), function)
    return reader


def read(benchmark: "Benchmark", data_root: Path | str | None = None, reporter: "Reporter | None" = None) -> "Data":
    """The data of a benchmark as its reader gives them, without the fingerprint that would open every picture.

    Args:
        reporter: shows the progress of readers that decode pictures, which some definitions ask for.

    Raises:
        RequestError: as `load`.
    """
    from contextlib import nullcontext

    from cosmos_core.errors import RequestError
    from cosmos_core.printable import printable
    from cosmos_eval.datasets.catalog import APPLY, READERS
    from cosmos_eval.datasets.decoders import exif_applied
    from cosmos_eval.datasets.pixel_rules import turned_upright
    from cosmos_eval.progress import showing

    reader = find_reader(benchmark.dataset["reader"])
    root = Path(data_root) if data_root is not None else benchmark.folder
    if root is None:
        if READERS[benchmark.dataset["reader"]].needs_root:
            raise RequestError(f"{benchmark.name} reads from the disk; say where its data are with --data-root")
        root = Path()
    turned = benchmark.dataset.get("exif") == APPLY
    try:
        with showing(reporter), exif_applied() if turned else nullcontext():
            data = reader(benchmark, root)
        return turned_upright(data) if turned else data
    except OSError as error:  # a folder that may not be read, a disk that fails
        where = os.fsdecode(error.filename) if error.filename else str(root)
        raise RequestError(printable(f"{benchmark.name} cannot read {where}: {error.strerror or error}")) from error
