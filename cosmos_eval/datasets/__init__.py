"""Reading what is on disk: `load` gives the data of a benchmark, `check` says what is missing.

A reader is a function (benchmark, data root) -> Data that raises `DataProblems` with everything it finds missing, so
that `load` and `check` can never disagree. Readers are found by name in `catalog.READERS`, imported when first used.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from cosmos_eval.datasets.base import DataCheck
    from cosmos_eval.datasets.data.base import Data
    from cosmos_eval.progress import Reporter
    from cosmos_eval.protocol.benchmark import Benchmark

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
        limit: only this many images, spread evenly; the others are not even hashed.
        workers: threads that read the images for the fingerprint.

    Raises:
        RequestError: something is missing or does not fit together; one line with all of it.
    """
    from cosmos_eval.datasets.digests import dataset_fingerprint
    from cosmos_eval.datasets.pixel_rules import pixel_remarks

    data = read(benchmark, data_root, reporter)
    if limit is not None:
        data = take_images(data, limit)
    if data.fingerprint:
        return data
    fingerprint = dataset_fingerprint(data, workers, reporter)
    remarks = (*data.remarks, *data.content_observations(), *pixel_remarks(data.images))
    return data.replaced(fingerprint=fingerprint, remarks=remarks)


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
        deep: also decode every image.
        validate: what else must hold of the data read (`cosmos_eval.tasks.validate`); its RequestError is a problem.
    """
    from cosmos_core.errors import RequestError
    from cosmos_core.printable import printable
    from cosmos_eval.datasets.base import DataCheck
    from cosmos_eval.datasets.dataset_checks import DataProblems

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
            remarks += (*data.content_observations(), *pixel_remarks(data.images))
    left_out = tuple(printable(one) for one in data.left_out)
    return DataCheck(benchmark.name, expected, data.counts(), tuple(problems), left_out, remarks)


def limit(data: "Data", n: int, workers: int = 8) -> "Data":
    """The data of `n` images spread evenly over the order, with a fingerprint of their own."""
    from cosmos_eval.datasets.digests import dataset_fingerprint

    part = take_images(data, n)
    return part if part.fingerprint else part.replaced(fingerprint=dataset_fingerprint(part, workers))


def take_images(data: "Data", n: int) -> "Data":
    """The data of `n` images, without a fingerprint; all of them, as they are, where there are no more.

    Raises:
        RequestError: n < 1, data that cannot be limited, or too few images for one sample.
    """
    from cosmos_core.errors import RequestError

    if n < 1:
        raise RequestError(f"a limit of {n} images leaves nothing to measure; give at least 1")
    return data if n >= len(data.images) else data.subset(n)


def dataset_fingerprint(data: "Data", workers: int = 8) -> str:
    """See digests.py."""
    from cosmos_eval.datasets import digests

    return digests.dataset_fingerprint(data, workers)


def read(benchmark: "Benchmark", data_root: Path | str | None = None, reporter: "Reporter | None" = None) -> "Data":
    """The data of a benchmark as its reader gives them, without the fingerprint that would open every image.

    Args:
        reporter: shows the progress of readers that decode images, which some definitions ask for.

    Raises:
        RequestError: as `load`.
    """
    from contextlib import nullcontext

    from cosmos_core.errors import RequestError
    from cosmos_core.printable import printable
    from cosmos_eval.datasets.catalog import APPLY, READERS, reader_info
    from cosmos_eval.datasets.data.splits import in_splits
    from cosmos_eval.datasets.decoders import exif_applied
    from cosmos_eval.progress import showing

    name = benchmark.dataset["reader"]
    reader = reader_info(name)
    root = Path(data_root) if data_root is not None else benchmark.folder
    if root is None:
        if reader.needs_root:
            raise RequestError(f"{benchmark.name} reads from the disk; say where its data are with --data-root")
        root = Path()
    turned = benchmark.dataset.get("exif") == APPLY
    try:
        with showing(reporter), exif_applied() if turned else nullcontext(), READERS.at_work(name):
            data = in_splits(lambda one: reader.read(one, root), benchmark)
        return data.upright() if turned else data
    except OSError as error:  # a folder that may not be read, a disk that fails
        where = os.fsdecode(error.filename) if error.filename else str(root)
        raise RequestError(printable(f"{benchmark.name} cannot read {where}: {error.strerror or error}")) from error
