"""Logging of a run: lines of metrics to metrics.jsonl, and to TensorBoard and Weights & Biases if configured."""

import importlib
import json
import math
import os
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import torch

from cosmos_core.collapse import CollapseAlarm
from cosmos_core.config import TrainConfig
from cosmos_core.errors import RequestError
from cosmos_core.files import atomic_write_text
from cosmos_core.json_text import LARGEST_JSON, load_json
from cosmos_core.text_files import read_content, read_text
from cosmos_core.world import World

METRICS = "metrics.jsonl"
WANDB_ID = "wandb-id.txt"
T = TypeVar("T")


class Logs:
    """Writes the metrics of a run to OUT/metrics.jsonl, and to TensorBoard and Weights & Biases if configured.

    Only the first rank writes; on the others every method does nothing.

    Args:
        out: folder of the run; None writes no file.
        config: of the run; Weights & Biases stores it.
        world: the ranks.
        note: shows a line to the user, such as a warning of a collapse.

    Raises:
        RequestError: a configured package is not installed, does not start, or has no folder to write to.
    """

    def __init__(
        self,
        out: Path | None,
        config: TrainConfig,
        world: World | None = None,
        note: Callable[[str], None] | None = None,
    ) -> None:
        self.is_main = (world or World()).is_main
        self.path = out / METRICS if out is not None else None
        self.note = note or (lambda line: None)
        self.alarm = CollapseAlarm(config.warmup)
        self.config = config
        self.tensorboard: Any = None
        self.wandb: Any = None
        self.failed_loggers: set[str] = set()
        """Loggers that failed and were noted."""
        self.unwritten = ""
        """Lines that could not be written yet, for example on a full disk."""
        # every rank imports them, so that all ranks fail; rank 0 opens them
        if config.tensorboard and out is None:
            raise RequestError("tensorboard=true writes to the run's folder: set out=FOLDER")
        self.writer, self.wandb_package = log_packages(config)
        if self.is_main and out is not None:
            out.mkdir(parents=True, exist_ok=True)

    def truncate(self, step: int) -> dict[str, Any] | None:
        """Prepare to write after `step`: remove later lines (0: all lines) and a partial last line.

        Returns:
            The last remaining line, None if there is none. Call it once, before the first `write`.
        """
        last = None
        if self.is_main:
            if self.path is not None:
                lines = [line for line in read_metrics(self.path) if line["step"] <= step] if step else []
                atomic_write_text(self.path, "".join(json.dumps(line) + "\n" for line in lines))
                last = lines[-1] if lines else None
            self._open(step)
        return last

    def _open(self, step: int) -> None:
        if self.config.tensorboard:
            assert self.path is not None
            # hides the events after `step` of an earlier process of the run
            self.tensorboard = self.writer(log_dir=str(self.path.parent / "tensorboard"), purge_step=step + 1)
        if self.config.wandb:
            folder = self.path.parent if self.path is not None else None
            self.wandb = open_wandb(self.wandb_package, self.config, folder, resume=step > 0)

    def write(self, line: Mapping[str, Any]) -> None:
        """Append one line; it must have `step`. Numbers that are not finite become null, since JSON has no NaN.

        On a full disk the line is noted, kept in memory and written with a later one; the training continues.
        """
        if not self.is_main:
            return
        if self.path is not None:
            self._append(self.path, json.dumps({key: finite_or_none(value) for key, value in line.items()}) + "\n")
        numbers = {key: value for key, value in line.items() if isinstance(value, int | float) and key != "step"}
        if self.tensorboard is not None:
            with self._ignore_errors("TensorBoard"):
                for key, value in numbers.items():
                    self.tensorboard.add_scalar(key, value, line["step"])
                self.tensorboard.flush()
        if self.wandb is not None:
            with self._ignore_errors("wandb"):
                self.wandb.log(numbers, step=line["step"])
        warning = self.alarm(line["step"], numbers)
        if warning:
            self.note(warning)

    def _append(self, path: Path, text: str) -> None:
        before = self.unwritten
        self.unwritten += text
        size = path.stat().st_size if path.exists() else 0
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(self.unwritten)
        except OSError as error:
            with suppress(OSError):
                os.truncate(path, size)  # no half line
            if not before:
                self.note(f"{path} cannot be written ({error.strerror or error}); its lines are held back")
        else:
            self.unwritten = ""

    def close(self) -> None:
        """Close TensorBoard and Weights & Biases; the file is not kept open."""
        if self.tensorboard is not None:
            with self._ignore_errors("TensorBoard"):
                self.tensorboard.close()
        if self.wandb is not None:
            with self._ignore_errors("wandb"):
                self.wandb.finish()
        self.tensorboard = self.wandb = None

    @contextmanager
    def _ignore_errors(self, name: str) -> Iterator[None]:
        """Note the first error of another logger and ignore the rest: a disk or a network must not end the training."""
        try:
            yield
        except Exception as error:  # its kinds of exceptions differ by version
            if name not in self.failed_loggers:
                self.failed_loggers.add(name)
                reason = " ".join(str(error).split())[:200] or type(error).__name__
                self.note(f"{name} cannot be written ({reason}); the training goes on without its lines")


def log_packages(config: TrainConfig) -> tuple[Any, Any]:
    """TensorBoard's writer and the wandb module, if configured, else None.

    Raises:
        RequestError: one that is configured is not installed.
    """
    writer = wandb = None
    if config.tensorboard:
        writer = import_optional("torch.utils.tensorboard", "tensorboard", "tensorboard=false").SummaryWriter
    if config.wandb:
        wandb = import_optional("wandb", "wandb", "wandb=")
    return writer, wandb


def import_optional(module: str, package: str, without: str) -> Any:
    """A module that only some runs need; RequestError if it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise RequestError(
            f"the {package} package is asked for and absent: pip install {package}, or set {without}"
        ) from error


def open_wandb(wandb: Any, config: TrainConfig, out: Path | None, resume: bool) -> Any:
    """A run of Weights & Biases; a resumed run continues under its id, which is stored beside the metrics.

    Raises:
        RequestError: it does not start (no account, no network).
    """
    id_file = out / WANDB_ID if out is not None else None
    identity = read_text(id_file).strip() if resume and id_file is not None and id_file.is_file() else None
    try:
        run = wandb.init(
            project=config.wandb,
            name=config.name,
            config=config.to_dict(),
            dir=str(out) if out is not None else None,
            id=identity,
            resume="allow" if identity else None,
        )
    except Exception as error:  # its kinds of exceptions differ by version
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise RequestError(f"wandb does not start: {reason}; log in, set WANDB_MODE=offline, or set wandb=") from error
    if id_file is not None:
        atomic_write_text(id_file, f"{run.id}\n")
    return run


def finite_or_none(value: Any) -> Any:
    """A value that JSON can hold."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl, none if it is absent; partial lines and lines without a step are left out."""
    if not path.is_file():
        return []
    lines = []
    for text in read_content(path, LARGEST_JSON).decode("utf-8", errors="replace").split("\n"):
        try:
            line = load_json(text)
        except ValueError:
            continue  # the process was killed while writing
        if isinstance(line, dict) and isinstance(line.get("step"), int):
            lines.append(line)
    return lines


def brief(line: Mapping[str, Any]) -> str:
    """The part of a metrics line for the progress bar: `loss 3.214, lr 5.0e-04, 812 samples/s, ...`."""
    parts = []
    for key, form in (
        ("loss", "loss {:.3f}"),
        ("lr", "lr {:.1e}"),
        ("samples_per_second", "{:,.0f} samples/s"),
        ("data_wait", "waits for data {:.0%}"),
    ):
        if isinstance(line.get(key), int | float):
            parts.append(form.format(line[key]))
    return ", ".join(parts)


class SpeedMeter:
    """Measures speed between two lines of metrics: samples per second, share of time waiting for data, memory.

    Args:
        device: the device whose memory is measured.
        seconds: duration of the run before this process, if it is resumed.
    """

    def __init__(self, device: torch.device | str = "cpu", seconds: float = 0.0) -> None:
        self.device = torch.device(device)
        self.clock = time.perf_counter
        self.earlier_seconds = seconds
        self.started = self.lap_started = self.clock()
        self.samples = 0
        self.waited_seconds = 0.0
        self.paused_seconds = 0.0

    def count_waiting(self, batches: Iterable[T]) -> Iterator[T]:
        """Yields the same batches and counts the time until each arrives as waiting."""
        source = iter(batches)
        while True:
            started = self.clock()
            try:
                batch = next(source)
            except StopIteration:
                return
            finally:
                self.waited_seconds += self.clock() - started
            yield batch

    def count(self, samples: int) -> None:
        """Count a step over this many samples, of all ranks."""
        self.samples += samples

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time inside (an evaluation, a checkpoint) counts for the run's seconds but not for the speed."""
        started = self.clock()
        try:
            yield
        finally:
            self.paused_seconds += self.clock() - started

    def lap(self) -> dict[str, float]:
        """`samples_per_second` and `data_wait` (share in 0..1) since the last call, `memory` (bytes), `seconds`."""
        now = self.clock()
        worked = max(now - self.lap_started - self.paused_seconds, 1e-9)
        line = {
            "samples_per_second": round(self.samples / worked, 3),
            "data_wait": round(min(self.waited_seconds / worked, 1.0), 4),
            "memory": peak_memory(self.device),
            "seconds": round(self.earlier_seconds + now - self.started, 3),
        }
        self.lap_started, self.samples, self.waited_seconds, self.paused_seconds = now, 0, 0.0, 0.0
        return line


def peak_memory(device: torch.device) -> int:
    """Peak memory in bytes: on CUDA what torch had allocated on the device, else the process's resident memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
