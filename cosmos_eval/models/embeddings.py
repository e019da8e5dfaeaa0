"""`embeddings:DIR`: vectors that were made elsewhere, offered by image and by text instead of an encoder.

The folder holds `meta.json` (a JSON object, for people), `images.npz` with `ids` (unicode, N) and `embeddings`
(float32, N x D), and `texts.npz` with `texts` (unicode, M) and `embeddings` (float32, M x D). No pickles. Vectors
need not be normalised. An image is found by its key in the dataset, else by the last part of its key when that is
unique.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_core.file_checks import require_file, user_path
from cosmos_core.files import atomic_path, atomic_write_text
from cosmos_core.json_text import read_json
from cosmos_core.text_files import LARGEST_TEXT
from cosmos_eval.datasets.base import ImageSource
from cosmos_eval.models.base import json_values, no_patches
from cosmos_eval.models.spec import ModelSpec

META = "meta.json"
FILES = {"images.npz": "ids", "texts.npz": "texts"}
"""Each with the array that names its rows."""
PACKED = 50
"""Bytes that one byte of an npz file may unpack to, beyond `SPARE`: names of one length and one language compress well,
vectors do not."""
SPARE = 2**28
_NAMED = 3  # missing items that a refusal spells out


class EmbeddingsModel:
    """The rows of one folder. It encodes nothing: the engine asks it for `image_rows` and `text_rows`."""

    def __init__(self, folder: Path, spec: str = "", device: str | torch.device = "cpu") -> None:
        self.folder = folder
        self.spec = spec or f"embeddings:{folder}"
        self.device = torch.device(device)
        self.meta = _read_meta(folder / META)
        (ids, images), (texts, text_vectors) = (_read_pair(folder / name, key) for name, key in FILES.items())
        if images.shape[1] != text_vectors.shape[1]:
            raise RequestError(
                f"{folder}: image vectors have {images.shape[1]} dimensions and text vectors {text_vectors.shape[1]}; "
                "write both from the same model"
            )
        self._images, self._texts = images, text_vectors
        self._row_of_id = {name: row for row, name in enumerate(ids)}
        self._row_of_text = {text: row for row, text in enumerate(texts)}
        self._rows_of_last_part: dict[str, list[int]] = {}
        for row, name in enumerate(ids):
            self._rows_of_last_part.setdefault(_last_part(name), []).append(row)
        self.digest = _digest(ids, images, texts, text_vectors)

    def image_rows(self, images: Sequence[ImageSource]) -> Tensor:
        """(N, D) float32 on `device`, as stored, in the order of `images`.

        Raises:
            RequestError: an image without a row, or two images that only share the last part of their keys with
            one row;
                says how many and names the first.
        """
        rows, missing = [], []
        taken: dict[int, str] = {}
        for image in images:
            row = self._row_of_id.get(image.key)
            if row is None:
                candidates = self._rows_of_last_part.get(_last_part(image.key), [])
                row = candidates[0] if len(candidates) == 1 else None
            if row is None:
                missing.append(image.key)
                continue
            if taken.setdefault(row, image.key) != image.key:
                raise RequestError(
                    f"{self.folder / 'images.npz'}: {taken[row]!r} and {image.key!r} would share one row; "
                    "write ids with enough of the path to tell them apart"
                )
            rows.append(row)
        self._refuse_missing(missing, len(images), "images", "images.npz")
        return torch.from_numpy(self._images[rows]).to(self.device)

    def text_rows(self, texts: Sequence[str]) -> Tensor:
        """(M, D) float32 on `device`, as stored, in the order of `texts`; RequestError as for `image_rows`."""
        missing = [text for text in texts if text not in self._row_of_text]
        self._refuse_missing(missing, len(texts), "texts", "texts.npz")
        return torch.from_numpy(self._texts[[self._row_of_text[text] for text in texts]]).to(self.device)

    def _refuse_missing(self, missing: list[str], total: int, what: str, file: str) -> None:
        if missing:
            names = ", ".join(repr(name if len(name) <= 80 else name[:77] + "...") for name in missing[:_NAMED])
            raise RequestError(
                f"{self.folder / file} lacks {len(missing):,} of {total:,} {what}: {names}"
                f"{', ...' if len(missing) > _NAMED else ''}; encode them and write the folder again"
            )

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        return self.text_rows(texts)

    def encode_image(self, x: Tensor) -> Tensor:
        raise RequestError(f"{self.spec} holds vectors and cannot encode pixels; use image_rows(images)")

    def check_patches(self) -> NoReturn:
        """RequestError: there are no features of patches here."""
        raise no_patches(self.spec, "it holds vectors of whole images")

    def encode_patches(self, x: Tensor, attention: str = "vanilla") -> Tensor:
        self.check_patches()

    def preprocess(self, image: Image.Image) -> Tensor:
        raise RequestError(f"{self.spec} holds vectors and cannot encode pixels; use image_rows(images)")

    def describe(self) -> dict[str, Any]:
        described = {
            "arch": self.meta.get("arch") or "embeddings",
            "activation": self.meta.get("activation") or "unknown",
            "tokenizer": str(self.meta.get("tokenizer", "unknown")),
            "source": self.folder.name,
            "dimensions": int(self._images.shape[1]),
            "images": len(self._images),
            "texts": len(self._texts),
        }
        return {**{k: v for k, v in self.meta.items() if isinstance(v, str | int | float | bool)}, **described}


def load_embeddings(spec: ModelSpec, device: str | torch.device = "cpu") -> EmbeddingsModel:
    """Open the folder that an `embeddings:` spec names."""
    return EmbeddingsModel(find_folder(spec), spec.text, device)


def check_embeddings(spec: ModelSpec, fetch: bool = False) -> str:
    """What can be said of an `embeddings:` spec without reading its vectors: see `cosmos_eval.models.preflight`."""
    folder = find_folder(spec)
    _read_meta(folder / META)
    for name, names_key in FILES.items():
        with _archive(folder / name, names_key):
            pass
    return ""


def find_folder(spec: ModelSpec) -> Path:
    """The folder that a spec names; RequestError where there is none."""
    folder = user_path(spec.name)
    if not folder.is_dir():
        raise RequestError(
            f"{spec.text}: there is no folder {folder}; give the one with meta.json and the two npz files"
        )
    return folder


def write_embeddings(
    folder: Path | str,
    ids: Sequence[str],
    image_embeddings: Tensor | np.ndarray,
    texts: Sequence[str],
    text_embeddings: Tensor | np.ndarray,
    meta: Mapping[str, Any] | None = None,
) -> None:
    """Write a folder that `embeddings:` reads; each file is whole or absent, `meta.json` last.

    Repeated ids or texts are written once when their rows are equal bit for bit.

    Args:
        image_embeddings: (N, D) finite, one row for each of `ids`.
        text_embeddings: (M, D) finite, one row for each of `texts`.

    Raises:
        RequestError: shapes that do not fit, a value that is not finite, one name with two different rows, a
            `meta` that is not JSON.
    """
    folder = Path(folder)
    said = json_values(meta or {}, str(folder / "meta.json"))
    sides = [("images.npz", "ids", ids, image_embeddings), ("texts.npz", "texts", texts, text_embeddings)]
    arrays = []
    for file, names_key, names, vectors in sides:
        if isinstance(vectors, Tensor):
            vectors = vectors.detach().cpu().float().numpy()
        kept_names, kept = _once(list(names), np.asarray(vectors, dtype=np.float32), folder / file)
        _check(np.array(kept_names, dtype=np.str_), kept, folder / file, names_key)
        arrays.append((folder / file, {names_key: np.array(kept_names, dtype=np.str_), "embeddings": kept}))
    for path, content in arrays:
        with atomic_path(path) as temporary, temporary.open("wb") as file_handle:
            np.savez(file_handle, allow_pickle=False, **content)
    atomic_write_text(folder / "meta.json", json.dumps(said, indent=1, ensure_ascii=False) + "\n")


def _once(names: list[str], vectors: np.ndarray, path: Path) -> tuple[list[str], np.ndarray]:
    if vectors.ndim != 2 or len(names) != len(vectors):
        raise RequestError(f"{path}: {len(names)} names and vectors of shape {vectors.shape}; give one row a name")
    first: dict[str, int] = {}
    for row, name in enumerate(names):
        earlier = first.setdefault(name, row)
        if earlier != row and not np.array_equal(vectors[earlier], vectors[row]):
            raise RequestError(f"{path}: {name[:80]!r} has two different rows; encode equal inputs once")
    return list(first), vectors[list(first.values())]


def _read_meta(path: Path) -> dict[str, Any]:
    try:
        meta = read_json(path, largest=LARGEST_TEXT)
    except RequestError as error:
        raise RequestError(f"{error}; it must be a JSON object, {{}} at least") from error
    if not isinstance(meta, dict):
        raise RequestError(f"{path} holds a {type(meta).__name__}; it must be a JSON object, {{}} at least")
    return json_values(meta, str(path))  # Python's reader lets NaN and 1e999 pass


@contextmanager
def _archive(path: Path, names_key: str) -> Iterator[Any]:
    """An npz file that holds what it must; whatever its reader raises within is refused in one line."""
    try:
        require_file(path, "embeddings", "write it with numpy.savez")
    except RequestError as error:
        raise RequestError(f"cannot read {path}: {error}") from error
    try:
        with np.load(path, allow_pickle=False) as content:
            found = set(content.files)
            if not {names_key, "embeddings"} <= found:
                raise RequestError(
                    f"{path} holds {sorted(found)}; it must hold the arrays {names_key!r} and 'embeddings'"
                )
            packed = path.stat().st_size
            whole = sum(member.file_size for member in content.zip.infolist())
            if whole > SPARE + PACKED * packed:
                raise RequestError(f"{path} says that {packed:,} bytes hold {whole:,}; write it with numpy.savez")
            yield content
    except RequestError:
        raise
    except Exception as error:  # an array alone, and damage in a zip archive, fail in any way
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise RequestError(f"cannot read {path}: {reason}; write it with numpy.savez, no pickles") from error


def _read_pair(path: Path, names_key: str) -> tuple[list[str], np.ndarray]:
    """Names (N) and vectors (N, D) of one npz file, checked."""
    with _archive(path, names_key) as content:
        names, vectors = content[names_key], content["embeddings"]
    _check(names, vectors, path, names_key)
    return names.tolist(), vectors


def _check(names: np.ndarray, vectors: np.ndarray, path: Path, names_key: str) -> None:
    if not isinstance(names, np.ndarray) or not isinstance(vectors, np.ndarray):  # a part that is no array of numpy's
        raise RequestError(f"{path}: {names_key!r} or 'embeddings' is no array; write it with numpy.savez, no pickles")
    if names.ndim != 1 or names.dtype.kind != "U":
        raise RequestError(f"{path}: {names_key!r} is {names.dtype} {names.shape}; it must be a unicode array (N,)")
    if vectors.dtype != np.float32 or vectors.ndim != 2 or len(vectors) != len(names) or not vectors.size:
        raise RequestError(
            f"{path}: 'embeddings' is {vectors.dtype} {vectors.shape}; it must be float32 ({len(names)}, D)"
        )
    unique, counts = np.unique(names, return_counts=True)
    if len(unique) != len(names):
        repeated = str(unique[counts > 1][0])
        raise RequestError(
            f"{path}: {len(names) - len(unique)} repeated {names_key}, {repeated[:80]!r} first; keep one each"
        )
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        raise RequestError(
            f"{path}: {int((~finite).sum())} rows hold NaN or infinity, {str(names[~finite][0])[:80]!r} first; "
            "encode them again"
        )


def _last_part(key: str) -> str:
    return key.replace("\\", "/").rstrip("/").rpartition("/")[2]


def _digest(ids: list[str], images: np.ndarray, texts: list[str], text_vectors: np.ndarray) -> str:
    digest = hashlib.sha256(b"embeddings 1\n")
    for names, vectors in ((ids, images), (texts, text_vectors)):
        digest.update(json.dumps([names, list(vectors.shape)]).encode())
        digest.update(np.ascontiguousarray(vectors).data)
    return digest.hexdigest()
