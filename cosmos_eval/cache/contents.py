"""What a store holds: listed, checked, cleared, and a model's rows chosen from it."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.json_text import read_json
from cosmos_eval.cache.shard import FILE_PREFIX, SUFFIX, Damaged, files_of, read_keys, read_named, read_shard, spaces_of
from cosmos_eval.cache.store import FOLDER

ID_DIGITS = 8


@dataclass(frozen=True)
class Held:
    """The rows of one model in one precision on one kind of device."""

    folder: Path

    @property
    def id(self) -> str:
        return self.folder.name.rpartition("-")[2][:ID_DIGITS]

    @cached_property
    def about(self) -> dict[str, Any]:
        """`cosmos_eval.cache.store.about_rows`; unknown words where its file is gone or broken."""
        precision, _, device = self.folder.name.rpartition("-")[0].partition("-")
        unknown = {"spec": "unknown", "digest": "", "precision": precision, "device": device, "model": {}}
        with suppress(ValueError, LookupError, TypeError):
            found = read_json(self.folder / "space.json")
            return unknown | {key: found[key] for key in unknown if isinstance(found[key], type(unknown[key]))}
        return unknown

    def files(self) -> list[Path]:
        return files_of(self.folder)

    def shards(self, kind: str) -> list[Path]:
        return [path for path in self.files() if path.name.startswith(f"{FILE_PREFIX[kind]}-")]

    def rows(self, kind: str) -> int:
        """Distinct items with a row; shards that cannot be read count nothing."""
        keys: set[bytes] = set()
        for path in self.shards(kind):
            with suppress(Damaged, OSError):
                keys.update(map(bytes, read_keys(path, self.folder.name)))
        return len(keys)

    def size(self) -> int:
        """Bytes on disk."""
        return sum(_status(path, "st_size") for path in self.files())

    def used(self) -> float:
        """When a row was last read or written, in seconds since 1970; 0 where there is none."""
        return max((_status(path, "st_mtime") for path in self.files()), default=0.0)


def store_at(path: Path) -> Path:
    """The store in a folder: itself, or the one that a run keeps below its results.

    Raises:
        RequestError: there is none.
    """
    for folder in (path / FOLDER, path):
        if folder.is_dir() and held(folder):
            return folder
    raise RequestError(f"no stored embeddings in {path}; give --cache the store, or the --out folder of a run")


def held(store: Path) -> list[Held]:
    """What a store holds, by the name of the model."""
    found = [Held(path) for path in spaces_of(store) if files_of(path) or (path / "space.json").is_file()]
    return sorted(found, key=lambda one: (one.about["spec"], one.folder.name))


def chosen(store: Path, word: str) -> list[Held]:
    """Those whose model spec is `word`, or whose digest or id begins with it.

    Raises:
        RequestError: none; names what there is.
    """
    every = held(store)
    found = [one for one in every if one.about["spec"] == word]
    if not found and len(word) >= 4:
        found = [one for one in every if one.about["digest"].startswith(word) or one.id.startswith(word)]
    if not found:
        some = ", ".join(dict.fromkeys(one.about["spec"] for one in every)) or "none"
        raise RequestError(f"no stored embeddings of {word!r} in {store}; there are those of {some}")
    return found


def damaged(one: Held) -> Iterator[tuple[Path, str]]:
    """Each file that is not what was written, with the reason."""
    for path in one.files():
        try:
            if path.suffix == SUFFIX:
                read_shard(path, one.folder.name)
            else:
                read_named(path)
        except Damaged as error:
            yield path, str(error)
        except FileNotFoundError:
            continue  # a run made room meanwhile
        except OSError as error:
            yield path, str(error.strerror or error)


def clear(some: Sequence[Held]) -> int:
    """Remove these, and their folders where nothing else lies there; returns the bytes that were freed."""
    freed = 0
    for one in some:
        for path in [*one.files(), *files_of(one.folder, temporary=True), one.folder / "space.json"]:
            with suppress(FileNotFoundError):
                size = path.stat().st_size
                path.unlink()
                freed += size
        with suppress(OSError):
            one.folder.rmdir()
    return freed


def _status(path: Path, what: str) -> Any:
    try:
        return getattr(path.stat(), what)
    except OSError:
        return 0
