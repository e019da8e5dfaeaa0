"""The only reader of tensor files (`.pt`, `.pth`, `.bin`, safetensors), for evaluation, training and export.

It runs no code of a file, verifies the checksums of torch files, and returns only plain values and ordinary tensors,
whose shapes need no more memory than the file holds.
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
from cosmos_core.file_checks import is_file, require_file
from cosmos_core.printable import one_line, printable

COPY_AGAIN = "copy or download it again"
MAX_DEPTH = 64
"""Most levels of nested lists and dictionaries; an optimizer's state has four."""
MAX_VALUES = 20_000_000
"""Most plain values, each counted as often as it is reached. Twenty nested lists, each holding the next one twice, are
a few bytes in a file, but a walk over them visits a million values."""
MAX_BITS = 256
"""Most bits of an integer: the longest one of a random number generator's state has 128."""
SPARE_BYTES = 2**30
"""Bytes that tensors' shapes may need beyond four times what the file holds: `expand` makes terabytes of four bytes."""


@dataclass(frozen=True)
class TensorFile:
    """The content of a tensor file."""

    content: Any
    """The object that torch saved; for safetensors, the tensors by name."""
    metadata: dict[str, str] | None = None
    """Of safetensors; None for a torch file."""


def read_tensors(path: Path | str, check: bool = True) -> TensorFile:
    """The content of a file that torch or safetensors wrote: tensors on the CPU and plain values.

    Torch's zip files are memory-mapped, so tensors that are never read take no memory.

    Args:
        check: verify the checksums of a zip file, about a second per gigabyte. False is only for callers that look at a
            few numbers, such as a list of checkpoints, and read the file again before they use its weights. Files of
            torch before 1.6 and safetensors have no checksums.

    Raises:
        RequestError: missing, a folder, pipe or device, empty, a Git LFS pointer, an error page; truncated or with
            flipped bits; not a file of tensors; objects that could run code; tensors that are nested, sparse,
            quantized, complex or without values; shapes or values beyond what the file holds. Names the file.
    """
    path = Path(path)
    newest = path / "last.pt"  # in the folder of a training
    wanted = printable(newest) if is_file(newest) else "the path of a .pt or .safetensors file"
    start = require_file(path, "checkpoint", f"give {wanted}")
    if path.suffix == ".safetensors" or (start[8:9] == b"{" and not start.startswith(b"PK")):
        content, metadata = read_safetensors(path)
    else:
        content, metadata = read_torch(path, start, check), None
    check_content(content, str(path))
    return TensorFile(content, metadata)


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file; RequestError if its header or its length is wrong."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        return load_file(path), metadata
    except Exception as error:  # damage can make the reader fail in any way
        raise RequestError(f"{path} is not a whole safetensors file ({one_line(error)}); {COPY_AGAIN}") from error


def read_torch(path: Path, start: bytes, check: bool = True) -> Any:
    """The object in a torch file, tensors and plain values only; anything else is refused without being built."""
    zipped = start.startswith(b"PK\x03\x04")
    if not zipped and not start.startswith(b"\x80"):
        raise RequestError(
            f"{path} is not a checkpoint: it is neither a torch file nor safetensors{describe_content(start)}"
        )
    if zipped:
        check_archive(path, check)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about pickles, which are refused below
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        refused = re.search(
            r"(?:Unsupported global: GLOBAL|GLOBAL) ([\w.]+)|Unsupported (?:class|operand)[^\n]*", str(error)
        )
        object_name = f" ({refused.group(1) or one_line(refused.group(0))})" if refused else ""
        if refused or "Weights only load failed" in str(error):
            raise RequestError(
                f"{path} holds Python objects{object_name} that could run code and is not read: "
                "save weights as safetensors"
            ) from error
        raise RequestError(f"{path} is damaged ({one_line(error)}); {COPY_AGAIN}") from error
    except Exception as error:  # a damaged stream can make its reader fail in any way
        raise RequestError(f"{path} is damaged or truncated ({one_line(error)}); {COPY_AGAIN}") from error


def check_archive(path: Path, check: bool = True) -> None:
    """RequestError unless a zip file is complete, written by torch, and its members match their checksums.

    Args:
        check: read all members; without it only the directory at the end of the file.
    """
    try:
        if not zipfile.is_zipfile(path):
            raise RequestError(f"{path} is truncated: its end is missing; {COPY_AGAIN}")
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            refuse_foreign_archive(path, members)
            # all checksums are zero if torch is configured not to compute them (torch.serialization.set_crc32_options)
            damaged_member = archive.testzip() if check and any(member.CRC for member in members) else None
    except RequestError:
        raise
    except Exception as error:  # a damaged directory can make its reader fail in any way
        raise RequestError(f"{path} is damaged ({one_line(error)}); {COPY_AGAIN}") from error
    if damaged_member is not None:
        raise RequestError(f"{path} is damaged: {one_line(damaged_member)} does not have its checksum; {COPY_AGAIN}")


def refuse_foreign_archive(path: Path, members: list[zipfile.ZipInfo]) -> None:
    """RequestError if a zip file was not written by `torch.save`."""
    names = [member.filename for member in members]
    if any(name.endswith("/constants.pkl") for name in names):
        raise RequestError(
            f"{path} is a TorchScript program, not a checkpoint; save its weights as safetensors (OpenAI's own "
            "archives are open_clip:ARCH/openai)"
        )
    if not any(name.endswith("/data.pkl") or name == "data.pkl" for name in names):
        raise RequestError(f"{path} is a zip archive, not a checkpoint: unpack it and give the file that is in it")
    if len(set(names)) < len(names):
        raise RequestError(f"{path} is damaged: two of its members have one name; {COPY_AGAIN}")
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise RequestError(f"{path} was packed again by another program (torch compresses nothing); {COPY_AGAIN}")


def describe_content(start: bytes) -> str:
    """What the first bytes of a file look like, as the end of an error message."""
    if start.startswith(b"\x1f\x8b"):
        return ", but compressed by gzip: unpack it"
    if start[257:262] == b"ustar":
        return ", but a tar archive: unpack it"
    if start.isascii() and re.fullmatch(rb"[\t\n\r\x20-\x7e]+", start):
        return f", but text: {one_line(start.decode('ascii'), 40)!r}"
    return ""


def check_content(content: Any, name: str) -> None:
    """RequestError if `content` holds a tensor or value that a file may not hold; `name` is the file, for the
    message."""
    _ContentCheck(name).check(content)


class _ContentCheck:
    """Walks over nested values: counts shared lists as often as they are reached, but checks every object once."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.sizes: dict[int, int] = {}
        """Number of values below each list and dictionary, by id; 0 while it is being counted, to detect cycles."""
        self.seen: dict[int, Tensor] = {}
        self.declared = 0
        self.storages: dict[int, int] = {}

    def check(self, content: Any) -> None:
        if self.count_values(content, "", 0) > MAX_VALUES:
            raise RequestError(f"{self.name} is not a checkpoint: it holds more than {MAX_VALUES:,} values")
        stored_bytes = sum(self.storages.values())
        if self.declared > 4 * stored_bytes + SPARE_BYTES:
            raise RequestError(
                f"{self.name} is not a checkpoint: its tensors have shapes of {self.declared:,} bytes and hold "
                f"{stored_bytes:,}; save them contiguous"
            )

    def count_values(self, value: Any, entry: str, depth: int) -> int:
        if isinstance(value, Tensor):
            if id(value) not in self.seen:
                self.seen[id(value)] = value
                self.check_tensor(value, entry)
            return 1
        if isinstance(value, Mapping | list | tuple | set):
            return self.count_nested(value, entry, depth)
        if isinstance(value, int) and value.bit_length() > MAX_BITS:
            raise RequestError(f"{self.name} is not a checkpoint: {entry} is a number of {value.bit_length():,} bits")
        return 1

    def count_nested(self, value: Any, entry: str, depth: int) -> int:
        size = self.sizes.get(id(value))
        if size == 0 or depth > MAX_DEPTH:
            raise RequestError(f"{self.name} is not a checkpoint: it holds lists nested more than {MAX_DEPTH} deep")
        if size is None:
            self.sizes[id(value)] = 0
            if isinstance(value, Mapping):
                size = 1 + sum(
                    self.count_values(key, "a key", depth + 1)
                    + self.count_values(item, self.entry_name(entry, key), depth + 1)
                    for key, item in value.items()
                )
            else:
                size = 1 + sum(self.count_values(item, entry, depth + 1) for item in value)
            self.sizes[id(value)] = size
        return size

    def entry_name(self, entry: str, key: Any) -> str:
        key_text = one_line(key, 80) if isinstance(key, str) else one_line(repr(key), 80) if type(key) is int else "?"
        return f"{entry}/{key_text}" if entry else key_text

    def check_tensor(self, value: Tensor, entry: str) -> None:
        problem = describe_unusual_tensor(value)
        if problem:
            raise RequestError(f"{self.name} is not a checkpoint to load: {entry} is {problem}")
        if not value.is_meta:
            storage = value.untyped_storage()
            self.storages[storage.data_ptr()] = storage.nbytes()
            self.declared += value.numel() * value.element_size()


def describe_unusual_tensor(value: Tensor) -> str:
    """Why a tensor is not a plain dense real one, in words; empty if it is."""
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
