"""What a feature cache holds: list, verify, remove, and choose the features of one model (`cosmos-eval cache`)."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.json_text import read_json
from cosmos_eval.cache.feature_cache import FOLDER
from cosmos_eval.cache.shard import (
    FILE_PREFIX,
    SUFFIX,
    DamagedFileError,
    list_files,
    list_model_folders,
    list_temporary_files,
    read_checksummed,
    read_keys,
    read_shard,
)

ID_DIGITS = 8
MIN_PREFIX = 4
"""A model is found by the beginning of its digest or id only if at least this many characters are given."""


@dataclass(frozen=True)
class CachedModel:
    """One model folder of a cache: the features of one model in one precision on one device type."""

    folder: Path

    @property
    def id(self) -> str:
        """The first digits of the digest in the folder's name, by which users refer to it."""
        return self.folder.name.rpartition("-")[2][:ID_DIGITS]

    @cached_property
    def info(self) -> dict[str, Any]:
        """`spec`, `digest`, `precision`, `device` and `model` from `cosmos_eval.cache.feature_cache.model_cache_info`.

        If `space.json` is missing or damaged, precision and device come from the folder's name, and the spec is
        "unknown".
        """
        precision, _, device = self.folder.name.rpartition("-")[0].partition("-")
        defaults = {"spec": "unknown", "digest": "", "precision": precision, "device": device, "model": {}}
        with suppress(ValueError, LookupError, TypeError):
            stored = read_json(self.folder / "space.json")
            known_types = {key: stored[key] for key in defaults if isinstance(stored[key], type(defaults[key]))}
            return defaults | known_types
        return defaults

    def files(self) -> list[Path]:
        """Return the shards and files of names."""
        return list_files(self.folder)

    def shards(self, kind: str) -> list[Path]:
        """Return the shards of one kind of item (a key of `FILE_PREFIX`)."""
        return [path for path in self.files() if path.name.startswith(f"{FILE_PREFIX[kind]}-")]

    def count_features(self, kind: str) -> int:
        """Return the number of distinct items with features; unreadable shards are not counted."""
        keys: set[bytes] = set()
        for path in self.shards(kind):
            with suppress(DamagedFileError, OSError):
                keys.update(map(bytes, read_keys(path, self.folder.name)))
        return len(keys)

    def size(self) -> int:
        """Return the size of all files in bytes."""
        return sum(_stat_field(path, "st_size") for path in self.files())

    def last_used(self) -> float:
        """Return the time of the last read or write, in seconds since 1970; 0 if there are no files."""
        return max((_stat_field(path, "st_mtime") for path in self.files()), default=0.0)


def find_cache_folder(path: Path) -> Path:
    """Return the cache folder that is meant by `path`: the one inside a results folder, else `path` itself.

    Raises:
        RequestError: neither of them is a cache with files.
    """
    for folder in (path / FOLDER, path):
        if folder.is_dir() and list_cached_models(folder):
            return folder
    raise RequestError(f"no feature cache in {path}; give --cache the cache folder, or the --out folder of a run")


def list_cached_models(cache_folder: Path) -> list[CachedModel]:
    """Return the models in a cache, ordered by spec."""
    models = [
        CachedModel(path)
        for path in list_model_folders(cache_folder)
        if list_files(path) or (path / "space.json").is_file()
    ]
    return sorted(models, key=lambda model: (model.info["spec"], model.folder.name))


def find_cached_models(cache_folder: Path, name: str) -> list[CachedModel]:
    """Return the models whose spec is `name`; if there are none, those whose digest or id begins with it.

    Raises:
        RequestError: no model matches; the message lists the specs of those in the cache.
    """
    models = list_cached_models(cache_folder)
    matches = [model for model in models if model.info["spec"] == name]
    if not matches and len(name) >= MIN_PREFIX:
        matches = [model for model in models if model.info["digest"].startswith(name) or model.id.startswith(name)]
    if not matches:
        specs = ", ".join(dict.fromkeys(model.info["spec"] for model in models)) or "none"
        raise RequestError(f"no cached features of {name!r} in {cache_folder}; models in this cache: {specs}")
    return matches


def find_damaged_files(model: CachedModel) -> Iterator[tuple[Path, str]]:
    """Read every file of a model and yield those that are damaged or unreadable, with the reason."""
    for path in model.files():
        try:
            if path.suffix == SUFFIX:
                read_shard(path, model.folder.name)
            else:
                read_checksummed(path)
        except DamagedFileError as error:
            yield path, str(error)
        except FileNotFoundError:
            continue  # a run removed it meanwhile, to keep the cache within its limit
        except OSError as error:
            yield path, str(error.strerror or error)


def remove_cached_models(models: Sequence[CachedModel]) -> int:
    """Remove the files of models, and their folders if nothing else is in them; return the bytes that were freed."""
    freed = 0
    for model in models:
        for path in [*model.files(), *list_temporary_files(model.folder), model.folder / "space.json"]:
            with suppress(FileNotFoundError):
                size = path.stat().st_size
                path.unlink()
                freed += size
        with suppress(OSError):  # not empty: other programs keep files there
            model.folder.rmdir()
    return freed


def _stat_field(path: Path, field: str) -> Any:
    """Return a field of a file's status; 0 if the file was removed meanwhile."""
    try:
        return getattr(path.stat(), field)
    except OSError:
        return 0
