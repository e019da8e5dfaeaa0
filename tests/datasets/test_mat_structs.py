"""Struct arrays of MAT-files, as scipy writes them."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from cosmos_eval.datasets.mat_structs import MatError, read_struct_array


def write(rows: list[tuple], names: tuple[str, ...] = ("id", "name"), compressed: bool = False) -> bytes:
    stream = io.BytesIO()
    array = np.array(rows, dtype=[(name, object) for name in names])
    savemat(stream, {"before": np.arange(3.0), "rows": array}, do_compression=compressed)
    return stream.getvalue()


@pytest.mark.parametrize("compressed", [False, True])
def test_texts_and_numbers_are_read(compressed):
    content = write([(1, "n00000001"), (300, "fish, tench"), (70_000, "é")], compressed=compressed)
    read = read_struct_array(content, "rows", ("id", "name"))
    assert read == [{"id": 1, "name": "n00000001"}, {"id": 300, "name": "fish, tench"}, {"id": 70_000, "name": "é"}]
    assert read_struct_array(content, "rows", ("name",))[1] == {"name": "fish, tench"}


@pytest.mark.parametrize(
    ("content", "variable", "message"),
    [
        (b"", "rows", "not a MAT-file"),
        (write([(1, "a")]), "other", "no variable other"),
        (write([(1, "a")]), "before", "not a struct array"),
        (write([(1, "a")], ("key", "name")), "rows", "no field id"),
        (write([(np.arange(2), "a")]), "rows", "something else than a text or a number"),
        (write([(1, "a")])[:-9], "rows", "cut short"),
    ],
)
def test_other_files_are_refused(content, variable, message):
    with pytest.raises(MatError, match=message):
        read_struct_array(content, variable, ("id", "name"))


@given(st.booleans(), st.integers(0, 10_000), st.integers(0, 255), st.integers(0, 10_000))
@settings(max_examples=150, deadline=None)
def test_a_damaged_file_is_read_or_refused(compressed, at, value, length):
    content = bytearray(write([(1, "a"), (2, "bc")], compressed=compressed))
    content[at % len(content)] = value
    try:
        read_struct_array(bytes(content[: max(1, length)]), "rows", ("id", "name"))
    except MatError:
        return
