"""A run that is killed at any moment and started again ends with bit-identical results, and encodes no stored input
again."""

import random
import signal
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from cosmos_eval.cache.cached_features import feature_key
from cosmos_eval.datasets import load
from cosmos_eval.protocol.benchmark import load_benchmark
from tests.helpers.killing import ended
from tests.helpers.killing_runs import MODEL, Kill, Logged, outcome, read_features, start, world

KILLS = 8


@pytest.fixture(scope="module")
def suite(tmp_path_factory) -> list[Path]:
    return world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def pixels_of(suite) -> dict[str, str]:
    """Content digest of an image -> the digest of its pixels, which is what the model sees."""
    model, pixel_digests = Logged(), {}
    for path in suite:
        for image in load(load_benchmark(path), path.parent).images:
            pixel_digests[image.digest()] = feature_key(b"pixels", model.preprocess(image.load()).numpy().tobytes())
    return pixel_digests


def command(suite: list[Path], out: Path, *more: str) -> list[str]:
    benchmarks = [part for path in suite for part in ("--benchmark", str(path))]
    return ["run", "--model", MODEL, *benchmarks, "--out", str(out), "--batch-size", "2", *more]


@dataclass
class Whole:
    """A run that is not killed."""

    outcome: dict
    rows: dict[str, bytes]
    """Stored features by key."""
    encoded: Counter
    calls: int
    before: int
    """Calls before the first batch."""


@pytest.fixture(scope="module")
def whole(suite, tmp_path_factory) -> Whole:
    folder = tmp_path_factory.mktemp("whole")
    assert ended(start(command(suite, folder / "out"), folder / "log")) == 0
    calls, before = map(int, (folder / "log.calls").read_text().split())
    return Whole(
        outcome(folder / "out"), read_features(folder / "out/.embeddings"), lines(folder / "log"), calls, before
    )


def lines(log: Path) -> Counter:
    """The inputs that the model encoded, and how often."""
    return Counter(log.read_text().split()) if log.exists() else Counter()


def test_a_run_that_is_not_killed_encodes_every_input_once(whole):
    assert sorted(whole.outcome) == ["again", "classes", "pairs"]
    assert set(whole.encoded.values()) == {1}
    assert len(whole.encoded) == len(whole.rows) == 24 + 20 + 48 + 4  # `again` has the inputs of `pairs`


def test_a_run_killed_at_random_moments_ends_with_bit_identical_results(suite, whole, pixels_of, tmp_path):
    out, draw, killed = tmp_path / "out", random.Random(0), 0
    for number in range(20):
        safe = {pixels_of.get(key, key) for key in read_features(out / ".embeddings")}
        log = tmp_path / f"log-{number}"
        batches = killed % 3 != 2
        calls = draw.randint(1, 12_000) if batches else draw.randint(whole.before // 2, whole.before)
        kill = Kill(calls, after_a_batch=batches) if killed < KILLS else None
        # features are stored after every batch, or after some of them
        code = ended(start(command(suite, out), log, kill, draw.choice([-1.0, 0.01])))
        assert not lines(log).keys() & safe
        assert set(lines(log).values()) <= {1}
        if code == 0:
            break
        assert code == -signal.SIGKILL, Path(f"{log}.said").read_text()
        killed += 1
    assert killed == KILLS
    assert outcome(out) == whole.outcome
    assert read_features(out / ".embeddings") == whole.rows


def test_features_are_stored_before_a_result_is_written(suite, whole, pixels_of, tmp_path):
    """So that inputs shared with a later benchmark have the same features after a kill as without one."""
    out, store = tmp_path / "out", tmp_path / "out/.embeddings"
    assert ended(start(command(suite[:1], out), tmp_path / "log", seconds=3600.0)) == 0
    assert {pixels_of.get(key, key) for key in read_features(store)} == set(lines(tmp_path / "log"))
    modified = sorted(path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file())
    assert ended(start([*command(suite[:1], out), "--no-cache", "--overwrite"], tmp_path / "again")) == 0
    assert lines(tmp_path / "again") == lines(tmp_path / "log")  # neither read nor written
    assert sorted(path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()) == modified
