"""Where tests find data that is not part of the project; absent data skips with a reason."""

import math
import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start, too
os.environ.setdefault("COSMOS_JOIN_SECONDS", "300")  # of ranks that start on a busy machine

import hypothesis
import numpy as np
import pytest
import torch

from cosmos_core import threads
from cosmos_eval import progress
from cosmos_eval.cache import feature_cache
from cosmos_eval.datasets.toybox import reader
from cosmos_eval.datasets.toybox.scenes import Scene

# The servers of tests are on this machine, whatever proxy it has for others.
for name in ("no_proxy", "NO_PROXY"):
    os.environ[name] = ",".join(filter(None, (os.environ.get(name), "127.0.0.1")))

# Two threads, or one for each of several workers: figures are bit-identical for one number of threads only.
torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)

# A busy machine is not a failure, and a run of the same code gives the same verdict; new examples are drawn with
# `--hypothesis-profile explore`.
PATIENT = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
hypothesis.settings.register_profile("repeatable", derandomize=True, **PATIENT)
hypothesis.settings.register_profile("explore", **PATIENT)
hypothesis.settings.load_profile("repeatable")

LONGEST = (
    "tests/real/test_real_run.py",
    "tests/core/test_step_ranks.py",
    "tests/training/test_quickstart.py",
    "tests/engine/test_scores_end_to_end.py",
    "tests/engine/test_distributed_run.py",
    "tests/engine/test_kinds_end_to_end.py",
    "tests/benchmarks/test_train_step_benchmark.py",
    "tests/benchmarks/test_ablation.py",
    "tests/benchmarks/test_gpu_smoke.py",
    "tests/core/test_killed_training.py",
    "tests/core/test_data_workers.py",
    "tests/run/test_killed_run.py",
    "tests/cli/test_cli_train.py",
    "tests/docs/test_contributing.py",
    "tests/docs/test_training_docs.py",
    "tests/plugins/test_evaluation.py",
    "tests/packaging/test_wheel.py",
    "tests/training/test_evaluator.py",
)
"""Modules that take longest: several workers begin with them, so that none waits long for the last one of another."""

SHARED = Path(os.environ.get("COSMOS_SHARED_DIR", Path(__file__).resolve().parents[2] / "shared"))


def pytest_configure(config: pytest.Config) -> None:
    # `--dist loadscope` would sort modules by their number of tests, and end with those that have few, but long ones.
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        places = {str(Path(__file__).parents[1] / name): place for place, name in enumerate(LONGEST)}
        items.sort(key=lambda item: places.get(str(item.path), len(places)))


@pytest.fixture(scope="session")
def parity_dir() -> Path:
    """The golden pack: numbers computed with the original implementation."""
    folder = Path(os.environ.get("COSMOS_PARITY_DIR", SHARED / "parity"))
    if not (folder / "manifest.json").is_file():
        pytest.skip(f"no golden pack at {folder}; set COSMOS_PARITY_DIR")
    return folder


@pytest.fixture(scope="session")
def real_dir() -> Path:
    """Real images, captions and a real small encoder's answers."""
    folder = SHARED / "real"
    if not (folder / "README.md").is_file():
        pytest.skip(f"no real data at {folder}; set COSMOS_SHARED_DIR")
    return folder


@pytest.fixture(scope="session", autouse=True)
def scenes_are_drawn_once() -> Iterator[None]:
    """Many tests evaluate the shipped toybox benchmarks, each of which reads its scenes twice, a second each time.

    Pixels are the only part of a scene that could be written to; they are read-only, as tests share them.
    """
    draw = reader.render

    def render_read_only(scene: Scene, size: int = reader.SIZE) -> np.ndarray:
        pixels = draw(scene, size)
        pixels.setflags(write=False)
        return pixels

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "render", render_read_only)
        for name in ("make_scene", "single_object_scene", "render", "negatives"):
            patch.setattr(reader, name, lru_cache(maxsize=4096)(getattr(reader, name)))
        yield


@pytest.fixture(scope="session", autouse=True)
def busy_machines_do_what_others_do() -> Iterator[None]:
    """Work that is done at once elsewhere may take long enough there to show its progress, or to store its features in
    several files, which few tests expect."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress, "PATIENCE", math.inf)
        patch.setattr(feature_cache, "WRITE_INTERVAL", math.inf)
        yield


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Networks of a few numbers are slower on two threads, and on a busy machine a hundred times slower."""
    with threads.one_thread():
        yield


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 KiB that can really be full; needs the right to mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    options = ["-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
    if mount is None or os.geteuid() != 0 or subprocess.run([mount, *options], capture_output=True).returncode:
        pytest.skip("no right to mount a small file system here")
    yield folder
    subprocess.run(["umount", str(folder)], check=False)
