"""The log of a run: whole lines, cut where a run resumes, optional writers, speed between lines."""

import json
import os
import sys
import types
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch

from cosmos_core.config import TrainConfig
from cosmos_core.errors import RequestError
from cosmos_core.logs import Logs, SpeedMeter, brief, read_metrics
from cosmos_core.world import World

CONFIG = TrainConfig(name="trial", warmup=0)


def opened(out: Path | None, step: int = 0, config: TrainConfig = CONFIG, **options: Any) -> Logs:
    logs = Logs(out, config, **options)
    logs.truncate(step)
    return logs


def test_lines_are_on_the_disk_as_they_are_written(tmp_path: Path):
    logs = opened(tmp_path / "run")
    logs.write({"step": 1, "loss": 2.5, "lr": 1e-3})
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == '{"step": 1, "loss": 2.5, "lr": 0.001}\n'
    logs.write({"step": 2, "loss": 2.25})
    logs.close()
    assert read_metrics(tmp_path / "run" / "metrics.jsonl") == [
        {"step": 1, "loss": 2.5, "lr": 1e-3},
        {"step": 2, "loss": 2.25},
    ]


def test_what_is_not_finite_is_null_and_the_file_stays_json(tmp_path: Path):
    opened(tmp_path).write({"step": 1, "loss": float("nan"), "grad_norm": float("inf"), "skipped": 0})
    text = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {"step": 1, "loss": None, "grad_norm": None, "skipped": 0}


def test_what_a_full_disk_refuses_is_held_back_and_noted_once(small_disk: Path):
    notes: list[str] = []
    logs = opened(small_disk, note=notes.append)
    logs.write({"step": 1})
    disk = os.statvfs(small_disk)
    (small_disk / "filler").write_bytes(b"x" * disk.f_bavail * disk.f_frsize)
    long = {"note": "x" * 8192}
    for step in (2, 3):
        logs.write({"step": step, **long})
    assert (small_disk / "metrics.jsonl").read_text() == '{"step": 1}\n'
    assert len(notes) == 1
    assert "No space left on device" in notes[0]
    (small_disk / "filler").unlink()
    logs.write({"step": 4})
    assert [line["step"] for line in read_metrics(small_disk / "metrics.jsonl")] == [1, 2, 3, 4]


def test_a_run_that_resumes_keeps_what_lies_before_and_drops_the_rest(tmp_path: Path):
    logs = opened(tmp_path)
    for step in (1, 10, 20, 30):
        logs.write({"step": step, "seconds": 2.0 * step})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 40, "lo')  # killed while it wrote
    again = Logs(tmp_path, CONFIG)
    assert again.truncate(20) == {"step": 20, "seconds": 40.0}
    again.write({"step": 30, "seconds": 61.0})
    assert [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")] == [1, 10, 20, 30]
    assert (tmp_path / "metrics.jsonl").read_text().endswith('{"step": 30, "seconds": 61.0}\n')
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_line_that_was_half_written_before_the_cut_is_dropped(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"ste')
    Logs(tmp_path, CONFIG).truncate(5)
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'


def test_a_run_that_starts_anew_drops_all_lines(tmp_path: Path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 0}\n{"step": 5}\n')
    assert Logs(tmp_path, CONFIG).truncate(0) is None
    assert (tmp_path / "metrics.jsonl").read_text() == ""


def test_lines_without_a_step_and_absent_files_are_no_lines(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    assert read_metrics(path) == []
    path.write_text('[1]\nnonsense\n{"loss": 1}\n{"step": 3}\n')
    assert read_metrics(path) == [{"step": 3}]


def test_only_the_first_rank_writes(tmp_path: Path):
    logs = opened(tmp_path / "run", world=World(rank=1, size=2))
    logs.write({"step": 1, "loss": 1.0})
    logs.close()
    assert not (tmp_path / "run").exists()


def test_without_a_folder_nothing_is_written_and_nothing_fails():
    logs = opened(None)
    logs.write({"step": 1, "loss": 1.0})
    logs.close()


def test_a_collapse_is_told_once(tmp_path: Path):
    said: list[str] = []
    logs = opened(tmp_path, config=replace(CONFIG, warmup=5), note=said.append)
    for step in (1, 10, 20):
        logs.write({"step": step, "uniformity_image": -0.01, "uniformity_text": -3.0})
    assert len(said) == 1
    assert said[0].startswith("step 10: image features have collapsed")


class Board:
    """Stands in for TensorBoard's writer, which is not installed everywhere."""

    made: ClassVar[list["Board"]] = []

    def __init__(self, log_dir: str, purge_step: int) -> None:
        self.log_dir, self.purge_step, self.scalars, self.closed = log_dir, purge_step, [], False
        Board.made.append(self)

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        self.scalars.append((tag, value, step))

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def board(monkeypatch):
    Board.made = []
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Board))
    return Board


def test_tensorboard_gets_every_number_and_hides_what_lies_beyond_a_resumed_step(tmp_path: Path, board):
    logs = opened(tmp_path, step=20, config=replace(CONFIG, tensorboard=True))
    logs.write({"step": 30, "loss": 1.5, "grad_norm": float("nan"), "note": "words"})
    logs.close()
    (made,) = board.made
    assert (made.log_dir, made.purge_step, made.closed) == (str(tmp_path / "tensorboard"), 21, True)
    assert [scalar for scalar in made.scalars if scalar[0] == "loss"] == [("loss", 1.5, 30)]
    assert {tag for tag, _, _ in made.scalars} == {"loss", "grad_norm"}


def test_what_tensorboard_cannot_write_is_noted_once_and_ends_nothing(tmp_path: Path, board, monkeypatch):
    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    notes: list[str] = []
    logs = opened(tmp_path, config=replace(CONFIG, tensorboard=True), note=notes.append)
    for name in ("add_scalar", "close"):
        monkeypatch.setattr(board, name, full)
    for step in (1, 2):
        logs.write({"step": step, "loss": 1.0})
    logs.close()
    (note,) = notes
    assert "TensorBoard cannot be written" in note
    assert "No space left on device" in note
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 2


def test_other_ranks_open_no_writer(tmp_path: Path, board):
    opened(tmp_path, config=replace(CONFIG, tensorboard=True), world=World(rank=3, size=4)).write({"step": 1})
    assert board.made == []


class Wandb(types.ModuleType):
    """Stands in for Weights & Biases, which is not installed everywhere."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.calls: list[dict[str, Any]] = []
        self.logged: list[tuple[dict[str, float], int]] = []
        self.finished = 0

    def init(self, **options: Any) -> Any:
        self.calls.append(options)
        return SimpleNamespace(id=options["id"] or f"run{len(self.calls)}", log=self.log, finish=self.finish)

    def log(self, numbers: dict[str, float], step: int) -> None:
        self.logged.append((numbers, step))

    def finish(self) -> None:
        self.finished += 1


def test_wandb_gets_the_configuration_and_goes_on_under_its_own_id(tmp_path: Path, monkeypatch):
    wandb = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    config = replace(CONFIG, wandb="lab")
    logs = opened(tmp_path, config=config)
    logs.write({"step": 10, "loss": 2.0})
    logs.close()
    opened(tmp_path, step=10, config=config).close()
    opened(tmp_path, step=0, config=config).close()
    assert [(call["project"], call["name"], call["id"], call["resume"]) for call in wandb.calls] == [
        ("lab", "trial", None, None),
        ("lab", "trial", "run1", "allow"),
        ("lab", "trial", None, None),
    ]
    assert wandb.calls[0]["config"] == config.to_dict()
    assert wandb.logged == [({"loss": 2.0}, 10)]
    assert wandb.finished == 3


def test_wandb_that_does_not_start_is_one_line(tmp_path: Path, monkeypatch):
    def no(**options: Any) -> None:
        raise RuntimeError("api_key not configured\n(no-tty)")

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=no))
    with pytest.raises(RequestError, match="wandb does not start: api_key not configured") as caught:
        opened(tmp_path, config=replace(CONFIG, wandb="lab"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "module", "said"),
    [
        ({"tensorboard": True}, "torch.utils.tensorboard", "pip install tensorboard, or set tensorboard=false"),
        ({"wandb": "lab"}, "wandb", "pip install wandb, or set wandb="),
    ],
)
def test_a_package_that_is_asked_for_and_absent_is_refused_at_the_start(tmp_path, monkeypatch, change, module, said):
    monkeypatch.setitem(sys.modules, module, None)  # importing it fails
    for rank in (0, 1):
        with pytest.raises(RequestError, match=said) as caught:
            Logs(tmp_path / "run", replace(CONFIG, **change), World(rank, 2))
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_tensorboard_without_a_folder_is_refused():
    with pytest.raises(RequestError, match="set out=FOLDER"):
        Logs(None, replace(CONFIG, tensorboard=True))


def test_the_brief_line_says_what_a_person_watches():
    line = {"step": 3, "loss": 3.21, "lr": 5e-4, "samples_per_second": 1234.5, "data_wait": 0.034, "momentum": 1.0}
    assert brief(line) == "loss 3.210, lr 5.0e-04, 1,234 samples/s, waits for data 3%"
    assert brief({"loss": None}) == ""


class Clock:
    """Time that passes when it is told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_pace_counts_samples_waits_and_pauses_between_two_lines(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("cosmos_core.logs.time.perf_counter", clock)
    pace = SpeedMeter("cpu", seconds=50.0)

    def source():
        for batch in "ab":
            clock.now += 1
            yield batch

    seen = []
    for batch in pace.count_waiting(source()):
        seen.append(batch)
        clock.now += 3
        pace.count(8)
        with pace.paused():
            clock.now += 100
    assert seen == ["a", "b"]
    line = pace.lap()
    # two steps of one second's wait and three seconds' work; the pauses are in the run's seconds only
    assert line["samples_per_second"] == 2.0
    assert line["data_wait"] == 0.25
    assert line["seconds"] == 50 + 208
    assert line["memory"] > 0
    clock.now += 4
    pace.count(8)
    assert pace.lap()["samples_per_second"] == 2.0
    assert pace.lap() | {"memory": 0} == {"samples_per_second": 0.0, "data_wait": 0.0, "memory": 0, "seconds": 262.0}


def test_memory_on_a_card_is_what_torch_had_allocated():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    held = torch.empty(1 << 20, device="cuda")
    assert SpeedMeter("cuda").lap()["memory"] >= held.numel() * 4
