"""Trainings in processes of their own that are killed at chosen and at random moments.

A server process imports torch once and forks a fresh process for each start, so that a start costs milliseconds; every
one of them runs the command itself.
"""

import functools
import io
import json
import math
import multiprocessing
import os
import random
import signal
import sys
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

from cosmos_core.errors import RequestError
from tests.core.test_train import CONFIG
from tests.helpers.fork_server import SERVER
from tests.helpers.processes import free_port

TIMES = ("seconds", "samples_per_second", "data_wait", "memory")
SAVING = ("writing", "before the rename", "between the names", "after both names")


@dataclass(frozen=True)
class Kill:
    """When a training ends itself: as a step begins or so many calls of functions later, or at a point of a save."""

    step: int = 0
    calls: int = 0
    """A step of the tiny run makes some 50,000, saving and logging included."""
    times: int = 1
    save: int = 0
    """Which one: 1 is the first of this start."""
    point: str = ""
    number: int = signal.SIGKILL
    error: str = ""
    """What to say in a RequestError of this process alone, in the place of a signal."""


def write_shards(folder: Path, shards: int = 3, samples: int = 20) -> None:
    """Small images of random noise with two sentences each; one sample of every shard is broken."""
    draw = random.Random(0)
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(shards):
        with tarfile.open(folder / f"{shard:03d}.tar", "w") as archive:
            for sample in range(samples):
                pixels = np.frombuffer(draw.randbytes(20 * 20 * 3), np.uint8).reshape(20, 20, 3)
                image = io.BytesIO()
                Image.fromarray(pixels).save(image, "png")
                words = [" ".join(draw.choice(["red", "blue", "cat", "dog", "two"]) for _ in range(4)) for _ in "ab"]
                record = {"raw_caption": words[0], "longSV_captions": ". ".join(words)}
                content = b"no image" if sample == 3 else image.getvalue()
                members = {f"{sample:04d}.png": content, f"{sample:04d}.json": json.dumps(record).encode()}
                for name, value in members.items():
                    member = tarfile.TarInfo(name)
                    member.size = len(value)
                    archive.addfile(member, io.BytesIO(value))


def write_preset(folder: Path, **changes: Any) -> Path:
    """A run of 24 steps, an epoch and a half, as a YAML file; two sources, mixed in two stages."""
    values = {
        **CONFIG.to_dict(), "data": f"{folder}/{{000..001}}.tar::{folder}/002.tar", "data_weights": "3::1,1::3@9",
        "steps": 24, "batch_size": 4, "lanes": 4,
        "shuffle": 6, "log_every": 1, "save_every": 2, "keep": 2, "device": "cpu", "threads": 1, "warmup": 4, **changes,
    }  # fmt: skip
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(json.loads(json.dumps(values))))
    return path


def start(
    arguments: list[str], kill: Kill | None = None, log: Path | None = None, environment: dict[str, str] | None = None
) -> Any:
    """One start of the command, in a process of its own."""
    process = SERVER.Process(target=work, args=(arguments, kill, log, environment or {}))
    process.start()
    return process


def start_ranks(
    arguments: list[str],
    ranks: int,
    kills: dict[int, Kill] | None = None,
    log: Path | None = None,
    logs: list[Path] | None = None,
) -> Any:
    """One start of the command on several ranks, as torchrun makes them; `kills` and `logs` by rank."""
    return [
        start(arguments, (kills or {}).get(rank), logs[rank] if logs else log, place)
        for rank, place in enumerate(places(ranks))
    ]


def places(ranks: int) -> list[dict[str, str]]:
    """The variables that torchrun would set for each of these ranks."""
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(ranks)}
    return [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)]


def ended(process: Any, timeout: float = 300) -> int:
    """Its exit code, negative for the signal that ended it."""
    process.join(timeout)
    if process.exitcode is None:
        process.kill()
        raise AssertionError(f"process {process.pid} hangs: not ended after {timeout:.0f} s")
    return process.exitcode


def fork_workers() -> None:
    """Have loaders of this process fork their workers, as those of the command do.

    It would have them from a server of its own, as it came from one itself; both stay behind when it is killed.
    """
    multiprocessing.set_start_method("fork", force=True)


def work(arguments: list[str], kill: Kill | None, log: Path | None, environment: dict[str, str]) -> None:
    """In the process: the command, and its end."""
    fork_workers()
    os.environ.update(environment)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the server ignores it
    if log is not None:
        sys.stderr = sys.stdout = log.open("a", buffering=1)
    if kill is not None:
        arm(kill)
    from cosmos_eval.cli.main import run_command

    code = run_command(arguments)
    sys.stderr.flush()
    sys.exit(code)


def arm(kill: Kill) -> None:
    """Make this process send itself the signal at the moment asked for."""
    from cosmos_core import checkpoint, snapshots
    from cosmos_core.step import Stepper

    calls = saves = 0

    def die() -> None:
        if kill.error:
            raise RequestError(kill.error)
        for _ in range(kill.times):
            os.kill(os.getpid(), kill.number)
        if kill.number == signal.SIGKILL:
            time.sleep(60)

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")
        if calls == kill.calls:
            die()

    if kill.step:
        launch = Stepper.launch

        def timed(self: Stepper, batch: Any) -> Any:
            if self.run.step + 1 == kill.step:
                sys.setprofile(count) if kill.calls else die()
            return launch(self, batch)

        Stepper.launch = timed  # type: ignore[method-assign]
        return

    def at(module: Any, name: str, first: Any = None, counts: Any = lambda *arguments: True) -> None:
        """Die at the n-th call of a function that counts, after `first` did its part."""
        before = getattr(module, name)

        @functools.wraps(before)
        def counted(*arguments: Any) -> Any:
            nonlocal saves
            saves += bool(counts(*arguments))
            if saves == kill.save and counts(*arguments):
                if first is not None:
                    first(*arguments)
                die()
            return before(*arguments)

        setattr(module, name, counted)

    def half(content: Any, path: Path) -> None:
        whole = io.BytesIO()
        torch.save(content, whole)
        path.write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])

    match kill.point:
        case "writing":
            at(checkpoint, "write_torch", half)
        case "before the rename":
            at(Path, "replace", counts=lambda source, target: target.name == snapshots.LAST)
        case "between the names":
            at(snapshots.Snapshots, "link_or_copy")
        case "after both names":
            at(snapshots.Snapshots, "prune_checkpoints")
        case other:
            raise ValueError(other)


def metrics(out: Path) -> list[dict[str, Any]]:
    """The lines of the log, without what depends on the clock and the machine."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if not key.startswith(TIMES)} for line in lines]


def differences(ours: Any, theirs: Any, place: str = "") -> list[str]:
    """Where two nested values differ, to the bit."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        found = [f"{place}/{key}" for key in ours.keys() ^ theirs.keys()]
        for key in ours.keys() & theirs.keys():
            found += differences(ours[key], theirs[key], f"{place}/{key}")
        return found
    if isinstance(ours, list | tuple) and isinstance(theirs, list | tuple) and len(ours) == len(theirs):
        return [d for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) for d in differences(a, b, f"{place}/{i}")]
    if isinstance(ours, torch.Tensor) and isinstance(theirs, torch.Tensor):
        return [] if torch.equal(ours, theirs) else [place]
    alike = ours == theirs or (isinstance(ours, float) and isinstance(theirs, float) and math.isnan(ours + theirs))
    return [] if alike else [place]


def final_state(out: Path) -> dict[str, Any]:
    """What the last checkpoint holds, without what names this start (folder, workers, generators nobody reads)."""
    content = torch.load(out / "last.pt", weights_only=True)
    for key in ("rng", "environment", "training"):
        del content[key]
    return content
