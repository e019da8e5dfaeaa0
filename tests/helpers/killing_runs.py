"""Evaluations in processes of their own that are killed at any moment, and what they encoded until then."""

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from cosmos_eval.cache import feature_cache
from cosmos_eval.cache.cached_features import feature_key
from cosmos_eval.cache.shard import read_shard
from cosmos_eval.results.store import read_result
from tests.helpers.fork_server import SERVER
from tests.helpers.killing import fork_workers
from tests.helpers.tiny_models import Colours
from tests.helpers.worlds import captions_world, classes_world

MODEL = "python:tests.helpers.killing_runs:Logged"


class Logged(Colours):
    """Rows that hang a little on the batch, as those of a real tower do; writes down what passed it."""

    digest = "1099ed" * 10

    def preprocess(self, image: Image.Image) -> Tensor:
        return super().preprocess(image)

    def encode_image(self, x: Tensor) -> Tensor:
        log(*(feature_key(b"pixels", one.numpy().tobytes()) for one in x))
        return super().encode_image(x) + 1e-6 * x.mean()

    def encode_text(self, texts: Any) -> Tensor:
        log(*(feature_key(b"text", text.encode()) for text in texts))
        rows = super().encode_text(texts)
        return rows + 1e-5 * rows.mean()


def log(*keys: str) -> None:
    """One append a batch: whole lines, whenever the process ends."""
    file = os.open(os.environ["COSMOS_TEST_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, "".join(key + "\n" for key in keys).encode())
    finally:
        os.close(file)


def world(root: Path) -> list[Path]:
    """Two benchmarks on the same images, with some texts in common, and one on others."""
    first = captions_world(root, n=24)
    (root / "again").symlink_to(root / "pairs")
    text = first.read_text()
    second = root / "again.yaml"
    second.write_text(text.replace("name: pairs", "name: again").replace("pairs/", "again/"))
    return [first, classes_world(root, classes=4, per_class=5), second]


@dataclass(frozen=True)
class Kill:
    """When a run ends itself: so many calls of functions after it begins, or after its first batch."""

    calls: int
    after_a_batch: bool = False


def start(arguments: list[str], log_file: Path, kill: Kill | None = None, seconds: float = -1.0) -> Any:
    """One start of the command, with shards that are written every so many seconds."""
    process = SERVER.Process(target=work, args=(arguments, log_file, kill, seconds))
    process.start()
    return process


def work(arguments: list[str], log_file: Path, kill: Kill | None, seconds: float) -> None:
    """In the process: the command, and its end. Calls are left beside the log: of the whole run, before a batch."""
    fork_workers()
    torch.set_num_threads(1)
    os.environ["COSMOS_TEST_LOG"] = str(log_file)
    feature_cache.WRITE_INTERVAL, feature_cache.WRITE_PAUSE_FACTOR = seconds, 0  # type: ignore[assignment]
    sys.stdout = sys.stderr = Path(f"{log_file}.said").open("a", buffering=1)  # noqa: SIM115
    from cosmos_eval.cli.main import run_command

    calls = 0
    first = 0
    end = 0 if kill is None or kill.after_a_batch else kill.calls

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls, first, end
        calls += event in ("call", "c_call")
        if not first and frame.f_code is log.__code__:
            first = calls
            end = calls + kill.calls if kill is not None and kill.after_a_batch else end
        if calls == end:
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)

    sys.setprofile(count)
    code = run_command(arguments)
    sys.setprofile(None)
    Path(f"{log_file}.calls").write_text(f"{calls} {first}")
    sys.exit(code)


def read_features(folder: Path) -> dict[str, bytes]:
    """Every stored row, to the bit."""
    found: dict[str, bytes] = {}
    for path in sorted(folder.glob("*/*.safetensors")):
        shard = read_shard(path, path.parent.name)
        for key, row in zip(shard.keys, shard.features, strict=True):
            assert found.setdefault(bytes(key).hex(), row.tobytes()) == row.tobytes()
    return found


def outcome(out: Path) -> dict[str, Any]:
    """Everything that results say, without the clock."""
    found = {}
    for path in sorted(out.rglob("RESULT.json")):
        result = read_result(path)
        samples = (path.parent / "samples.parquet").read_bytes()
        found[result.benchmark.name] = result.metrics, result.warnings, result.dataset, result.identity, samples
    return found
