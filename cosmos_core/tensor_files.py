"""The one reader of files of tensors (`.pt`, `.pth`, `.bin`, safetensors), on every path: evaluation, training, export.

Nothing in a file is run, every byte of a torch file is compared with its checksum, and what comes back are plain values
and ordinary tensors, whose shapes need no more memory than the file holds.
"""

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor

from cosmos_core.errors import RequestError
from cosmos_core.file_checks import require_file
from cosmos_core.printable import one_line

AGAIN = "copy or download it again"
DEPTH = 64
"""Levels of lists and dictionaries; an optimizer's state has four."""
VALUES = 20_000_000
"""Plain values, where each is counted as often as it is reached: lists that hold one list twice, twenty times over, are
a few bytes in a file and do not end when something walks them."""
BITS = 256
"""Of a whole number: the longest of a random number generator has 128."""
SPARE = 2**30
"""Bytes that views may declare above four times what the file holds: `expand` makes terabytes of four bytes."""


@dataclass(frozen=True)
class TensorFile:
    """What a file holds."""

    content: Any
    """What torch saved; of safetensors the tensors by their names."""
    metadata: dict[str, str] | None = None
    """Of safetensors; None where torch wrote the file."""


def read_tensors(path: Path | str, check: bool = True) -> TensorFile:
    """The content of a file that torch or safetensors wrote: tensors on the CPU and plain values.

    Torch's zip files are mapped into memory, so that what nobody asks for takes none.

    Args:
        check: compare every byte of a zip file with its checksum, about a second per gigabyte. Only who looks at a few
            numbers, as of a list of checkpoints, and reads the file again before its weights count, may leave it out.
            Files of torch before 1.6 and safetensors have no checksums.

    Raises:
        RequestError: missing, a folder, pipe or device, empty, a Git LFS pointer, an error page; truncated or with
            flipped bits; not a file of tensors; objects that would run code; tensors that are nested, sparse,
            quantized, complex or without values; shapes or values beyond what the file holds. One line that names it.
    """
    path = Path(path)
    start = require_file(path, "checkpoint", "give the path of a .pt or .safetensors file")
    if path.suffix == ".safetensors" or (start[8:9] == b"{" and not start.startswith(b"PK")):
        content, metadata = read_safetensors(path)
    else:
        content, metadata = read_torch(path, start, check), None
    check_content(content, str(path))
    return TensorFile(content, metadata)


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file; RequestError where its header or its length is wrong."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        return load_file(path), metadata
    except Exception as error:  # damage can make the reader fail in any way
        raise RequestError(f"{path} is not a whole safetensors file ({one_line(error)}); {AGAIN}") from error


def read_torch(path: Path, start: bytes, check: bool = True) -> Any:
    """What torch wrote to `path`, tensors and plain values only: anything else in it is refused, never built."""
    zipped = start.startswith(b"PK\x03\x04")
    if not zipped and not start.startswith(b"\x80"):
        raise RequestError(f"{path} is not a checkpoint: it is neither a torch file nor safetensors{described(start)}")
    if zipped:
        check_archive(path, check)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles that are refused below
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        found = re.search(
            r"(?:Unsupported global: GLOBAL|GLOBAL) ([\w.]+)|Unsupported (?:class|operand)[^\n]*", str(error)
        )
        what = f" ({found.group(1) or one_line(found.group(0))})" if found else ""
        if found or "Weights only load failed" in str(error):
            raise RequestError(
                f"{path} holds Python objects{what} that could run code and is not read: save weights as safetensors"
            ) from error
        raise RequestError(f"{path} is damaged ({one_line(error)}); {AGAIN}") from error
    except Exception as error:  # a damaged stream can make its reader fail in any way
        raise RequestError(f"{path} is damaged or truncated ({one_line(error)}); {AGAIN}") from error


def check_archive(path: Path, check: bool = True) -> None:
    """RequestError unless a zip file is whole, torch's, and its members have their checksums.

    Args:
        check: read all members; without it only the directory at the end of the file.
    """
    try:
        if not zipfile.is_zipfile(path):
            raise RequestError(f"{path} is truncated: its end is missing; {AGAIN}")
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            refuse_foreign_archive(path, members)
            # torch writes zeros for all of them where it was told to (torch.serialization.set_crc32_options)
            bad = archive.testzip() if check and any(member.CRC for member in members) else None
    except RequestError:
        raise
    except Exception as error:  # a damaged directory can make its reader fail in any way
        raise RequestError(f"{path} is damaged ({one_line(error)}); {AGAIN}") from error
    if bad is not None:
        raise RequestError(f"{path} is damaged: {one_line(bad)} does not have its checksum; {AGAIN}")


def refuse_foreign_archive(path: Path, members: list[zipfile.ZipInfo]) -> None:
    """RequestError where a zip file is none that `torch.save` wrote."""
    names = [member.filename for member in members]
    if any(name.endswith("/constants.pkl") for name in names):
        raise RequestError(
            f"{path} is a TorchScript program, not a checkpoint; save its weights as safetensors (OpenAI's own "
            "archives are open_clip:ARCH/openai)"
        )
    if not any(name.endswith("/data.pkl") or name == "data.pkl" for name in names):
        raise RequestError(f"{path} is a zip archive, not a checkpoint: unpack it and give the file that is in it")
    if len(set(names)) < len(names):
        raise RequestError(f"{path} is damaged: two of its members have one name; {AGAIN}")
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise RequestError(f"{path} was packed again by another program (torch compresses nothing); {AGAIN}")


def described(start: bytes) -> str:
    """What the first bytes of a file look like, as the end of a refusal."""
    if start.startswith(b"\x1f\x8b"):
        return ", but compressed by gzip: unpack it"
    if start[257:262] == b"ustar":
        return ", but a tar archive: unpack it"
    if start.isascii() and re.fullmatch(rb"[\t\n\r\x20-\x7e]+", start):
        return f", but text: {one_line(start.decode('ascii'), 40)!r}"
    return ""


def check_content(content: Any, name: str) -> None:
    """RequestError where plain values hold a tensor or a value that no file may hold; `name` says whose they are."""
    _Contents(name).check(content)


class _Contents:
    """A walk over nested values that counts what walks without a memory would meet, and looks at each tensor once."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.sizes: dict[int, int] = {}
        """Values below each list and dictionary; 0 while they are counted."""
        self.seen: dict[int, Tensor] = {}
        self.declared = 0
        self.storages: dict[int, int] = {}

    def check(self, content: Any) -> None:
        if self.size_of(content, "", 0) > VALUES:
            raise RequestError(f"{self.name} is not a checkpoint: it holds more than {VALUES:,} values")
        held = sum(self.storages.values())
        if self.declared > 4 * held + SPARE:
            raise RequestError(
                f"{self.name} is not a checkpoint: its tensors have shapes of {self.declared:,} bytes and hold "
                f"{held:,}; save them contiguous"
            )

    def size_of(self, value: Any, place: str, depth: int) -> int:
        if isinstance(value, Tensor):
            if id(value) not in self.seen:
                self.seen[id(value)] = value
                self.look_at(value, place)
            return 1
        if isinstance(value, Mapping | list | tuple | set):
            return self.size_of_nested(value, place, depth)
        if isinstance(value, int) and value.bit_length() > BITS:
            raise RequestError(f"{self.name} is not a checkpoint: {place} is a number of {value.bit_length():,} bits")
        return 1

    def size_of_nested(self, value: Any, place: str, depth: int) -> int:
        size = self.sizes.get(id(value))
        if size == 0 or depth > DEPTH:
            raise RequestError(f"{self.name} is not a checkpoint: it holds lists nested more than {DEPTH} deep")
        if size is None:
            self.sizes[id(value)] = 0
            if isinstance(value, Mapping):
                size = 1 + sum(
                    self.size_of(key, "a key", depth + 1) + self.size_of(item, self.named(place, key), depth + 1)
                    for key, item in value.items()
                )
            else:
                size = 1 + sum(self.size_of(item, place, depth + 1) for item in value)
            self.sizes[id(value)] = size
        return size

    def named(self, place: str, key: Any) -> str:
        own = one_line(key, 80) if isinstance(key, str) else one_line(repr(key), 80) if type(key) is int else "?"
        return f"{place}/{own}" if place else own

    def look_at(self, value: Tensor, place: str) -> None:
        odd = odd_tensor(value)
        if odd:
            raise RequestError(f"{self.name} is not a checkpoint to load: {place} is {odd}")
        if not value.is_meta:
            storage = value.untyped_storage()
            self.storages[storage.data_ptr()] = storage.nbytes()
            self.declared += value.numel() * value.element_size()


def odd_tensor(value: Tensor) -> str:
    """Why a tensor is none of real numbers that lie in memory one after the other, in words; empty where it is."""
    kind = str(value.dtype).removeprefix("torch.")
    if value.is_nested:
        return f"a nested tensor of {kind}, not dense floating point"
    if value.is_meta:
        return "broken: it has a shape but no values (a meta tensor); save it again"
    if value.layout is not torch.strided:
        return f"sparse {kind}, not dense floating point"
    if value.is_quantized:
        return f"quantized ({kind}), not dense floating point; save what dequantize() gives"
    if value.is_complex():
        return f"{kind}, not dense floating point"
    if type(value) not in (Tensor, torch.nn.Parameter, torch.nn.Buffer):
        return f"a {type(value).__name__}, not a plain tensor"
    return ""
