"""CIFAR's pickles: compared with the published files, and unpickled only if they hold arrays and plain values."""

import hashlib
import io
import pickle
import pickletools
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.text_files import impostor_at, impostor_of
from cosmos_eval.datasets.dataset_checks import DatasetChecker
from cosmos_eval.datasets.substitution import substituted

CIFAR = {"cifar10": "CIFAR10", "cifar100": "CIFAR100"}
"""clip-benchmark's name -> torchvision's class, which has the file names and checksums."""

ARRAY_GLOBALS = {
    ("_codecs", "encode"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy._core.numeric", "_frombuffer"),
}
"""Module and name of everything that a pickled numpy array refers to. None of these can call other code."""


class ArrayUnpickler(pickle.Unpickler):
    """Unpickles dicts, lists, numbers, strings and numpy arrays; refuses any other object before it is imported."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ARRAY_GLOBALS:
            raise pickle.UnpicklingError(f"it contains {module}.{name}, which is not part of an array")
        return super().find_class(module, name)


def load_arrays(file: Any, *, encoding: str = "ASCII", checksums: Mapping[str, str] | None = None, **_: Any) -> Any:
    """Load a pickle; replaces `pickle.load` in torchvision's module.

    Args:
        checksums: path of a file -> its MD5; None if the files need not be the published ones.

    Raises:
        RequestError: the pickle contains other objects than arrays and plain values, is damaged, or has another
            checksum: it was changed after `require_published_files`, which reads it before torchvision does.
    """
    name = getattr(file, "name", "a pickle")
    content = file.read()
    expected_md5 = None if checksums is None else checksums.get(str(name))
    if expected_md5 is not None and hashlib.md5(content, usedforsecurity=False).hexdigest() != expected_md5:
        raise RequestError(f"{name} was changed after its checksum was read: do not change data during a run")
    if impostor := impostor_of(content):
        raise RequestError(f"cannot read {name}: it is {impostor}")
    try:
        require_small_memo(content)
        return ArrayUnpickler(io.BytesIO(content), encoding=encoding).load()
    except Exception as error:  # a damaged pickle raises exceptions of many types
        reason = " ".join(str(error).split())  # that of a persistent id has two lines
        raise RequestError(f"cannot read {name}: {reason}; unpack CIFAR's archive again") from error


def require_small_memo(content: bytes) -> None:
    """Refuse a pickle that numbers an object higher than there are bytes before it.

    Python's unpickler fills 16 bytes for each number up to the highest one, and cannot be interrupted meanwhile: up to
    69 GB where one byte is damaged.
    """
    for operation, number, position in pickletools.genops(content):
        if operation.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(number or 0) > (position or 0):
            raise pickle.UnpicklingError(f"at byte {position:,} it numbers an object {number:,}")


@contextmanager
def safe_unpickling(published: bool = True, checksums: Mapping[str, str] | None = None) -> Iterator[None]:
    """Inside the block, torchvision's CIFAR classes read their files by `load_arrays`.

    Args:
        published: whether torchvision checks the files' checksums; without it, only whether they exist.
        checksums: as in `load_arrays`.
    """
    from torchvision.datasets import cifar

    def exists(path: str, md5: str | None = None) -> bool:
        return Path(path).is_file()

    load = load_arrays if checksums is None else partial(load_arrays, checksums=checksums)
    pickle_module = SimpleNamespace(load=load)  # what torchvision calls `pickle`
    with substituted(cifar, "pickle", pickle_module), ExitStack() as stack:
        if not published:
            stack.enter_context(substituted(cifar, "check_integrity", exists))
        yield


def require_published_files(root: Path, name: str, checker: DatasetChecker) -> dict[str, str]:
    """Check that all files of a CIFAR archive exist and are the published ones, by the MD5 that torchvision lists.

    Returns:
        Path of each file -> its MD5.

    Raises:
        DataProblems: with every missing or different file.
    """
    import torchvision

    published = getattr(torchvision.datasets, CIFAR[name])
    files = [*published.train_list, *published.test_list, [published.meta["filename"], published.meta["md5"]]]
    for file_name, md5 in files:
        path = root / published.base_folder / file_name
        if not path.is_file():
            checker.add_missing(str(path), path)
        elif impostor := impostor_at(path):
            checker.add_problem(f"cannot read {path}: it is {impostor}")
        elif _md5(path) != md5:
            checker.add_problem(
                f"has a file that was changed or cut short (its checksum differs), {path}; unpack {published.filename} "
                "again"
            )
    checker.raise_if_problems()
    return {str(root / published.base_folder / file_name): md5 for file_name, md5 in files}


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
