"""Struct arrays and matrices of MATLAB's files (level 5 MAT-file format), read with every length checked.

scipy's `loadmat` ends the process with a segmentation fault for some damaged files; here they are an error. Only texts
and numbers in fields of a struct array, and matrices of numbers are read.
"""

import struct
import zlib
from collections.abc import Iterator, Sequence

import numpy as np

from cosmos_core.printable import plural

HEADER_BYTES = 128
COMPRESSED, MATRIX = 15, 14
TEXT_CODES = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16"}
"""Type of an element -> encoding of a text in it; utf-16 is of the file's byte order."""
NUMBER_CODES = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 9: "d", 12: "q", 13: "Q"}
"""Type of an element -> format of one number in it, for `struct`."""
COMPLEX = 0x0800
"""Flag of a matrix."""
STRUCT, CHAR = 2, 4
"""Classes of a matrix; 6 to 15 are numbers."""
FIRST_NUMBER, LAST_NUMBER = 6, 15
LARGEST_UNPACKED = 2**28
"""Most bytes of a compressed variable, unpacked."""
MOST_PARTS = 2**24
"""Most elements that a struct array may have in total, over its fields."""


class MatError(ValueError):
    """What is wrong with a file, without its name."""


def read_struct_array(content: bytes, variable: str, fields: Sequence[str]) -> list[dict[str, str | float]]:
    """Return the named fields of each element of a struct array, in the file's order.

    Raises:
        MatError: no such variable, a field that is missing or has neither a text nor one number, or damage.
    """
    matrix, order = _find_variable(content, variable)
    return _read_elements(matrix, fields, order)


def read_number_matrix(content: bytes, variable: str) -> np.ndarray:
    """Return a matrix of numbers: (rows, columns) in the type that the file stores them in.

    Raises:
        MatError: no such variable, one of another kind or of other than two dimensions, or damage.
    """
    matrix, order = _find_variable(content, variable)
    if not FIRST_NUMBER <= matrix.kind <= LAST_NUMBER or len(matrix.dimensions) != 2 or matrix.is_complex:
        raise MatError(f"its variable {variable} is not a matrix of numbers")
    kind, body = matrix.parts[0] if matrix.parts else (0, b"")
    if kind not in NUMBER_CODES:
        raise MatError("it has values of an unknown type")
    numbers = np.frombuffer(body, np.dtype(order + NUMBER_CODES[kind])) if len(body) % _size_of(kind) == 0 else None
    if numbers is None or numbers.size != matrix.dimensions[0] * matrix.dimensions[1]:
        raise MatError(f"its variable {variable} has other than {' x '.join(map(str, matrix.dimensions))} numbers")
    return numbers.reshape(matrix.dimensions, order="F")  # MATLAB stores columns


def _size_of(kind: int) -> int:
    return struct.calcsize(f"<{NUMBER_CODES[kind]}")


def _find_variable(content: bytes, variable: str) -> "tuple[_Matrix, str]":
    """Return a variable of a file, and the byte order of the file."""
    if len(content) < HEADER_BYTES or content[126:128] not in (b"IM", b"MI"):
        raise MatError("it is not a MAT-file of level 5")
    order = "<" if content[126:128] == b"IM" else ">"
    for kind, body in _elements(content[HEADER_BYTES:], order):
        if kind == COMPRESSED:
            ((kind, body),) = list(_elements(_unpack(body), order))[:1] or [(0, b"")]
        if kind == MATRIX:
            matrix = _Matrix(body, order)
            if matrix.name == variable:
                return matrix, order
    raise MatError(f"it has no variable {variable}")


def _read_elements(matrix: "_Matrix", fields: Sequence[str], order: str) -> list[dict[str, str | float]]:
    if matrix.kind != STRUCT or len(matrix.parts) < 2:
        raise MatError(f"its variable {matrix.name} is not a struct array")
    (width,) = _numbers(matrix.parts[0], order)[:1] or [0]
    _, names_text = matrix.parts[1]
    if not 1 <= width <= len(names_text):
        raise MatError("the names of its fields are damaged")
    width = int(width)
    names = [names_text[at : at + width].split(b"\0")[0].decode("latin-1") for at in range(0, len(names_text), width)]
    missing = [field for field in fields if field not in names]
    if missing:
        raise MatError(f"it has no field {missing[0]}")
    cells = matrix.parts[2:]
    if len(cells) != matrix.size * len(names):
        raise MatError(
            f"it has {plural(len(cells), 'value')} for {plural(matrix.size, 'element')} of "
            f"{plural(len(names), 'field')}"
        )
    chosen = [(field, names.index(field)) for field in fields]
    return [
        {field: _read_value(cells[i * len(names) + position], order) for field, position in chosen}
        for i in range(matrix.size)
    ]


def _read_value(cell: tuple[int, bytes], order: str) -> str | float:
    """Return the text or the number in a matrix."""
    kind, body = cell
    if kind != MATRIX:
        raise MatError("a field has something else than a text or a number")
    matrix = _Matrix(body, order)
    if matrix.kind == CHAR:
        if not matrix.parts:
            return ""
        part_kind, text = matrix.parts[0]
        if part_kind not in TEXT_CODES:
            raise MatError("a field has a text of an unknown encoding")
        encoding = TEXT_CODES[part_kind]
        if encoding == "utf-16":
            encoding += "-le" if order == "<" else "-be"
        return text.decode(encoding, errors="replace")
    if FIRST_NUMBER <= matrix.kind <= LAST_NUMBER and matrix.parts:
        numbers = _numbers(matrix.parts[0], order)
        if len(numbers) == 1:
            return numbers[0]
    raise MatError("a field has something else than a text or a number")


class _Matrix:
    """One array: class, number of elements, name, and the parts behind these."""

    def __init__(self, body: bytes, order: str) -> None:
        parts = list(_elements(body, order))
        if len(parts) < 3:
            raise MatError("an array is damaged")
        flags, dimensions = _numbers(parts[0], order), _numbers(parts[1], order)
        if not flags or not dimensions or any(side < 0 for side in dimensions):
            raise MatError("an array is damaged")
        self.kind = int(flags[0]) & 0xFF
        self.is_complex = bool(int(flags[0]) & COMPLEX)
        self.dimensions = tuple(int(side) for side in dimensions)
        self.size = 1
        for side in dimensions:
            self.size = min(self.size * int(side), MOST_PARTS)
        self.name = parts[2][1].decode("latin-1")
        self.parts = parts[3:]


def _elements(content: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Yield type and content of each element."""
    at = 0
    while at < len(content):
        if at + 8 > len(content):
            raise MatError("it is cut short")
        first, size = struct.unpack_from(f"{order}II", content, at)
        if first >> 16:  # a small element: up to four bytes in place of the size
            kind, size, start, end = first & 0xFFFF, first >> 16, at + 4, at + 8
            if size > 4:
                raise MatError("a small element is damaged")
        else:
            kind, start = first, at + 8
            end = start + size if kind == COMPRESSED else start + (size + 7) // 8 * 8
        if start + size > len(content):
            raise MatError("it is cut short")
        yield kind, content[start : start + size]
        at = end


def _numbers(element: tuple[int, bytes], order: str) -> list[float]:
    """Return the numbers in an element."""
    kind, body = element
    if kind not in NUMBER_CODES:
        raise MatError("it has values of an unknown type")
    size = struct.calcsize(f"{order}{NUMBER_CODES[kind]}")
    return list(struct.unpack_from(f"{order}{len(body) // size}{NUMBER_CODES[kind]}", body))


def _unpack(body: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        content = unpacker.decompress(body, LARGEST_UNPACKED)
    except zlib.error as error:
        raise MatError(f"it is damaged: {error}") from error
    if unpacker.unconsumed_tail or not unpacker.eof:
        raise MatError("a variable is cut short, or too large")
    return content
