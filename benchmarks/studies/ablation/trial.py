"""One trial: train a row with one seed and evaluate it. `leg.json` in its folder marks it as finished."""

import dataclasses
import hashlib
import itertools
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

from benchmarks.studies.ablation.evaluation import TrialEvaluator
from benchmarks.studies.ablation.files import read, write
from benchmarks.studies.ablation.rows import Row
from cosmos_core.config import TrainConfig
from cosmos_core.errors import RequestError
from cosmos_core.train import Callback, Run, train

FINISHED = "leg.json"
TRAINED = "trained.json"
UNTIMED = 2
"""Number of first steps that are not timed, because they take longer."""


def folder_of(out: Path, row: Row, seed: int) -> Path:
    """Return the folder of a trial."""
    return out / f"{row.name}-seed{seed}"


def is_finished(folder: Path, config: TrainConfig) -> bool:
    """Whether the trial in a folder is finished.

    Raises:
        RequestError: the trial in this folder has other settings.
    """
    record = read(folder / FINISHED) or read(folder / TRAINED)
    # an older record lacks settings that were added later; they had the present default
    if record is not None and {**as_json(TrainConfig()), **record["config"]} != as_json(config):
        raise RequestError(f"{folder} has another training; use another --out, or delete the folder")
    return (folder / FINISHED).is_file()


def run_trial(config: TrainConfig, folder: Path, evaluator: TrialEvaluator, commit: str = "") -> dict[str, Any]:
    """Train, evaluate the EMA model, and write the record; steps that are done are not repeated."""
    from cosmos_eval.results.environment import environment

    if is_finished(folder, config):
        return read(folder / FINISHED) or {}
    trained = read(folder / TRAINED) or train_row(config, folder, commit)
    result_folders = {}
    for result in evaluator.results(folder, config.name):
        (path,) = (folder / "results").glob(f"*-{result.model.digest[:8]}/{result.benchmark.name}")
        result_folders[result.benchmark.name] = path.relative_to(folder).as_posix()
    evaluator.geometry(folder)
    record = {**trained, "results": result_folders, "environment": environment(), "limit": evaluator.limit}
    write(folder / FINISHED, record)
    return record


def train_row(config: TrainConfig, folder: Path, commit: str) -> dict[str, Any]:
    """Train in a folder; write and return a record with the settings, the cost and the input shapes of the networks."""
    from cosmos_eval.datasets.toybox import train_records

    records = RecordedSamples(train_records(config.seed, config.samples))
    meter = CostMeter()
    result = train(dataclasses.replace(config, out=str(folder)), records, callbacks=[meter], overwrite=True)
    record = {
        "config": as_json(config),
        "commit": commit,
        "steps": result.steps,
        "seconds": round(result.seconds, 3),
        "skipped": len(result.skipped),
        "samples_read": records.read,
        "samples_digest": records.digest.hexdigest()[:16],
        **meter.summary(),
    }
    write(folder / TRAINED, record)
    return record


class RecordedSamples(Sequence[Any]):
    """The given samples, with a digest of the order in which they are read; it is equal for rows that read the same."""

    def __init__(self, samples: Sequence[Any]) -> None:
        self.samples = samples
        self.digest = hashlib.sha256()
        self.read = 0

    def __len__(self) -> int:
        return len(self.samples)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, int):
            self.read += 1
            self.digest.update(f"{index} ".encode())
        return self.samples[index]

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))


class CostMeter(Callback):
    """Measures the time of each step, and records the shapes of the networks' inputs with forward hooks."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.cpu: list[float] = []
        self.inputs: dict[str, Any] = {}

    def on_step(self, run: Run) -> None:
        self.wall.append(time.perf_counter())
        self.cpu.append(time.process_time())
        if run.step == 1:
            for name, network in (("student", run.student), ("teacher", run.teacher)):
                self.inputs[name] = None  # remains None if the loss does not use the network
                network.register_forward_hook(self._hook(name))

    def _hook(self, name: str) -> Any:
        def record_shapes(module: Any, inputs: tuple[Any, ...], output: Any) -> None:
            images = inputs[0] if isinstance(inputs[0], list | tuple) else [inputs[0]]
            self.inputs[name] = {
                "images": [list(view.shape) for view in images],
                "texts": list(inputs[1].shape),
                "cross_features": output.image_cross_features is not None,
            }

        return record_shapes

    def summary(self) -> dict[str, Any]:
        """Return the median wall and CPU seconds of a step, including reading and views, and the input shapes."""

        def median(times: list[float]) -> float | None:
            steps = [after - before for before, after in itertools.pairwise(times)][UNTIMED:]
            return round(statistics.median(steps), 4) if steps else None

        return {"step_seconds": median(self.wall), "step_cpu_seconds": median(self.cpu), "given": self.inputs}


def as_json(config: TrainConfig) -> dict[str, Any]:
    """Return a configuration as it is read back from JSON, without the folder."""
    return json.loads(json.dumps({**config.to_dict(), "out": ""}))
