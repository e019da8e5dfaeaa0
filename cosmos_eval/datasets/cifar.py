"""CIFAR's pickles: read only as they were published, and never with more than arrays and texts in them."""

import hashlib
import io
import pickle
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.text_files import impostor_at, impostor_of
from cosmos_eval.datasets.dataset_checks import Survey
from cosmos_eval.datasets.substitution import substituted

CIFAR = {"cifar10": "CIFAR10", "cifar100": "CIFAR100"}
"""clip-benchmark's name -> torchvision's class, which knows files and checksums."""

ARRAY_PARTS = {
    ("_codecs", "encode"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy._core.numeric", "_frombuffer"),
}
"""What a pickled numpy array is put together from; none of it can call anything else."""


class ArrayUnpickler(pickle.Unpickler):
    """Reads maps, lists, numbers, texts and numpy arrays; any other object is refused before it is looked up."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ARRAY_PARTS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not part of an array")
        return super().find_class(module, name)


def load_arrays(file: Any, *, encoding: str = "ASCII", checksums: Mapping[str, str] | None = None, **_: Any) -> Any:
    """Stands in for `pickle.load`.

    Args:
        checksums: the MD5 that each file must have, by its path; None asks for none.

    Raises:
        RequestError: the pickle holds something other than arrays and plain values, is broken, or is another one than
            was published: its file was changed since that was looked at.
    """
    name = getattr(file, "name", "a pickle")
    content = file.read()
    expected = None if checksums is None else checksums.get(str(name))
    if expected is not None and hashlib.md5(content, usedforsecurity=False).hexdigest() != expected:
        raise RequestError(f"{name} was changed after its checksum was looked at: leave the data as they are")
    if impostor := impostor_of(content):
        raise RequestError(f"cannot read {name}: it is {impostor}")
    try:
        return ArrayUnpickler(io.BytesIO(content), encoding=encoding).load()
    except Exception as error:  # a broken pickle makes its reader stumble in many ways
        raise RequestError(f"cannot read {name}: {error}; unpack CIFAR's archive again") from error


@contextmanager
def safe_unpickling(published: bool = True, checksums: Mapping[str, str] | None = None) -> Iterator[None]:
    """Torchvision's CIFAR classes read their files through `load_arrays`, and only the published ones unless told."""
    from torchvision.datasets import cifar

    def is_there(path: str, md5: str | None = None) -> bool:
        return Path(path).is_file()

    read = load_arrays if checksums is None else partial(load_arrays, checksums=checksums)
    reader = SimpleNamespace(load=read)
    with substituted(cifar, "pickle", reader), ExitStack() as stack:
        if not published:
            stack.enter_context(substituted(cifar, "check_integrity", is_there))
        yield


def checked_files(root: Path, name: str, survey: Survey) -> dict[str, str]:
    """Note every file of a CIFAR archive that is missing or differs from the one published (MD5, as torchvision lists).

    Returns:
        The MD5 of each file by its path.

    Raises:
        DataProblems: with all of them.
    """
    import torchvision

    published = getattr(torchvision.datasets, CIFAR[name])
    files = [*published.train_list, *published.test_list, [published.meta["filename"], published.meta["md5"]]]
    for file, md5 in files:
        path = root / published.base_folder / file
        if not path.is_file():
            survey.missing(str(path), path)
        elif impostor := impostor_at(path):
            survey.add(f"cannot read {path}: it is {impostor}")
        elif _md5(path) != md5:
            survey.add(f"finds {path} changed or cut short (its checksum differs); unpack {published.filename} again")
    survey.stop_if_any()
    return {str(root / published.base_folder / file): md5 for file, md5 in files}


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
