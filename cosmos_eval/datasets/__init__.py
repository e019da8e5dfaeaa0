"""Datasets on disk: `load` returns the data of a benchmark, `check` says what is missing.

Both call the benchmark's reader, a function (benchmark, data root) -> `Data` that raises `DataProblems` with
everything it finds missing, so that they always agree. `reader_registry.READERS` has the readers by name; their code is
imported when it is used.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from cosmos_eval.datasets.data.base import Data
    from cosmos_eval.datasets.dataset_checks import DataReport
    from cosmos_eval.progress import Reporter
    from cosmos_eval.protocol.benchmark import Benchmark

__all__ = ["check", "dataset_fingerprint", "limit", "load", "read", "take_images", "with_fingerprint"]


def load(
    benchmark: "Benchmark",
    data_root: Path | str | None = None,
    limit: int | None = None,
    workers: int = 8,
    reporter: "Reporter | None" = None,
) -> "Data":
    """Return the data of a benchmark, checked and with their fingerprint.

    Args:
        data_root: the folder that holds the datasets; None is the folder of a user's own definition.
        limit: number of images to take, spread evenly; the others are not even hashed.
        workers: threads that read the images for the fingerprint.

    Raises:
        RequestError: something is missing or inconsistent; one line with all of it.
    """
    data = read(benchmark, data_root, reporter)
    if limit is not None:
        data = take_images(data, limit)
    return with_fingerprint(data, workers, reporter)


def with_fingerprint(data: "Data", workers: int = 8, reporter: "Reporter | None" = None) -> "Data":
    """Return data with their fingerprint, and with the remarks that need the content of every image."""
    from cosmos_eval.datasets.fingerprint import dataset_fingerprint
    from cosmos_eval.datasets.image_facts import decoding_remarks

    if data.fingerprint:
        return data
    fingerprint = dataset_fingerprint(data, workers, reporter)
    remarks = (*data.remarks, *data.content_observations(), *decoding_remarks(data.images))
    return data.replaced(fingerprint=fingerprint, remarks=remarks)


def check(
    benchmark: "Benchmark",
    data_root: Path | str | None = None,
    deep: bool = False,
    workers: int = 8,
    reporter: "Reporter | None" = None,
    validate: "Callable[[Benchmark, Data], None] | None" = None,
) -> "DataReport":
    """Return the counts of a benchmark's data on disk, and every problem with them.

    Args:
        data_root: as for `load`.
        deep: also decode every image and mask.
        workers: threads that decode.
        validate: checks what the task needs of the data (`cosmos_eval.tasks.validate`); its RequestError is a problem.
    """
    from cosmos_core.errors import RequestError
    from cosmos_core.printable import printable
    from cosmos_eval.datasets.dataset_checks import DataProblems, DataReport

    expected = dict(benchmark.dataset.get("expected", {}))
    try:
        data = read(benchmark, data_root, reporter)
    except DataProblems as error:
        return DataReport(benchmark.name, expected, error.found, error.problems)
    except RequestError as error:
        return DataReport(benchmark.name, expected, {}, (f"{benchmark.name}: {printable(str(error))}",))
    problems: list[str] = []
    remarks = tuple(data.remarks)
    if validate is not None:
        try:
            validate(benchmark, data)
        except RequestError as error:
            problems.append(printable(str(error)))
    if deep:
        from cosmos_eval.datasets.deep_check import find_undecodable
        from cosmos_eval.datasets.image_facts import decoding_remarks

        undecodable = find_undecodable(benchmark.name, data, workers, reporter)
        problems += undecodable
        if not undecodable:  # the remarks need every image's digest, which an unreadable image does not have
            remarks += (*data.content_observations(), *decoding_remarks(data.images))
    left_out = tuple(printable(line) for line in data.left_out)
    return DataReport(benchmark.name, expected, data.counts(), tuple(problems), left_out, remarks)


def limit(data: "Data", n: int, workers: int = 8) -> "Data":
    """Return the data of `n` images spread evenly over their order, with a fingerprint of their own."""
    from cosmos_eval.datasets.fingerprint import dataset_fingerprint

    part = take_images(data, n)
    return part if part.fingerprint else part.replaced(fingerprint=dataset_fingerprint(part, workers))


def take_images(data: "Data", n: int) -> "Data":
    """Return the data of `n` images without a fingerprint, or all data unchanged if there are no more than `n`.

    Raises:
        RequestError: n < 1, data that cannot be limited, or too few images for one sample.
    """
    from cosmos_core.errors import RequestError

    if n < 1:
        raise RequestError(f"a limit of {n} images leaves nothing to measure; give at least 1")
    return data if n >= len(data.images) else data.subset(n)


def dataset_fingerprint(data: "Data", workers: int = 8) -> str:
    """Return the fingerprint of data; see fingerprint.py."""
    from cosmos_eval.datasets import fingerprint

    return fingerprint.dataset_fingerprint(data, workers)


def read(benchmark: "Benchmark", data_root: Path | str | None = None, reporter: "Reporter | None" = None) -> "Data":
    """Return the data of a benchmark as its reader makes them, without the fingerprint, for which all images are read.

    Args:
        data_root: as for `load`.
        reporter: shows the progress of readers that decode images, as some definitions require.

    Raises:
        RequestError: as `load`.
    """
    from contextlib import nullcontext

    from cosmos_core.errors import RequestError
    from cosmos_core.printable import printable
    from cosmos_core.short_repr import short_name
    from cosmos_eval.datasets.data.splits import read_splits
    from cosmos_eval.datasets.decoders import apply_exif
    from cosmos_eval.datasets.in_memory import read_in_memory
    from cosmos_eval.datasets.reader import APPLY
    from cosmos_eval.datasets.reader_registry import READERS, reader_info
    from cosmos_eval.progress import use_reporter

    if benchmark.data is not None:
        return read_in_memory(benchmark)
    name = benchmark.dataset["reader"]
    reader = reader_info(name)
    root = Path(data_root) if data_root is not None else benchmark.folder
    root = benchmark.data_root or root
    if root is None:
        if reader.needs_root:
            raise RequestError(f"{benchmark.name} is read from disk; give the folder of its data with --data-root")
        root = Path()
    upright = benchmark.dataset.get("exif") == APPLY
    try:
        # The reader runs with EXIF applied, too: some readers open images, for instance to check boxes and masks.
        with use_reporter(reporter), apply_exif() if upright else nullcontext(), READERS.at_work(name):
            data = read_splits(lambda part: reader_info(part.dataset["reader"]).read(part, root), benchmark)
        return data.upright() if upright else data
    except OSError as error:  # a folder without permission, a disk that fails
        path = os.fsdecode(error.filename) if error.filename else str(root)
        reason = printable(str(error.strerror or error))
        raise RequestError(f"{benchmark.name} cannot read {short_name(printable(path))}: {reason}") from error
