"""What a run writes down while it goes: a line of metrics now and then, in a file always, elsewhere when asked."""

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
    """Metrics of a run: OUT/metrics.jsonl, and TensorBoard and Weights & Biases where the configuration asks for them.

    Only the first rank writes; on the others every method does nothing.

    Args:
        out: folder of the run; None keeps no file.
        config: says what is asked for, and travels to Weights & Biases.
        world: the ranks.
        note: where a line for people goes, such as one that tells of a collapse.

    Raises:
        RequestError: a package that was asked for is absent, does not start, or has no folder to write to.
    """

    def __init__(
        self,
        out: Path | None,
        config: TrainConfig,
        world: World | None = None,
        note: Callable[[str], None] | None = None,
    ) -> None:
        self.main = (world or World()).is_main
        self.path = out / METRICS if out is not None else None
        self.note = note or (lambda line: None)
        self.alarm = CollapseAlarm(config.warmup)
        self.config = config
        self.board: Any = None
        self.wandb: Any = None
        self.failed: set[str] = set()
        """What else could not be written, and has been told."""
        self.held = ""
        """Lines that the disk had no room for."""
        # every rank looks, so that all of them refuse; the first one opens
        if config.tensorboard and out is None:
            raise RequestError("tensorboard=true writes to the run's folder: set out=FOLDER")
        self.writer, self.wandb_package = log_packages(config)
        if self.main and out is not None:
            out.mkdir(parents=True, exist_ok=True)

    def cut(self, step: int) -> dict[str, Any] | None:
        """Begin to write after `step`: lines beyond it go (0: all of them), a half-written one among them.

        Returns:
            The last line that stays, None where there is none. Call it once, before the first line.
        """
        last = None
        if self.main:
            if self.path is not None:
                lines = [line for line in read_metrics(self.path) if line["step"] <= step] if step else []
                atomic_write_text(self.path, "".join(json.dumps(line) + "\n" for line in lines))
                last = lines[-1] if lines else None
            self._open(step)
        return last

    def _open(self, step: int) -> None:
        if self.config.tensorboard:
            assert self.path is not None
            # events of a run before that lie beyond the step are hidden
            self.board = self.writer(log_dir=str(self.path.parent / "tensorboard"), purge_step=step + 1)
        if self.config.wandb:
            folder = self.path.parent if self.path is not None else None
            self.wandb = open_wandb(self.wandb_package, self.config, folder, resume=step > 0)

    def write(self, line: Mapping[str, Any]) -> None:
        """Append one line; `step` must be in it. What is not finite becomes null: JSON has no word for it.

        What a full disk refuses is noted, held back and written with a later line: it ends no training.
        """
        if not self.main:
            return
        if self.path is not None:
            self._append(self.path, json.dumps({key: plain(value) for key, value in line.items()}) + "\n")
        numbers = {key: value for key, value in line.items() if isinstance(value, int | float) and key != "step"}
        if self.board is not None:
            with self._guarded("TensorBoard"):
                for key, value in numbers.items():
                    self.board.add_scalar(key, value, line["step"])
                self.board.flush()
        if self.wandb is not None:
            with self._guarded("wandb"):
                self.wandb.log(numbers, step=line["step"])
        said = self.alarm(line["step"], numbers)
        if said:
            self.note(said)

    def _append(self, path: Path, text: str) -> None:
        before = self.held
        self.held += text
        size = path.stat().st_size if path.exists() else 0
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(self.held)
        except OSError as error:
            with suppress(OSError):
                os.truncate(path, size)  # no half line
            if not before:
                self.note(f"{path} cannot be written ({error.strerror or error}); its lines are held back")
        else:
            self.held = ""

    def close(self) -> None:
        """Finish what was opened; the file needs none."""
        if self.board is not None:
            with self._guarded("TensorBoard"):
                self.board.close()
        if self.wandb is not None:
            with self._guarded("wandb"):
                self.wandb.finish()
        self.board = self.wandb = None

    @contextmanager
    def _guarded(self, name: str) -> Iterator[None]:
        """Of what another package cannot write, the first is told: a disk or a network ends no training."""
        try:
            yield
        except Exception as error:  # its own kinds, by version
            if name not in self.failed:
                self.failed.add(name)
                reason = " ".join(str(error).split())[:200] or type(error).__name__
                self.note(f"{name} cannot be written ({reason}); the training goes on without its lines")


def log_packages(config: TrainConfig) -> tuple[Any, Any]:
    """TensorBoard's writer and Weights & Biases, where the configuration asks for them, else None.

    Raises:
        RequestError: one that is asked for is absent.
    """
    writer = package = None
    if config.tensorboard:
        writer = optional("torch.utils.tensorboard", "tensorboard", "tensorboard=false").SummaryWriter
    if config.wandb:
        package = optional("wandb", "wandb", "wandb=")
    return writer, package


def optional(module: str, package: str, without: str) -> Any:
    """A module that only some runs need; RequestError in one line where it is absent."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise RequestError(
            f"the {package} package is asked for and absent: pip install {package}, or set {without}"
        ) from error


def open_wandb(wandb: Any, config: TrainConfig, out: Path | None, resume: bool) -> Any:
    """A run of Weights & Biases; a run that is resumed goes on under its own id, kept beside the metrics.

    Raises:
        RequestError: it does not start (no account, no network), whatever it raises.
    """
    known = out / WANDB_ID if out is not None else None
    identity = read_text(known).strip() if resume and known is not None and known.is_file() else None
    try:
        run = wandb.init(
            project=config.wandb,
            name=config.name,
            config=config.to_dict(),
            dir=str(out) if out is not None else None,
            id=identity,
            resume="allow" if identity else None,
        )
    except Exception as error:  # its own kinds, by version
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise RequestError(f"wandb does not start: {reason}; log in, set WANDB_MODE=offline, or set wandb=") from error
    if known is not None:
        atomic_write_text(known, f"{run.id}\n")
    return run


def plain(value: Any) -> Any:
    """A value that JSON can hold."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl, none where it is absent; a half-written line, and what has no step, is left out."""
    if not path.is_file():
        return []
    lines = []
    for text in read_content(path, LARGEST_JSON).decode("utf-8", errors="replace").split("\n"):
        try:
            line = load_json(text)
        except ValueError:
            continue  # the process died while it wrote
        if isinstance(line, dict) and isinstance(line.get("step"), int):
            lines.append(line)
    return lines


def brief(line: Mapping[str, Any]) -> str:
    """The part of a metrics line that a progress bar has room for: `loss 3.214, lr 5.0e-04, 812 samples/s, ...`."""
    shown = []
    for key, form in (
        ("loss", "loss {:.3f}"),
        ("lr", "lr {:.1e}"),
        ("samples_per_second", "{:,.0f} samples/s"),
        ("data_wait", "waits for data {:.0%}"),
    ):
        if isinstance(line.get(key), int | float):
            shown.append(form.format(line[key]))
    return ", ".join(shown)


class Pace:
    """Speed between two lines of metrics: samples a second, the share of time spent waiting for data, memory.

    Args:
        device: whose memory is told.
        seconds: of the run before this process, where it resumes.
    """

    def __init__(self, device: torch.device | str = "cpu", seconds: float = 0.0) -> None:
        self.device = torch.device(device)
        self.clock = time.perf_counter
        self.before = seconds
        self.started = self.since = self.clock()
        self.samples = 0
        self.waited = 0.0
        self.away = 0.0

    def waits(self, batches: Iterable[T]) -> Iterator[T]:
        """The same batches; the time until each comes is counted as waiting."""
        source = iter(batches)
        while True:
            begun = self.clock()
            try:
                batch = next(source)
            except StopIteration:
                return
            finally:
                self.waited += self.clock() - begun
            yield batch

    def count(self, samples: int) -> None:
        """A step over so many samples, of all ranks, was done."""
        self.samples += samples

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What is done inside (an evaluation, a checkpoint) belongs to the run's seconds and to no step's speed."""
        begun = self.clock()
        try:
            yield
        finally:
            self.away += self.clock() - begun

    def lap(self) -> dict[str, float]:
        """`samples_per_second` and `data_wait` (share in 0..1) since the last call, `memory` (bytes), `seconds`."""
        now = self.clock()
        worked = max(now - self.since - self.away, 1e-9)
        line = {
            "samples_per_second": round(self.samples / worked, 3),
            "data_wait": round(min(self.waited / worked, 1.0), 4),
            "memory": peak_memory(self.device),
            "seconds": round(self.before + now - self.started, 3),
        }
        self.since, self.samples, self.waited, self.away = now, 0, 0.0, 0.0
        return line


def peak_memory(device: torch.device) -> int:
    """Most bytes in use so far: on CUDA what torch had allocated there, else the process's resident memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
