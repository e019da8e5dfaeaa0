"""`embeddings:DIR`: embeddings that were computed elsewhere, looked up by image and by text.

The folder holds `meta.json` (a JSON object, for people), `images.npz` with `ids` (unicode, N) and `embeddings`
(float32, N x D), and `texts.npz` with `texts` (unicode, M) and `embeddings` (float32, M x D). No pickles. The
embeddings need not be normalised. The id of an image is its key in the dataset, or the last part of its key if no
other id ends in the same part.
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
from cosmos_core.printable import list_counts, plural
from cosmos_core.text_files import LARGEST_TEXT
from cosmos_eval.datasets.image_sources import ImageSource
from cosmos_eval.models.abilities import no_patches_error
from cosmos_eval.models.base import ShortRepr
from cosmos_eval.models.returned_values import require_json_values
from cosmos_eval.models.spec import ModelSpec

META = "meta.json"
FILES = {"images.npz": "ids", "texts.npz": "texts"}
"""Each file with the name of its array of ids or texts."""
MAX_EXPANSION = 50
MAX_EXTRA_BYTES = 2**28
"""Of an npz file of N bytes, at most `MAX_EXPANSION` * N + `MAX_EXTRA_BYTES` bytes are unpacked, so that a small file,
damaged or hostile, cannot use up all memory. Texts compress well, embeddings do not."""
_MAX_NAMED = 3
"""Number of missing images or texts that a message names."""


class EmbeddingsModel(ShortRepr):
    """The embeddings of one folder.

    It encodes nothing: the engine calls `read_image_embeddings` and `read_text_embeddings` instead.
    """

    def __init__(self, folder: Path, spec: str = "", device: str | torch.device = "cpu") -> None:
        self.folder = folder
        self.spec = spec or f"embeddings:{folder}"
        self.device = torch.device(device)
        self.meta = _read_meta(folder / META)
        (ids, image_embeddings), (texts, text_embeddings) = (
            _read_embeddings(folder / file, names_key) for file, names_key in FILES.items()
        )
        if image_embeddings.shape[1] != text_embeddings.shape[1]:
            raise RequestError(
                f"{folder}: image embeddings have {image_embeddings.shape[1]} dimensions and text embeddings "
                f"{text_embeddings.shape[1]}; write both from the same model"
            )
        self._image_embeddings, self._text_embeddings = image_embeddings, text_embeddings
        self._index_of_id = {name: index for index, name in enumerate(ids)}
        self._index_of_text = {text: index for index, text in enumerate(texts)}
        self._indices_of_last_part: dict[str, list[int]] = {}
        for index, name in enumerate(ids):
            self._indices_of_last_part.setdefault(_last_part(name), []).append(index)
        self.digest = _digest(ids, image_embeddings, texts, text_embeddings)

    def read_image_embeddings(self, images: Sequence[ImageSource]) -> Tensor:
        """Look up embeddings of images.

        Returns:
            (N, D) float32 on `device`, as stored, in the order of `images`.

        Raises:
            RequestError: images without an embedding (says how many and names the first), or two images with different
                keys for which one embedding is found, because their keys have the last part in common.
        """
        indices, missing_keys = [], []
        key_of_index: dict[int, str] = {}
        for image in images:
            index = self._find_image(image.key)
            if index is None:
                missing_keys.append(image.key)
                continue
            if key_of_index.setdefault(index, image.key) != image.key:
                raise RequestError(
                    f"{self.folder / 'images.npz'}: {key_of_index[index]!r} and {image.key!r} would share one "
                    "embedding; write ids with enough of the path to tell them apart"
                )
            indices.append(index)
        self._require_none_missing(missing_keys, len(images), "images", "images.npz")
        return torch.from_numpy(self._image_embeddings[indices]).to(self.device)

    def _find_image(self, key: str) -> int | None:
        """The index of an image's embedding by its whole key, else by the last part if that is unique among the ids."""
        index = self._index_of_id.get(key)
        if index is None:
            candidates = self._indices_of_last_part.get(_last_part(key), [])
            index = candidates[0] if len(candidates) == 1 else None
        return index

    def read_text_embeddings(self, texts: Sequence[str]) -> Tensor:
        """Look up embeddings of texts.

        Returns:
            (M, D) float32 on `device`, as stored, in the order of `texts`.

        Raises:
            RequestError: texts without an embedding; says how many and names the first.
        """
        missing_texts = [text for text in texts if text not in self._index_of_text]
        self._require_none_missing(missing_texts, len(texts), "texts", "texts.npz")
        indices = [self._index_of_text[text] for text in texts]
        return torch.from_numpy(self._text_embeddings[indices]).to(self.device)

    def _require_none_missing(self, missing: list[str], total: int, items: str, file: str) -> None:
        if missing:
            names = ", ".join(repr(name if len(name) <= 80 else name[:77] + "...") for name in missing[:_MAX_NAMED])
            raise RequestError(
                f"{self.folder / file} lacks {len(missing):,} of {list_counts({items: total})}: {names}"
                f"{', ...' if len(missing) > _MAX_NAMED else ''}; encode them and write the folder again"
            )

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        return self.read_text_embeddings(texts)

    def encode_image(self, x: Tensor) -> Tensor:
        raise self._no_pixels_error()

    def preprocess(self, image: Image.Image) -> Tensor:
        raise self._no_pixels_error()

    def _no_pixels_error(self) -> RequestError:
        return RequestError(f"{self.spec} holds embeddings and cannot encode pixels; use read_image_embeddings(images)")

    def check_patches(self) -> NoReturn:
        """Always raises RequestError: a folder has no patch features."""
        raise no_patches_error(self.spec, "it holds embeddings of whole images")

    def encode_patches(self, x: Tensor, attention: str = "vanilla") -> Tensor:
        self.check_patches()

    def facts(self) -> dict[str, Any]:
        """What `show model` prints beyond `describe()`."""
        return {"embedding_width": int(self._image_embeddings.shape[1])}

    def describe(self) -> dict[str, Any]:
        described = {
            "arch": self.meta.get("arch") or "embeddings",
            "activation": self.meta.get("activation") or "unknown",
            "tokenizer": str(self.meta.get("tokenizer", "unknown")),
            "source": self.folder.name,
            "dimensions": int(self._image_embeddings.shape[1]),
            "images": len(self._image_embeddings),
            "texts": len(self._text_embeddings),
        }
        return {**{k: v for k, v in self.meta.items() if isinstance(v, str | int | float | bool)}, **described}


def load_embeddings(spec: ModelSpec, device: str | torch.device = "cpu") -> EmbeddingsModel:
    """Read the folder that an `embeddings:` spec names."""
    return EmbeddingsModel(find_folder(spec), spec.text, device)


def check_embeddings(spec: ModelSpec, fetch: bool = False) -> str:
    """Check an `embeddings:` spec without reading the arrays: see `cosmos_eval.models.preflight`."""
    folder = find_folder(spec)
    _read_meta(folder / META)
    for file, names_key in FILES.items():
        with _open_npz(folder / file, names_key):
            pass
    return ""


def find_folder(spec: ModelSpec) -> Path:
    """The folder that a spec names; RequestError if it does not exist."""
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
    """Write a folder that `embeddings:` reads. Each file is written atomically, `meta.json` last.

    Ids and texts may repeat if their embeddings are equal bit for bit; each is written once.

    Args:
        image_embeddings: (N, D) finite, one for each of `ids`.
        text_embeddings: (M, D) finite, one for each of `texts`.

    Raises:
        RequestError: shapes that do not fit, a value that is not finite, one id or text with two different embeddings,
            a `meta` that is not JSON.
    """
    folder = Path(folder)
    meta_json = require_json_values(meta or {}, str(folder / META))
    arrays_of_file: dict[Path, dict[str, np.ndarray]] = {}
    for (file, names_key), names, embeddings in zip(
        FILES.items(), (ids, texts), (image_embeddings, text_embeddings), strict=True
    ):
        path = folder / file
        if isinstance(embeddings, Tensor):
            embeddings = embeddings.detach().cpu().float().numpy()
        unique_names, unique_embeddings = _drop_repeats(list(names), np.asarray(embeddings, dtype=np.float32), path)
        name_array = np.array(unique_names, dtype=np.str_)
        _check_arrays(name_array, unique_embeddings, path, names_key)
        arrays_of_file[path] = {names_key: name_array, "embeddings": unique_embeddings}
    for path, arrays in arrays_of_file.items():
        with atomic_path(path) as temporary, temporary.open("wb") as file_handle:
            np.savez(file_handle, allow_pickle=False, **arrays)
    atomic_write_text(folder / META, json.dumps(meta_json, indent=1, ensure_ascii=False) + "\n")


def _drop_repeats(names: list[str], embeddings: np.ndarray, path: Path) -> tuple[list[str], np.ndarray]:
    """Each name once with its embedding; RequestError if a name has two different embeddings."""
    if embeddings.ndim != 2 or len(names) != len(embeddings):
        raise RequestError(
            f"{path}: {len(names)} names and embeddings of shape {embeddings.shape}; give one name for each embedding"
        )
    first_index: dict[str, int] = {}
    for index, name in enumerate(names):
        first = first_index.setdefault(name, index)
        if first != index and not np.array_equal(embeddings[first], embeddings[index]):
            raise RequestError(f"{path}: {name[:80]!r} has two different embeddings; encode equal inputs once")
    return list(first_index), embeddings[list(first_index.values())]


def _read_meta(path: Path) -> dict[str, Any]:
    try:
        meta = read_json(path, largest=LARGEST_TEXT)
    except RequestError as error:
        raise RequestError(f"{error}; it must be a JSON object, {{}} at least") from error
    if not isinstance(meta, dict):
        raise RequestError(f"{path} holds a {type(meta).__name__}; it must be a JSON object, {{}} at least")
    return require_json_values(meta, str(path))  # Python's json accepts NaN and 1e999


@contextmanager
def _open_npz(path: Path, names_key: str) -> Iterator[Any]:
    """Open an npz file and check its list of arrays; every exception within becomes a RequestError."""
    try:
        require_file(path, "embeddings", "write it with numpy.savez")
    except RequestError as error:
        raise RequestError(f"cannot read {path}: {error}") from error
    try:
        with np.load(path, allow_pickle=False) as npz:
            arrays = set(npz.files)
            if not {names_key, "embeddings"} <= arrays:
                raise RequestError(
                    f"{path} holds {sorted(arrays)}; it must hold the arrays {names_key!r} and 'embeddings'"
                )
            packed_size = path.stat().st_size
            unpacked_size = sum(member.file_size for member in npz.zip.infolist())
            if unpacked_size > MAX_EXTRA_BYTES + MAX_EXPANSION * packed_size:
                raise RequestError(
                    f"{path} has {packed_size:,} bytes and would unpack to {unpacked_size:,}; write it with numpy.savez"
                )
            yield npz
    except RequestError:
        raise
    except Exception as error:  # a damaged archive, or a bare npy array, makes numpy fail in any way
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise RequestError(f"cannot read {path}: {reason}; write it with numpy.savez, no pickles") from error


def _read_embeddings(path: Path, names_key: str) -> tuple[list[str], np.ndarray]:
    """N names and (N, D) embeddings of one npz file, checked."""
    with _open_npz(path, names_key) as npz:
        names, embeddings = npz[names_key], npz["embeddings"]
    _check_arrays(names, embeddings, path, names_key)
    return names.tolist(), embeddings


def _check_arrays(names: np.ndarray, embeddings: np.ndarray, path: Path, names_key: str) -> None:
    """RequestError unless these are N unique names and (N, D) finite float32 embeddings."""
    if not isinstance(names, np.ndarray) or not isinstance(embeddings, np.ndarray):
        # numpy returns bytes for a member of the archive that is not in npy format
        raise RequestError(
            f"{path}: {names_key!r} or 'embeddings' is not an array; write it with numpy.savez, no pickles"
        )
    if names.ndim != 1 or names.dtype.kind != "U":
        raise RequestError(f"{path}: {names_key!r} is {names.dtype} {names.shape}; it must be a unicode array (N,)")
    is_matrix = embeddings.dtype == np.float32 and embeddings.ndim == 2 and len(embeddings) == len(names)
    # probes ask for no texts
    if not is_matrix or not embeddings.shape[1] or (names_key == FILES["images.npz"] and not len(names)):
        raise RequestError(
            f"{path}: 'embeddings' is {embeddings.dtype} {embeddings.shape}; it must be float32 ({len(names)}, D)"
        )
    unique_names, counts = np.unique(names, return_counts=True)
    if len(unique_names) != len(names):
        repeated = str(unique_names[counts > 1][0])
        raise RequestError(
            f"{path}: {len(names) - len(unique_names)} repeated {names_key}, {repeated[:80]!r} first; keep one each"
        )
    is_finite = np.isfinite(embeddings).all(axis=1)  # (N,)
    if not is_finite.all():
        raise RequestError(
            f"{path}: {plural(int((~is_finite).sum()), 'embedding holds', 'embeddings hold')} NaN or infinity, "
            f"{str(names[~is_finite][0])[:80]!r} first; encode them again"
        )


def _last_part(key: str) -> str:
    """The file name at the end of a key, which may be a path of any system."""
    return key.replace("\\", "/").rstrip("/").rpartition("/")[2]


def _digest(ids: list[str], image_embeddings: np.ndarray, texts: list[str], text_embeddings: np.ndarray) -> str:
    """SHA-256 over ids, texts and embeddings; `meta.json` does not enter."""
    digest = hashlib.sha256(b"embeddings 1\n")
    for names, embeddings in ((ids, image_embeddings), (texts, text_embeddings)):
        digest.update(json.dumps([names, list(embeddings.shape)]).encode())
        digest.update(np.ascontiguousarray(embeddings).data)
    return digest.hexdigest()
