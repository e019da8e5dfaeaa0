"""Two results of one benchmark, and the answer of `regress` about them."""

from pathlib import Path

import numpy as np

from cosmos_eval.regress.answer import Settings
from cosmos_eval.regress.compare import compare
from cosmos_eval.results.store import read_model
from tests.helpers import fabricated


def hits(n: int, wrong: int, first: int = 0) -> np.ndarray:
    found = np.ones(n)
    found[first : first + wrong] = 0
    return found


def judged(tmp_path: Path, **settings):
    return compare(read_model(tmp_path / "old"), read_model(tmp_path / "new"), Settings(**settings))


def pair(tmp_path: Path, wrong_before: int = 10, wrong_after: int = 10, n: int = 200, **changes) -> None:
    fabricated.classification(tmp_path / "old", hits(n, wrong_before))
    fabricated.classification(tmp_path / "new", hits(n, wrong_after), **changes)
