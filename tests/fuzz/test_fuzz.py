"""A few hundred mutated files through every reader; `python -m tests.fuzz` gives them as many as one likes."""

import random
import time
import warnings
from pathlib import Path

import pytest

from cosmos_core.errors import RequestError
from tests.fuzz import running
from tests.fuzz.mutations import BINARY, TEXT, mutate
from tests.fuzz.running import (
    CHANGED,
    HEAVY,
    HUNG,
    MEBIBYTES,
    OTHER,
    RAISED,
    REFUSED,
    SAME,
    TOLD,
    Target,
    fuzz,
    outcome_of,
    table,
)
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_mutated_files_are_refused_in_one_line_or_read(tmp_path: Path, name: str):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tally = fuzz([TARGETS[name]], files=TARGETS[name].quick, seed=1, folder=tmp_path)
    assert tally.faults == [], table(tally)
    assert sum(tally.counts[name].values()) == TARGETS[name].quick


def test_the_same_seed_gives_the_same_files():
    content = b'{"a": 1, "b": ["x", 2.5]}\n' * 3
    first, again = ([mutate(content, random.Random(i), True) for i in range(50)] for _ in range(2))
    assert first == again
    assert len({changed for _, changed in first}) > 30
    assert {name for name, _ in first} <= {mutation.__name__ for mutation in (*BINARY, *TEXT)}


def test_each_outcome_is_told_by_what_the_reader_does(tmp_path: Path):
    def told(load, checked: bool = False) -> str:
        return outcome_of(Target("t", lambda _: [], load, checked), tmp_path, "content")[0]

    def raising(error: Exception):
        def load(_: Path) -> None:
            raise error

        return load

    assert told(lambda _: "content") == SAME
    assert told(lambda _: "other") == OTHER
    assert told(lambda _: "other", checked=True) == CHANGED
    assert told(raising(RequestError("x.json is not JSON"))) == REFUSED
    assert told(raising(RequestError("two\nlines"))) == TOLD
    assert told(raising(ValueError("x"))) == RAISED

    def refuse_for_memory(_: Path) -> None:
        try:
            bytearray(5 * MEBIBYTES << 20)
        except MemoryError as error:
            raise RequestError("x.bin is damaged") from error

    assert told(refuse_for_memory) == HEAVY


def test_readers_that_compute_or_wait_for_ever_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(running, "SECONDS", 0.01)

    def compute(_: Path) -> None:
        while True:
            pass

    for load in (compute, lambda _: time.sleep(600)):
        assert outcome_of(Target("t", lambda _: [], load), tmp_path, "content")[0] == HUNG
