"""One leg: a row is trained with one seed, evaluated and described; `leg.json` in its folder marks it as finished."""

import dataclasses
import hashlib
import itertools
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

from benchmarks.studies.ablation.files import read, write
from benchmarks.studies.ablation.rows import Row
from benchmarks.studies.ablation.testing import Examiner
from cosmos_core.config import TrainConfig
from cosmos_core.errors import RequestError
from cosmos_core.train import Callback, Run, train

FINISHED = "leg.json"
TRAINED = "trained.json"
UNTIMED = 2
"""First steps that cost more than the rest."""


def folder_of(out: Path, one: Row, seed: int) -> Path:
    return out / f"{one.name}-seed{seed}"


def is_finished(folder: Path, config: TrainConfig) -> bool:
    """Whether the leg stands finished in a folder.

    Raises:
        RequestError: it stands there with other settings.
    """
    record = read(folder / FINISHED) or read(folder / TRAINED)
    # a setting that the record does not know yet had what is now its default
    if record is not None and {**plain(TrainConfig()), **record["config"]} != plain(config):
        raise RequestError(f"{folder} holds another training; give another --out, or delete it")
    return (folder / FINISHED).is_file()


def do_leg(config: TrainConfig, folder: Path, examiner: Examiner, commit: str = "") -> dict[str, Any]:
    """Train, test the averaged model, and write what was found; what is done is kept."""
    from cosmos_eval.results.environment import environment

    if is_finished(folder, config):
        return read(folder / FINISHED) or {}
    trained = read(folder / TRAINED) or train_leg(config, folder, commit)
    places = {}
    for result in examiner.results(folder, config.name):
        (path,) = (folder / "results").glob(f"*-{result.model.digest[:8]}/{result.benchmark.name}")
        places[result.benchmark.name] = path.relative_to(folder).as_posix()
    examiner.geometry(folder)
    record = {**trained, "results": places, "environment": environment(), "limit": examiner.limit}
    write(folder / FINISHED, record)
    return record


def train_leg(config: TrainConfig, folder: Path, commit: str) -> dict[str, Any]:
    """Train into a folder; returns, and writes, its settings, what it cost and what its networks were given."""
    from cosmos_eval.datasets.toybox import train_records

    read_keys = Ledger(train_records(config.seed, config.samples))
    meter = Meter()
    result = train(dataclasses.replace(config, out=str(folder)), read_keys, callbacks=[meter], overwrite=True)
    record = {
        "config": plain(config),
        "commit": commit,
        "steps": result.steps,
        "seconds": round(result.seconds, 3),
        "skipped": len(result.skipped),
        "samples_read": read_keys.count,
        "samples_digest": read_keys.digest.hexdigest()[:16],
        **meter.summary(),
    }
    write(folder / TRAINED, record)
    return record


class Ledger(Sequence[Any]):
    """Samples as they are, and a digest of the order in which they were read: equal for rows that saw the same."""

    def __init__(self, samples: Sequence[Any]) -> None:
        self.samples = samples
        self.digest = hashlib.sha256()
        self.count = 0

    def __len__(self) -> int:
        return len(self.samples)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, int):
            self.count += 1
            self.digest.update(f"{index} ".encode())
        return self.samples[index]

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))


class Meter(Callback):
    """What a step takes, and what the networks are given in it, as seen at their doors."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.cpu: list[float] = []
        self.given: dict[str, Any] = {}

    def on_step(self, run: Run) -> None:
        self.wall.append(time.perf_counter())
        self.cpu.append(time.process_time())
        if run.step == 1:
            for name, network in (("student", run.student), ("teacher", run.teacher)):
                self.given[name] = None  # stays, where the loss does not ask the network
                network.register_forward_hook(self._hook(name))

    def _hook(self, name: str) -> Any:
        def note(module: Any, inputs: tuple[Any, ...], output: Any) -> None:
            images = inputs[0] if isinstance(inputs[0], list | tuple) else [inputs[0]]
            self.given[name] = {
                "images": [list(view.shape) for view in images],
                "texts": list(inputs[1].shape),
                "cross_features": output.image_cross_features is not None,
            }

        return note

    def summary(self) -> dict[str, Any]:
        """Medians of seconds a step, wall and processor, views and reading included."""

        def median(times: list[float]) -> float | None:
            steps = [after - before for before, after in itertools.pairwise(times)][UNTIMED:]
            return round(statistics.median(steps), 4) if steps else None

        return {"step_seconds": median(self.wall), "step_cpu_seconds": median(self.cpu), "given": self.given}


def plain(config: TrainConfig) -> dict[str, Any]:
    """A configuration as JSON gives it back, without the folder."""
    return json.loads(json.dumps({**config.to_dict(), "out": ""}))
