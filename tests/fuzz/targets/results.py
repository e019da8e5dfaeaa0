"""Results with their tables of samples: both have a checksum. Results of schema 1 have none."""

from pathlib import Path
from typing import Any

from cosmos_eval.results.store import RESULT, SAMPLES, read_not_run, read_result, read_samples, write_not_run
from tests.fuzz.running import Target
from tests.results.test_results import stored
from tests.results.test_results_versions import as_version_1


def _make(folder: Path) -> list[Path]:
    stored(folder)
    return [folder / RESULT, folder / SAMPLES]


def _load(folder: Path) -> Any:
    result = read_result(folder / RESULT)
    return result, read_samples(folder / RESULT, result).to_dict()


def _make_old(folder: Path) -> list[Path]:
    (folder / RESULT).write_text(as_version_1(stored(folder)), encoding="utf-8")
    return [folder / RESULT]


def _load_old(folder: Path) -> Any:
    result = read_result(folder / RESULT)
    return result, result.unchecked


def _make_not_run(folder: Path) -> list[Path]:
    write_not_run(folder, "m", "b", "no data")
    return [folder / "NOT_RUN.json"]


TARGETS = [
    Target("results", _make, _load, checked=True, weight=4),
    Target("results-of-schema-1", _make_old, _load_old, weight=2),
    Target("benchmarks-not-run", _make_not_run, read_not_run),
]
